"""What a rule answers with: an action, its reason and the numbers behind it; the rules themselves live beside."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from core.rules.exemptions import Exemption
from core.runtime import GCP, Runtime, RuntimeStatus

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far apart our clock and that of Leonardo, or of Google, may be: clocks are not alike."""
FURTHEST_AHEAD = -CLOCK_TOLERANCE
EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)
"""No runtime is older than Leonardo, whose first commits are of 2015 and 2016: an earlier date is a mistake."""
NEVER = datetime.max.replace(tzinfo=UTC)
"""After every instant that comes."""
KNOWN_STATUSES = frozenset(RuntimeStatus) - {RuntimeStatus.UNKNOWN}
MICROSECONDS = tuple(timedelta(microseconds=count) for count in range(1000))
"""So many: a list of runtimes needs a few for each."""
MILLISECOND = timedelta(milliseconds=1)


class Action(StrEnum):
    KEEP = "keep"
    DELETE = "delete"
    STOP = "stop"


KEEP, DELETE = Action.KEEP, Action.DELETE
"""Looking one up in its class takes five times as long, for each of a million runtimes."""


class Reason(StrEnum):
    """Why; the words stand in records, so they never change."""

    CLOUD_NOT_SUPPORTED = "cloud_not_supported"
    DUPLICATE = "duplicate"
    FOREIGN_PROJECT = "foreign_project"
    STATUS_UNKNOWN = "status_unknown"
    STATUS_NOT_ELIGIBLE = "status_not_eligible"
    UNDATED = "undated"
    FUTURE_DATED = "future_dated"
    EXEMPT = "exempt"
    MAX_AGE = "max_age"
    MAX_AGE_IF_IDLE = "max_age_if_idle"
    KERNEL_MAY_BE_BUSY = "kernel_may_be_busy"
    NOT_NOTICED = "not_noticed"
    WITHIN_POLICY = "within_policy"
    PAUSED = "paused"
    ERRORED = "errored"
    STUCK = "stuck"
    IN_TRANSITION = "in_transition"
    THRESHOLD_UNREAD = "threshold_unread"
    THRESHOLD_NEGATIVE = "threshold_negative"
    AUTOPAUSE_OFF = "autopause_off"
    THRESHOLD_TOO_LONG = "threshold_too_long"
    IN_USE = "in_use"
    AUTOPAUSE_OVERDUE = "autopause_overdue"
    MALFORMED = "malformed"


NOT_JUDGED = frozenset({Reason.MALFORMED, Reason.FOREIGN_PROJECT})
"""Reasons that no rule gives: an item that cannot be read, or that the list should not hold."""


class Decision(NamedTuple):
    """One judgement of one runtime at one instant; a tuple for the reason that `Runtime` is one."""

    action: Action
    reason: Reason
    judged_at: datetime
    age: timedelta | None = None
    idle: timedelta | None = None
    due_at: datetime | None = None
    exemption: Exemption | None = None
    """Of those that match the one that ends last, lapsed or not, whether or not it decided."""
    overdue: timedelta | None = None
    """How long ago autopause should have come, by the threshold alone."""
    matching: tuple[int, ...] = ()
    """The places of all exemptions that match."""


def in_utc(instant: datetime) -> datetime:
    """The same instant; where it lies beside the calendar, its own date and time as if they were in UTC."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return instant.replace(tzinfo=UTC)


def to_millisecond(instant: datetime) -> datetime:
    """`instant` in UTC, floored to the millisecond: the resolution of every comparison."""
    utc = instant if instant.tzinfo is UTC else in_utc(instant)
    beyond = utc.microsecond % 1000
    return utc - MICROSECONDS[beyond] if beyond else utc


def since(date: datetime | None, instant: datetime) -> timedelta | None:
    """`instant` - `date`, each floored to the millisecond, not truncated further."""
    return None if date is None else to_millisecond(instant) - to_millisecond(date)


def fault_of_listing(runtime: Runtime, *, repeated: bool) -> Reason | None:
    """What rules a runtime out before its dates are looked at, in the order that every job uses."""
    if runtime.cloud_provider != GCP:
        return Reason.CLOUD_NOT_SUPPORTED
    if repeated:
        return Reason.DUPLICATE
    if runtime.status not in KNOWN_STATUSES:
        return Reason.STATUS_UNKNOWN
    return None


def fault_of_dates(
    created: datetime | None, accessed: datetime | None, age: timedelta | None, idle: timedelta | None
) -> Reason | None:
    """What rules a runtime out by its dates: missing, impossible, or so far ahead that clocks do not explain it."""
    if created is None or accessed is None or age is None or idle is None:
        return Reason.UNDATED
    if created < EARLIEST or accessed < EARLIEST or idle - age > CLOCK_TOLERANCE:
        return Reason.UNDATED
    if age < FURTHEST_AHEAD or idle < FURTHEST_AHEAD:
        return Reason.FUTURE_DATED
    return None


def explain_listing(runtime: Runtime, decision: Decision) -> str:
    """Why, in words, where every job has the same reason."""
    match decision.reason:
        case Reason.CLOUD_NOT_SUPPORTED:
            return f"it runs on {runtime.cloud_provider or 'an unknown cloud'}"
        case Reason.DUPLICATE:
            return "listed before"
        case Reason.FOREIGN_PROJECT:
            return "it was listed under another project"
        case Reason.UNDATED if runtime.created_date is None or runtime.date_accessed is None:
            return "a date is missing or unreadable"
        case Reason.UNDATED:
            return (
                f"its dates make no sense: created {runtime.created_date:%Y-%m-%d %H:%M}Z,"
                f" accessed {runtime.date_accessed:%Y-%m-%d %H:%M}Z"
            )
        case Reason.FUTURE_DATED:
            return "a date lies in the future"
        case _:
            return f"its status is {runtime.status or 'missing'}"
