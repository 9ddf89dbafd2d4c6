"""Durations, instants, counts and cut texts as a person reads them; what decided is said beside each rule."""

from datetime import datetime, timedelta
from functools import lru_cache

from core.rules.decision import MILLISECOND, in_utc

NO_TIME = timedelta(0)
UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))
"""And their milliseconds."""
AN_HOUR = 3600
MOST_PARTS = 2


def in_words(duration: timedelta) -> str:
    """`13 d 2 h`: the two largest units that are not zero, so that 14 d 5 min never reads as 14 d."""
    if duration.days > 0 and duration.seconds >= AN_HOUR:  # as of most runtimes, a million at a time
        return f"{duration.days} d {duration.seconds // AN_HOUR} h"
    rest = abs(duration) // MILLISECOND
    parts: list[str] = []
    for unit, size in UNITS:
        if rest >= size:
            count, rest = divmod(rest, size)
            parts.append(f"{count} {unit}")
            if len(parts) == MOST_PARTS:
                break
    words = " ".join(parts) or "0 s"
    return f"minus {words}" if duration < NO_TIME else words


limit_in_words = lru_cache(in_words)
"""The same for limits, which are few and stand in many sentences."""


def duration(seconds: float | None) -> str:
    """In words; a dash where there is none. One that no clock could tell, as in a doctored record, stays a number."""
    if seconds is None:
        return "-"
    try:
        return in_words(timedelta(seconds=seconds))
    except OverflowError:
        return f"{seconds:g} s"


def minute(instant: datetime | None) -> str:
    """In UTC; a dash where there is none."""
    return "-" if instant is None else f"{in_utc(instant):%Y-%m-%d %H:%M}"


def shortened(text: str, most: int) -> str:
    """The text, or as much of it as fits with a mark of the cut into so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def with_lost(many: str, lost: int) -> str:
    """So many, and how many of them lose their data, if any."""
    return f"{many} (disk lost: {lost:,})" if lost else many


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
