"""Whether the record of one disk agrees with itself, and with the first record of its task."""

from collections.abc import Iterator
from datetime import timedelta

from core.records.reader import Record
from core.rules.decision import CLOCK_TOLERANCE, since
from core.rules.disks import IN_TRANSITION, DiskReason


def disk_faults(record: Record, started: Record | None) -> Iterator[str]:
    """It was judged a moment before it was written."""
    lasting = None if record.time is None else since(record.date_accessed, record.time)
    unused = None if record.unused_s is None else timedelta(seconds=record.unused_s)
    if record.reason == DiskReason.ATTACHED and unused is not None:
        yield "is attached, and says for how long it has been unused"
    elif unused is not None and not _is_right(record, unused, lasting):
        yield f"says unused_s {record.unused_s}, but its dates give {lasting and lasting.total_seconds()}"
    most = None if started is None else (started.policy or {}).get("stuck_after_s")
    stuck, on_its_way = record.reason == DiskReason.STUCK, record.status in IN_TRANSITION
    if lasting is None or not isinstance(most, float | int):
        return
    too_long = timedelta(seconds=most)
    if stuck != on_its_way and (stuck or lasting - CLOCK_TOLERANCE >= too_long):
        yield f"says {record.reason}, and the status {record.status}"
    elif stuck and lasting < too_long:
        yield f"says stuck after {lasting.total_seconds()} s"


def _is_right(record: Record, unused: timedelta, lasting: timedelta | None) -> bool:
    """A disk that a deletion of ours has left is unused since then, which its dates do not tell."""
    if lasting is None or unused > lasting + CLOCK_TOLERANCE:
        return False
    return record.left_by_run is not None or unused >= lasting - CLOCK_TOLERANCE
