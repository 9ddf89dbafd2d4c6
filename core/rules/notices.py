"""When an owner is told of a deletion, of what, and from when it may happen; sending lives in `core.run.notices`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from core.rules.policy import Policy
from core.rules.words import NO_TIME, in_words, minute
from core.runtime import Disk

DISK_IN_WORDS: dict[str | None, str] = {
    Disk.KEPT: "its disk stays",
    Disk.LOST: "what is on the machine is lost",
    Disk.DETACHED: "it has no disk to keep",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What one owner is told of one runtime."""

    runtime_id: str
    project: str
    name: str
    creator: str | None
    disk: str | None
    due_at: datetime
    """If nobody uses it."""
    final_at: datetime
    """Whatever anybody does."""
    not_before: datetime
    """The promise."""

    def __str__(self) -> str:
        until = self.final_at > self.not_before
        uses = f", unless somebody uses it before; from {minute(self.final_at)} UTC on in any case" if until else ""
        disk = DISK_IN_WORDS.get(self.disk, "what becomes of its disk is not known")
        return f"{self.project}/{self.name} is deleted from {minute(self.not_before)} UTC on{uses}; {disk}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePolicy(Policy):
    """How long before a deletion its owner is told, and how long the deletion waits for that."""

    job: ClassVar[str] = "notify-owners"
    notice_ahead: timedelta
    notice_period: timedelta | None = None

    def __str__(self) -> str:
        waits = f", at least {in_words(self.notice_period)} before it" if self.notice_period else ""
        return f"tell its owner of each deletion that is due within {in_words(self.notice_ahead)}{waits}"

    def not_before(self, due_at: datetime, told_at: datetime) -> datetime:
        return max(due_at, told_at + (self.notice_period or NO_TIME))
