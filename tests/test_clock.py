"""A run's time: what it judges by, what is left of it, and what a signal cuts short."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

import pytest

from core.clock import (
    CLOSING,
    GRACE,
    LAST_WORDS,
    LEAVING,
    SETTLING,
    OutOfTimeError,
    RunClock,
    deadline_counts_from,
    utc_now,
)

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


async def bounded(clock: RunClock, seconds: float, *, act: bool = False) -> None:
    async with clock.bound(seconds) as act_left:
        if act:
            act_left()
        await endless()


async def keeping(clock: RunClock) -> None:
    async with clock.for_records():
        await endless()


def ended(task: asyncio.Task[None]) -> type[BaseException] | None:
    """How a task failed; None while it goes on."""
    if not task.done():
        return None
    error = task.exception()
    assert error is not None
    return type(error)


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


def test_a_deadline_may_count_from_before_the_clock_was_made() -> None:
    watch = Watch()
    with deadline_counts_from(900.0):
        clock = a_clock(watch)
    assert (clock.elapsed(), clock.left()) == (100.0, 2600.0)
    assert a_clock(watch).left() == 2700.0


def test_the_margins_are_the_designs() -> None:
    assert SETTLING == 15.0
    assert GRACE + LAST_WORDS + LEAVING <= 9.0  # after a signal
    assert LAST_WORDS + LEAVING < CLOSING  # before the deadline


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


def test_an_act_in_flight_gets_a_grace_after_a_stop_which_a_second_stop_does_not_change() -> None:
    async def work(loop: LeapingLoop) -> None:
        watch = Watch()
        clock = a_clock(watch)
        task = asyncio.create_task(bounded(clock, 75, act=True))
        await settle(loop)
        clock.stop()
        watch.seconds += GRACE - 0.5
        await settle(loop, GRACE - 0.5)
        clock.stop()
        assert ended(task) is None
        await settle(loop, 1)
        assert ended(task) is TimeoutError

    run(work)


def test_what_is_read_is_cut_at_once_by_a_stop_where_no_act_has_left() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        task = asyncio.create_task(bounded(clock, 75))
        await settle(loop)
        assert clock.waits_for is None
        clock.stop()
        await settle(loop)
        assert ended(task) is OutOfTimeError

    run(work)


def test_what_is_read_after_an_act_gets_its_grace_since_it_may_tell_what_became_of_it() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        async with clock.bound(10) as act_left:
            act_left()
        task = asyncio.create_task(bounded(clock, 75))
        await settle(loop)
        clock.stop()
        await settle(loop, GRACE - 0.5)
        assert ended(task) is None
        assert clock.waits_for == "what became of the acts"
        await settle(loop, 1)
        assert ended(task) is OutOfTimeError

    run(work)


def test_told_to_wait_for_nothing_it_cuts_what_is_in_flight_at_once() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        tasks = [asyncio.create_task(bounded(clock, seconds, act=True)) for seconds in (75, 20)]
        await settle(loop)
        clock.stop()
        await settle(loop)
        assert [ended(task) for task in tasks] == [None, None]
        clock.stop_now()
        await settle(loop)
        assert [ended(task) for task in tasks] == [TimeoutError, TimeoutError]

    run(work)


def test_a_stop_lengthens_no_bound() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        task = asyncio.create_task(bounded(clock, 3, act=True))
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
        clock.stop_now()
        await settle(loop, 100)

    run(work)


@pytest.mark.parametrize(
    ("begun", "said"),
    [([], None), ([False], None), ([True], "the answer to 1 act"), ([True, False, True], "the answers to 2 acts")],
)
def test_it_says_what_a_stop_waits_for(begun: list[bool], said: str | None) -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        tasks = [asyncio.create_task(bounded(clock, 75, act=act)) for act in begun]
        await settle(loop)
        assert clock.waits_for == said
        for task in tasks:
            task.cancel()
        tasks = [asyncio.create_task(keeping(clock))]
        await settle(loop)
        assert clock.waits_for == "records to be kept"
        tasks[0].cancel()
        await settle(loop)
        assert clock.waits_for is None

    run(work)


# Records


def test_records_may_be_kept_until_the_closing_time() -> None:
    async def work(loop: LeapingLoop) -> None:
        task = asyncio.create_task(keeping(a_clock(deadline=60)))
        await settle(loop)
        await settle(loop, 60 - CLOSING - 0.5)
        assert ended(task) is None
        await settle(loop, 1)
        assert ended(task) is TimeoutError

    run(work)


@pytest.mark.parametrize(
    ("left", "given"),
    [
        (CLOSING + 0.5, LAST_WORDS),
        (CLOSING, LAST_WORDS),
        (CLOSING - 0.25, 0.75),
        (CLOSING - 0.75, LEAVING / 2),
        (CLOSING - LAST_WORDS, LEAVING / 2),
    ],
)
def test_near_the_end_records_have_the_time_of_the_last_words_or_half_of_that_to_leave(
    left: float, given: float
) -> None:
    async def work(loop: LeapingLoop) -> None:
        watch = Watch()
        clock = a_clock(watch, deadline=60)
        watch.seconds += 60 - left
        task = asyncio.create_task(keeping(clock))
        await settle(loop)
        await settle(loop, given - 0.125)
        assert ended(task) is None
        await settle(loop, 0.25)
        assert ended(task) is TimeoutError

    run(work)


@pytest.mark.parametrize(
    ("left", "twice"), [(2 * LAST_WORDS + LEAVING - 0.125, False), (2 * LAST_WORDS + LEAVING + 0.125, True)]
)
def test_records_are_waited_for_twice_where_one_that_hangs_leaves_time_for_another(left: float, *, twice: bool) -> None:
    watch = Watch()
    clock = a_clock(watch)
    watch.seconds += clock.ends_in - left
    assert clock.waits_twice is twice


def test_whoever_waits_no_longer_lets_a_record_be_kept_that_is_on_its_way() -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock(Watch())
        task = asyncio.create_task(keeping(clock))
        await settle(loop)
        clock.stop_now()
        await settle(loop, LEAVING / 2 - 0.125)
        assert ended(task) is None
        await settle(loop, 0.25)
        assert ended(task) is TimeoutError

    run(work)


@pytest.mark.parametrize("before_the_stop", [True, False])
def test_after_a_stop_records_may_be_kept_as_long_as_acts_may_be_answered(*, before_the_stop: bool) -> None:
    async def work(loop: LeapingLoop) -> None:
        clock = a_clock()
        if not before_the_stop:
            clock.stop()
        task = asyncio.create_task(keeping(clock))
        await settle(loop)
        clock.stop()
        await settle(loop, GRACE - 0.5)
        assert ended(task) is None
        await settle(loop, 1)
        assert ended(task) is TimeoutError

    run(work)


def test_it_says_when_the_process_must_have_ended() -> None:
    async def work(_: LeapingLoop) -> None:
        watch = Watch()
        clock = a_clock(watch)
        beyond = LAST_WORDS + LEAVING
        assert clock.ends_in == pytest.approx(2700 - CLOSING + beyond)
        clock.stop()
        assert clock.ends_in == pytest.approx(GRACE + beyond)
        watch.seconds += 3
        clock.stop()
        assert clock.ends_in == pytest.approx(GRACE + beyond - 3)
        clock.stop_now()
        assert clock.ends_in == pytest.approx(beyond)

    run(work)


def test_a_stop_while_a_bound_is_ending_changes_nothing() -> None:
    async def stopping(clock: RunClock) -> None:
        async with clock.bound(0) as act_left:
            act_left()
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


def test_a_sleep_of_the_machine_counts() -> None:
    """In a namespace of its own, whose machine has slept for 5,000 seconds since it was started."""
    slept = ("unshare", "--time", "--boottime", "5000")
    if subprocess.run([*slept, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system or user cannot make a namespace of time")
    script = "import time; from core.clock import monotonic; print(monotonic() - time.monotonic())"
    told = subprocess.run([*slept, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(told.stdout) > 4999
