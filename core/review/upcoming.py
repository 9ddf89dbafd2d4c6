"""What the latest sweep says will be deleted: when if nobody uses it, and when whatever anybody does."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from core.records.reader import Record
from core.review.due import due_at, final_at
from core.review.fleet import fleet_of
from core.review.questions import RunLine, of_one_run
from core.review.which import LATEST, framed
from core.rules.decision import MILLISECOND
from core.rules.deletion import DeletionPolicy
from core.verify.rejudge import deletion_policy

Limit = Literal["max_age", "max_age_if_idle", "exemption"]


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that will be deleted."""

    creator: str | None
    overdue: bool
    """Whether `due_at` is past, so that the next run takes it."""
    due_at: datetime
    """If nobody uses it again."""
    final_at: datetime | None
    """Whatever anybody does; null where the policy of the run is not on record."""
    limit: Limit | None
    """What comes first: of the two limits the one that is reached, or the end of an exemption that holds it off."""
    project: str
    name: str
    runtime_id: str | None
    status: str | None
    disk: str | None
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether using it makes no difference."""
        return self.final_at is not None and self.final_at <= self.due_at


class Upcoming(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/upcoming/v1"):
    run: RunLine
    until: datetime
    due: list[Due]
    """The overdue first, then by creator and time."""
    remarks: list[str]
    """Which newer runs have not finished, or do not tell of the whole fleet."""


def upcoming(records: Iterable[Record], within: timedelta, now: datetime) -> Upcoming:
    """What is due until `now` + `within`, by the latest deletion run over the whole fleet. Raises UnknownError."""
    frames, records = framed(records)
    fleet = fleet_of(frames)
    seen, newer, chosen = of_one_run(records, LATEST, now, fleet.is_meant)
    due: list[Due] = []
    policy: DeletionPolicy | None = None
    for record in chosen:
        seen.add(record)
        if record.event == "run_started":
            policy = policy or deletion_policy(record)
        elif record.event == "runtime_audited" and (at := due_at(record)) is not None and at <= now + within:
            due.append(_due(record, at, policy, now))
    due.sort(key=lambda row: (not row.overdue, row.creator or "", row.due_at, row.project, row.name))
    return Upcoming(run=seen.line(now), until=now + within, due=due, remarks=[*newer, *fleet.remarks_on(seen.first)])


def _due(record: Record, at: datetime, policy: DeletionPolicy | None, now: datetime) -> Due:
    final = final_at(record, policy)
    limit: Limit | None = None
    if record.exemption is not None and abs(at - record.exemption.until) < MILLISECOND:
        limit = "exemption"
    elif final is not None:
        limit = "max_age" if final <= at else "max_age_if_idle"
    return Due(
        creator=record.creator,
        overdue=at <= now,
        due_at=at,
        final_at=final,
        limit=limit,
        project=record.project or "?",
        name=record.name or "?",
        runtime_id=record.runtime_id,
        status=record.status,
        disk=record.disk,
        reason=record.reason,
    )
