"""When a whole run must not act: caps, suspicious inventories, clocks that differ, a service that keeps failing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

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
    SHRUNKEN_INVENTORY = "shrunken_inventory"
    CLOCK_SKEW = "clock_skew"
    PLAN = "plan"
    NOTICES = "notices"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Refusal:
    guard: Guard
    detail: str


INVENTORY_GUARDS = frozenset({Guard.EMPTY_INVENTORY, Guard.EXPECT_AT_LEAST, Guard.SHRUNKEN_INVENTORY, Guard.CLOCK_SKEW})
"""What a run that was refused by one of these has listed is nothing to hold a later run to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The most that one run, or one of several tasks that share it, may do."""

    max_acts: int
    max_act_share: float
    small_run: int = SMALL_RUN
    """This many acts or fewer never trip the share."""

    def divided(self, tasks: int) -> Self:
        """Each task's own part, rounded up; a share needs no dividing."""
        return replace(self, max_acts=-(-self.max_acts // tasks), small_run=-(-self.small_run // tasks))

    def refusals(self, *, acts: int, listed: int) -> Iterator[Refusal]:
        """Every cap that so many acts trip; a dry run only says so."""
        if acts > self.max_acts:
            yield Refusal(Guard.MAX_ACTS, f"{acts} acts are more than max-acts {self.max_acts}")
        if acts > self.small_run and acts > self.max_act_share * listed:
            share = f"{acts} of {listed} runtimes are more than max-act-share {self.max_act_share:g}"
            yield Refusal(Guard.MAX_ACT_SHARE, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What earlier runs lead to expect of an inventory."""

    run_id: str
    """The earlier run's."""
    living: int
    """Runtimes that it listed and that are not on their way out, less what live runs accepted since."""
    lists: int
    """So many it had read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a run has listed."""

    listed: int
    living: int
    """Not Deleting."""
    lists: int
    """So many were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """The least that an inventory must hold to be believed: a caller that lost its role sees an empty list too."""

    allow_empty: bool
    expect_at_least: int
    max_shrink: float
    allow_shrunken: bool
    expected: Expected | None = None

    def refusals(self, seen: Inventory) -> Iterator[Refusal]:
        """Every expectation that the inventory fails; a dry run is refused too."""
        if seen.listed == 0 and not self.allow_empty:
            yield Refusal(
                Guard.EMPTY_INVENTORY,
                "no runtime is listed: has the caller lost its owner role? (allow-empty accepts this)",
            )
        if seen.listed < self.expect_at_least:
            yield Refusal(
                Guard.EXPECT_AT_LEAST, f"{seen.listed} runtimes are listed, expect-at-least is {self.expect_at_least}"
            )
        if not self.allow_shrunken and self.expected is not None:
            yield from self._shrunken(seen, self.expected)

    def _shrunken(self, seen: Inventory, expected: Expected) -> Iterator[Refusal]:
        """Compared only where about as much was asked: other projects, or lists that failed, explain the difference."""
        lost = expected.living - seen.living
        as_many = seen.lists >= (1 - self.max_shrink) * expected.lists
        if as_many and lost > SMALL_RUN and lost > self.max_shrink * expected.living:
            yield Refusal(
                Guard.SHRUNKEN_INVENTORY,
                f"{seen.living} runtimes live, run {expected.run_id} leads to expect {expected.living}: has the caller"
                f" lost its role on some projects? max-shrink is {self.max_shrink:g} (allow-shrunken accepts this)",
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

    def add(self, *, failed: bool) -> bool:
        """Whether this failure is the one that makes it too many."""
        self._length = self._length + 1 if failed else 0
        return self._length == FAILURES_IN_A_ROW


FAILING = Refusal(Guard.FAILING, f"{FAILURES_IN_A_ROW} acts in a row failed")
