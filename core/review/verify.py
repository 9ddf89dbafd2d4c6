"""Whether a log is whole and honest: nothing missing, nothing that its own numbers refute; pure, and draws nothing."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Literal

import msgspec

from core.exit_code import ExitCode
from core.records.events import ALL_RUNTIMES, MOST_NAMES
from core.records.outcome import ANSWERED, FAILED, NEEDS_A_PERSON, Outcome
from core.records.reader import Fault, Record
from core.review.rejudge import (
    DELETION_JOB,
    Rules,
    digest_of,
    malformed_faults,
    rules_of,
)
from core.rules.decision import CLOCK_TOLERANCE, Action, Reason
from core.rules.guards import Guard
from core.rules.policy import PolicyNotRecordedError
from core.rules.words import counted
from core.runtime import GCP

State = Literal["finished", "open", "cut_off"]
DEADLINE = timedelta(minutes=45)
"""The deadline of a run that did not write its own down: the default."""
LONGEST_DEADLINE = timedelta(hours=24)
"""The most that the setting takes: no run is waited for any longer, whatever it says."""
SETTLED_AFTER = timedelta(minutes=10)
"""How long after its deadline a run without a closing record counts as still going: logs arrive late."""
MOST_MISSING = 1_000_000
"""A `seq` so far ahead is a wrong number rather than that many missing records."""
FEW = 10
ACTIONS = {Outcome.DELETION_ACCEPTED: Action.DELETE, Outcome.STOP_ACCEPTED: Action.STOP}
WOULD = {Outcome.WOULD_DELETE: Action.DELETE, Outcome.WOULD_STOP: Action.STOP}
LEFT_ALONE = frozenset({Outcome.KEPT, Outcome.SPARED})
INTENTS = {"deletion_requested": Action.DELETE, "stop_requested": Action.STOP}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of one run's records."""

    run_id: str
    job: str
    environment: str
    started_at: datetime | None
    state: State
    records: int
    listed: int
    acts: int
    faults: list[str]
    in_doubt: list[str]
    """`PROJECT/NAME (id)` of the runtimes whose act was announced and has no outcome."""

    @property
    def ok(self) -> bool:
        return not self.faults


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Whether anything is off, run by run and in the files themselves."""

    ok: bool
    records: int
    repeated: int
    foreign: int
    runs: list[Verdict]
    faults: list[Fault]
    torn: list[Fault]


def verify(records: Iterable[Record], now: datetime) -> list[Verdict]:
    """One verdict for each run of which there is a record, in the order of time.

    `records` hold each run's `run_started` before its others, as `core.records.reader` gives them; `now` tells a run
    that is still going from one that was cut off.
    """
    runs: dict[str, _Run] = {}
    for record in records:
        run = runs.get(record.run_id)
        if run is None:
            run = runs[record.run_id] = _Run(record)
        run.add(record)
    verdicts = [run.verdict(now) for run in runs.values()]
    return sorted(verdicts, key=lambda v: (v.started_at is None, v.started_at or now, v.run_id))


def state_of(started: Record | None, *, finished: bool, now: datetime) -> State:
    """How a run stands at `now`."""
    if finished:
        return "finished"
    if started is None or started.time is None:
        return "cut_off"
    return "open" if -CLOCK_TOLERANCE <= now - started.time < _deadline(started) + SETTLED_AFTER else "cut_off"


def _deadline(started: Record) -> timedelta:
    try:
        return min(timedelta(seconds=float(started.limits["deadline_s"])), LONGEST_DEADLINE)
    except OverflowError:
        return LONGEST_DEADLINE
    except (KeyError, ValueError):
        return DEADLINE


class _Run:
    """One run: what its tasks have in common."""

    def __init__(self, first: Record) -> None:
        self._first = first
        self._rules: Rules | None = None
        self._started: Record | None = None
        self._tasks: dict[int, _Task] = {}
        self._faults: list[str] = []

    def add(self, record: Record) -> None:
        if record.event == "run_started":
            self._open(record)
        first = self._first
        if (record.job, record.environment, record.dry_run, record.task_count) != (
            first.job,
            first.environment,
            first.dry_run,
            first.task_count,
        ):
            self._faults.append(f"{_where(record)} differs from the others in job, environment, dry_run or task_count")
        task = self._tasks.get(record.task_index)
        if task is None:
            task = self._tasks[record.task_index] = _Task(self._started, self._rules)
        task.add(record)

    def _open(self, record: Record) -> None:
        whole = "exemptions" not in (record.truncated or ())
        if whole and record.policy_digest is not None and digest_of(record) != record.policy_digest:
            self._faults.append(f"{_where(record)} has a policy or exemptions that its digest does not belong to")
        if self._started is not None:
            if self._started.policy_digest != record.policy_digest:
                self._faults.append(f"{_where(record)} has another policy than the other tasks")
            return
        self._started = record
        try:
            self._rules = rules_of(record)
        except PolicyNotRecordedError as error:
            self._faults.append(f"no decision can be judged again: {error}")

    def verdict(self, now: datetime) -> Verdict:
        first = self._first
        absent = [n for n in range(min(first.task_count, MOST_NAMES)) if n not in self._tasks]
        finished = not absent and all(task.finished for task in self._tasks.values())
        state = state_of(self._started, finished=finished, now=now)
        faults = list(self._faults)
        in_doubt: list[str] = []
        if absent and state != "open":
            faults.append(f"there is no record of task {_numbers(absent)} of {first.task_count}")
        for index, task in sorted(self._tasks.items()):
            name = f"task {index}: " if first.task_count > 1 else ""
            faults += [name + fault for fault in task.all_faults(still_open=state == "open")]
            in_doubt += task.without_outcome()  # a run that is open may have been killed: the log alone cannot tell
        return Verdict(
            run_id=first.run_id,
            job=first.job,
            environment=first.environment,
            started_at=None if self._started is None else self._started.time,
            state=state,
            records=sum(task.records for task in self._tasks.values()),
            listed=sum(task.audited for task in self._tasks.values()),
            acts=sum(task.acts for task in self._tasks.values()),
            faults=faults,
            in_doubt=in_doubt,
        )


class _End(msgspec.Struct, gc=False):
    """What a live run says became of a runtime."""

    path: str
    seq: int
    outcome: str
    attempts: int


class _Task:
    """One task of a run: records with a `seq` of their own."""

    def __init__(self, started: Record | None, rules: Rules | None) -> None:
        self._rules = rules
        self._run_started = started
        self._opened = False
        self._closing: Record | None = None
        self._closings: list[Record] = []
        """They come before the records that they close: their numbers are looked at last."""
        self._faults: list[str] = []
        self._next = 0
        self._missing: set[int] = set()
        self.records = 0
        self.audited = 0
        self.acts = 0
        self._attempts = 0
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._confirmations: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._guards: set[str] = set()
        self._unreadable = 0
        self._skipped = False
        self._judged_ids: set[str] = set()
        self._foreign_ids: set[str] = set()
        self._duplicates: list[Record] = []
        self._intents: dict[str, list[Record]] = {}
        self._ends: dict[str, list[_End]] = {}

    @property
    def finished(self) -> bool:
        return self._closing is not None

    def add(self, record: Record) -> None:
        self.records += 1
        self._count_seq(record)
        match record.event:
            case "runtime_audited":
                self._add_audited(record)
            case "deletion_requested" | "stop_requested":
                self._add_intent(record)
            case "deletion_confirmed":
                self._add_confirmation(record)
            case "run_started":
                self._opened = True
                if record.seq != 0:
                    self._fault(record, "is not the first record")
            case "run_finished":
                self._closing = record
            case "run_refused" | "run_skipped":
                self._add_refusal(record)
            case "project_unreadable" | "runtime_missing":
                self._add_failure(record)
            case _:
                pass

    def _add_failure(self, record: Record) -> None:
        unread = record.event == "project_unreadable"
        self._unreadable += unread
        self._failed[(record.project or ALL_RUNTIMES) if unread else record.path] += 1

    def _add_refusal(self, record: Record) -> None:
        if record.event == "run_skipped":
            self._skipped = True
        else:
            self._guards.add(record.guard or "")

    def _add_confirmation(self, record: Record) -> None:
        self._confirmations[record.outcome] += 1
        if record.outcome in NEEDS_A_PERSON:
            self._failed[record.path] += 1

    def _fault(self, record: Record, what: str) -> None:
        self._faults.append(f"{_where(record)} {what}")

    def _count_seq(self, record: Record, *, at_last: bool = False) -> None:
        seq = record.seq
        if record.event == "run_finished" and not at_last:
            self._closings.append(record)
        elif seq == self._next:
            self._next += 1
        elif seq in self._missing:
            self._missing.remove(seq)
        elif self._next < seq < self._next + MOST_MISSING:
            self._missing.update(range(self._next, seq))
            self._next = seq + 1
        else:
            self._fault(record, "has a seq that no record can have here")

    # what was decided

    def _add_audited(self, record: Record) -> None:
        self.audited += 1
        self._decisions[record.action, record.reason, record.outcome] += 1
        self._attempts += record.attempts
        if record.reason == Reason.MALFORMED:
            self._failed[record.path] += 1
            self._faults += [f"{_where(record)} {fault}" for fault in malformed_faults(record)]
            return
        if record.reason == Reason.FOREIGN_PROJECT:  # it was not judged, and is of no project that was asked for
            self._failed[record.path] += 1
            if (record.action, record.outcome) != (Action.KEEP, Outcome.KEPT):
                self._fault(record, "is of another project than was asked, but was judged")
            return
        self._count_id(record)
        if record.outcome != Outcome.KEPT:
            self._add_end(record)
        self._faults += [f"{_where(record)} {fault}" for fault in self._faults_of(record)]

    def _count_id(self, record: Record) -> None:
        runtime_id = record.runtime_id or ""
        if record.reason == Reason.DUPLICATE:
            self._duplicates.append(record)
        elif record.cloud_provider != GCP:
            self._foreign_ids.add(runtime_id)
        elif runtime_id in self._judged_ids:
            self._fault(record, f"is a second decision about id {runtime_id}, and no duplicate")
        else:
            self._judged_ids.add(runtime_id)

    def _add_end(self, record: Record) -> None:
        if record.outcome in FAILED:
            self._failed[record.path] += 1
        if record.outcome in ANSWERED:
            self.acts += 1
        if not record.dry_run:
            end = _End(record.path, record.seq, record.outcome, record.attempts)
            self._ends.setdefault(record.runtime_id or "", []).append(end)

    def _faults_of(self, record: Record) -> Iterator[str]:
        if _impossible(record.dry_run, record.action, record.reason, record.outcome, acted=record.attempts > 0):
            how = "a dry run" if record.dry_run else "a live run"
            yield f"says {record.action} ({record.reason}), which in {how} cannot end in {record.outcome or 'nothing'}"
        started = self._run_started
        if started is None or self._rules is None:
            return
        if record.judged_at is None:
            yield "lacks judged_at"
            return
        yield from self._rules.faults(record, record.judged_at, started.now)
        yield from _faults_of_scope(record, started)
        if record.job == DELETION_JOB and record.outcome == Outcome.KEPT and record.judged_at != started.now:
            yield "was kept, but not judged at the instant of the list"
        if record.time is not None and record.judged_at - record.time > CLOCK_TOLERANCE and not _pinned(started):
            yield "was judged after it was written"

    # what was done

    def _add_intent(self, record: Record) -> None:
        self._intents.setdefault(record.runtime_id or "", []).append(record)
        if record.dry_run:
            self._fault(record, "announces an act in a dry run")
        if record.action != INTENTS[record.event]:
            self._fault(record, f"announces a {record.action or 'nothing'} as {record.event}")
        if self._rules is not None:
            self._faults += [f"{_where(record)} {fault}" for fault in self._rules.intent_faults(record)]

    def without_outcome(self) -> list[str]:
        """The runtimes whose act was announced and has no outcome."""
        return [
            f"{intents[0].path} ({runtime_id})"
            for runtime_id, intents in self._intents.items()
            if runtime_id not in self._ends
        ]

    def all_faults(self, *, still_open: bool) -> Iterator[str]:
        """What is off, asked once; an open run is not held to what it has not come to."""
        while self._closings:
            self._count_seq(self._closings.pop(), at_last=True)
        yield from self._faults
        if not self._opened:
            yield "run_started is missing"
        if self._missing:
            yield f"{counted(len(self._missing), 'record')} missing: seq {_numbers(sorted(self._missing))}"
        for record in self._duplicates:
            if (
                record.runtime_id not in self._judged_ids
                and record.runtime_id not in self._foreign_ids
                and not still_open
            ):
                yield f"{_where(record)} is a duplicate of no other record"
        yield from self._faults_of_acts()
        if self._closing is not None:
            yield from self._faults_of_closing(self._closing)
            for whom in self.without_outcome():
                yield f"{whom}: an act was announced and has no outcome"
        elif not still_open:
            yield "run_finished is missing: the run was cut off, or its last records were removed"

    def _faults_of_acts(self) -> Iterator[str]:
        for runtime_id, ends in self._ends.items():
            intents = self._intents.get(runtime_id, [])
            for end in ends:
                where = f"seq {end.seq} ({end.path})"
                announced = {intent.attempt for intent in intents if intent.seq < end.seq}
                sent = max(end.attempts, 1 if end.outcome in ANSWERED else 0)
                lacking = [n for n in range(1, min(sent, MOST_NAMES) + 1) if n not in announced]
                if lacking:
                    yield f"{where} is the outcome {end.outcome} of an act that no record announced before it"
                if any(intent.path != end.path for intent in intents):
                    yield f"{where} has another name than the act that was announced for its id"
        for runtime_id, intents in self._intents.items():
            known = self._ends.get(runtime_id)
            if known and max(intent.seq for intent in intents) > max(end.seq for end in known):
                yield f"{_where(intents[-1])} announces an act behind its outcome"

    def _faults_of_closing(self, closing: Record) -> Iterator[str]:
        if closing.seq != self._next - 1:
            yield f"{_where(closing)} is not the last record"
        if closing.listed is None and not self.audited:
            return
        if not closing.listed == closing.audited == self.audited:
            yield (
                f"run_finished says {closing.listed} listed and {closing.audited} audited,"
                f" there are {self.audited} runtime_audited"
            )
        actions, reasons, outcomes = Counter[str](), Counter[str](), self._confirmations.copy()
        for (action, reason, outcome), count in self._decisions.items():
            actions[action] += count
            reasons[reason] += count
            outcomes[outcome] += count
        for name, said, found in (
            ("actions", closing.actions, actions),
            ("reasons", closing.reasons, reasons),
            ("outcomes", closing.outcomes, outcomes),
        ):
            if said is not None and said != found:
                yield f"run_finished counts {name} {_shown(said)}, the records give {_shown(found)}"
        yield from self._faults_of_names(closing)
        yield from self._faults_of_exit_code(closing)

    def _faults_of_names(self, closing: Record) -> Iterator[str]:
        if closing.failed is not None:
            said = Counter(closing.failed)
            missing = self._failed - said if self._failed.total() <= MOST_NAMES else Counter[str]()
            cut = "failed" in (closing.truncated or ()) or any("…" in name for name in (*said, *self._failed))
            if not cut and ((said - self._failed) or missing):
                yield f"run_finished names as failed {_shown(said)}, the records give {_shown(self._failed)}"
        if closing.refused_by is not None and set(closing.refused_by) != self._guards:
            yield f"run_finished says it was refused by {closing.refused_by}, the records by {sorted(self._guards)}"
        skewed = abs(closing.clock_skew_s or 0) > CLOCK_TOLERANCE.total_seconds()
        if (Guard.CLOCK_SKEW in self._guards and not skewed) or (skewed and self._attempts):
            yield f"run_finished says a clock skew of {closing.clock_skew_s} s, which is not how the run went"
        sent = (closing.calls or {}).get("delete", 0) + (closing.calls or {}).get("stop", 0)
        if closing.calls is not None and sent != self._attempts:
            yield f"run_finished says {counted(sent, 'act')} sent, the records give {self._attempts}"

    def _faults_of_exit_code(self, closing: Record) -> Iterator[str]:
        shown: dict[int | None, bool] = {
            ExitCode.DONE: not self._failed and not self._guards,
            ExitCode.FAILED: bool(self._failed) and not self._guards,
            ExitCode.REFUSED: bool(self._guards),
            ExitCode.UNREADABLE: bool(self._unreadable),
        }
        if not shown.get(closing.exit_code, True):
            yield f"run_finished says exit code {closing.exit_code}, which is not what the records show"
        if self._skipped and (self.audited or self._intents):
            yield "run_skipped says that nothing was listed, and there are decisions"


@lru_cache(maxsize=1024)
def _impossible(dry_run: bool, action: str, reason: str, outcome: str, *, acted: bool) -> bool:  # noqa: FBT001 - cached by place
    """Whether what was decided, and how the run was meant, cannot have led to this outcome."""
    return (
        (dry_run and (acted or outcome in ANSWERED or outcome == Outcome.IN_DOUBT))
        or (not dry_run and outcome in WOULD)
        or (outcome in LEFT_ALONE and action != Action.KEEP)
        or (outcome == Outcome.KEPT and acted)
        or (outcome in WOULD and action != WOULD[Outcome(outcome)])
        or (outcome in ACTIONS and action != ACTIONS[Outcome(outcome)])
        or (
            action == Action.KEEP
            and outcome not in (*LEFT_ALONE, Outcome.REPLACED)
            and reason != Reason.THRESHOLD_UNREAD
        )
    )


def _pinned(started: Record) -> bool:
    """Whether the run judged as if it were another instant."""
    return started.scope is not None and started.scope.as_of is not None


def _faults_of_scope(record: Record, started: Record) -> Iterator[str]:
    """Whether the run was to look at this runtime at all, as far as its first record names what it was to look at."""
    scope = started.scope
    if scope is None:
        return
    all_named = scope.projects is not None and (scope.project_count or 0) <= MOST_NAMES
    if (scope.only is not None and len(scope.only) < MOST_NAMES and record.path not in scope.only) or (
        all_named and record.project not in (scope.projects or ())
    ):
        yield "is outside the scope of its run"


def _where(record: Record) -> str:
    return f"seq {record.seq} ({record.path if record.name else record.event})"


def _numbers(numbers: Collection[int]) -> str:
    shown = ", ".join(str(number) for number in islice(numbers, FEW))
    return f"{shown} and {len(numbers) - FEW} more" if len(numbers) > FEW else shown


def _shown(counts: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
