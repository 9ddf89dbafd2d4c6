"""What became of a deletion that was asked for, by what Leonardo lists later: 202 is a promise, not a deletion."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from core.rules.decision import since
from core.rules.evidence import MOST_UNLISTED, Evidence, too_many_unlisted
from core.rules.policy import Policy
from core.rules.words import in_words
from core.runtime import Runtime, RuntimeStatus

MOST_WITH_DISK = 2
"""More kept disks out of sight are no chance: a disk outlives its runtime, and stays where its project is seen."""
STAYS_OPEN = timedelta(days=3)
"""How long a deletion without evidence is asked about once a lost role may explain it."""


class Confirmation(StrEnum):
    """The words stand in records, so they never change."""

    CONFIRMED = "confirmed"
    PENDING = "pending"
    STUCK = "stuck"
    """Leonardo has lost it on the way: Deleting is not deletable again, so it stays until a person acts."""
    ERRORED = "errored"
    """Leonardo failed to delete it; its machine may still be there and cost money."""
    SURVIVED = "survived"
    """Accepted and then lost: Leonardo's autopause can overwrite an accepted deletion."""
    NEVER_HAPPENED = "never_happened"
    NOT_VISIBLE = "not_visible"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationPolicy(Policy):
    """How long a deletion may take."""

    job: ClassVar[str] = "confirm-deletions"
    stuck_after: timedelta
    """Deleting for this long or longer is stuck."""

    def __str__(self) -> str:
        return (
            "a deletion that was asked for has happened when Leonardo does not list the runtime any more;"
            f" one that lasts {in_words(self.stuck_after)} is stuck"
        )

    def judge(self, state: Runtime | None, *, accepted: bool, instant: datetime) -> Confirmation:
        """Judge this very incarnation as its project's list shows it; None is not listed.

        `accepted` is whether Leonardo had answered 202. `dateAccessed`, set by every change of status, tells since when
        it is Deleting, and without it a deletion is pending.
        """
        if state is None or state.status == RuntimeStatus.DELETED:
            return Confirmation.CONFIRMED
        if state.status == RuntimeStatus.DELETING:
            lasting = since(state.date_accessed, instant)
            return Confirmation.STUCK if lasting is not None and lasting >= self.stuck_after else Confirmation.PENDING
        if state.status == RuntimeStatus.ERROR:
            return Confirmation.ERRORED
        return Confirmation.SURVIVED if accepted else Confirmation.NEVER_HAPPENED


def role_may_be_lost(gone: Sequence[tuple[Evidence | None, bool]]) -> bool:
    """Whether too many deletions are gone without evidence; each asked about has its evidence and a kept disk or none.

    A kept disk is listed where its project is seen, so that few of them out of sight suffice; None is still listed.
    """
    with_disk = [evidence for evidence, kept_disk in gone if kept_disk]
    asked = with_disk or [evidence for evidence, _ in gone]
    unlisted = sum(evidence is Evidence.UNLISTED for evidence in asked)
    return too_many_unlisted(unlisted, len(asked), most=MOST_WITH_DISK if with_disk else MOST_UNLISTED)
