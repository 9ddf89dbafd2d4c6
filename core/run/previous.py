"""What earlier runs lead to expect of this one, by their opening and closing records; where these are read is prepared.

Pure: records in, expectations out. Only runs of one environment and of the last 7 days are given to it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from core.records.events import FailedBefore, Follows
from core.records.outcome import ACCEPTED, Outcome
from core.records.reader import LONG_AGO, Record
from core.rules.guards import INVENTORY_GUARDS, Expected

REACH = timedelta(days=7)
"""How far back earlier runs are asked: a fleet that is smaller than a week ago has shrunk by its users' hands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What two runs must have in common to be compared."""

    job: str
    leonardo_url: str | None
    of_projects: bool
    """Whether a list of projects was given."""
    task_index: int
    task_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What is known of earlier runs; nothing, where none is on record or could be read."""

    expected: Expected | None = None
    listed_nothing: bool = False
    """The newest comparable run had nothing to list either."""
    failed_before: dict[str, FailedBefore] = field(default_factory=dict)
    """By `PROJECT/NAME`, what failed in live runs of this job."""
    accepted_last: datetime | None = None
    """When a live run of this job ended last that had an act accepted."""
    follows: Follows | None = None
    """The newest run of any job that has finished."""
    unread: str | None = None
    """Why they could not be read."""


class _Run(NamedTuple):
    started: Record
    finished: Record

    @property
    def began(self) -> datetime:
        return self.started.time or LONG_AGO

    @property
    def ended(self) -> datetime:
        return self.finished.time or LONG_AGO

    def accepted(self, outcomes: Collection[str]) -> int:
        return sum(count for outcome, count in (self.finished.outcomes or {}).items() if outcome in outcomes)


def earlier(records: Sequence[Record], kind: Kind, *, live: bool, own: str | None = None) -> Earlier:
    """What these opening and closing records say to a run of this kind; `own` is its id where its tasks share one."""
    runs = sorted(_paired(records), key=lambda run: run.began)
    comparable = [run for run in runs if _is_comparable(run, kind)]
    of_job = [run for run in _live(runs) if run.started.job == kind.job]
    accepted_at = [run.ended for run in of_job if run.accepted(ACCEPTED)]
    return Earlier(
        expected=_expected(_preferred(comparable, live=live), runs, kind),
        listed_nothing=bool(comparable) and comparable[-1].finished.listed == 0,
        failed_before=_failed_before(of_job),
        accepted_last=max(accepted_at, default=None),
        follows=predecessor(records, own),
    )


def predecessor(records: Iterable[Record], own: str | None) -> Follows | None:
    """The run that had finished last, by the closing record that is newest and not of this run's own tasks."""
    closings = [record for record in records if record.event == "run_finished" and record.run_id != own]
    newest = max(closings, key=lambda closing: (closing.time or LONG_AGO, closing.run_id), default=None)
    if newest is None or newest.time is None:
        return None
    return Follows(run_id=newest.run_id, finished_at=newest.time, records_digest=newest.records_digest)


def _paired(records: Iterable[Record]) -> Iterator[_Run]:
    """Runs, or tasks of them, that have both records: a killed one says nothing of what it had listed."""
    by_task: defaultdict[tuple[str, int], dict[str, Record]] = defaultdict(dict)
    for record in records:
        by_task[record.run_id, record.task_index][record.event] = record
    for both in by_task.values():
        if len(both) == len(_Run._fields):
            yield _Run(both["run_started"], both["run_finished"])


def _live(runs: Iterable[_Run]) -> Iterator[_Run]:
    return (run for run in runs if not run.started.dry_run)


def _is_of_task(run: _Run, kind: Kind) -> bool:
    return (run.started.task_index, run.started.task_count) == (kind.task_index, kind.task_count)


def _is_comparable(run: _Run, kind: Kind) -> bool:
    """Whether it asked for the same, was answered in full, and was not itself refused for what it listed."""
    started, finished, scope = run.started, run.finished, run.started.scope
    return (
        scope is not None
        and (started.job, scope.leonardo_url) == (kind.job, kind.leonardo_url)
        and (scope.only, scope.as_of, scope.inventory) == (None, None, None)
        and (scope.projects is not None) == kind.of_projects
        and _is_of_task(run, kind)
        and finished.living is not None
        and finished.lists is not None
        and finished.lists.read > 0
        and finished.lists.unread == 0
        and not INVENTORY_GUARDS.intersection(finished.refused_by or ())
    )


def _preferred(comparable: list[_Run], *, live: bool) -> list[_Run]:
    """None older than the newest that was told to accept a shrunken inventory; live ones where there are, if live."""
    told = [run.began for run in comparable if run.started.limits.get("allow_shrunken")]
    fresh = [run for run in comparable if not told or run.began >= told[-1]]
    return (list(_live(fresh)) if live else []) or fresh


def _expected(comparable: list[_Run], runs: list[_Run], kind: Kind) -> Expected | None:
    """By the run that leads to expect the most, less what was accepted for deletion since it began."""
    deleting = [
        (run, count)
        for run in _live(runs)
        if _is_of_task(run, kind) and (count := run.accepted({Outcome.DELETION_ACCEPTED}))
    ]
    best: Expected | None = None
    for run in comparable:
        since = sum(count for other, count in deleting if other is not run and other.ended > run.began)
        living = max(0, (run.finished.living or 0) - since)
        if best is None or living > best.living:
            lists = run.finished.lists.read if run.finished.lists else 0
            best = Expected(run_id=run.started.run_id, living=living, lists=lists)
    return best


def _failed_before(runs: Iterable[_Run]) -> dict[str, FailedBefore]:
    """How often each name stands among what failed, and since when; runs come oldest first."""
    found: dict[str, FailedBefore] = {}
    for run in runs:
        for path in run.finished.failed or ():
            known = found.get(path, FailedBefore(times=0, since=run.began))
            found[path] = FailedBefore(times=known.times + 1, since=known.since)
    return found
