"""The event loop of one process: it takes one step when it is told to; when that is, the world decides."""

import asyncio
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")
MOST_FINALLY = 50
"""Waits in `finally` blocks that a killed process is not given."""


class _Step(asyncio.Handle):
    def run(self) -> None:
        self._run()


class _Timer(asyncio.TimerHandle):
    def run(self) -> None:
        self._run()


class Loop(asyncio.BaseEventLoop):
    """Callbacks in order and timers by the process's clock; there is nothing else that a process could wait for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._now = clock
        self.ready: deque[_Step | _Timer] = deque()
        self.broken: list[dict[str, Any]] = []
        """What nobody caught."""
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = count()
        self._tasks: list[asyncio.Task[Any]] = []
        self._dead = False

    def time(self) -> float:
        return self._now()

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        step = _Step(callback, args, self, context)
        if not self._dead:
            self.ready.append(step)
        return step

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._order), timer))
        return timer

    def create_task(self, coro: Any, **how: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **how)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._dead:
            self.broken.append(context)

    @property
    def next_timer(self) -> float | None:
        """When the next one is due that was not cancelled."""
        while self._timers and self._timers[0][2].cancelled():
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def wake(self) -> None:
        """Timers that are due by now are ready."""
        while (when := self.next_timer) is not None and when <= self._now():
            self.ready.append(heappop(self._timers)[2])

    def step(self) -> None:
        """One callback that is ready."""
        handle = self.ready.popleft()
        if not handle.cancelled():
            _set_running_loop(self)
            try:
                handle.run()
            finally:
                _set_running_loop(None)

    def die(self) -> None:
        """Take no further step, as after kill -9: what a `finally` would do then is not waited for."""
        self._dead = True
        self.ready.clear()
        self._timers.clear()
        for task in reversed(self._tasks):
            if not task.done():
                _drop(task.get_coro())
        self._tasks.clear()
        self.close()


def _drop(coroutine: Any) -> None:
    if isinstance(coroutine, Coroutine):
        for _ in range(MOST_FINALLY):
            with suppress(Exception):
                coroutine.close()
                return
