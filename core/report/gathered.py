"""Gathers from a log, in one pass and in bounded memory, what the report says; drawing it lives in `charts`."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from heapq import heappush, heappushpop

from core.exit_code import IN_WORDS, ExitCode
from core.records.causes import Causes, Example
from core.records.outcome import Outcome
from core.records.reader import Record
from core.report.side_by_side import SideBySide, side_by_side
from core.review.comparison import Comparison
from core.review.deletions import Deletions
from core.review.disks import Totals, is_left
from core.review.due import due_at
from core.review.questions import RunLine, RunSummary, failed, known, needs_person, whom, written_at
from core.rules.decision import Reason, in_utc
from core.rules.words import duration
from core.verify.rejudge import deletion_policy

AHEAD = timedelta(days=14)
MOST_ACTS = 100_000
MOST_FAILURES = 1000
ENDED_ITSELF = frozenset({ExitCode.UNREADABLE, ExitCode.STOPPED, ExitCode.UNRECORDED, ExitCode.BUG})
"""How a run ends that failed as a whole; one that was refused has said so before."""
WHOLE_RUN = "the whole run"


@dataclass(frozen=True, slots=True)
class Row:
    """One runtime, project, list or run in a table: what became of it."""

    at: datetime | None
    run_id: str
    path: str
    creator: str | None
    reason: str
    outcome: str
    disk: str
    age: str
    idle: str
    message: str


class Newest:
    """The newest rows, and how many there were; of too many what a live run did stays before what others would do."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._heap: list[tuple[bool, datetime, int, Row]] = []

    def add(self, record: Record) -> None:
        self.count += 1
        rank = not record.dry_run, written_at(record)
        if len(self._heap) < self.most:
            heappush(self._heap, (*rank, self.count, _row(record)))
        elif rank >= self._heap[0][:2]:
            heappushpop(self._heap, (*rank, self.count, _row(record)))

    @property
    def rest(self) -> int:
        return self.count - len(self._heap)

    @property
    def rows(self) -> list[Row]:
        return [row for *_, row in sorted(self._heap, key=lambda entry: entry[1:3], reverse=True)]


@dataclass(slots=True)
class LatestSweep:
    """The latest run over the whole fleet, in numbers."""

    started: Record
    listed: int = 0
    ages: "array[float]" = field(default_factory=lambda: array("d"))
    idles: "array[float]" = field(default_factory=lambda: array("d"))
    would_delete: Counter[str] = field(default_factory=Counter)
    due: Counter[date] = field(default_factory=Counter)
    overdue: int = 0
    later: int = 0

    def add(self, record: Record, now: datetime) -> None:
        if record.reason == Reason.DUPLICATE:
            return
        self.listed += 1
        self.would_delete[record.reason] += record.outcome == Outcome.WOULD_DELETE
        if isinstance(record.age_s, float):
            self.ages.append(record.age_s)
        if isinstance(record.idle_s, float):
            self.idles.append(record.idle_s)
        due = due_at(record)
        if due is None:
            return
        if due <= now:
            self.overdue += 1
        elif due <= now + AHEAD:
            self.due[in_utc(due).date()] += 1
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
class Span:
    """How many records there are, and from when to when."""

    records: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    def add(self, record: Record) -> None:
        self.records += 1
        if record.time is not None:
            self.first_at = min(record.time, self.first_at or record.time)
            self.last_at = max(record.time, self.last_at or record.time)


class Gathered:
    """Everything that the page says, out of one pass over the records."""

    def __init__(
        self, now: datetime, comparison: Comparison | None, sweep: Record | None, checks: Iterable[Record] = ()
    ) -> None:
        """`sweep` is the first record of the latest deletion run over the fleet, `checks` those of what tells the rest.

        What needs a person, and which disks are left over, is as the latest checks found it.
        """
        self.now = now
        self._comparison = comparison
        self._checks = frozenset(check.run_id for check in checks)
        self.span = Span()
        self.acts = Newest(MOST_ACTS)
        self.failures = Newest(MOST_FAILURES)
        self.needs_person = Newest(MOST_FAILURES)
        self.deletions = Deletions()
        self.sweep = None if sweep is None else LatestSweep(sweep)
        self.disks = Totals()
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
        if failed(record) or _failed_as_a_whole(record):
            self.failures.add(record)
        if record.run_id in self._checks:
            if needs_person(record):
                self.needs_person.add(record)
            if is_left(record):
                self.disks.add(record)
        if record.event == "deletion_confirmed":
            self.acts.add(record)
        elif record.event == "runtime_audited":
            self._add_audited(record)
        elif record.event == "notice_sent":
            self.deletions.add(record)

    def _add_audited(self, record: Record) -> None:
        if self.sweep and record.run_id == self.sweep.started.run_id:
            self.sweep.add(record, self.now)
        if record.outcome != Outcome.KEPT:
            self.acts.add(record)
            self.deletions.add(record)

    def side_by_side(self) -> SideBySide | None:
        return side_by_side(self._comparison.answer(self.now)) if self._comparison else None

    def lines(self) -> list[RunLine]:
        """Each run in the order of time."""
        return [run.line(self.now) for run in self._in_time()]

    def causes(self) -> list[tuple[int, Example]]:
        """How often what failed why, with the newest example, the most frequent first."""
        together = Causes()
        for run in reversed(self._in_time()):
            together.include(run.causes)
        return together.most_frequent_first()

    def _in_time(self) -> list[RunSummary]:
        return sorted(self._runs.values(), key=RunSummary.order)


def _failed_as_a_whole(record: Record) -> bool:
    return record.event == "run_refused" or (record.event == "run_finished" and record.exit_code in ENDED_ITSELF)


def _row(record: Record) -> Row:
    whole = _failed_as_a_whole(record)
    outcome = record.outcome or (f"refused by {record.guard}" if record.guard else record.event)
    if record.event == "run_finished" and record.exit_code is not None:
        outcome = f"exit code {record.exit_code}, {IN_WORDS.get(record.exit_code, '')}"
    return Row(
        at=record.time or record.judged_at,
        run_id=record.run_id,
        path=WHOLE_RUN if whole else whom(record),
        creator=record.creator,
        reason=record.reason,
        outcome=outcome,
        disk=record.disk or record.disk_status or "-",
        age=duration(known(record.age_s)),
        idle=duration(known(record.idle_s)),
        message=record.detail or (record.message if record.error is None else record.error.message),
    )
