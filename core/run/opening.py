"""Opens the running for one run - clock, records, Leonardo, console - and closes them; what is done is the job's."""

import asyncio
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path

import structlog

from core.background import in_background
from core.clock import OutOfTimeError, RunClock, utc_now
from core.exit_code import ExitCode
from core.leonardo.calling import Credentials, user_agent
from core.leonardo.client import Leonardo
from core.leonardo.errors import CredentialsError
from core.records.sinks import AuditFile, InThread, Sink, Stdout
from core.records.writer import AuditLog, RunIdentity
from core.run.running import Job, Nobody, Running, Watcher
from core.run.signals import Ending
from core.run.task import Task, this_task
from core.screen import diagnostics
from core.screen.columns import View
from core.settings.faults import UsageError, not_installed
from core.settings.fields import Settings

log = structlog.get_logger(__name__)

AUDIT_FOLDER = Path("audit")
"""Where a person's runs keep their records, by run id, unless told otherwise."""
ASKING = 60.0
"""Seconds for Google to say who this process is: google-auth tries several times."""


def run(job: Job, settings: Settings, task: Task, work: Callable[[Running], Awaitable[int]]) -> int:
    """Do the job's work with all open that it needs; its exit code. Raises UsageError where it cannot begin."""
    as_table = shows_table(settings.output)
    diagnostics.to_stderr(settings.log_level, as_json=not as_table)
    identity = RunIdentity(
        job=job.name,
        run_id=task.execution or new_run_id(),
        environment=settings.environment,
        dry_run=settings.dry_run,
        task_index=task.index,
        task_count=task.count,
    )
    clock = RunClock(
        deadline=settings.deadline, request_timeout=settings.request_timeout, as_of=settings.as_of, wall=job.wall
    )
    with ExitStack() as opened:
        ending = opened.enter_context(Ending(clock))
        url = opened.enter_context(_sandbox()) if settings.sandbox else settings.leonardo_url or ""
        sinks = [] if as_table else [InThread(Stdout())]
        if (in_file := _audit_file(settings, identity.run_id, as_table=as_table)) is not None:
            sinks.append(InThread(in_file))
        for sink in sinks:
            opened.callback(sink.close)
        watcher = opened.enter_context(watching(job.view, [], _applied_by(job, settings)) if as_table else _progress())
        audit = AuditLog(identity, sinks, now=clock.wall, seen_by=watcher.seen, in_time=clock.for_records)

        async def go() -> None:
            ending.begin()
            ending.code = await _work(job, settings, task, url, clock, audit, watcher, work)
            watcher.recorded(audit.kept_in, audit.failure)

        try:
            asyncio.run(go())
        except OutOfTimeError:  # before the first record
            ending.code = ExitCode.STOPPED
    return ending.code


def task_of_environment() -> Task:
    """Which of the tasks that share the run this process is. Raises UsageError where the environment makes no sense."""
    try:
        return this_task(os.environ)
    except ValueError as error:
        raise UsageError(str(error)) from None


def new_run_id() -> str:
    """Unique, and in the order of time when sorted."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _audit_file(settings: Settings, run_id: str, *, as_table: bool) -> AuditFile | None:
    path = settings.audit_file or (AUDIT_FOLDER / f"{run_id}.jsonl" if as_table else None)
    try:
        return None if path is None else AuditFile(path)
    except OSError as error:
        raise UsageError(f"audit-file: {path} cannot be written: {error.strerror}") from None


@contextmanager
def _sandbox() -> Iterator[str]:
    try:
        from core.sandbox.server import serving  # noqa: PLC0415 - not in the production image
    except ImportError as error:
        raise not_installed("sandbox", error, "sandbox") from None
    with serving() as server:
        yield server.url


async def _credentials(settings: Settings) -> Credentials | None:
    if not settings.needs_token:
        return None
    from core.leonardo.credentials import google_credentials  # noqa: PLC0415 - 200 ms that other runs do without

    try:
        return await in_background(google_credentials, settings.impersonate_service_account)
    except CredentialsError as error:
        raise UsageError(f"auth: {error}") from None


async def _work(
    job: Job,
    settings: Settings,
    task: Task,
    url: str,
    clock: RunClock,
    audit: AuditLog,
    watcher: Watcher,
    work: Callable[[Running], Awaitable[int]],
) -> int:
    async with AsyncExitStack() as opened:
        async with _asking(clock, "auth"):
            credentials = await _credentials(settings)
        if settings.audit_cloud_log is not None:
            async with _asking(clock, "audit-cloud-log"):
                audit.also_keep_in(
                    await opened.enter_async_context(_cloud_log(settings.audit_cloud_log, settings, task))
                )
        try:
            leonardo = Leonardo(
                url,
                clock=clock,
                credentials=credentials,
                request_timeout=settings.request_timeout.total_seconds(),
                read_concurrency=settings.read_concurrency,
                write_concurrency=settings.write_concurrency,
                methods=_methods(settings, job),
                user_agent=user_agent(job.name),
            )
        except ValueError as error:
            raise UsageError(f"leonardo-url: {error}") from None
        await opened.enter_async_context(leonardo)
        return await work(Running(settings, task, clock, audit, leonardo, watcher))


@asynccontextmanager
async def _asking(clock: RunClock, setting: str) -> AsyncIterator[None]:
    """For what the setting needs before a run can begin. Raises UsageError where it takes too long."""
    try:
        async with clock.bound(ASKING):
            yield
    except TimeoutError:
        raise UsageError(f"{setting}: Google did not say within {ASKING:.0f} s who this process is") from None


def _methods(settings: Settings, job: Job) -> set[str]:
    """What may leave: nothing where the inventory was saved, and an act only where the run is to act."""
    if settings.inventory is not None:
        return set()
    return {"GET"} if settings.dry_run or job.method is None else {"GET", job.method}


@asynccontextmanager
async def _cloud_log(log_name: str, settings: Settings, task: Task) -> AsyncIterator[Sink]:
    """Raises UsageError where there are no credentials."""
    from core.google.log_sink import open_log  # noqa: PLC0415 - 400 ms that other runs do without
    from core.google.region import place_of  # noqa: PLC0415

    place, labels = {}, {}
    if task.job and task.execution:  # so that the console shows the records beside the execution
        labels = {"run.googleapis.com/execution_name": task.execution}
        try:
            project, region = await in_background(place_of, settings.google_project, settings.google_region)
            place = {"project_id": project, "location": region, "job_name": task.job}
        except OSError as error:
            log.warning("records in Cloud Logging will not name the job as their resource", reason=str(error))
    opening = open_log(log_name, emulator=settings.google_emulator, cloud_run=place, labels=labels)
    async with AsyncExitStack() as opened:
        try:
            sink = await opened.enter_async_context(opening)
        except OSError as error:
            raise UsageError(f"audit-cloud-log: {error}") from None
        yield sink


def shows_table(output: str) -> bool:
    """Whether standard output is for a person, and not for records."""
    return output == "table" or (output == "auto" and sys.stdout.isatty())


def _progress() -> AbstractContextManager[Watcher]:
    """Records go into a file or a pipe: how far the run is shows on a terminal beside."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        return nullcontext(Nobody())
    from core.screen.run import ProgressView  # noqa: PLC0415 - for a person only

    return ProgressView()


def _applied_by(job: Job, settings: Settings) -> str | None:
    """The command that carries out what this dry run plans, up to the place of its records; None where none can."""
    if not settings.dry_run or job.method is None or settings.sandbox or settings.as_of or settings.inventory:
        return None
    words, left_out = list(job.typed), ("--audit-file", "--plan")
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if before not in left_out and word.partition("=")[0] not in (*left_out, "--dry-run")
    ]
    return shlex.join(["leo-lifecycle", *kept, "--no-dry-run", "--plan"])


@contextmanager
def watching(view: View, kept_in: list[str], applied_by: str | None = None) -> Iterator[Watcher]:
    """A person who watches a run at a terminal."""
    from core.screen.run import TableView  # noqa: PLC0415 - for a person only

    with TableView(view, kept_in=kept_in, applied_by=applied_by) as watcher:
        yield watcher
