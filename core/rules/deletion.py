"""The rule for deletion: which runtimes are too old, or idle and old; nothing here deletes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import ClassVar

from core.rules.autopause import AUTOPAUSE_MARGIN, KERNEL_BUSY_LIMIT, kernel_may_be_busy
from core.rules.decision import (
    DELETE,
    KEEP,
    MILLISECOND,
    NEVER,
    Decision,
    Reason,
    explain_listing,
    fault_of_dates,
    fault_of_listing,
    to_millisecond,
)
from core.rules.exemptions import Exemption, longest, matching
from core.rules.policy import RuntimePolicy
from core.rules.words import NO_TIME, in_words, limit_in_words
from core.runtime import Runtime, RuntimeStatus

ELIGIBLE = frozenset({RuntimeStatus.RUNNING, RuntimeStatus.STOPPED})
WITHIN_POLICY = Reason.WITHIN_POLICY
OF_AGE = frozenset({Reason.MAX_AGE, WITHIN_POLICY})
DELETES = frozenset({Reason.MAX_AGE, Reason.MAX_AGE_IF_IDLE})
RULED_OUT = frozenset(
    {
        Reason.CLOUD_NOT_SUPPORTED,
        Reason.DUPLICATE,
        Reason.STATUS_UNKNOWN,
        Reason.STATUS_NOT_ELIGIBLE,
        Reason.UNDATED,
        Reason.FUTURE_DATED,
    }
)
"""Reasons that are no matter of time, so that there is no `due_at`."""
ERROR = RuntimeStatus.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionPolicy(RuntimePolicy):
    """The limits of the rule; names and boundaries are those of the cron upstream."""

    job: ClassVar[str] = "delete-old-runtimes"
    max_age: timedelta
    """Older than this, strictly: deleted, used or not."""
    max_age_if_idle: timedelta
    """Older than this, strictly, and idle: deleted. A limit on the age, not on the idle time."""
    idle_after: timedelta
    """Not accessed for this long or longer is idle."""
    spare_possibly_busy: bool = False
    """Whether an idle Running runtime is kept while a busy kernel may be holding off its autopause."""
    kernel_busy_limit: timedelta = KERNEL_BUSY_LIMIT
    autopause_margin: timedelta = AUTOPAUSE_MARGIN
    delete_errored: bool = False
    """Whether runtimes in Error are eligible too, by the same rule."""
    notice_period: timedelta | None = None
    """Nothing is deleted before its owner was told of it for this long, if set."""
    notices: Mapping[str, datetime] | None = field(default_factory=dict, compare=False)
    """From when on each incarnation may be deleted, as its owner was told; None where that is not asked."""

    @property
    def promised_age(self) -> timedelta:
        return self.max_age

    def __str__(self) -> str:
        errored = ", in Error too" if self.delete_errored else ""
        told = f", once its owner was told of it for {in_words(self.notice_period)}" if self.notice_period else ""
        busy = ", unless a kernel may be busy" if self.spare_possibly_busy else ""
        return (
            f"delete what is older than {in_words(self.max_age)}, or older than {in_words(self.max_age_if_idle)}"
            f" and not accessed for {in_words(self.idle_after)}{busy}{errored}{told}"
        )

    def judge(
        self, runtime: Runtime, instant: datetime, *, repeated: bool = False, second_look: bool = False
    ) -> Decision:
        """Judge one runtime at an instant; total: every runtime gets an answer. The first match wins.

        * not on GCP: keep (`cloud_not_supported`); its `id` a second time in a list (`repeated`): keep (`duplicate`);
        * status Unknown, null or a word we do not know: keep (`status_unknown`);
          any other than Running and Stopped, and Error where delete_errored says so: keep (`status_not_eligible`);
        * a date missing, unreadable, without a zone or implausible: keep (`undated`);
          one more than 5 minutes after the instant: keep (`future_dated`);
        * an exemption matches and has not lapsed: keep (`exempt`);
        * age > max_age: delete (`max_age`); exactly max_age stays;
        * idle >= idle_after and age > max_age_if_idle: delete (`max_age_if_idle`), unless possibly busy ones are spared
          and the second look, which alone knows the autopause threshold, shows one: keep (`kernel_may_be_busy`);
        * either, and with notice_period its owner was not told of it for that long: keep (`not_noticed`);
        * otherwise: keep (`within_policy`).
        """
        at = to_millisecond(instant)
        created = runtime.created_date and to_millisecond(runtime.created_date)
        accessed = runtime.date_accessed and to_millisecond(runtime.date_accessed)
        age = None if created is None else at - created
        idle = None if accessed is None else at - accessed
        places = matching(self.exemptions, runtime) if self.exemptions else ()
        exemption = longest(self.exemptions, places) if places else None
        reason = fault_of_listing(runtime, repeated=repeated)
        if reason is None and not (runtime.status in ELIGIBLE or (self.delete_errored and runtime.status == ERROR)):
            reason = Reason.STATUS_NOT_ELIGIBLE
        if reason is None:
            reason = fault_of_dates(created, accessed, age, idle)
        if reason is None and exemption is not None and not exemption.lapsed(at):
            reason = Reason.EXEMPT
        if reason is None:
            reason = self._by_age(runtime, age or NO_TIME, idle or NO_TIME, second_look=second_look)
            if reason in DELETES and not self._may_come(runtime, at):
                reason = Reason.NOT_NOTICED
        action = DELETE if reason in DELETES else KEEP
        due_at = None if reason in RULED_OUT else self._due_at(created, accessed, exemption)
        return Decision(action, reason, instant, age, idle, due_at, exemption, None, places)

    def explain(self, runtime: Runtime, decision: Decision) -> str:
        if decision.reason in OF_AGE:
            return f"{_age(decision)}, limit {limit_in_words(self.max_age)}"
        match decision.reason:
            case Reason.MAX_AGE_IF_IDLE:
                return (
                    f"{_age(decision)}, limit {limit_in_words(self.max_age_if_idle)} when idle, and {_idle(decision)}"
                )
            case Reason.KERNEL_MAY_BE_BUSY:
                return f"{_age(decision)} and {_idle(decision)}, but a kernel may be busy"
            case Reason.NOT_NOTICED:
                return f"{_age(decision)} and {_idle(decision)}, but its owner was not told of its deletion in time"
            case Reason.EXEMPT if decision.exemption:
                return decision.exemption.in_words
            case _:
                return explain_listing(runtime, decision)

    def _may_come(self, runtime: Runtime, at: datetime) -> bool:
        if self.notice_period is None or self.notices is None:
            return True
        return self.notices.get(runtime.id, NEVER) <= at

    def _by_age(self, runtime: Runtime, age: timedelta, idle: timedelta, *, second_look: bool) -> Reason:
        if age > self.max_age:
            return Reason.MAX_AGE
        if idle >= self.idle_after and age > self.max_age_if_idle:
            possibly_busy = (
                self.spare_possibly_busy
                and second_look
                and runtime.status == RuntimeStatus.RUNNING
                and kernel_may_be_busy(
                    idle,
                    runtime.autopause_threshold,
                    busy_limit=self.kernel_busy_limit,
                    margin=self.autopause_margin,
                )
            )
            return Reason.KERNEL_MAY_BE_BUSY if possibly_busy else Reason.MAX_AGE_IF_IDLE
        return WITHIN_POLICY

    def _due_at(
        self, created: datetime | None, accessed: datetime | None, exemption: Exemption | None
    ) -> datetime | None:
        """The first millisecond at which the rule would delete the runtime if nobody touched it again."""
        if created is None or accessed is None:
            return None
        too_old, old, idle = _waits(self.max_age, self.max_age_if_idle, self.idle_after)
        due = min(_after(created, too_old), max(_after(created, old), _after(accessed, idle)))
        return due if exemption is None else max(due, _first_from(exemption.until))

    def never_before(self, created: datetime) -> datetime:
        """The first millisecond at which the rule could delete the runtime, however idle it is."""
        return _after(to_millisecond(created), _longer_than(min(self.max_age, self.max_age_if_idle)))

    def final_at(self, created: datetime, exemption: Exemption | None = None) -> datetime:
        """The first millisecond at which the rule would delete the runtime whatever anybody does with it."""
        too_old = _after(to_millisecond(created), _longer_than(self.max_age))
        return too_old if exemption is None else max(too_old, _first_from(exemption.until))


def _age(decision: Decision) -> str:
    return "of unknown age" if decision.age is None else f"{in_words(decision.age)} old"


def _idle(decision: Decision) -> str:
    return f"idle for {'an unknown time' if decision.idle is None else in_words(decision.idle)}"


@lru_cache
def _waits(max_age: timedelta, max_age_if_idle: timedelta, idle_after: timedelta) -> tuple[timedelta, ...]:
    """How long after its creation a runtime is too old, and old, and after its last use idle."""
    return _longer_than(max_age), _longer_than(max_age_if_idle), _as_long_as(idle_after)


@lru_cache
def _longer_than(limit: timedelta) -> timedelta:
    """The least number of whole milliseconds that is longer."""
    return _milliseconds(limit // MILLISECOND + 1)


def _as_long_as(limit: timedelta) -> timedelta:
    """The least number of whole milliseconds that is not shorter."""
    return _milliseconds(-(-limit // MILLISECOND))


def _milliseconds(count: int) -> timedelta:
    try:
        return count * MILLISECOND
    except OverflowError:
        return timedelta.max


def _first_from(instant: datetime) -> datetime:
    """The first millisecond at an instant, or later."""
    floored = to_millisecond(instant)
    return floored if floored == instant else _after(floored, MILLISECOND)


def _after(instant: datetime, duration: timedelta) -> datetime:
    try:
        return instant + duration
    except OverflowError:
        return NEVER
