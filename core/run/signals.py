"""Ends a run in time: hears signals in a thread of its own, and ends the process where something hangs for too long."""

import asyncio
import atexit
import math
import os
import select
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread
from types import FrameType
from typing import Self

import structlog

from core.clock import GRACE, LAST_WORDS, LEAVING, RunClock
from core.exit_code import ExitCode

log = structlog.get_logger(__name__)

CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOKS_EVERY = 10.0
"""Seconds between two looks at the time left: a machine that sleeps does not wake a wait that is over."""


class Ending:
    """While this is open, a signal stops the run once it has begun, and before that ends the process.

    A thread hears of signals through the interpreter's wakeup descriptor, so also while the main thread is stuck.
    """

    def __init__(self, clock: RunClock) -> None:
        self.code: int = ExitCode.UNRECORDED
        """What the process ends with where it is made to: until the run has ended, its records are not complete."""
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._interrupts = 0
        self._ends = math.inf
        """When the process must end for a signal, by the run's clock."""
        self._over = False
        self._thread = Thread(target=self._listen, name="hears signals", daemon=True)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {
            number: signal.signal(number, self._interrupted)
            for number in CAUGHT
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
        }
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        atexit.register(_ignore, list(self._handlers))  # the interpreter gives up its handlers before it ends
        for number, handler in self._handlers.items():
            # The exit code is known, and no signal changes it; but a test that goes on wants Ctrl-C for itself again.
            signal.signal(number, handler if number == signal.SIGINT else lambda *_: None)
        self._over = True
        with suppress(BlockingIOError):  # so many signals wait there that the thread wakes anyhow
            os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def begin(self) -> None:
        """From now on a signal stops the run that goes on in this loop."""
        self._loop = asyncio.get_running_loop()

    def _interrupted(self, _: int, __: FrameType | None) -> None:
        if self._loop is None:
            sys.exit(ExitCode.STOPPED)

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while True:
            left = min(self._clock.ends_in, self._ends - self._clock.monotonic())
            if left <= 0:
                log.error("out of time: something hangs, the process ends without it", exit_code=self.code)
                os._exit(self.code)
            if poll.poll(min(left, LOOKS_EVERY) * 1000):
                heard = os.read(self._reader, 4096)
                if self._over:
                    return
                for number in heard:
                    self._hear(signal.Signals(number))

    def _hear(self, number: signal.Signals) -> None:
        """Only the first signal counts, and the second interrupt."""
        self._interrupts += number == signal.SIGINT
        again = number == signal.SIGINT and self._interrupts == 2  # noqa: PLR2004 - the second
        if self._ends < math.inf and not again:
            return
        wait = (0 if again else GRACE) + LAST_WORDS + LEAVING
        self._ends = min(self._ends, self._clock.monotonic() + wait)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the run has ended
                self._loop.call_soon_threadsafe(self._stop, number, again)

    def _stop(self, number: signal.Signals, again: bool) -> None:  # noqa: FBT001 - a callback
        if again:
            self._clock.stop_now()
            log.warning("interrupted again: nothing is waited for any more")
            return
        self._clock.stop()
        said: dict[str, object] = {"waits_for": self._clock.waits_for or "nothing"}
        if self._clock.waits_for:
            said["at_most_s"] = math.ceil(self._clock.ends_in)
            if number == signal.SIGINT:
                said["hint"] = "Ctrl-C again waits no longer"
        log.warning("told to stop: nothing more begins", signal=number.name, **said)


def _ignore(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
