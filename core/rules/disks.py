"""Whether a disk is left over, by what runtimes say of it; asking Leonardo for both lists lives in `core.run.disks`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from core.rules.decision import since
from core.rules.policy import Policy
from core.rules.words import in_words
from core.runtime import PersistentDisk

IN_TRANSITION = ("Creating", "Restoring", "Deleting")


class DiskReason(StrEnum):
    """The words stand in records, so they never change."""

    ATTACHED = "attached"
    UNATTACHED = "unattached"
    """No runtime names it: left over, or an app's, since a runtime alone tells which disk it has."""
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPolicy(Policy):
    """How long a disk may be on its way."""

    job: ClassVar[str] = "check-disks"
    stuck_after: timedelta
    """Creating, Restoring or Deleting for this long or longer is stuck."""

    def __str__(self) -> str:
        return (
            "a disk that no runtime names is unattached;"
            f" one that is in transition for {in_words(self.stuck_after)} is stuck"
        )

    def judge(self, disk: PersistentDisk, instant: datetime, *, attached: bool) -> DiskReason:
        """`dateAccessed`, set by every change of status, tells since when it is in transition."""
        lasting = since(disk.date_accessed, instant)
        if disk.status in IN_TRANSITION and lasting is not None and lasting >= self.stuck_after:
            return DiskReason.STUCK
        return DiskReason.ATTACHED if attached else DiskReason.UNATTACHED
