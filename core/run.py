"""Opens the rooms for one run - clock, records, Leonardo, console - and closes them; what is done is the job's."""

import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import structlog

from core import diagnostics
from core.leonardo.client import Credentials, Leonardo
from core.leonardo.errors import CredentialsError
from core.records import events
from core.records.view import View
from core.records.writer import AuditFile, AuditLog, RunIdentity, Sink, Stdout
from core.rules.decision import Decision
from core.rules.exemptions import Exemption
from core.rules.guards import Refusal
from core.rules.plan import Plan
from core.run_clock import RunClock, utc_now
from core.settings.faults import UsageError
from core.settings.fields import Settings
from core.sweep import Act, Bounds, Explain, Judge, Rule, Scope, Sweep

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run says of itself, and what it may send."""

    name: str
    in_a_sentence: str
    policy: dict[str, float | bool]
    exemptions: tuple[Exemption, ...] = ()
    method: str | None
    """The HTTP method of its acts; no other but GET can leave. None where it does not act."""
    view: View


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepingJob(Job):
    """A job that judges every runtime: it hands the sweep a judge and an act."""

    judge: Judge
    explain: Explain
    act: Callable[[Leonardo], Act]
    look_first: Callable[[Decision], bool] = lambda _: False
    plan: str | None = None
    """The audit file of the dry run that it is held to."""


class Watcher(Protocol):
    """Somebody who watches the run."""

    def seen(self, event: events.Event) -> None:
        """A record was written."""

    def expected(self, count: int) -> None:
        """The list has ended, so many runtimes are left to treat."""


class Nobody:
    """Nobody watches: the records are the output."""

    def seen(self, event: events.Event) -> None:
        pass

    def expected(self, count: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Rooms:
    """What is open during a run."""

    settings: Settings
    clock: RunClock
    audit: AuditLog
    leonardo: Leonardo
    watcher: Watcher


def sweep(job: SweepingJob, settings: Settings) -> int:
    """One sweep, from settings to exit code. Raises UsageError where it cannot begin."""
    plan = None if job.plan is None else _plan(job.plan)

    async def work(rooms: Rooms) -> int:
        started = run_started(job, rooms, plan)
        sweeping = Sweep(
            leonardo=rooms.leonardo,
            audit=rooms.audit,
            clock=rooms.clock,
            scope=_scope(settings),
            rule=Rule(judge=job.judge, explain=job.explain, act=job.act(rooms.leonardo), look_first=job.look_first),
            bounds=Bounds(
                dry_run=settings.dry_run,
                caps=settings.caps,
                expectations=settings.expectations,
                readers=settings.read_concurrency,
                actors=settings.write_concurrency,
                plan=plan,
                refusals=() if plan is None else tuple(_refusals(plan, started, job, settings)),
            ),
            name_creator=settings.audit_creator == "plain",
            expected=rooms.watcher.expected,
        )
        return await sweeping.run(started)

    return run(job, settings, work)


def run(job: Job, settings: Settings, work: Callable[[Rooms], Awaitable[int]]) -> int:
    """Whatever the job's work is, in open rooms; its exit code. Raises UsageError where it cannot begin."""
    as_table = settings.output == "table" or (settings.output == "auto" and sys.stdout.isatty())
    diagnostics.to_stderr(settings.log_level, as_json=not as_table)
    identity = RunIdentity(
        job=job.name,
        run_id=os.environ.get("CLOUD_RUN_EXECUTION") or new_run_id(),
        environment=settings.environment,
        dry_run=settings.dry_run,
    )
    with ExitStack() as opened:
        url = opened.enter_context(_sandbox()) if settings.sandbox else str(settings.leonardo_url)
        sinks = _sinks(settings, identity.run_id, as_table=as_table)
        for sink in sinks:
            opened.callback(sink.close)
        watcher = opened.enter_context(_watcher(job, sinks, as_table=as_table))
        return asyncio.run(_in_rooms(job, settings, identity, url, sinks, watcher, work))


def new_run_id() -> str:
    """Unique, and in the order of time when sorted."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _sinks(settings: Settings, run_id: str, *, as_table: bool) -> list[Sink]:
    path = settings.audit_file or (Path("audit") / f"{run_id}.jsonl" if as_table else None)
    try:
        in_file: list[Sink] = [] if path is None else [AuditFile(path)]
    except OSError as error:
        raise UsageError(f"audit-file: {path} cannot be written: {error.strerror}") from None
    return in_file if as_table else [Stdout(), *in_file]


@contextmanager
def _sandbox() -> Iterator[str]:
    try:
        from core.sandbox.server import serving  # noqa: PLC0415 - not in the production image
    except ImportError as error:
        raise UsageError(f"sandbox: {error.name} is not installed; install leo-lifecycle[sandbox]") from None
    with serving() as server:
        yield server.url


def _credentials(settings: Settings) -> Credentials | None:
    if not settings.needs_token:
        return None
    from core.leonardo.credentials import google_credentials  # noqa: PLC0415 - 200 ms that other runs do without

    try:
        return google_credentials(settings.impersonate_service_account)
    except CredentialsError as error:
        raise UsageError(f"auth: {error}") from None


async def _in_rooms(
    job: Job,
    settings: Settings,
    identity: RunIdentity,
    url: str,
    sinks: list[Sink],
    watcher: Watcher,
    work: Callable[[Rooms], Awaitable[int]],
) -> int:
    clock = RunClock(deadline=settings.deadline, request_timeout=settings.request_timeout, as_of=settings.as_of)
    audit = AuditLog(identity, sinks, now=clock.wall, seen_by=watcher.seen)
    leonardo = Leonardo(
        url,
        clock=clock,
        credentials=_credentials(settings),
        request_timeout=settings.request_timeout.total_seconds(),
        read_concurrency=settings.read_concurrency,
        write_concurrency=settings.write_concurrency,
        methods={"GET"} if settings.dry_run or job.method is None else {"GET", job.method},
        user_agent=f"leo-lifecycle/{version('leo-lifecycle')} ({job.name})",
    )
    with clock.signals():
        async with leonardo:
            return await work(Rooms(settings, clock, audit, leonardo, watcher))


@contextmanager
def _watcher(job: Job, sinks: list[Sink], *, as_table: bool) -> Iterator[Watcher]:
    if not as_table:
        yield Nobody()
        return
    try:
        from core.console import TableView  # noqa: PLC0415 - rich is for a person only
    except ImportError as error:
        raise UsageError(f"output: {error.name} is not installed; install leo-lifecycle[console]") from None
    with TableView(job.in_a_sentence, job.view, kept_in=[sink.name for sink in sinks]) as watcher:
        yield watcher


def _scope(settings: Settings) -> Scope:
    if settings.only:
        return Scope(projects=tuple(dict.fromkeys(p.rpartition("/")[0] for p in settings.only)), only=settings.only)
    return Scope(projects=settings.swept)


def _plan(place: str) -> Plan:
    from core.records.plan_reader import NoPlanError, read_plan  # noqa: PLC0415 - what a run without a plan needs not

    try:
        return read_plan([Path(place)], utc_now())
    except OSError as error:
        raise UsageError(f"plan: {place} cannot be read: {error.strerror}") from None
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


def run_started(job: Job, rooms: Rooms, plan: Plan | None = None) -> events.RunStarted:
    """The first record of the job's run; its `now` is the instant that the list is judged by."""
    settings, now = rooms.settings, rooms.clock.now()
    for exemption in job.exemptions:
        if exemption.lapsed(now):
            log.warning("exemption has lapsed", reason=exemption.reason, until=exemption.until.isoformat())
    swept = settings.swept
    return events.RunStarted(
        severity=events.Severity.NOTICE,
        message=f"{'dry run' if settings.dry_run else 'live run'}: {job.in_a_sentence}",
        version=version("leo-lifecycle"),
        actor=rooms.leonardo.actor,
        started_by=settings.started_by,
        approved_by=settings.approved_by,
        now=now,
        policy=job.policy,
        policy_digest=events.policy_digest(job.policy, job.exemptions),
        exemptions=[events.exemption_detail(exemption, now) for exemption in job.exemptions],
        limits={
            "max_acts": settings.max_acts,
            "max_act_share": settings.max_act_share,
            "allow_empty": settings.allow_empty,
            "expect_at_least": settings.expect_at_least,
            "deadline_s": settings.deadline.total_seconds(),
            "request_timeout_s": settings.request_timeout.total_seconds(),
            "read_concurrency": settings.read_concurrency,
            "write_concurrency": settings.write_concurrency,
        },
        scope={
            "projects": None if swept is None else list(swept[: events.MOST_NAMES]),
            "project_count": None if swept is None else len(swept),
            "only": None if settings.only is None else list(settings.only[: events.MOST_NAMES]),
            "as_of": settings.as_of,
        },
        plan=None if plan is None else {"run_id": plan.run_id, "digest": plan.digest},
    )
