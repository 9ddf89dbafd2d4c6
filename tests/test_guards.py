"""When a whole run must not act: each guard on both sides of its limit."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.guards import (
    FAILURES_IN_A_ROW,
    SMALL_RUN,
    Caps,
    Expectations,
    Expected,
    FailureStreak,
    Guard,
    Inventory,
    Refusal,
    clock_refusals,
    clock_skew,
)

CAPS = Caps(max_acts=500, max_act_share=0.25)


def seen(listed: int, *, living: int | None = None, lists: int = 1) -> Inventory:
    return Inventory(listed=listed, living=listed if living is None else living, lists=lists)


def expecting(
    *,
    allow_empty: bool = False,
    expect_at_least: int = 0,
    max_shrink: float = 0.25,
    allow_shrunken: bool = False,
    living: int | None = None,
    lists: int = 1,
) -> Expectations:
    return Expectations(
        allow_empty=allow_empty,
        expect_at_least=expect_at_least,
        max_shrink=max_shrink,
        allow_shrunken=allow_shrunken,
        expected=None if living is None else Expected(run_id="r", living=living, lists=lists),
    )


def tripped(caps: Caps, *, acts: int, listed: int) -> list[Guard]:
    return [refusal.guard for refusal in caps.refusals(acts=acts, listed=listed)]


def missed(expectations: Expectations, *, listed: int) -> list[Guard]:
    return [refusal.guard for refusal in expectations.refusals(seen(listed))]


def test_the_names_of_guards_never_change() -> None:
    """They stand in records."""
    names = ["max_acts", "max_act_share", "empty_inventory", "expect_at_least", "shrunken_inventory"]
    names += ["clock_skew", "plan", "notices", "failing"]
    assert [str(guard) for guard in Guard] == names


def test_the_limits_are_the_designs() -> None:
    assert (SMALL_RUN, FAILURES_IN_A_ROW) == (10, 10)


@pytest.mark.parametrize(("acts", "expected"), [(0, []), (499, []), (500, []), (501, [Guard.MAX_ACTS])])
def test_more_acts_than_the_cap_trip_it(acts: int, expected: list[Guard]) -> None:
    assert tripped(CAPS, acts=acts, listed=100_000) == expected


@pytest.mark.parametrize(
    ("acts", "listed", "expected"),
    [
        (25, 100, []),
        (26, 100, [Guard.MAX_ACT_SHARE]),
        (25, 99, [Guard.MAX_ACT_SHARE]),
        (11, 44, []),
        (11, 43, [Guard.MAX_ACT_SHARE]),
        (11, 11, [Guard.MAX_ACT_SHARE]),
    ],
)
def test_the_share_trips_strictly_above(acts: int, listed: int, expected: list[Guard]) -> None:
    assert tripped(CAPS, acts=acts, listed=listed) == expected


@pytest.mark.parametrize("acts", [0, 1, 9, 10])
def test_ten_acts_or_fewer_never_trip_the_share(acts: int) -> None:
    assert tripped(Caps(max_acts=500, max_act_share=0.0001), acts=acts, listed=acts) == []
    assert tripped(Caps(max_acts=500, max_act_share=0.0001), acts=11, listed=11) == [Guard.MAX_ACT_SHARE]


def test_ten_acts_or_fewer_still_trip_the_count() -> None:
    assert tripped(Caps(max_acts=9, max_act_share=1), acts=10, listed=10) == [Guard.MAX_ACTS]


def test_a_share_of_one_never_trips() -> None:
    assert tripped(Caps(max_acts=500, max_act_share=1), acts=400, listed=400) == []


def test_every_cap_that_trips_is_told_in_words() -> None:
    assert list(CAPS.refusals(acts=501, listed=1000)) == [
        Refusal(Guard.MAX_ACTS, "501 acts are more than max-acts 500"),
        Refusal(Guard.MAX_ACT_SHARE, "501 of 1000 runtimes are more than max-act-share 0.25"),
    ]


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 1000), st.integers(1, 100))
def test_the_caps_are_exact_to_the_last_act(acts: int, listed: int, most: int, percent: int) -> None:
    share = Fraction(percent, 100)
    expected = [Guard.MAX_ACTS] * (acts > most) + [Guard.MAX_ACT_SHARE] * (acts > SMALL_RUN and acts > share * listed)
    assert tripped(Caps(max_acts=most, max_act_share=percent / 100), acts=acts, listed=listed) == expected


def test_an_empty_inventory_is_refused_unless_allowed() -> None:
    strict, lax = (expecting(allow_empty=allow, expect_at_least=0) for allow in (False, True))
    assert list(strict.refusals(seen(0))) == [
        Refusal(
            Guard.EMPTY_INVENTORY,
            "no runtime is listed: has the caller lost its owner role? (allow-empty accepts this)",
        )
    ]
    assert missed(strict, listed=1) == []
    assert missed(lax, listed=0) == []


def test_a_shrunken_inventory_is_refused() -> None:
    expectations = expecting(allow_empty=False, expect_at_least=3)
    assert list(expectations.refusals(seen(2))) == [
        Refusal(Guard.EXPECT_AT_LEAST, "2 runtimes are listed, expect-at-least is 3")
    ]
    assert missed(expectations, listed=3) == []
    assert missed(expectations, listed=4) == []


def test_an_empty_inventory_fails_every_expectation() -> None:
    assert missed(expecting(allow_empty=False, expect_at_least=1), listed=0) == [
        Guard.EMPTY_INVENTORY,
        Guard.EXPECT_AT_LEAST,
    ]
    assert missed(expecting(allow_empty=True, expect_at_least=1), listed=0) == [Guard.EXPECT_AT_LEAST]


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("sent", "answered", "skew"),
    [
        (0, 0.2, 0),
        (0.999, 1.2, 0),
        (1, 1.2, 0),
        (1.001, 1.2, 0.001),
        (400, 401, 399),
        (-60, 0, 0),
        (-600, 900, 0),
        (-60, -0.001, -0.001),
        (-400, -399, -399),
    ],
)
def test_a_skew_is_what_neither_the_dates_second_nor_the_time_of_the_answer_explains(
    sent: float, answered: float, skew: float
) -> None:
    """The answer is dated 12:00:00; it was asked for and had so many seconds after that, by our clock."""
    asked, had = NOON + timedelta(seconds=sent), NOON + timedelta(seconds=answered)
    assert clock_skew(NOON, sent=asked, answered=had) == timedelta(seconds=skew)


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(minutes=2)),
    st.timedeltas(timedelta(0), timedelta(minutes=2)),
    st.timedeltas(timedelta(days=-2), timedelta(days=2)),
)
def test_a_skew_is_never_told_greater_than_it_is(
    there: datetime, before: timedelta, after: timedelta, ahead: timedelta
) -> None:
    """Leonardo dates an answer at `there`; our clock is `ahead`, and asked and had it so long before and after."""
    try:
        asked, had = there + ahead - before, there + ahead + after
    except OverflowError:
        return
    skew = clock_skew(there.replace(microsecond=0), sent=asked, answered=had)
    assert abs(skew) <= abs(ahead) + MS
    assert abs(ahead - skew) <= before + after + timedelta(seconds=1) + MS


@pytest.mark.parametrize("sign", [1, -1])
def test_clocks_may_differ_by_five_minutes_and_no_more(sign: int) -> None:
    five = sign * timedelta(minutes=5)
    assert list(clock_refusals(None)) == list(clock_refusals(timedelta(0))) == list(clock_refusals(five)) == []
    (refusal,) = clock_refusals(five + sign * MS)
    ahead = "ahead of" if sign > 0 else "behind"
    assert refusal == Refusal(Guard.CLOCK_SKEW, f"this host's clock is 5 min 1 ms {ahead} Leonardo's")


def ends(answers: list[bool]) -> list[bool]:
    streak = FailureStreak()
    return [streak.add(failed=failed) for failed in answers]


def test_ten_failures_in_a_row_are_too_many() -> None:
    assert ends([True] * 9) == [False] * 9
    assert ends([True] * 10) == [False] * 9 + [True]


def test_an_answer_between_them_starts_anew() -> None:
    assert ends([True] * 9 + [False] + [True] * 9) == [False] * 19
    assert ends([True] * 9 + [False] + [True] * 10)[-1] is True


def test_too_many_is_said_once() -> None:
    assert ends([True] * 25).count(True) == 1


@pytest.mark.unmeasured
@given(st.lists(st.booleans(), max_size=60))
def test_a_refusal_comes_exactly_where_the_tenth_failure_in_a_row_does(answers: list[bool]) -> None:
    text = "".join("x" if failed else "." for failed in answers)
    expected = [
        text[: end + 1].endswith("x" * 10) and not text[: end + 1].endswith("x" * 11) for end in range(len(text))
    ]
    assert ends(answers) == expected


# a shrunken inventory


@pytest.mark.parametrize(
    ("expected", "living", "refused"),
    [
        (100, 75, False),  # a quarter exactly
        (100, 74, True),
        (44, 33, False),
        (44, 32, True),  # twelve, and more than a quarter
        (12, 2, False),  # ten fewer are no sign of anything
        (12, 1, True),
        (40, 30, False),
        (100, 130, False),
    ],
)
def test_an_inventory_that_lost_more_than_a_quarter_and_more_than_ten_is_refused(
    expected: int, living: int, *, refused: bool
) -> None:
    guards = missed(expecting(living=expected), listed=living)
    assert guards == ([Guard.SHRUNKEN_INVENTORY] if refused else [])


def test_what_is_on_its_way_out_does_not_count_as_living() -> None:
    assert [refusal.guard for refusal in expecting(living=100).refusals(seen(100, living=74))] == [
        Guard.SHRUNKEN_INVENTORY
    ]


def test_a_shrunken_inventory_is_told_with_both_numbers_and_what_accepts_it() -> None:
    assert list(expecting(living=100).refusals(seen(60))) == [
        Refusal(
            Guard.SHRUNKEN_INVENTORY,
            "60 runtimes live, run r leads to expect 100: has the caller lost its role on some projects?"
            " max-shrink is 0.25 (allow-shrunken accepts this)",
        )
    ]
    assert list(expecting(living=100, allow_shrunken=True).refusals(seen(60))) == []


@pytest.mark.parametrize(("lists", "refused"), [(74, False), (75, True), (100, True)])
def test_a_run_that_reads_far_fewer_lists_is_not_compared(lists: int, *, refused: bool) -> None:
    guards = [refusal.guard for refusal in expecting(living=1000, lists=100).refusals(seen(100, lists=lists))]
    assert guards == ([Guard.SHRUNKEN_INVENTORY] if refused else [])


@pytest.mark.parametrize(("tasks", "acts", "small"), [(1, 500, 10), (3, 167, 4), (16, 32, 1), (10, 50, 1), (9, 56, 2)])
def test_tasks_share_the_acts_and_the_floor_of_the_share_rounded_up(tasks: int, acts: int, small: int) -> None:
    assert CAPS.divided(tasks) == Caps(max_acts=acts, max_act_share=0.25, small_run=small)


def test_sixteen_tasks_of_five_due_runtimes_each_are_held_to_the_share_as_one_task_of_eighty_is() -> None:
    assert tripped(CAPS.divided(16), acts=5, listed=5) == [Guard.MAX_ACT_SHARE]
    assert tripped(CAPS, acts=80, listed=80) == [Guard.MAX_ACT_SHARE]
    assert tripped(CAPS.divided(16), acts=1, listed=1) == []
