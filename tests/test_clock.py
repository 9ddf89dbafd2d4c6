"""A run's time: what it judges by, what is left of it, and what a signal cuts short."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.clock import CLOSING, GRACE, SETTLING, OutOfTimeError, RunClock, utc_now

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward, so that nobody has to wait."""

    leap = 0.0

    def time(self) -> float:
        return super().time() + self.leap


def run(work: Callable[[LeapingLoop], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, LeapingLoop)
        runner.run(work(loop))


async def settle(loop: LeapingLoop, seconds: float = 0) -> None:
    """Let everything run that is due `seconds` later."""
    loop.leap += seconds
    for _ in range(10):
        await asyncio.sleep(0)


class Watch:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def a_clock(
    watch: Callable[[], float] | None = None, *, deadline: float = 2700, as_of: datetime | None = None
) -> RunClock:
    return RunClock(
        deadline=timedelta(seconds=deadline),
        request_timeout=timedelta(seconds=75),
        as_of=as_of,
        wall=lambda: NOW,
        monotonic=watch or Watch(),
    )


async def endless() -> None:
    await asyncio.Event().wait()


async def bounded(clock: RunClock, seconds: float) -> None:
    async with clock.bound(seconds):
        await endless()


def ended(task: asyncio.Task[None]) -> type[BaseException] | None:
    """How a task failed; None while it goes on."""
    if not task.done():
        return None
    error = task.exception()
    assert error is not None
    return type(error)


@pytest.fixture
def _handlers_as_before() -> Iterator[None]:
    """The handlers of whoever runs the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# Instants


def test_a_run_judges_by_the_wall_clock() -> None:
    assert (a_clock().now(), a_clock().wall()) == (NOW, NOW)


def test_as_of_pins_the_judgement_and_not_the_records() -> None:
    then = NOW - timedelta(days=100)
    clock = a_clock(as_of=then)
    assert (clock.now(), clock.wall()) == (then, NOW)


def test_the_wall_clock_is_read_anew_each_time() -> None:
    instants = iter([NOW, NOW + timedelta(seconds=1)])
    clock = RunClock(
        deadline=timedelta(hours=1),
        request_timeout=timedelta(seconds=1),
        wall=lambda: next(instants),
        monotonic=Watch(),
    )
    assert [clock.now(), clock.wall()] == [NOW, NOW + timedelta(seconds=1)]


def test_the_wall_clock_is_in_utc() -> None:
    before = datetime.now(UTC)
    instant = utc_now()
    assert before <= instant <= datetime.now(UTC)
    assert instant.utcoffset() == timedelta(0)


# What is left


def test_time_runs_from_the_start_to_the_deadline() -> None:
    watch = Watch()
    clock = a_clock(watch)
    assert (clock.elapsed(), clock.left()) == (0.0, 2700.0)
    watch.seconds += 700
    assert (clock.elapsed(), clock.left()) == (700.0, 2000.0)
    watch.seconds += 2100
    assert (clock.elapsed(), clock.left()) == (2800.0, -100.0)
    assert not clock.signalled


def test_the_margins_are_the_designs() -> None:
    assert SETTLING == 15.0
    assert GRACE + CLOSING <= 10.0


def test_an_act_starts_only_while_its_answer_can_be_settled() -> None:
    watch = Watch()
    clock = a_clock(watch)
    may_act = {}
    for left in (2700, 91, 90.001, 90, 89.999, 75, 0, -1):
        watch.seconds = 1000.0 + 2700 - left
        may_act[left] = clock.may_act
    assert may_act == {2700: True, 91: True, 90.001: True, 90: True, 89.999: False, 75: False, 0: False, -1: False}


def test_nothing_is_left_after_a_stop() -> None:
    async def work(_: LeapingLoop) -> None:
        clock = a_clock()
        clock.stop()
        assert (clock.left(), clock.may_act, clock.signalled) == (0.0, False, True)
        with pytest.raises(OutOfTimeError):
            await clock.sleep(0)
        with pytest.raises(OutOfTimeError):
            await bounded(clock, 10)

    run(work)


# Bounds


def test_a_bound_ends_after_its_seconds() -> None:
    async def work(loop: LeapingLoop) -> None:
        task = asyncio.create_task(bounded(a_clock(), 10))
        await settle(loop)
        await settle(loop, 9.5)
        assert ended(task) is None
        await settle(loop, 1)
        assert ended(task) is TimeoutError

    run(work)


def test_a_bound_is_cut_to_the_time_left_before_closing() -> None:
    async def work(loop: LeapingLoop) -> None:
        task = asyncio.create_task(bounded(a_clock(deadline=12), 75))
        await settle(loop)
        await settle(loop, 12 - CLOSING - 0.5)
        assert ended(task) is None
        await settle(loop, 1)
        assert ended(task) is TimeoutError

    run(work)


def test_nothing_begins_in_closing_time() -> None:
    async def work(_: LeapingLoop) -> None:
        watch = Watch()
        clock = a_clock(watch)
        watch.seconds += 2700 - CLOSING - 0.25
        async with clock.bound(10):
            pass
        watch.seconds += 0.25
        with pytest.raises(OutOfTimeError):
            await bounded(clock, 10)

    run(work)


def test_what_is_in_flight_gets_a_grace_after_a_stop() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        task = asyncio.create_task(bounded(clock, 75))
        await settle(loop)
        clock.stop()
        await settle(loop, GRACE - 0.5)
        assert ended(task) is None
        await settle(loop, 1)
        assert ended(task) is TimeoutError

    run(work)


def test_a_second_stop_ends_the_grace() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        tasks = [asyncio.create_task(bounded(clock, seconds)) for seconds in (75, 20)]
        await settle(loop)
        clock.stop()
        await settle(loop)
        assert [ended(task) for task in tasks] == [None, None]
        clock.stop()
        await settle(loop)
        assert [ended(task) for task in tasks] == [TimeoutError, TimeoutError]

    run(work)


def test_a_stop_lengthens_no_bound() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        task = asyncio.create_task(bounded(clock, 3))
        await settle(loop)
        clock.stop()
        await settle(loop, 3.5)
        assert ended(task) is TimeoutError

    run(work)


def test_a_stop_does_not_touch_bounds_that_are_over() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        async with clock.bound(10):
            pass
        clock.stop()
        clock.stop()
        await settle(loop, 100)

    run(work)


def test_a_stop_while_a_bound_is_ending_changes_nothing() -> None:
    async def stopping(clock: RunClock) -> None:
        async with clock.bound(0):
            try:
                await endless()
            finally:
                clock.stop()

    async def work(_: LeapingLoop) -> None:
        with pytest.raises(TimeoutError):
            await stopping(a_clock())

    run(work)


# Waits


def test_a_wait_that_does_not_fit_is_refused_at_once() -> None:
    async def work(loop: LeapingLoop) -> None:
        watch = Watch()
        clock = a_clock(watch, deadline=100)
        with pytest.raises(OutOfTimeError):
            await clock.sleep(100 - CLOSING)
        fits = asyncio.create_task(clock.sleep(100 - CLOSING - 0.25))
        await settle(loop)
        assert not fits.done()
        await settle(loop, 100)
        assert fits.done()
        await fits

    run(work)


def test_no_wait_is_a_wait() -> None:
    async def work(_: LeapingLoop) -> None:
        await a_clock().sleep(0)

    run(work)


def test_a_stop_cuts_every_wait() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        tasks = [asyncio.create_task(clock.sleep(seconds)) for seconds in (1, 1000)]
        await settle(loop)
        clock.stop()
        await settle(loop)
        assert [ended(task) for task in tasks] == [OutOfTimeError, OutOfTimeError]

    run(work)


# Signals


@pytest.mark.usefixtures("_handlers_as_before")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run(number: signal.Signals) -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        with clock.signals():
            in_flight = asyncio.create_task(bounded(clock, 75))
            waiting = asyncio.create_task(clock.sleep(1000))
            await settle(loop)
            os.kill(os.getpid(), number)
            with pytest.raises(OutOfTimeError):
                await waiting
            assert (clock.signalled, clock.left(), ended(in_flight)) == (True, 0.0, None)
            os.kill(os.getpid(), number)
            with pytest.raises(TimeoutError):
                await in_flight

    run(work)


@pytest.mark.usefixtures("_handlers_as_before")
def test_signals_are_caught_only_while_the_run_goes_on() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        with pytest.raises(ZeroDivisionError), clock.signals():
            raise ZeroDivisionError
        assert not loop.remove_signal_handler(signal.SIGTERM)
        assert not loop.remove_signal_handler(signal.SIGINT)

    run(work)


def test_a_sleep_of_the_machine_counts() -> None:
    """In a namespace of its own, whose machine has slept for 5,000 seconds since it was started."""
    slept = ("unshare", "--time", "--boottime", "5000")
    if subprocess.run([*slept, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system or user cannot make a namespace of time")
    script = "import time; from core.clock import seconds_since_boot; print(seconds_since_boot() - time.monotonic())"
    told = subprocess.run([*slept, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(told.stdout) > 4999
