"""Durations and instants as people write them; which setting is one is said in `fields`."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationError

LONGEST_DURATION = timedelta(days=36_500)
"""Nobody means more than a hundred years, and sums of such durations are still durations."""
UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(value: object) -> timedelta:
    """`14d`, `4h`, `30m`, `36s` or ISO 8601 (`P14D`, `PT4H`) to a timedelta; a bare number is refused."""
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str) and (short := re.fullmatch(r"(\d{1,10})([dhms])", value)):
        unit = timedelta(**{UNITS[short[2]]: 1})
        duration = unit * min(int(short[1]), LONGEST_DURATION // unit + 1)  # of more there may be no timedelta
    elif isinstance(value, str) and re.fullmatch(r"-?P[\dYMWDTHS.,]+", value):
        try:
            duration = TypeAdapter(timedelta).validate_python(value)
        except ValidationError:
            raise ValueError(f"{value!r} is no ISO 8601 duration such as P14D or PT4H") from None
    else:
        raise ValueError(f"{value!r} is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D")
    if duration <= timedelta(0):
        raise ValueError(f"{value!r} is not longer than nothing")
    if duration > LONGEST_DURATION:
        raise ValueError(f"{value!r} is longer than {LONGEST_DURATION.days} days")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` reads back: 14d, 90m, 1.5s as PT1.5S."""
    for letter, unit in UNITS.items():
        count, rest = divmod(duration, timedelta(**{unit: 1}))
        if not rest and (count > 1 or unit != "days"):
            return f"{count}{letter}"
    return f"PT{duration.total_seconds():.6f}".rstrip("0") + "S"


def parse_instant(value: object) -> datetime:
    """An ISO 8601 instant with a zone, or a bare date, which means 00:00Z."""
    if isinstance(value, datetime):
        return value
    try:
        instant = datetime.fromisoformat(str(value))
        if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", str(value)):
            return datetime.combine(instant, time(), UTC)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{str(value)!r} is neither an instant with a zone (2026-11-20T03:00:00Z) nor a date (2026-11-20)")


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Instant = Annotated[datetime, BeforeValidator(parse_instant)]
