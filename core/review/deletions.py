"""How many runtimes live runs have deleted, and how many with their data, by project, creator and month."""

from collections import defaultdict
from typing import Literal

import msgspec

from core.records.outcome import Outcome
from core.records.reader import Record
from core.rules.decision import in_utc
from core.runtime import Disk

Kind = Literal["project", "creator", "month", "reason"]


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was accepted for deletion in one project, of one creator, or in one month."""

    name: str
    deletions: int
    disks_lost: int


class DeletedBy(msgspec.Struct, frozen=True, kw_only=True):
    """All of it three times over."""

    month: list[Deleted]
    """In the order of time."""
    project: list[Deleted]
    """Those with most first, as the creators."""
    creator: list[Deleted]


class Deletions:
    """Accepted deletions as records come by; a runtime counts once, however often it was asked for."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._notices: set[tuple[str, str]] = set()
        self._counts: defaultdict[tuple[Kind, str], list[int]] = defaultdict(lambda: [0, 0])
        self.disks_lost = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def told(self) -> int:
        """Of how many deleted runtimes a notice was sent to the owner."""
        return len(self._known & self._notices)

    def add(self, record: Record) -> None:
        if record.event == "notice_sent" and not record.dry_run:
            self._notices.add((record.environment, record.runtime_id or ""))
        if record.outcome != Outcome.DELETION_ACCEPTED or record.dry_run:
            return
        runtime = record.environment, record.runtime_id or record.path
        if runtime in self._known:
            return
        self._known.add(runtime)
        lost = record.disk == Disk.LOST
        self.disks_lost += lost
        at = record.time or record.judged_at
        names: dict[Kind, str] = {
            "project": record.project or "?",
            "creator": record.creator or "not on record",
            "month": f"{in_utc(at):%Y-%m}" if at else "?",
            "reason": record.reason,
        }
        for key in names.items():
            counts = self._counts[key]
            counts[0] += 1
            counts[1] += lost

    def by(self, kind: Kind) -> list[Deleted]:
        """Those with most first."""
        found = [
            Deleted(name=name, deletions=count, disks_lost=lost)
            for (of, name), (count, lost) in self._counts.items()
            if of == kind
        ]
        return sorted(found, key=lambda deleted: (-deleted.deletions, -deleted.disks_lost, deleted.name))

    def totals(self) -> DeletedBy:
        months = sorted(self.by("month"), key=lambda deleted: deleted.name)
        return DeletedBy(month=months, project=self.by("project"), creator=self.by("creator"))
