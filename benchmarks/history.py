"""Writes months of a fleet's audit log by the program's own rule, records and writer, without a Leonardo."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BufferedIOBase
from pathlib import Path
from random import Random

from core.records import events
from core.records.outcome import Outcome, Severity
from core.records.writer import AuditLog, RunIdentity
from core.rules.decision import Action
from core.rules.deletion import DeletionPolicy
from core.runtime import Disk, Runtime, RuntimeStatus

BEGIN = datetime(2026, 8, 28, tzinfo=UTC)
BETWEEN_RUNS = timedelta(hours=3)
RUNS_A_DAY = 8
POLICY = DeletionPolicy(max_age=timedelta(days=14), max_age_if_idle=timedelta(days=7), idle_after=timedelta(hours=4))
USED = 0.35
"""How likely a person is to use a runtime between two runs; half of them never do again after their first days."""


class _Compressed:
    """A sink that is a compressed file."""

    full = False

    def __init__(self, file: BufferedIOBase) -> None:
        self.name = "history"
        self._file = file

    def write(self, *lines: bytes) -> None:
        self._file.writelines(lines)

    async def catch_up(self) -> None:
        """Nothing is held back."""

    async def make_durable(self) -> None:
        """It is for a measurement."""


def write_history(folder: Path, *, days: int, runtimes: int, seed: int = 11) -> int:
    """One file for each run, the way a rotated log is kept; how many runtimes were judged."""
    random = Random(seed)  # noqa: S311 - the same history each time is the point
    fleet = [
        _created(random, slot, number=slot, at=BEGIN - random.random() * 14 * timedelta(days=1))
        for slot in range(runtimes)
    ]
    next_id = runtimes
    for number in range(days * RUNS_A_DAY):
        now = BEGIN + number * BETWEEN_RUNS
        for slot, record in enumerate(_run(folder, fleet, now)):
            if record.outcome is Outcome.DELETION_ACCEPTED:
                next_id += 1
                fleet[slot] = _created(random, slot, number=next_id, at=now + random.random() * BETWEEN_RUNS)
            elif random.random() < (USED if slot % 2 else USED / 40):
                used = now + random.random() * BETWEEN_RUNS
                fleet[slot] = fleet[slot]._replace(date_accessed=used, status=RuntimeStatus.RUNNING)
            elif fleet[slot].status == RuntimeStatus.RUNNING:
                fleet[slot] = fleet[slot]._replace(status=RuntimeStatus.STOPPED)
    return days * RUNS_A_DAY * runtimes


def _created(random: Random, slot: int, *, number: int, at: datetime) -> Runtime:
    lost = random.random() < 0.05  # noqa: PLR2004
    return Runtime(
        id=str(2_000_000 + number),
        project=f"terra-{slot % 4000}",
        name=f"all-of-us-{slot}",
        labels={},
        creator=f"user-{slot % 3000}@example.org",
        created_date=at,
        date_accessed=at,
        disk=Disk.LOST if lost else Disk.KEPT,
        persistent_disk_id=None if lost else str(7_000_000 + number),
        machine_type="n1-standard-4",
    )


def _run(folder: Path, fleet: list[Runtime], now: datetime) -> Iterator[events.RuntimeAudited]:
    run_id = f"{now:%Y%m%dT%H%M%S}-history"
    identity = RunIdentity(job=DeletionPolicy.job, run_id=run_id, environment="prod", dry_run=False)
    with gzip.open(folder / f"{run_id}.jsonl.gz", "wb", compresslevel=6) as file:
        log = AuditLog(identity, [_Compressed(file)], now=lambda: now)
        log.write(_started(now))
        records = [_audited(runtime, now) for runtime in fleet]
        for begin in range(0, len(records), 1000):
            log.write(*records[begin : begin + 1000])
        log.write(_finished(records))
    yield from records


def _audited(runtime: Runtime, now: datetime) -> events.RuntimeAudited:
    decision = POLICY.judge(runtime, now)
    outcome = Outcome.KEPT if decision.action is Action.KEEP else Outcome.DELETION_ACCEPTED
    return events.runtime_audited(runtime, decision, outcome, POLICY.explain(runtime, decision), name_creator=True)


def _started(now: datetime) -> events.RunStarted:
    return events.RunStarted(
        severity=Severity.NOTICE,
        message="live run",
        version="0",
        actor=None,
        started_by=None,
        approved_by=None,
        now=now,
        policy=POLICY.written(),
        policy_digest=events.policy_digest(POLICY.written(), ()),
        exemptions=[],
        limits={},
        scope={},
        plan=None,
    )


def _finished(records: list[events.RuntimeAudited]) -> events.RunFinished:
    return events.RunFinished(
        severity=Severity.NOTICE,
        message="finished with exit code 0",
        listed=len(records),
        audited=len(records),
        actions={},
        reasons={},
        outcomes={},
        failed=[],
        calls={},
        lists={"read": 1, "unread": 0},
        living=len(records),
        duration_s=1.0,
        exit_code=0,
        refused_by=[],
        would_be_refused_by=[],
    )
