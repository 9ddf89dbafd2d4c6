"""Reads a dry run's audit file as a plan; whether a run may be held to it is said in `core.rules.plan`."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from core.records.events import Outcome
from core.records.reader import AuditFiles, Record
from core.records.verify import verify
from core.rules.plan import Plan

PLANNED = frozenset({Outcome.WOULD_DELETE, Outcome.WOULD_STOP})


class NoPlanError(Exception):
    """The files hold no run, or more than one."""


def read_plan(places: Iterable[Path], now: datetime) -> Plan:
    """The one run that the files hold. Raises OSError, NoPlanError."""
    files = AuditFiles(places)
    planned: set[tuple[str, str]] = set()
    openings: list[Record] = []

    def noting() -> Iterator[Record]:
        for record in files:
            if record.event == "run_started":
                openings.append(record)
            elif record.outcome in PLANNED and record.runtime_id is not None:
                planned.add((record.runtime_id, record.path))
            yield record

    verdicts = verify(noting(), now)
    if len(verdicts) != 1 or not openings:
        raise NoPlanError(f"it holds {len(openings)} runs; a plan is the audit file of one dry run")
    (verdict,), started = verdicts, openings[0]
    unfinished = () if verdict.state == "finished" else ("it has no closing record",)
    unread = (f"{fault.place}: {fault.what}" for fault in (*files.faults, *files.torn))
    return Plan(
        run_id=started.run_id,
        job=started.job,
        environment=started.environment,
        policy_digest=started.policy_digest or "",
        made_at=started.time or now,
        dry_run=started.dry_run,
        as_of=started.scope is not None and started.scope.as_of is not None,
        faults=(*unfinished, *unread, *verdict.faults),
        runtimes=frozenset(planned),
    )
