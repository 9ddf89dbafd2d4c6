"""One process of the program: a job's main on a loop, clocks, wires and sinks of the world's; killed, put to sleep."""

import asyncio
import math
import os
from argparse import Namespace
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from core.clock import GRACE, LAST_WORDS, LEAVING, OutOfTimeError, RunClock
from core.exit_code import ExitCode
from core.leonardo.client import Leonardo
from core.records import events
from core.records.writer import AuditLog, RunIdentity
from core.run.running import Job, Nobody, Running
from core.run.task import Task
from core.settings.faults import UsageError
from core.settings.fields import Settings
from jobs import check_autopause, check_disks, confirm_deletions, delete_old_runtimes, notify_owners
from tests.lives.loop import Loop
from tests.lives.sinks import VirtualCloud, VirtualFile, VirtualSink
from tests.lives.wire import Delivered, Exchange, Target, VirtualWire

if TYPE_CHECKING:
    from tests.lives.world import World

P = ParamSpec("P")
T = TypeVar("T")
JOBS = {
    job.NAME: job.main for job in (delete_old_runtimes, check_autopause, confirm_deletions, check_disks, notify_owners)
}
BOOTED = 1000.0
"""What the clock that nobody sets shows as the world begins."""
MILLISECOND = timedelta(milliseconds=1)
MICROSECOND = 1e-6


async def at_once(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return work(*args, **kwargs)


@dataclass(eq=False)
class Process:
    """From the command to the exit code."""

    world: "World"
    number: int
    job: str
    settings: Settings
    offset: float = 0.0
    """How far its wall clock is ahead, in seconds."""
    drift: float = 0.0
    """Seconds that the wall clock gains in one."""
    task: tuple[int, int] = (0, 1)
    run_id: str = ""
    code: int | None = None
    dead: bool = False
    """Killed, so that there is no exit code."""
    signalled_at: float | None = None
    suspended: bool = False
    was_suspended: bool = False
    said: list[events.Event] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    sinks: list[VirtualSink] = field(default_factory=list)
    planned: frozenset[int] | None = None
    """The ids that its plan allows."""
    held_up: set[str] = field(default_factory=set)
    """What a look or an act was to leave for, and no connection stood at once."""
    refused: Counter[Target] = field(default_factory=Counter)
    """Requests for which there was no connection."""
    failed_before: frozenset[str] = frozenset()
    """What live runs of the last days have named as failed."""
    hold_until: float = 0.0
    """By its own clock, what Leonardo asked to wait for."""
    told_to_hold_at: float = 0.0
    _asleep: float = 0.0
    _slept_at: float = 0.0

    def __post_init__(self) -> None:
        self.born = self.world.now
        self.failed_before = self.world.oracle.failed_before(self.job)
        self.run_id = self.run_id or f"run-{self.number:03d}"
        self.world.oracle.sees_clock(self)
        self.loop = Loop(self.loop_time)
        self.ended_at = math.inf
        self._task: asyncio.Task[int] | None = None

    # its clocks

    def wall(self) -> datetime:
        return self.world.at(self.world.now + self.ahead)

    @property
    def ahead(self) -> float:
        """Seconds by which the wall clock is; no two show the same microsecond by chance."""
        return self.offset + self.drift * (self.world.now - self.born) + self.number * MICROSECOND

    def monotonic(self) -> float:
        """Runs while the machine sleeps."""
        return self.world.now + BOOTED

    def loop_time(self) -> float:
        """Stands still while the machine sleeps."""
        now = self._slept_at if self.suspended else self.world.now
        return now - self._asleep + BOOTED

    @property
    def wakes_at(self) -> float | None:
        """By the world's clock."""
        timer = self.loop.next_timer
        return None if timer is None or self.suspended else timer + self._asleep - BOOTED

    # its life

    def start(self) -> None:
        index, count = self.task
        os.environ.update(
            CLOUD_RUN_EXECUTION=self.run_id, CLOUD_RUN_TASK_INDEX=str(index), CLOUD_RUN_TASK_COUNT=str(count)
        )
        arguments = Namespace(places=[str(self.world.log.path)], since="30d", typed=())
        try:
            JOBS[self.job](self.settings, arguments, wall=self.wall, host=self._host)
        except UsageError as error:
            self.code = ExitCode.USAGE
            self.world.tell(f"{self} ends with 2: {error}")
            self.world.oracle.ended(self)

    def _host(self, job: Job, settings: Settings, task: Task, work: Callable[[Running], Awaitable[int]]) -> int:
        identity = RunIdentity(
            job=job.name,
            run_id=self.run_id,
            environment=settings.environment,
            dry_run=settings.dry_run,
            task_index=task.index,
            task_count=task.count,
        )
        self.clock = RunClock(
            deadline=settings.deadline,
            request_timeout=settings.request_timeout,
            as_of=settings.as_of,
            wall=self.wall,
            monotonic=self.monotonic,
        )
        self.sinks = [VirtualFile(self, "file"), *([VirtualCloud(self, "cloud")] if self.world.has_cloud else [])]
        audit = AuditLog(identity, self.sinks, now=self.clock.wall, seen_by=self._seen, in_time=self.clock.for_records)
        methods = {"GET"} if settings.dry_run or job.method is None else {"GET", job.method}
        wire = partial(VirtualWire, self)
        leonardo = Leonardo(
            settings.leonardo_url or "",
            clock=self.clock,
            credentials=None,
            request_timeout=settings.request_timeout.total_seconds(),
            read_concurrency=settings.read_concurrency,
            write_concurrency=settings.write_concurrency,
            methods=methods,
            user_agent="lives",
            connect=wire,
            new_trace_id=self._new_trace_id,
        )

        async def live() -> int:
            async with leonardo:
                return await work(Running(settings, task, self.clock, audit, leonardo, Nobody(), at_once, wire))

        self._task = self.loop.create_task(live())
        self.world.later(settings.deadline.total_seconds(), self._end_in_time)
        return 0

    def step(self) -> None:
        self.loop.step()
        if self._task is not None and self._task.done():
            self._ended(self._task)

    def _ended(self, task: asyncio.Task[int]) -> None:
        self.ended_at = self.world.now
        try:
            self.code = task.result()
        except OutOfTimeError:
            self.code = ExitCode.STOPPED
        for sink in self.sinks:
            sink.flush()
        self.world.tell(f"{self} ends with {self.code}")
        self.loop.close()
        self.world.oracle.ended(self)

    def _end_in_time(self) -> None:
        """As the program's own thread does where something hangs."""
        if self.is_running and not self.suspended and self.clock.ends_in <= 0:
            if not self.was_suspended:
                self.world.oracle.fail("time", f"{self} did not end in time by itself")
            self.kill()

    def stop(self) -> None:
        """SIGTERM."""
        if self.signalled_at is None:
            self.signalled_at = self.monotonic()
            self.loop.call_soon(self.clock.stop)
            self.world.later(GRACE + LAST_WORDS + LEAVING, self._end_in_time)

    def kill(self, torn: float | None = None) -> None:
        if torn is not None and self.sinks:
            self.sinks[0].torn(torn)
        self.dead = True
        self.world.oracle.killed(self)
        self.loop.die()

    def suspend(self, seconds: float) -> None:
        if not self.suspended:
            self.suspended = self.was_suspended = True
            self._slept_at = self.world.now
            self.world.later(seconds, self._resume)

    def _resume(self) -> None:
        if self.suspended:
            self.suspended = False
            self._asleep += self.world.now - self._slept_at
            if self.is_running and self.clock.ends_in <= 0:
                self._end_in_time()

    @property
    def is_running(self) -> bool:
        return not self.dead and self.code is None

    @property
    def is_on_record(self) -> bool:
        """Whether its closing record is surely in the file."""
        return self.code not in (None, ExitCode.USAGE, ExitCode.UNRECORDED) and any(
            isinstance(event, events.RunFinished) for event in self.said
        )

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # what it does

    def _seen(self, event: events.Event) -> None:
        if not self.dead:
            self.said.append(event)

    def _new_trace_id(self) -> str:
        return f"{self.number:016x}{len(self.exchanges):016x}"

    def departs(self, target: Target, query: bytes, notices: Sequence[dict[str, Any]], fault: str) -> Exchange:
        """The first byte of a request leaves."""
        exchange = Exchange(
            process=self,
            number=len(self.exchanges),
            target=target,
            query=query,
            departed=self.monotonic(),
            answer=self.loop.create_future(),
            notices=notices,
            fault=fault,
        )
        self.exchanges.append(exchange)
        self.world.oracle.departs(exchange)
        self.world.carry(exchange)
        return exchange

    def arrives(self, exchange: Exchange, answer: Delivered | Exception) -> None:
        """An answer reaches the process, if it is still there to read it."""
        if not self.is_running or exchange.answer.done():
            return
        if isinstance(answer, Delivered):
            exchange.delivered, exchange.delivered_at = answer, self.monotonic()
            exchange.offset = self.ahead
            exchange.wall_at = (self.wall() - self.world.at(0)) // MILLISECOND
            if exchange.asks_to_wait and not exchange.notices:
                wait = max(1.0, float(answer.headers["retry-after"]))
                self.hold_until = max(self.hold_until, self.monotonic() + wait)
                self.told_to_hold_at = self.monotonic()
        exchange.answer.set_result(answer)

    @property
    def deadline(self) -> float:
        return self.born + BOOTED + self.settings.deadline / timedelta(seconds=1)

    def __str__(self) -> str:
        kind = "dry" if self.settings.dry_run else "live"
        share = f", task {self.task[0]} of {self.task[1]}" if self.task[1] > 1 else ""
        return f"{self.run_id} ({kind} {self.job}{share})"
