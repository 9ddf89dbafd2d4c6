"""Runs of the jobs without sockets, threads or processes, against the application of the sandbox: thousands a year."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import httpx
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from core.clock import RunClock
from core.leonardo.client import Leonardo
from core.leonardo.exchange import FIRST_BYTE
from core.records.writer import AuditLog, RunIdentity
from core.run.running import Job, Nobody, Running
from core.run.task import Task
from core.screen import diagnostics
from core.settings.fields import Settings

P = ParamSpec("P")
T = TypeVar("T")
KEPT = b'"outcome":"kept"'
URL = "http://127.0.0.1:1"
"""Where nothing is: every request goes to the application."""


class _NoSocket(asyncio.Transport):
    """Never full, never closed."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class _Wire(httpx.AsyncBaseTransport):
    """Carries a request into the application, and tells of its first byte as a connection does."""

    def __init__(self, app: Starlette) -> None:
        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"transport": _NoSocket()}
            await app(scope, receive, send)

        self._carried = httpx.ASGITransport(app=with_state)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.extensions["trace"](FIRST_BYTE, {})
        request.url = request.url.copy_with(raw_path=request.extensions["target"])
        return await self._carried.handle_async_request(request)


class _Appended:
    """A sink that is a file, written at once."""

    full = False

    def __init__(self, path: Path, without: bytes = b"\n\n") -> None:
        """Of lines that hold `without` none is kept, as by the filter of a log's sink."""
        self.name = str(path)
        self._without = without
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, *lines: bytes) -> None:
        self._file.write(b"".join(line for line in lines if self._without not in line))

    async def catch_up(self) -> None:
        """Nothing is held back."""

    async def make_durable(self) -> None:
        """No machine goes down here."""

    def close(self) -> None:
        self._file.close()


async def _at_once(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return work(*args, **kwargs)


@dataclass
class InProcess:
    """Where the runs take place."""

    app: Starlette
    acts: Path
    """Beside the log, where everything is kept but what says that a runtime is kept."""
    log: Path = Path("audit/log.jsonl")
    runs: int = 0

    def __call__(self, job: Job, settings: Settings, task: Task, work: Callable[[Running], Awaitable[int]]) -> int:
        diagnostics.to_stderr(settings.log_level, as_json=True)
        self.runs += 1
        identity = RunIdentity(
            job=job.name,
            run_id=task.execution or f"{job.wall():%Y%m%dT%H%M%S}-{self.runs}",
            environment=settings.environment,
            dry_run=settings.dry_run,
        )
        clock = RunClock(deadline=settings.deadline, request_timeout=settings.request_timeout, wall=job.wall)
        sinks = [_Appended(self.log), _Appended(self.acts, KEPT)]
        audit = AuditLog(identity, sinks, now=clock.wall)

        async def live() -> int:
            leonardo = Leonardo(
                URL,
                clock=clock,
                credentials=None,
                request_timeout=settings.request_timeout.total_seconds(),
                read_concurrency=1,
                write_concurrency=1,
                methods={"GET"} if settings.dry_run or job.method is None else {"GET", job.method},
                user_agent="a test",
                connect=lambda: _Wire(self.app),
            )
            async with leonardo:
                return await work(Running(settings, task, clock, audit, leonardo, Nobody(), _at_once))

        try:
            return asyncio.run(live())
        finally:
            for sink in sinks:
                sink.close()
