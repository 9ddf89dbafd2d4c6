"""Reads a dry run's records as a plan; whether a run may be held to it is said in `core.rules.plan`."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from core.records.outcome import PLANNED
from core.records.reader import AuditRecords, Record
from core.review.terms import terms_of
from core.rules.plan import Plan
from core.runtime import Disk
from core.verify import verify


class NoPlanError(Exception):
    """The records are those of no run, or of more than one."""


def read_plan(records: AuditRecords, now: datetime, *, run_id: str | None = None) -> Plan:
    """The run of this id, or else the one run that is on record. Raises OSError, NoPlanError."""
    planned: dict[tuple[str, str], bool] = {}
    openings: list[Record] = []
    noted = _note(records, run_id, openings, planned)
    verdicts = verify(noted, now)
    if run_id is not None and not openings:
        raise NoPlanError("no such run is on record")
    if len(verdicts) != 1 or not openings:
        several = ": which of them was meant cannot be told, so give each dry run a file of its own"
        raise NoPlanError(
            f"it holds {len(openings)} runs; a plan is the record of one dry run{several if openings else ''}"
        )
    (verdict,), started = verdicts, openings[0]
    unfinished = () if verdict.state == "finished" else ("it has no closing record",)
    unread = map(str, (*records.faults, *records.torn))
    return Plan(
        run_id=started.run_id,
        job=started.job,
        environment=started.environment,
        policy_digest=started.policy_digest or "",
        made_at=started.time or now,
        dry_run=started.dry_run,
        as_of=started.scope is not None and started.scope.as_of is not None,
        saved=started.scope is not None and started.scope.inventory is not None,
        faults=(*unfinished, *unread, *(finding.message for finding in verdict.findings)),
        runtimes=frozenset(planned),
        disks_lost=sum(planned.values()),
        made_by=started.started_by or started.actor,
        rule=started.message.partition(": ")[2],
        terms=terms_of(started.policy or {}, started.exemptions),
    )


def _note(
    records: Iterable[Record], run_id: str | None, openings: list[Record], planned: dict[tuple[str, str], bool]
) -> Iterator[Record]:
    """Those of the run as they come by: how it opened, what it would act on, and whether that loses its data."""
    for record in records:
        if run_id not in (None, record.run_id):
            continue
        if record.event == "run_started":
            openings.append(record)
        elif record.outcome in PLANNED and record.runtime_id is not None:
            planned[record.runtime_id, record.path] = record.disk == Disk.LOST
        yield record
