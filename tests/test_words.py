"""Durations, instants, counts and cut texts as a person reads them; each rule's sentences are tested beside it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from core.rules.words import counted, duration, in_words, minute, shortened, with_lost


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(microseconds=999), "0 s"),
        (timedelta(milliseconds=1), "1 ms"),
        (timedelta(minutes=1, seconds=1, milliseconds=1), "1 min 1 s"),
        (timedelta(days=14), "14 d"),
        (timedelta(days=14, minutes=5), "14 d 5 min"),
        (timedelta(days=14, hours=1), "14 d 1 h"),
        (timedelta(days=14, minutes=59, seconds=59), "14 d 59 min"),
        (-timedelta(hours=2), "minus 2 h"),
    ],
    ids=str,
)
def test_a_duration_is_told_in_its_two_largest_units(length: timedelta, words: str) -> None:
    assert in_words(length) == duration(length.total_seconds()) == words


def test_where_there_is_none_a_dash_stands_and_what_no_clock_tells_stays_a_number() -> None:
    assert (duration(None), minute(None), duration(1e300)) == ("-", "-", "1e+300 s")


def test_an_instant_is_told_in_utc() -> None:
    assert minute(datetime(2026, 11, 20, 3, 59, 59, tzinfo=UTC)) == "2026-11-20 03:59"
    assert minute(datetime(2026, 11, 20, 3, tzinfo=timezone(timedelta(hours=5)))) == "2026-11-19 22:00"


def test_a_text_is_cut_where_it_is_longer_than_it_may_be_and_not_a_letter_before() -> None:
    assert [shortened("abcd", most) for most in (5, 4, 3, 1)] == ["abcd", "abcd", "ab…", "…"]


def test_counts_are_of_one_or_of_many_and_lost_data_is_told_where_there_is_any() -> None:
    assert [counted(count, "disk") for count in (0, 1, 1000)] == ["0 disks", "1 disk", "1,000 disks"]
    assert [with_lost("3 runtimes", lost) for lost in (0, 1, 1000)] == [
        "3 runtimes",
        "3 runtimes (disk lost: 1)",
        "3 runtimes (disk lost: 1,000)",
    ]
