"""The world: one Leonardo, its users, the network between, the machine's log, and time, which it alone lets pass."""

import math
import os
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import httpx
import msgspec

from core.sandbox.disk import Disk
from core.sandbox.installation import RefusedError
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.users import Users
from tests.lives.oracle import Oracle
from tests.lives.process import Process
from tests.lives.rule import MILLISECOND
from tests.lives.wire import Delivered, Exchange, State

if TYPE_CHECKING:
    from tests.lives.history import Life

BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0
LATENCIES = (0.004, 0.012, 0.02, 0.03, 0.05, 0.08, 0.011, 0.4, 0.025, 0.9, 0.007, 0.06, 2.5)
"""Seconds on the way to Leonardo or back; so many that they are no measure of anything else."""
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
ROUNDING = 1e-7
ODD = 0.4
"""How often a list holds an odd row while lists do."""
SAM = "org.broadinstitute.dsde.workbench.leonardo.auth.SamException"
TEXT, JSON, HTML = "text/plain; charset=UTF-8", "application/json", "text/html"
BROKEN = b'"There was an internal server error."'
BY_SAM = {"source": "sam", "message": "no", "statusCode": 404, "exceptionClass": SAM, "traceId": None}
INSTEAD: dict[str, tuple[int, bytes, str, tuple[str, ...]]] = {
    "500": (500, BROKEN, JSON, ()),
    "502": (502, PAGE, HTML, ()),
    "503, come back": (503, b"", TEXT, ("0", "2", "30")),
    "429": (429, b"Too Many Requests", TEXT, ("1", "15")),
    "401": (401, PAGE, HTML, ()),
    "404": (404, RefusedError(404, "RuntimeNotFoundException", "not found").body(), JSON, ()),
    "404 by Sam": (404, msgspec.json.encode(BY_SAM), JSON, ()),
    "garbage": (200, PAGE, HTML, ()),
}
"""What comes instead of Leonardo's own answer: its status, body, type, and what a Retry-After may say."""


@lru_cache(maxsize=4096)
def http_date(second: int) -> str:
    return format_datetime(BEGIN + timedelta(seconds=second), usegmt=True)


class LogFile:
    """The audit file: what was written outlives a process, and only what was synced outlives the machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        self.size = self.synced = 0
        self._whole = True

    def append(self, content: bytes) -> None:
        """A torn line must not swallow the next one."""
        self.size += os.write(self._descriptor, content if self._whole else b"\n" + content)
        self._whole = content.endswith(b"\n")

    def sync(self) -> None:
        self.synced = self.size

    def lose(self) -> None:
        """The power fails."""
        os.ftruncate(self._descriptor, self.synced)
        self.size = self.synced
        self._whole = not self.size or os.pread(self._descriptor, 1, self.size - 1) == b"\n"

    def close(self) -> None:
        os.close(self._descriptor)


class World:
    """All that is there, and one line of time."""

    def __init__(self, life: "Life", log: Path, *, telling: bool = False) -> None:
        random.seed(life.seed)  # the waits between tries are the library's
        self.random = Random(life.seed)  # noqa: S311 - the same life for the same seed is the point
        self.now = 0.0
        self.steps = 0
        self.has_cloud = life.has_cloud
        self.cloud = b""
        self.story: list[str] | None = [] if telling else None
        self.leonardo = Leonardo(
            list(life.machines(BEGIN)), now=self.instant, pauses_idle=life.pauses_idle, raw_rows=life.raw_rows
        )
        self.users = Users(self.leonardo)
        self.told: defaultdict[int, list[tuple[datetime, float]]] = defaultdict(list)
        """By runtime, from when on its owner was told that it may go, and when."""
        self.log = LogFile(log)
        self.processes: list[Process] = []
        self.faults: list[tuple[str, str]] = []
        """What befalls the next requests of a method (or any), in order."""
        self.database_is_down = False
        self.odd_rows = False
        """Whether lists hold rows twice, and those of other projects."""
        self.slow = 0.0
        """Seconds that the back end takes before it looks at anything."""
        self.oracle = Oracle(self)
        self._running: list[Process] = []
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._instant = (-1.0, BEGIN)

    # time

    def at(self, second: float) -> datetime:
        return BEGIN + timedelta(seconds=second)

    def instant(self) -> datetime:
        """Now, by Leonardo's clock, which is right."""
        if self._instant[0] != self.now:
            self._instant = self.now, self.at(self.now)
        return self._instant[1]

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        heappush(self._heap, (self.now + seconds, next(self._order), what))

    def pass_time(self, seconds: float) -> None:
        """All that happens until then."""
        until = self.now + seconds
        while self._step() or self._next(until):
            pass
        self.now = max(self.now, until)

    def pass_steps(self, steps: int) -> None:
        """Until the program has taken so many steps, or none of it runs any more."""
        until = self.steps + steps
        while self.steps < until and self._running and (self._step() or self._next(self.now + DAY)):
            pass

    def _step(self) -> bool:
        """One step of a process that can take one."""
        ready = [process for process in self._running if process.loop.ready and not process.suspended]
        if not ready:
            return False
        process = ready[0] if len(ready) == 1 else self.random.choice(ready)
        self.steps += 1
        process.step()
        if self.oracle.violation is not None:
            raise self.oracle.violation
        if not process.is_running:
            self._running.remove(process)
        return True

    def _next(self, until: float) -> bool:
        """Whatever comes next."""
        self._running = [process for process in self._running if process.is_running]
        times = [at for process in self._running if (at := process.wakes_at) is not None]
        if self._heap:
            times.append(self._heap[0][0])
        at = min(times, default=math.inf)
        if at > until:
            return False
        self.now = max(self.now, at)
        moved = bool(self._heap) and self._heap[0][0] <= self.now
        while self._heap and self._heap[0][0] <= self.now:
            heappop(self._heap)[2]()
        for process in self._running:
            if process.is_running and not process.suspended:
                process.loop.wake()
                moved |= bool(process.loop.ready)
        if not moved:  # by the clock of a process that had slept its timer is due a rounding later
            self.now += ROUNDING
        return True

    # processes

    def keep_plan(self, of: Process) -> Path:
        """The records of a dry run in a file of their own."""
        path = self.log.path.with_name(f"{of.run_id}.jsonl")
        lines = (line for task in self.processes if task.run_id == of.run_id for line in task.sinks[0].lines)
        path.write_bytes(b"".join(lines))
        return path

    def start(self, process: Process) -> None:
        self.processes.append(process)
        self.tell(f"{process} begins")
        process.start()
        if process.is_running:
            self._running.append(process)

    @property
    def running(self) -> list[Process]:
        return [process for process in self._running if process.is_running]

    def close(self) -> None:
        for process in self.processes:
            process.dead |= process.is_running
            process.loop.die()
        self.log.close()

    def tell(self, what: str) -> None:
        if self.story is not None:
            self.story.append(f"{self.instant():%d %H:%M:%S} {what}")

    # the network

    def weather(self, method: str) -> str:
        """What befalls a request of this method that is about to leave."""
        for number, (of, fault) in enumerate(self.faults):
            if of in ("any", method):
                del self.faults[number]
                return fault
        return ""

    def _latency(self) -> float:
        return LATENCIES[int(self.random.random() * len(LATENCIES))]

    def carry(self, exchange: Exchange) -> None:
        """A request is on its way."""
        if exchange.is_act or exchange.notices or exchange.fault:
            befalls = f", {exchange.fault}" if exchange.fault else ""
            self.tell(f"{exchange.process.run_id}: {exchange.target.kind} {exchange.path}{befalls}")
        delay = self._latency() + self.slow
        match exchange.fault:
            case "request is lost":
                return
            case "connection breaks before":
                self.on_the_way(exchange, delay, lambda: self._break(exchange))
                return
            case "request is late":
                delay += self.random.choice((3.0, 11.0, 40.0, 100.0))
            case "is doubled":
                twin = delay + self.random.choice((0.0, 0.01, 2.0))
                self.on_the_way(exchange, twin, lambda: self._serve_twin(exchange))
        self.on_the_way(exchange, delay, lambda: self._serve(exchange))

    def on_the_way(
        self,
        exchange: Exchange,  # noqa: ARG002 - who explores asks it
        seconds: float,
        what: Callable[[], None],
    ) -> None:
        """A request or its answer takes its time."""
        self.later(seconds, what)

    def disk_works(self, process: Process, seconds: float, what: Callable[[], None]) -> None:
        """A sink takes its time to keep what a process has written."""
        process.loop.call_later(seconds, what)

    def _break(self, exchange: Exchange) -> None:
        exchange.process.arrives(exchange, httpx.ReadError("connection reset by peer"))

    def _serve_twin(self, exchange: Exchange) -> None:
        """A proxy on the way repeats what it deems harmless; its own answer to that nobody reads."""
        if exchange.is_act or exchange.notices:
            with suppress(RefusedError):
                self._own_answer(exchange)

    def _serve(self, exchange: Exchange) -> None:
        """Leonardo, or something in front of it, answers."""
        fault = exchange.fault
        delay = self._latency()
        answer = self._instead(fault)
        says_yes = answer is not None and answer.status == 200
        if answer is None or fault.endswith("after all") or (exchange.notices and says_yes):
            own = self._answer(exchange)
            if answer is None:
                answer, exchange.true = own, fault != "breaks off"
        match fault:
            case "answer is lost":
                return
            case "connection breaks after":
                self.on_the_way(exchange, delay, lambda: self._break(exchange))
                return
            case "answer is late":
                delay += self.random.choice((3.0, 9.5, 10.5, 40.0, 80.0))
            case "breaks off":
                answer = answer._replace(breaks_off=True)
            case "clock is wrong":
                wrong = self.random.choice((-3600.0, -290.0, 290.0, 3600.0))
                answer.headers["date"] = http_date(int(self.now + wrong))
        self.on_the_way(exchange, delay, lambda: exchange.process.arrives(exchange, answer))

    def _instead(self, fault: str) -> Delivered | None:
        """What comes instead of Leonardo's own answer."""
        if self.database_is_down:
            return self._said(500, BROKEN)
        kind = fault.removesuffix(" after all")
        if kind not in INSTEAD:
            return None
        status, body, content_type, waits = INSTEAD[kind]
        return self._said(status, body, content_type, retry_after=self.random.choice(waits) if waits else None)

    def _said(self, status: int, body: bytes, kind: str = JSON, *, retry_after: str | None = None) -> Delivered:
        headers = {"content-type": kind, "date": http_date(int(self.now))}
        if retry_after is not None:
            headers["retry-after"] = retry_after
        return Delivered(status, headers, body)

    # Leonardo

    def _answer(self, exchange: Exchange) -> Delivered:
        exchange.served_at = self.now
        try:
            body = self._own_answer(exchange)
        except RefusedError as error:
            return self._said(error.status, error.body())
        return self._said(202, body, TEXT) if exchange.is_act else self._said(200, body)

    def _own_answer(self, exchange: Exchange) -> bytes:
        """By its own rules. Raises RefusedError."""
        leonardo, (kind, project, name) = self.leonardo, exchange.target
        exchange.blind = leonardo.roles.get(project or "") is Role.NONE
        match kind, project, name:
            case "notice", _, _:
                for notice in exchange.notices:
                    about = notice["data"]
                    self.told[int(about["runtime_id"])].append((datetime.fromisoformat(about["not_before"]), self.now))
                return b"taken"
            case "disks", _, _:
                rows = list(leonardo.disk_rows(project, {}))
                exchange.disk_ids = tuple(
                    disk.id
                    for disk in leonardo.disks.values()
                    if project in (None, disk.project) and self._is_seen(disk)
                )
                return b"[" + b",".join(rows) + b"]"
            case "list", _, _:
                return self._list(exchange, project)
        assert project is not None and name is not None  # noqa: PT018
        if kind == "get":
            body = leonardo.get(project, name)
            exchange.shown = (self.state(leonardo.machine(project, name)),)
            return body
        machine = leonardo.machine(project, name)
        if kind == "stop":
            leonardo.stop(project, name)
        else:
            leonardo.delete(project, name, delete_disk="false")
        self.oracle.obeyed(exchange, machine)
        return b"accepted"

    def _list(self, exchange: Exchange, project: str | None) -> bytes:
        """Leonardo's own list, and perhaps a row twice, or one of another project."""
        leonardo = self.leonardo
        rows = list(leonardo.rows(project, {}))
        seen = [machine for machine in leonardo.living(project) if self._is_seen(machine)]
        elsewhere = [machine for machine in leonardo.living() if project not in (None, machine.project)]
        for machines in (seen, elsewhere) if self.odd_rows else ():
            if machines and self.random.random() < ODD:
                odd = self.random.choice(machines)
                seen.append(odd)
                rows.append(odd.row(keep=True))
        exchange.shown = tuple(map(self.state, seen))
        exchange.disk_ids = tuple(
            number
            for machine in seen
            if (number := machine.persistent_disk_id) is not None and project in (None, machine.project)
        )
        return b"[" + b",".join(rows) + b"]"

    def _is_seen(self, thing: Machine | Disk) -> bool:
        """Whether the caller may see it."""
        role = self.leonardo.roles.get(thing.project, Role.OWNER)
        return role is not Role.NONE or thing.creator == self.leonardo.caller

    def state(self, machine: Machine) -> State:
        return State(
            machine.id,
            machine.project,
            machine.name,
            machine.creator,
            machine.cloud_provider,
            machine.status.shown,
            (machine.created - BEGIN) // MILLISECOND,
            (machine.accessed - BEGIN) // MILLISECOND,
            machine.all_labels(),
            machine.autopause_threshold,
        )

    def machines(self) -> dict[int, Machine]:
        self.leonardo.settle()
        return {machine.id: machine for machine in self.leonardo.everything()}

    def living(self) -> list[Machine]:
        self.leonardo.settle()
        return [machine for machine in self.leonardo.living() if machine.status is not TrueStatus.DELETED]
