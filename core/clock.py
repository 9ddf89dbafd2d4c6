"""A run's instant, its deadline, and what a stop leaves of it; the one place that reads its clocks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial

from core.rules.decision import to_millisecond

SETTLING = 15.0
"""Seconds beside the request timeout that must be left for an act to start, so that it can be settled."""
CLOSING = 2.0
"""Seconds before the deadline in which no request runs, so that the closing record is written in time."""
GRACE = 7.0
"""Seconds after a stop in which acts in flight may still be answered; Cloud Run kills 10 s after SIGTERM."""
LAST_WORDS = 1.0
"""Seconds beyond these two in which records may still be kept."""
LEAVING = 0.9
"""Seconds beyond that for the process to end; then nothing is waited for any more."""

_began: ContextVar[float | None] = ContextVar("_began", default=None)


class OutOfTimeError(Exception):
    """The deadline or a signal leaves no time for what was asked."""


class _For(Enum):
    """What a bound is for."""

    READ = auto()
    ACT = auto()
    RECORDS = auto()


def utc_now() -> datetime:
    return datetime.now(UTC)


monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds on a clock that nobody sets and that also runs while the machine sleeps, where there is one (Linux)."""


@contextmanager
def deadline_counts_from(began: float) -> Iterator[None]:
    """For every clock that is made in it: a run's time is that of its process."""
    token = _began.set(began)
    try:
        yield
    finally:
        _began.reset(token)


class RunClock:
    """`now` for judging (pinned by `as_of`), seconds left until the deadline, and whether a signal came."""

    def __init__(
        self,
        *,
        deadline: timedelta,
        request_timeout: timedelta,
        as_of: datetime | None = None,
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._as_of = as_of
        self._wall = wall
        self.monotonic = monotonic
        began = _began.get()
        self._start = monotonic() if began is None else began
        self._end = self._start + deadline.total_seconds()
        self._closes = self._end - CLOSING
        self._request_timeout = request_timeout.total_seconds()
        self._signalled = asyncio.Event()
        self._bounds: dict[asyncio.Timeout, _For] = {}
        self._acted = False

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

    @property
    def ends_in(self) -> float:
        """Seconds until the process must have ended, whatever hangs."""
        return self._closes + LAST_WORDS + LEAVING - self.monotonic()

    @property
    def waits_twice(self) -> bool:
        """Whether records that hang leave time to keep one more."""
        return self.ends_in > 2 * LAST_WORDS + LEAVING

    @property
    def waits_for(self) -> str | None:
        """What a stop waits for; None where that is nothing."""
        kinds = list(self._bounds.values())
        if acts := kinds.count(_For.ACT):
            return f"the answers to {acts} acts" if acts > 1 else "the answer to 1 act"
        if self._acted and _For.READ in kinds:
            return "what became of the acts"
        return "records to be kept" if _For.RECORDS in kinds else None

    @asynccontextmanager
    async def bound(self, seconds: float) -> AsyncIterator[Callable[[], None]]:
        """Raise TimeoutError after `seconds`, or when the closing time comes. What it yields is told that an act left.

        A stop cuts it too: an act that has left `GRACE` later, and a read after one, since it may tell what became of
        that; anything else at once. Raises OutOfTimeError where it cuts what is no act or has not left, and where
        nothing may start any more.
        """
        given = 0.0 if self.signalled else self._closes - self.monotonic()
        if given <= 0:
            raise OutOfTimeError

        def act_left() -> None:
            self._bounds[timeout] = _For.ACT
            self._acted = True

        try:
            async with asyncio.timeout(min(seconds, given)) as timeout:
                self._bounds[timeout] = _For.READ
                try:
                    yield act_left
                finally:
                    purpose = self._bounds.pop(timeout)
        except TimeoutError:
            if self.signalled and purpose is not _For.ACT:
                raise OutOfTimeError from None
            raise

    @asynccontextmanager
    async def for_records(self) -> AsyncIterator[None]:
        """Raise TimeoutError when the closing time comes, or a stop's; what is kept then gets the last words' time.

        And however much of that one sink took that hangs, the closing record gets half of the time to leave.
        """
        left = self._closes - self.monotonic()
        async with asyncio.timeout(max(left, min(LAST_WORDS, left + LAST_WORDS), LEAVING / 2)) as timeout:
            self._bounds[timeout] = _For.RECORDS
            try:
                yield
            finally:
                del self._bounds[timeout]

    async def sleep(self, seconds: float) -> None:
        """Wait; raises OutOfTimeError at once where the wait does not fit, or when a stop cuts it short."""
        if seconds >= self.left() - CLOSING:
            raise OutOfTimeError
        try:
            await asyncio.wait_for(self._signalled.wait(), seconds)
        except TimeoutError:
            return
        raise OutOfTimeError

    def stop(self) -> None:
        """Start nothing more, and give acts in flight `GRACE` seconds; told twice, the same."""
        if not self.signalled:
            self._signalled.set()
            self._close_in(GRACE)

    def stop_now(self) -> None:
        """Start nothing more, and wait for nothing."""
        self._signalled.set()
        self._close_in(0)

    def _close_in(self, seconds: float) -> None:
        now = self.monotonic()
        self._closes = min(self._closes, now + seconds)
        for timeout, purpose in self._bounds.items():
            given = 0 if purpose is _For.READ and not self._acted else self._closes - now
            if purpose is _For.RECORDS:  # a disk that works is not dropped with the reader that hangs beside it
                given = max(given, LEAVING / 2)
            at = asyncio.get_running_loop().time() + given
            if not timeout.expired():
                timeout.reschedule(min(timeout.when() or at, at))
