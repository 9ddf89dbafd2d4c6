"""Follows an execution on Cloud Run to its end, by its records in Cloud Logging; starting one is the job's matter."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import chain, repeat

import msgspec

from core.google.executions import CloudRunJob, State
from core.google.log_entries import CloudLogEntries
from core.google.log_entry import to_record
from core.records.events import Common, Event, RunFinished, record_of
from core.records.selection import Match

WAITS = (0.5, 1.0, 2.0)
EVERY = 3.0
"""Seconds between two looks, after the first `WAITS`: 20 reads a minute of the 60 that the whole project has."""
OUT_OF_ORDER = timedelta(seconds=60)
"""How much of the log is read again each time: entries do not become visible in the order of their time."""
LAST_ENTRIES = 30.0
"""Seconds that are waited for the last entries when the execution has ended."""


class Following:
    """One execution that is looked at again and again; an interruption loses nothing."""

    def __init__(
        self,
        job: CloudRunJob,
        execution: str,
        log: CloudLogEntries,
        since: datetime,
        seen: Callable[[Event, Common], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seen` gets each record once; `since` is an instant before the first one."""
        self._job = job
        self._execution = execution
        self._log = log
        self._newest = since
        self._seen = seen
        self._sleep = sleep
        self._monotonic = monotonic
        self._known: set[str] = set()
        self._records: Counter[int] = Counter()
        self._closings: dict[int, tuple[int, RunFinished]] = {}

    @property
    def finished(self) -> list[RunFinished]:
        """The closing records of its tasks, as far as they came."""
        return [closing for _, closing in self._closings.values()]

    @property
    def missing(self) -> int:
        """How many records did not come, by the numbers of those that close its tasks."""
        return sum(seq + 1 - self._records[task] for task, (seq, _) in self._closings.items())

    def to_the_end(self) -> State:
        """Return when it has ended and its records are there, or do not come. Raises GoogleError."""
        ended_at: float | None = None
        for wait in chain(WAITS, repeat(EVERY)):
            state = self._job.state(self._execution)
            self._read()
            if not state.running:
                ended_at = self._monotonic() if ended_at is None else ended_at
                if self._whole(state) or self._monotonic() - ended_at > LAST_ENTRIES:
                    return state
            self._sleep(wait)
        raise AssertionError("waits do not end")  # pragma: no cover

    def _whole(self, state: State) -> bool:
        """Whether every record is there that its tasks have counted."""
        return len(self._closings) >= state.tasks and not self.missing

    def _read(self) -> None:
        since = self._newest - OUT_OF_ORDER
        lines = self._log.lines((Match(run_ids=(self._execution,)),), since=since)
        records = (record_of(to_record(msgspec.json.decode(line.text))) for line in lines)
        new = {common.insert_id: (event, common) for event, common in records if common.insert_id not in self._known}
        self._known.update(new)
        for event, common in sorted(new.values(), key=_written):
            self._newest = max(self._newest, common.time)
            self._records[common.task_index] += 1
            if isinstance(event, RunFinished):
                self._closings[common.task_index] = common.seq, event
            self._seen(event, common)


def _written(record: tuple[Event, Common]) -> tuple[datetime, int, int]:
    """Cloud Logging orders entries of one instant by their ids as text, the tenth before the second."""
    _, common = record
    return common.time, common.task_index, common.seq
