"""A run's instant, deadline and signals; the one place that reads its clocks."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

from core.rules.decision import to_millisecond

SETTLING = 15.0
"""Seconds beside the request timeout that must be left for an act to start, so that it can be settled."""
CLOSING = 2.0
"""Seconds before the deadline in which no request runs, so that the closing record is written in time."""
GRACE = 8.0
"""Seconds that requests in flight get after a signal; Cloud Run kills 10 s after SIGTERM."""


class OutOfTimeError(Exception):
    """The deadline or a signal leaves no time for what was asked."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def seconds_since_boot() -> float:
    """A clock that nobody sets and that also runs while the machine sleeps, where the system has one (Linux has)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class RunClock:
    """`now` for judging (pinned by `as_of`), seconds left until the deadline, and whether a signal came."""

    def __init__(
        self,
        *,
        deadline: timedelta,
        request_timeout: timedelta,
        as_of: datetime | None = None,
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._as_of = as_of
        self._wall = wall
        self.monotonic = monotonic
        self._start = monotonic()
        self._end = self._start + deadline.total_seconds()
        self._request_timeout = request_timeout.total_seconds()
        self._signalled = asyncio.Event()
        self._bounds: set[asyncio.Timeout] = set()

    def now(self) -> datetime:
        """The instant to judge by, to the millisecond as every comparison is."""
        return to_millisecond(self._as_of or self._wall())

    def wall(self) -> datetime:
        """The instant to write on records, whatever the run is judged by."""
        return self._wall()

    def elapsed(self) -> float:
        return self.monotonic() - self._start

    def left(self) -> float:
        """Seconds until the deadline; none once a signal came."""
        return 0.0 if self._signalled.is_set() else self._end - self.monotonic()

    @property
    def signalled(self) -> bool:
        return self._signalled.is_set()

    @property
    def may_act(self) -> bool:
        """Whether an act that starts now can be answered and settled in time."""
        return self.left() >= self._request_timeout + SETTLING

    @asynccontextmanager
    async def bound(self, seconds: float, *, at_least: float = 0.0) -> AsyncIterator[None]:
        """Raise TimeoutError after `seconds`, or when the closing time comes, or `GRACE` after a signal.

        Raises OutOfTimeError at once where nothing may start any more; `at_least` are seconds given all the same.
        """
        given = max(self.left() - CLOSING, at_least)
        if given <= 0:
            raise OutOfTimeError
        async with asyncio.timeout(min(seconds, given)) as timeout:
            self._bounds.add(timeout)
            try:
                yield
            finally:
                self._bounds.discard(timeout)

    async def sleep(self, seconds: float) -> None:
        """Wait; raises OutOfTimeError at once where the wait does not fit, or when a signal cuts it short."""
        if seconds >= self.left() - CLOSING:
            raise OutOfTimeError
        try:
            await asyncio.wait_for(self._signalled.wait(), seconds)
        except TimeoutError:
            return
        raise OutOfTimeError

    def stop(self) -> None:
        """Start nothing more; what is in flight gets `GRACE` seconds, and none when told twice."""
        grace = 0.0 if self._signalled.is_set() else GRACE
        self._signalled.set()
        cut = asyncio.get_running_loop().time() + grace
        for timeout in self._bounds:
            if not timeout.expired():
                timeout.reschedule(min(timeout.when() or cut, cut))

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the run while this is open (without a handler PID 1 would ignore them)."""
        loop = asyncio.get_running_loop()
        caught = (signal.SIGTERM, signal.SIGINT)
        for number in caught:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
