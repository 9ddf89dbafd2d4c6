"""Gathers from a log, in one pass and in bounded memory, what the report says; drawing it lives in `report`."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from heapq import heappush, heappushpop

from core.records.outcome import LEAVING, NOT_OURS, Outcome
from core.records.reader import Record
from core.report.side_by_side import SideBySide, side_by_side
from core.review.comparison import Comparison
from core.review.disks import Totals, is_left
from core.review.questions import LEFT_STANDING, RunLine, RunSummary, failed, whom, written_at
from core.rules.decision import Reason, in_utc
from core.rules.words import duration
from core.verify.rejudge import deletion_policy

AHEAD = timedelta(days=14)
MOST_ACTS = 5000
MOST_FAILURES = 1000
NOT_DUE = LEAVING | NOT_OURS


@dataclass(frozen=True, slots=True)
class Row:
    """One runtime, project or list in a table: what became of it."""

    at: datetime | None
    run_id: str
    dry_run: bool
    path: str
    creator: str | None
    reason: str
    outcome: str
    age: str
    idle: str
    error: str | None


class Newest:
    """The newest rows, and how many there were."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._heap: list[tuple[datetime, int, Row]] = []

    def add(self, record: Record) -> None:
        self.count += 1
        when = written_at(record)
        if len(self._heap) < self.most:
            heappush(self._heap, (when, self.count, _row(record)))
        elif when >= self._heap[0][0]:
            heappushpop(self._heap, (when, self.count, _row(record)))

    @property
    def rest(self) -> int:
        return self.count - len(self._heap)

    @property
    def rows(self) -> list[Row]:
        return [row for _, _, row in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


@dataclass(slots=True)
class LatestSweep:
    """The latest run over the whole fleet, in numbers."""

    started: Record
    ages: "array[float]" = field(default_factory=lambda: array("d"))
    idles: "array[float]" = field(default_factory=lambda: array("d"))
    due: Counter[date] = field(default_factory=Counter)
    overdue: int = 0
    later: int = 0

    def add(self, record: Record, now: datetime) -> None:
        if record.reason == Reason.DUPLICATE:
            return
        if isinstance(record.age_s, float):
            self.ages.append(record.age_s)
        if isinstance(record.idle_s, float):
            self.idles.append(record.idle_s)
        if not isinstance(record.due_at, datetime) or record.outcome in NOT_DUE:
            return
        if record.due_at <= now:
            self.overdue += 1
        elif record.due_at <= now + AHEAD:
            self.due[in_utc(record.due_at).date()] += 1
        else:
            self.later += 1

    @property
    def limits(self) -> dict[str, timedelta]:
        policy = deletion_policy(self.started)
        if policy is None:
            return {}
        return {
            "max_age": policy.max_age,
            "max_age_if_idle": policy.max_age_if_idle,
            "idle_after": policy.idle_after,
        }


@dataclass(slots=True)
class LatestCheck:
    """What the latest autopause check over the whole fleet found stuck or in Error."""

    started: Record | None
    left_standing: Newest = field(default_factory=lambda: Newest(MOST_FAILURES))

    def add(self, record: Record) -> None:
        if self.started and record.run_id == self.started.run_id and record.reason in LEFT_STANDING:
            self.left_standing.add(record)


@dataclass(slots=True)
class LatestDisks:
    """What the latest check of disks found left."""

    started: Record | None
    totals: Totals = field(default_factory=Totals)

    def add(self, record: Record) -> None:
        if self.started and record.run_id == self.started.run_id and is_left(record):
            self.totals.add(record)


@dataclass(slots=True)
class Span:
    """How many records there are, and from when to when."""

    records: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    def add(self, record: Record) -> None:
        self.records += 1
        if record.time is None:
            return
        if self.first_at is None or record.time < self.first_at:
            self.first_at = record.time
        if self.last_at is None or record.time > self.last_at:
            self.last_at = record.time


class Gathered:
    """Everything that the page says, out of one pass over the records."""

    def __init__(
        self,
        now: datetime,
        comparison: Comparison | None,
        sweep: Record | None,
        check: Record | None = None,
        disks: Record | None = None,
    ) -> None:
        """`sweep`, `check` and `disks`: the first records of the latest deletion run, of each check the same."""
        self.now = now
        self._comparison = comparison
        self.span = Span()
        self.acts = Newest(MOST_ACTS)
        self.failures = Newest(MOST_FAILURES)
        self.deleted: Counter[str] = Counter()
        self.would_delete: Counter[str] = Counter()
        self.sweep = None if sweep is None else LatestSweep(sweep)
        self.check = LatestCheck(check)
        self.disks = LatestDisks(disks)
        self._runs: dict[str, RunSummary] = {}

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, each noted on its way to another reader: they can be read but once."""
        for record in records:
            self._add(record)
            yield record

    def _add(self, record: Record) -> None:
        self.span.add(record)
        run = self._runs.get(record.run_id)
        if run is None:
            run = self._runs[record.run_id] = RunSummary(record)
        run.add(record)
        if self._comparison:
            self._comparison.add(record)
        if failed(record):
            self.failures.add(record)
        if record.event == "runtime_audited":
            self._add_audited(record)
        else:
            self.disks.add(record)

    def _add_audited(self, record: Record) -> None:
        if self.sweep and record.run_id == self.sweep.started.run_id:
            self.sweep.add(record, self.now)
        self.check.add(record)
        if record.outcome == Outcome.KEPT:
            return
        self.acts.add(record)
        if record.outcome == Outcome.DELETION_ACCEPTED:
            self.deleted[record.reason] += 1
        elif record.outcome == Outcome.WOULD_DELETE:
            self.would_delete[record.reason] += 1

    def side_by_side(self) -> SideBySide | None:
        return side_by_side(self._comparison.answer(self.now)) if self._comparison else None

    def lines(self) -> list[tuple[RunLine, int]]:
        """Each run in the order of time, and how many it kept."""
        in_time = sorted(self._runs.values(), key=RunSummary.order)
        return [
            (run.line(self.now), sum(n for (outcome, _), n in run.counts.items() if outcome == Outcome.KEPT))
            for run in in_time
        ]


def _row(record: Record) -> Row:
    audited = record.event == "runtime_audited"
    message = record.message if not audited or record.reason == Reason.MALFORMED else None
    return Row(
        at=record.time or record.judged_at,
        run_id=record.run_id,
        dry_run=record.dry_run,
        path=whom(record),
        creator=record.creator,
        reason=record.reason,
        outcome=record.outcome or record.event,
        age=duration(record.age_s if isinstance(record.age_s, float) else None),
        idle=duration(record.idle_s if isinstance(record.idle_s, float) else None),
        error=message if record.error is None else record.error.message,
    )
