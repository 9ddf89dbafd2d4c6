"""Which disks are left over, and what they come to, by the newest check of disks; who left them is on their records."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

import msgspec

from core.records.events import DiskAudited
from core.records.reader import Record
from core.review.questions import RunLine, of_one_run
from core.review.which import LATEST, of_job
from core.rules.disks import DiskPolicy, DiskReason

A_DAY = 86_400


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The disks of one creator in one project that are attached to nothing."""

    project: str
    creator: str | None
    disks: int
    gb: int
    gb_days: int
    """Of each disk its size, times the days since it was used."""


class DiskLine(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    disk_id: str
    project: str
    name: str
    creator: str | None
    status: str | None
    size_gb: int | None
    unused_s: float | None
    reason: str
    left_by_run: str | None


class Disks(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/disks/v1"):
    run: RunLine
    totals: list[Total]
    """Largest first."""
    disks: list[DiskLine]
    """Largest and longest unused first; those that are attached are left out."""
    remarks: list[str]
    """Which newer runs have not finished."""


def disks(records: Iterable[Record], now: datetime) -> Disks:
    """What the newest check of disks found. Raises UnknownError."""
    seen, newer, chosen = of_one_run(records, LATEST, now, of_job(DiskPolicy.job))
    left: list[Record] = []
    for record in chosen:
        seen.add(record)
        if is_left(record):
            left.append(record)
    lines = [
        DiskLine(
            **{name: getattr(disk, name) for name in DiskLine.__struct_fields__ if name not in ("project", "name")},
            project=disk.project or "?",
            name=disk.name or "?",
        )
        for disk in sorted(left, key=largest_first)
    ]
    return Disks(run=seen.line(now), totals=totals(left), disks=lines, remarks=newer)


def is_left(record: Record | DiskAudited) -> bool:
    """Whether it is of a disk that is attached to nothing."""
    disk = isinstance(record, DiskAudited) or record.event == "disk_audited"
    return disk and record.reason != DiskReason.ATTACHED


def largest_first(disk: Record | DiskAudited) -> tuple[int, float, str, str]:
    return -(disk.size_gb or 0), -(disk.unused_s or 0), disk.project or "", disk.name or ""


class Totals:
    """What disks come to, one after the other, by project and creator."""

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[str, str | None], list[float]] = defaultdict(lambda: [0, 0, 0])

    def add(self, disk: Record | DiskAudited) -> None:
        gb = disk.size_gb or 0
        sums = self._sums[disk.project or "?", disk.creator]
        for place, amount in enumerate((1, gb, gb * (disk.unused_s or 0) / A_DAY)):
            sums[place] += amount

    def largest_first(self) -> list[Total]:
        found = [
            Total(project=project, creator=creator, disks=int(count), gb=int(gb), gb_days=round(gb_days))
            for (project, creator), (count, gb, gb_days) in self._sums.items()
        ]
        return sorted(found, key=lambda total: (-total.gb, -total.gb_days, total.project, total.creator or ""))


def totals(left: Iterable[Record | DiskAudited]) -> list[Total]:
    """Of these disks, largest first."""
    sums = Totals()
    for disk in left:
        sums.add(disk)
    return sums.largest_first()
