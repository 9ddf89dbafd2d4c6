"""Prepares a job's sweep from its settings: how far it goes, what holds it back, before whom it steps back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from core.background import in_background
from core.clock import RunClock, utc_now
from core.leonardo.client import Leonardo
from core.leonardo.saved_list import SavedList
from core.records import events
from core.rules.decision import Decision
from core.rules.guards import Refusal
from core.rules.plan import Plan
from core.run.opening import Job, Rooms, run, run_started, task_of_environment
from core.run.sweep import Act, Bounds, Explain, Judge, Rule, Scope, Sweep
from core.run.task import Task
from core.settings.faults import UsageError
from core.settings.fields import Settings

log = structlog.get_logger(__name__)

ASKING = 20.0
"""Seconds that a run asks for an older one before it goes on."""
PLAN_REACH = timedelta(days=30)
"""How far back a plan is looked for by its run id: as long as Cloud Logging keeps records by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepingJob(Job):
    """A job that judges every runtime: it hands the sweep a judge and an act."""

    judge: Judge
    explain: Explain
    act: Callable[[Leonardo], Act]
    look_first: Callable[[Decision], bool] = lambda _: False
    plan: str | None = None
    """The audit file of the dry run that it is held to."""


def sweep(job: SweepingJob, settings: Settings) -> int:
    """One sweep, from settings to exit code. Raises UsageError where it cannot begin."""
    task = task_of_environment()
    scope = _scope(settings, task)
    plan = None if job.plan is None else _plan(job.plan, settings)

    async def work(rooms: Rooms) -> int:
        started = run_started(job, rooms, plan)
        sweeping = Sweep(
            leonardo=rooms.leonardo,
            audit=rooms.audit,
            clock=rooms.clock,
            scope=scope,
            rule=Rule(judge=job.judge, explain=job.explain, act=job.act(rooms.leonardo), look_first=job.look_first),
            bounds=Bounds(
                dry_run=settings.dry_run,
                caps=settings.caps(tasks=task.count),
                expectations=settings.expectations(tasks=task.count),
                readers=settings.read_concurrency,
                actors=settings.write_concurrency,
                plan=plan,
                refusals=() if plan is None else tuple(_refusals(plan, started, job, settings)),
                older_run=partial(_older_run, settings, task, rooms.clock),
            ),
            name_creator=settings.audit_creator == "plain",
            expected=rooms.watcher.expected,
        )
        return await sweeping.run(started)

    return run(job, settings, task, work)


def _scope(settings: Settings, task: Task) -> Scope:
    saved = None if settings.inventory is None else _saved_list(settings.inventory)
    if settings.only:
        owners = dict.fromkeys(path.rpartition("/")[0] for path in settings.only)
        return Scope(projects=task.share(owners), only=settings.only, saved=saved)
    if settings.swept is None and task.shared:
        raise UsageError(f"projects: a list is needed where {task.count} tasks share it (CLOUD_RUN_TASK_COUNT)")
    return Scope(projects=None if settings.swept is None else task.share(settings.swept), saved=saved)


def _saved_list(path: Path) -> SavedList:
    try:
        return SavedList(path)
    except OSError as error:
        raise UsageError(f"inventory: {path} cannot be read: {error.strerror}") from None


def _plan(place: str, settings: Settings) -> Plan:
    """From a file, or else from Cloud Logging where records are kept there."""
    from core.records.reader import AuditRecords  # noqa: PLC0415
    from core.records.selection import Match  # noqa: PLC0415
    from core.review.plan_reader import NoPlanError, read_plan  # noqa: PLC0415 - needs none of these
    from core.review.sources import CLOUD_LOGGING, cannot_be_read, open_places  # noqa: PLC0415 - a run without a plan

    now = utc_now()
    in_cloud = settings.audit_cloud_log is not None and not Path(place).exists()
    try:
        source = open_places([CLOUD_LOGGING if in_cloud else place], now - PLAN_REACH, settings)
        records = AuditRecords(source, lambda _: (Match(run_ids=(place,)),))
        return read_plan(records, now, run_id=place if in_cloud else None)
    except OSError as error:
        raise UsageError(f"plan: {cannot_be_read(error)}") from None
    except NoPlanError as error:
        raise UsageError(f"plan: {place}: {error}") from None


def _refusals(plan: Plan, started: events.RunStarted, job: Job, settings: Settings) -> Iterator[Refusal]:
    return plan.refusals(
        job=job.name,
        environment=settings.environment,
        policy_digest=started.policy_digest,
        now=started.now,
        max_age=settings.plan_max_age,
    )


async def _older_run(settings: Settings, task: Task, clock: RunClock) -> str | None:
    """An older live execution of this Cloud Run job; None too where it cannot be told: overlap is harmless."""
    if settings.dry_run or task.job is None or task.execution is None:
        return None
    try:
        async with clock.bound(ASKING):
            return await in_background(_ask_for_older_run, settings, task.job, task.execution, clock.wall())
    except Exception as error:  # noqa: BLE001 - whatever is answered there, the run goes on
        log.warning("cannot tell whether an older run is still going: going on", reason=str(error) or "no answer")
        return None


def _ask_for_older_run(settings: Settings, job: str, execution: str, now: datetime) -> str | None:
    from core.google.executions import CloudRunJob  # noqa: PLC0415 - 500 ms that dry runs do without
    from core.google.region import place_of  # noqa: PLC0415

    project, region = place_of(settings.google_project, settings.google_region)
    cloud_run = CloudRunJob(project, region, job, emulator=settings.google_emulator)
    return cloud_run.older_live_execution(execution, now, settings.deadline)
