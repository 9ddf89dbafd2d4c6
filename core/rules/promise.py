"""What breaks the promise that every runtime has a maximum age, how old the oldest is, and how late acts came; pure.

Told of each runtime's end in a run, it holds no more than one of them and the delays of what was accepted.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import inf
from typing import NamedTuple, Protocol

from core.rules.decision import Action, Reason, to_millisecond
from core.rules.words import duration, minute
from core.runtime import RuntimeStatus

NOT_COUNTED = frozenset({Reason.DUPLICATE, Reason.CLOUD_NOT_SUPPORTED})
"""Reasons that keep what is another's, or was counted before."""
AT_REST = frozenset({RuntimeStatus.RUNNING, RuntimeStatus.STOPPED})
"""In these a runtime may stay; its last access tells when it came into any other."""


class End(Protocol):
    """What a record says of the end of a runtime in a run, whether it was just made or read back."""

    @property
    def project(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...

    @property
    def status(self) -> str | None: ...

    @property
    def date_accessed(self) -> datetime | None: ...

    @property
    def judged_at(self) -> datetime | None: ...

    @property
    def due_at(self) -> object:
        """A datetime, or anything else where there is none."""

    @property
    def age_s(self) -> object:
        """A float, or anything else where it is not known."""

    @property
    def action(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def outcome(self) -> str: ...


class Lateness(NamedTuple):
    """In seconds, by how much acts came later than they were due."""

    max: float
    median: float


class Promise:
    """How far a run has kept the promise."""

    def __init__(self, max_age: timedelta) -> None:
        self._max_age = max_age.total_seconds()
        self._enough = -inf
        """Whoever is not older than this changes nothing."""
        self._late: list[float] = []
        self.oldest: End | None = None
        """Of those that live on, and that no exemption spares."""
        self.oldest_age = -inf
        self.over_age: Counter[str] = Counter()
        """How many live on above the maximum age, or at an unknown one, by what keeps them there."""

    def lives_on(self, end: End) -> None:
        """Count a runtime that is neither accepted for deletion nor gone."""
        age = end.age_s
        if isinstance(age, float) and age <= self._enough:
            return
        if end.reason in NOT_COUNTED:
            return
        if not isinstance(age, float):
            self.over_age[kept_by(end)] += 1
            return
        if age > self._max_age:
            self.over_age[kept_by(end)] += 1
        if age > self.oldest_age and end.reason != Reason.EXEMPT:
            self.oldest, self.oldest_age = end, age
            self._enough = min(age, self._max_age)

    def accepted(self, end: End) -> None:
        """Count a runtime that Leonardo has accepted to delete."""
        if isinstance(end.due_at, datetime) and end.judged_at is not None:
            self._late.append((to_millisecond(end.judged_at) - end.due_at).total_seconds())

    @property
    def late(self) -> Lateness | None:
        """None where nothing was accepted."""
        if not self._late:
            return None
        late = sorted(self._late)
        middle = (late[(len(late) - 1) // 2] + late[len(late) // 2]) / 2
        return Lateness(max=late[-1], median=round(middle, 3))


def kept_by(end: End) -> str:
    """What keeps a runtime: the outcome where the rule condemned it, a status that is not eligible, else the reason."""
    if end.action != Action.KEEP:
        return end.outcome
    return str(end.status) if end.reason == Reason.STATUS_NOT_ELIGIBLE else end.reason


class Oldest(Protocol):
    """What a closing record says of the oldest."""

    @property
    def project(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...

    @property
    def age_s(self) -> float: ...

    @property
    def status(self) -> str | None: ...

    @property
    def date_accessed(self) -> datetime | None: ...


def promise_in_words(oldest: Oldest | None, over_age: Mapping[str, int]) -> str:
    """A sentence: how old the oldest is and what keeps it, and how many live on above the maximum age, and why."""
    beyond = sum(over_age.values())
    which = ", ".join(
        f"{count:,} {'in ' * (what == RuntimeStatus.ERROR)}{what}"
        for what, count in sorted(over_age.items(), key=lambda item: (-item[1], item[0]))
    )
    are = "runtime is" if beyond == 1 else "runtimes are"
    end = f"{beyond:,} {are} above the maximum age: {which}." if beyond else "none is above the maximum age."
    if oldest is None:
        return end[0].upper() + end[1:]
    since = "" if oldest.status in AT_REST else f" since {minute(oldest.date_accessed)}"
    whose = f"{oldest.project}/{oldest.name}, {oldest.status or 'without a status'}{since}"
    return f"The oldest is {duration(oldest.age_s)} ({whose}): {end}"
