"""When a whole run must not act: caps, suspicious inventories, clocks that differ, a service that keeps failing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from core.rules.decision import CLOCK_TOLERANCE, to_millisecond
from core.rules.words import in_words

SMALL_RUN = 10
"""This many acts or fewer never trip the share: a small fleet is not a suspicious one."""
FAILURES_IN_A_ROW = 10
"""So many failed answers to an act in a row stop the run."""


class Guard(StrEnum):
    """Names stand in records, so they never change."""

    MAX_ACTS = "max_acts"
    MAX_ACT_SHARE = "max_act_share"
    EMPTY_INVENTORY = "empty_inventory"
    EXPECT_AT_LEAST = "expect_at_least"
    CLOCK_SKEW = "clock_skew"
    PLAN = "plan"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Refusal:
    guard: Guard
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The most that one run may do."""

    max_acts: int
    max_act_share: float

    def refusals(self, *, acts: int, listed: int) -> Iterator[Refusal]:
        """Every cap that so many acts trip; a dry run only says so."""
        if acts > self.max_acts:
            yield Refusal(Guard.MAX_ACTS, f"{acts} acts are more than max-acts {self.max_acts}")
        if acts > SMALL_RUN and acts > self.max_act_share * listed:
            share = f"{acts} of {listed} runtimes are more than max-act-share {self.max_act_share:g}"
            yield Refusal(Guard.MAX_ACT_SHARE, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """The least that an inventory must hold to be believed: a caller that lost its role sees an empty list too."""

    allow_empty: bool
    expect_at_least: int

    def refusals(self, *, listed: int) -> Iterator[Refusal]:
        """Every expectation that the inventory fails; a dry run is refused too."""
        if listed == 0 and not self.allow_empty:
            yield Refusal(
                Guard.EMPTY_INVENTORY,
                "no runtime is listed: has the caller lost its owner role? (allow-empty accepts this)",
            )
        if listed < self.expect_at_least:
            yield Refusal(
                Guard.EXPECT_AT_LEAST, f"{listed} runtimes are listed, expect-at-least is {self.expect_at_least}"
            )


def clock_skew(date: datetime, *, sent: datetime, answered: datetime) -> timedelta:
    """How far our clock is surely ahead of the one that dated an answer; negative where it is behind.

    The date was cut to the second and written at some time between the request and its answer: a slow answer shows
    no skew.
    """
    least, most = to_millisecond(sent) - date - timedelta(seconds=1), to_millisecond(answered) - date
    return max(least, timedelta(0)) + min(most, timedelta(0))


def clock_refusals(skew: timedelta | None) -> Iterator[Refusal]:
    """Whether ages would be wrong by more than the tolerance; a dry run is refused too."""
    if skew is not None and abs(skew) > CLOCK_TOLERANCE:
        ahead = "ahead of" if skew > timedelta(0) else "behind"
        yield Refusal(Guard.CLOCK_SKEW, f"this host's clock is {in_words(abs(skew))} {ahead} Leonardo's")


class FailureStreak:
    """Counts failed answers to acts in a row, in the order in which they come in."""

    def __init__(self) -> None:
        self._length = 0

    def add(self, *, failed: bool) -> Refusal | None:
        self._length = self._length + 1 if failed else 0
        if self._length == FAILURES_IN_A_ROW:
            return Refusal(Guard.FAILING, f"{self._length} acts in a row failed")
        return None
