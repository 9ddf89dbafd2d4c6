"""What the log tells of notices: by which run owners are told, and of what nobody was told yet; pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from core.records.reader import LONG_AGO, Record
from core.records.selection import RUNS, Match, Wanted
from core.review.due import due_at, final_at
from core.review.fleet import fleet_of
from core.rules.deletion import DeletionPolicy
from core.rules.notices import Notice

OLDEST = timedelta(hours=6)
"""Owners are told what a run has found at most so long ago."""
SENT: Wanted = (*RUNS, Match(events=("notice_sent",)))
"""With what opens and closes runs: a log that holds these was read, though nobody was told yet."""


def newest_run(frames: Sequence[Record], digest: str, now: datetime) -> Record | None:
    """The first record of the newest run that read the whole fleet under this policy; None where it is too old."""
    by_it = {frame.run_id for frame in frames if frame.policy_digest == digest}
    fleet = fleet_of([frame for frame in frames if frame.run_id in by_it])
    whole = (opening for opening in fleet.openings if opening.run_id not in fleet.passed_over)
    newest = [opening for opening in whole if opening.scope is not None and opening.scope.is_of_now][-1:]
    return next((opening for opening in newest if now - (opening.time or LONG_AGO) <= OLDEST), None)


def is_told_of(record: Record, *, run_id: str, until: datetime) -> bool:
    """Whether it is a notice, or of a runtime that the rule of this run would delete by then if nobody used it."""
    if record.event != "runtime_audited":
        return record.event == "notice_sent" and not record.dry_run
    at = due_at(record)
    return record.run_id == run_id and at is not None and at <= until


def untold(records: Iterable[Record], policy: DeletionPolicy) -> list[Notice]:
    """Each runtime among these of which no notice is among them; when it was sent is not known yet."""
    records = list(records)
    told = {record.runtime_id for record in records if record.event == "notice_sent"}
    return [
        Notice(
            record.runtime_id,
            record.project or "",
            record.name or "",
            record.creator,
            record.disk,
            due,
            final,
            due,
        )
        for record in records
        if record.event == "runtime_audited"
        and record.runtime_id is not None
        and record.runtime_id not in told
        and (due := due_at(record)) is not None
        and (final := final_at(record, policy)) is not None
    ]


def allowed_from(records: Iterable[Record], period: timedelta) -> dict[str, datetime]:
    """From when on each incarnation may be deleted, by what its owner was told."""
    allowed: dict[str, datetime] = {}
    for record in records:
        if record.event == "notice_sent" and not record.dry_run and record.runtime_id and record.not_before:
            at = max(record.not_before, (record.time or record.not_before) + period)
            allowed[record.runtime_id] = min(at, allowed.get(record.runtime_id, at))
    return allowed
