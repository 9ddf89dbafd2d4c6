"""The rules and the numbers of the promises, told a second time, independently of the program's."""

from datetime import datetime, timedelta

from core.settings.fields import Settings
from tests.lives.wire import State

MILLISECOND = timedelta(milliseconds=1)
TOLERANCE = 300_000
"""Milliseconds by which clocks may differ."""
HALF_TOLERANCE = 150.0
"""Seconds: of two clocks that are no further from the truth, neither is told from the other."""
REACH = 6.9 * 86400.0
"""Seconds that a run surely looks back to earlier ones."""
FRESH = 10.0
LEAST_LEFT = 15.0
EPSILON = 1e-6
SMALL_RUN = 10
"""So many acts are not too many for any fleet, nor so many that are gone without evidence."""
SWEEPS = ("delete-old-runtimes", "check-autopause")


def milliseconds(duration: timedelta) -> int:
    return duration // MILLISECOND


def is_exempt(state: State, at: int, settings: Settings, begin: datetime) -> bool:
    return any(
        (exemption.project in (None, state.project))
        and all(state.labels.get(key) == value for key, _, value in (part.partition("=") for part in exemption.label))
        and at < -(-(exemption.until - begin) // MILLISECOND)
        for exemption in settings.exemptions
    )


def is_due(state: State, at: int, settings: Settings, begin: datetime) -> bool:
    """Whether the rule deletes it, to the millisecond; later can only mean sooner."""
    age, idle = at - state.created, at - state.accessed
    eligible = ("Running", "Stopped", "Error") if settings.delete_errored else ("Running", "Stopped")
    if state.cloud != "GCP" or state.status not in eligible or state.accessed < state.created - TOLERANCE:
        return False
    if min(age, idle) < -TOLERANCE or is_exempt(state, at, settings, begin):
        return False
    if age > milliseconds(settings.max_age):
        return True
    busy = max(state.threshold * 60_000, milliseconds(settings.kernel_busy_limit))
    spared = settings.spare_possibly_busy and state.status == "Running"
    least = milliseconds(settings.idle_after)
    if spared:
        least = max(least, busy + milliseconds(settings.autopause_margin))
    return age > milliseconds(settings.max_age_if_idle) and idle >= least


def is_overdue(state: State, at: int, settings: Settings, begin: datetime) -> bool:
    """Whether autopause has missed it."""
    threshold = state.threshold * 60_000
    idle = at - state.accessed
    return (
        state.cloud == "GCP"
        and state.status == "Running"
        and 0 < threshold <= milliseconds(settings.autopause_max_threshold)
        and idle >= max(threshold, milliseconds(settings.kernel_busy_limit)) + milliseconds(settings.autopause_margin)
        and not is_exempt(state, at, settings, begin)
    )


def due_at(state: State, settings: Settings) -> int:
    """The first millisecond at which it is due if nobody uses it, exemptions apart."""
    idle = max(
        state.created + milliseconds(settings.max_age_if_idle) + 1,
        state.accessed + milliseconds(settings.idle_after),
    )
    return min(state.created + milliseconds(settings.max_age) + 1, idle)
