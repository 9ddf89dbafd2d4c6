"""What of a run's records a person is shown, as plain text; drawing it on a terminal lives in `core.screen.run`."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from core.exit_code import IN_WORDS
from core.records.events import CALLS, RunFinished
from core.rules.promise import promise_in_words
from core.rules.words import duration

if TYPE_CHECKING:  # most runs add nothing up
    from core.review.disks import Total


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a row."""

    header: str
    cell: Callable[[Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A table of the records that matter to a job's reader, and the sentence it ends in."""

    title: str = ""
    is_row: Callable[[Any], bool] = lambda _: False
    """Of the records of runtimes, or of disks."""
    order: Callable[[Any], Any] = lambda _: 0
    columns: tuple[tuple[Column, ...], ...] = ()
    """In groups, which stand on top of each other where a terminal is narrow."""
    verdict: Callable[[RunFinished], str]
    totals: "Callable[[Iterable[Any]], Iterable[Total]] | None" = None
    """What all rows come to, in a table of its own."""


def path_of(row: Any) -> str:
    return f"{row.project or '?'}/{row.name or '?'}"


WHOSE = (
    Column("runtime", path_of),
    Column("creator", lambda row: row.creator or "-"),
)
STATUS = Column("status", lambda row: row.status or "-")
DISK = Column("disk", lambda row: f"disk {row.disk}")
THRESHOLD = Column("threshold", lambda row: _threshold(row.autopause_threshold_min))
AGE = Column("age", lambda row: duration(row.age_s))
IDLE = Column("idle", lambda row: duration(row.idle_s))
OVERDUE = Column("overdue", lambda row: duration(row.overdue_s))
REASON = Column("reason", lambda row: row.reason)
OUTCOME = Column("outcome", lambda row: row.outcome)
SIZE = Column("GB", lambda row: "-" if row.size_gb is None else f"{row.size_gb:,}")
UNUSED = Column("unused", lambda row: duration(row.unused_s))
LEFT_BY = Column("left by", lambda row: row.left_by_run or "-")
DISKS_LEFT = "Attached to no runtime, largest and longest unused first"
DISKS = (WHOSE, (STATUS, REASON), (SIZE, UNUSED), (LEFT_BY,))
TOTALS = "By project and creator", (("project", "creator"), ("disks",), ("GB", "GB x days"))


def cells_of_total(total: "Total") -> list[str]:
    return [total.project, total.creator or "-", f"{total.disks:,}", f"{total.gb:,}", f"{total.gb_days:,}"]


def _threshold(minutes: int | None) -> str:
    return "off" if minutes == 0 else duration(None if minutes is None else 60 * minutes)


def calls_made(finished: RunFinished) -> str:
    calls = ", ".join(f"{count:,} {kind}" for kind in CALLS if (count := finished.calls.get(kind)))
    ended = f"Exit code {finished.exit_code} ({IN_WORDS[finished.exit_code]})"
    return f"{ended} after {finished.duration_s:.1f} s (calls: {calls or 'none'})."


def outcomes_counted(finished: RunFinished) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(finished.outcomes.items()))


def promise_kept(finished: RunFinished) -> str | None:
    """Whether every runtime is within its maximum age; None for a job that promises none, or that has seen none."""
    if finished.over_age is None or not finished.listed:
        return None
    return promise_in_words(finished.oldest, finished.over_age)


def together(closings: Sequence[RunFinished]) -> RunFinished:
    """The closing records of a run's tasks as if one task had done it all; the worst exit code is the run's."""
    if len(closings) == 1:
        return closings[0]
    return replace(
        max(closings, key=lambda closing: closing.exit_code),
        listed=sum(closing.listed for closing in closings),
        audited=sum(closing.audited for closing in closings),
        living=sum(closing.living for closing in closings),
        warnings=list(dict.fromkeys(warning for closing in closings for warning in closing.warnings)),
        **{name: _sum_counts(closings, name) for name in ("actions", "reasons", "outcomes", "calls", "lists")},
        failed=[name for closing in closings for name in closing.failed],
        duration_s=max(closing.duration_s for closing in closings),
        refused_by=list(dict.fromkeys(guard for closing in closings for guard in closing.refused_by)),
        would_be_refused_by=list(dict.fromkeys(guard for closing in closings for guard in closing.would_be_refused_by)),
        clock_skew_s=max(
            (closing.clock_skew_s for closing in closings if closing.clock_skew_s is not None), key=abs, default=None
        ),
        oldest=max(filter(None, (closing.oldest for closing in closings)), key=lambda of: of.age_s, default=None),
        over_age=None if closings[0].over_age is None else _sum_counts(closings, "over_age"),
        late_s=None,  # what each task tells of its own does not tell the median of all
    )


def _sum_counts(closings: Sequence[RunFinished], name: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for closing in closings:
        counts.update(getattr(closing, name) or {})
    return dict(counts)
