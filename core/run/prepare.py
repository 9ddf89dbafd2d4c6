"""Prepares a job's sweep from its settings: how far it goes, what holds it back, before whom it steps back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from core.clock import OutOfTimeError
from core.exit_code import ExitCode
from core.leonardo.client import Leonardo
from core.leonardo.saved_list import SavedList
from core.records import events
from core.records.reader import AuditRecords, Record
from core.records.selection import RUNS, Match, Wanted
from core.review.sources import CLOUD_LOGGING, cannot_be_read, open_places
from core.review.terms import terms_of
from core.rules.deletion import DeletionPolicy
from core.rules.guards import Expectations, Guard, Refusal
from core.rules.plan import Plan
from core.rules.policy import RuntimePolicy
from core.rules.words import counted, with_lost
from core.run.account import Account, opening_record
from core.run.case import Case
from core.run.listing import Listing, Lists, Scope
from core.run.opening import AUDIT_FOLDER, run, shows_table, task_of_environment
from core.run.previous import REACH, Earlier, Kind, earlier
from core.run.running import Host, Job, Running
from core.run.sweep import Bounds, Sweep
from core.run.task import Task
from core.run.treatment import Act
from core.runtime import Disk
from core.screen.asking import somebody_is_there
from core.settings.faults import UsageError
from core.settings.fields import Settings
from core.settings.flags import EXIT_CODE, YES

log = structlog.get_logger(__name__)

ANSWERING = 600.0
"""Seconds that somebody at a terminal has to let acts be done."""
ASKING = 20.0
"""Seconds that a run asks for an older one before it goes on."""
PLAN_REACH = timedelta(days=30)
"""How far back a plan is looked for by its run id: as long as Cloud Logging keeps records by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepingJob(Job):
    """A job that judges every runtime by its policy, and acts on some."""

    policy: RuntimePolicy
    act: Callable[[Leonardo], Act]


def sweep(job: SweepingJob, settings: Settings, host: Host = run) -> int:
    """One sweep, from settings to exit code. Raises UsageError where it cannot begin."""
    task = task_of_environment()
    scope = scope_of(settings, task)
    plan = None if settings.plan is None else find_plan(settings.plan, settings, job.wall())

    async def work(running: Running) -> int:
        account = Account(running, max_age=job.policy.promised_age)
        known = await _earlier_runs(job, running)
        if known.unread:
            account.warnings.append(f"what earlier runs listed and failed at is not known: {known.unread}")
        policy, unannounced = await _with_notices(job.policy, running)
        started = opening_record(job, running, plan=plan, expected=known.expected, follows=known.follows)
        bounds = Bounds(
            dry_run=settings.dry_run,
            looks=scope.saved is None,
            caps=settings.caps.divided(task.count),
            expectations=_expectations(settings, task, known),
            plan=plan,
            excepted=settings.excepted,
            at_most=settings.at_most,
            refusals=(*unannounced, *(() if plan is None else _refusals(plan, started, job, settings))),
            accepted_last=known.accepted_last,
            approve=partial(_ask, job, running),
            older_run=partial(_older_run, running),
        )
        listing = Listing(running, account, policy, scope, known.failed_before)
        sweeping = Sweep(running, account, listing, job.act(running.leonardo), bounds)
        code = await sweeping.run(started)
        asked = EXIT_CODE in job.typed and settings.dry_run
        return ExitCode.FOUND if asked and code is ExitCode.DONE and account.plans_any else code

    return host(job, settings, task, work)


async def _with_notices(policy: RuntimePolicy, running: Running) -> tuple[RuntimePolicy, list[Refusal]]:
    """With whom the log says that owners were told of, where it must; a refusal where it cannot be read."""
    if not isinstance(policy, DeletionPolicy) or policy.notice_period is None:
        return policy, []
    from core.review.notices import SENT, allowed_from  # noqa: PLC0415 - 30 ms that a run without notices saves

    records, unread = await on_record(running, policy.max_age, SENT)
    why = None if records else unread
    if why is None and not _keeps_records(running.settings):
        why = "records are kept nowhere: name audit-cloud-log or audit-file"
    if why is not None:
        return policy, [Refusal(Guard.NOTICES, f"whose owners were told cannot be read: {why}")]
    return replace(policy, notices=allowed_from(records, policy.notice_period)), []


def _keeps_records(settings: Settings) -> bool:
    return bool(settings.audit_cloud_log or settings.audit_file) or shows_table(settings.output)


def _expectations(settings: Settings, task: Task, known: Earlier) -> Expectations:
    """Nothing is expected of single runtimes; a task's share may hold nothing, if it did before."""
    allow_empty = settings.allow_empty or settings.only is not None or (task.shared and known.listed_nothing)
    return Expectations(
        allow_empty=allow_empty,
        expect_at_least=0 if settings.only or task.shared else settings.expect_at_least,
        max_shrink=settings.max_shrink,
        allow_shrunken=settings.allow_shrunken,
        expected=known.expected,
    )


async def _earlier_runs(job: SweepingJob, running: Running) -> Earlier:
    """What earlier runs of this environment lead to expect; nothing, and why, where they cannot be read."""
    settings, task = running.settings, running.task
    kind = Kind(
        job=job.name,
        leonardo_url=settings.leonardo_url,
        of_projects=settings.swept is not None,
        task_index=task.index,
        task_count=task.count,
    )
    records, unread = await runs_on_record(running)
    known = earlier(records, kind, live=not settings.dry_run, own=task.execution)
    narrowed = settings.only is not None or settings.as_of is not None or settings.inventory is not None
    return replace(known, expected=None if narrowed else known.expected, unread=unread)


async def runs_on_record(running: Running) -> tuple[list[Record], str | None]:
    """The opening and closing records of this environment's earlier runs, and why some or all could not be read."""
    return await on_record(running, REACH)


async def on_record(
    running: Running,
    reach: timedelta,
    wanted: Wanted = RUNS,
    keep: Callable[[Record], bool] = lambda _: True,
    *,
    within: float = ASKING,
) -> tuple[list[Record], str | None]:
    """What this environment's log holds of that kind, as far back, and why some or all could not be read."""
    since = running.clock.wall() - reach
    try:
        async with running.clock.bound(within):
            records, faults = await running.background(_on_record, running.settings, since, wanted, keep)
    except (OSError, TimeoutError, OutOfTimeError, UsageError) as error:
        reason = str(error) or "no answer in time"
        log.warning("earlier runs cannot be read: going on", reason=reason)
        return [], reason
    return records, faults[0] if faults else None


def _on_record(
    settings: Settings, since: datetime, wanted: Wanted, keep: Callable[[Record], bool]
) -> tuple[list[Record], list[str]]:
    place = _log_of_earlier_runs(settings)
    if place is None:
        return [], []
    source = open_places([place], since, settings)
    records = AuditRecords(source, environment=settings.environment)
    kept = [record for record in records.alone(wanted, since) if keep(record)]
    return kept, [*map(str, records.faults)]


def _log_of_earlier_runs(settings: Settings) -> str | None:
    """Where this run's own records go is where earlier ones are; None where there are none yet."""
    if settings.audit_cloud_log is not None:
        return CLOUD_LOGGING
    path = settings.audit_file
    if path is not None:
        return str(path) if path.is_file() and path.stat().st_size > 0 else None
    written = shows_table(settings.output) and any(file.stat().st_size for file in AUDIT_FOLDER.glob("*.jsonl"))
    return str(AUDIT_FOLDER) if written else None


def scope_of(settings: Settings, task: Task) -> Scope:
    """How far a run goes that lists. Raises UsageError."""
    saved = None if settings.inventory is None else _saved_list(settings.inventory)
    if settings.only:
        owners = dict.fromkeys(path.rpartition("/")[0] for path in settings.only)
        return Scope(projects=task.share(owners), only=settings.only, saved=saved)
    if settings.swept is None and task.shared:
        raise UsageError(f"projects: a list is needed where {task.count} tasks share it (CLOUD_RUN_TASK_COUNT)")
    return Scope(projects=None if settings.swept is None else task.share(settings.swept), saved=saved)


def _saved_list(path: Path) -> Lists:
    try:
        return SavedList(path)
    except OSError as error:
        raise UsageError(f"inventory: {path} cannot be read: {error.strerror}") from None


def find_plan(place: str, settings: Settings, now: datetime) -> Plan:
    """From a file, or else from Cloud Logging where records are kept there. Raises UsageError."""
    from core.review.plan_reader import NoPlanError, read_plan  # noqa: PLC0415 - 12 ms that a run without a plan saves

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
        terms=terms_of(started.policy, started.exemptions),
        now=started.now,
        max_age=settings.plan_max_age,
    )


async def _ask(job: SweepingJob, running: Running, condemned: Sequence[Case]) -> bool:
    """Whoever acts from a terminal without a plan is shown what is to be done, and lets it be done or not."""
    settings = running.settings
    if settings.dry_run or settings.plan is not None or YES in job.typed or not somebody_is_there():
        return True
    lost = sum(case.runtime.disk is Disk.LOST for case in condemned)
    verb = condemned[0].decision.action
    question = (
        f"{verb.capitalize()} {with_lost(counted(len(condemned), 'runtime'), lost)} of"
        f" {settings.environment} at {settings.leonardo_url or 'the sandbox'}, by the rule: {job.policy}?"
    )
    try:
        async with running.clock.bound(ANSWERING):
            return await running.background(running.watcher.agrees, question)
    except (TimeoutError, OutOfTimeError):
        return False


async def _older_run(running: Running) -> str | None:
    """An older live execution of this Cloud Run job; None too where it cannot be told: overlap is harmless."""
    settings, task, clock = running.settings, running.task, running.clock
    if settings.dry_run or task.job is None or task.execution is None:
        return None
    try:
        async with clock.bound(ASKING):
            return await running.background(_ask_for_older_run, settings, task.job, task.execution, clock.wall())
    except Exception as error:  # noqa: BLE001 - whatever is answered there, the run goes on
        log.warning("cannot tell whether an older run is still going: going on", reason=str(error) or "no answer")
        return None


def _ask_for_older_run(settings: Settings, job: str, execution: str, now: datetime) -> str | None:
    from core.google.executions import CloudRunJob  # noqa: PLC0415 - 500 ms that dry runs do without
    from core.google.region import place_of  # noqa: PLC0415

    project, region = place_of(settings.google_project, settings.google_region)
    cloud_run = CloudRunJob(project, region, job, emulator=settings.google_emulator)
    return cloud_run.older_live_execution(execution, now, settings.deadline)
