"""Whether the tasks of one run agree, and how the run stands; what is asked of one task alone lives in `task`."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from core.exit_code import ExitCode
from core.records.events import MOST_NAMES
from core.records.reader import Record, ScopeDetail
from core.rules.decision import CLOCK_TOLERANCE, to_millisecond
from core.rules.policy import PolicyNotRecordedError
from core.verify.finding import Finding, Kind, found
from core.verify.rejudge import POLICIES, Rules, digest_of, rules_of
from core.verify.task import Task, numbers
from core.verify.verdict import LONGEST_DEADLINE, Verdict, state_of

SAME_IN_ALL_TASKS = ("version", "policy_digest", "limits", "scope", "plan", "started_by", "approved_by")


class Run:
    """One run: its tasks, and what they have in common."""

    def __init__(self, first: Record) -> None:
        self._first = first
        self._common = first.job, first.environment, first.dry_run, first.task_count
        self._rules: Rules | None = None
        self.started: Record | None = None
        self.tasks: dict[int, Task] = {}
        self._findings: list[Finding] = []

    def add(self, record: Record) -> None:
        if record.event == "run_started":
            self._open(record)
        self._compare(record)
        task = self.tasks.get(record.task_index)
        if task is None:
            started = record if record.event == "run_started" else self.started
            task = self.tasks[record.task_index] = Task(record, started, self._rules)
        task.add(record)

    def _compare(self, record: Record) -> None:
        if (record.job, record.environment, record.dry_run, record.task_count) != self._common:
            self._found(Kind.IDENTITY, record, "differs from the others in job, environment, dry_run or task_count")
        elif not 0 <= record.task_index < record.task_count:
            self._found(Kind.IDENTITY, record, f"is of task {record.task_index} of {record.task_count}")

    def _found(self, kind: Kind, record: Record, what: str) -> None:
        self._findings.append(found(kind, record, what))

    def _open(self, record: Record) -> None:
        whole = "exemptions" not in (record.truncated or ())
        if whole and record.policy_digest is not None and digest_of(record) != record.policy_digest:
            self._found(Kind.POLICY, record, "has a policy or exemptions that its digest does not belong to")
        if self.started is not None:
            for name in SAME_IN_ALL_TASKS:
                if getattr(self.started, name) != getattr(record, name):
                    what = "another policy" if name == "policy_digest" else f"another {name}"
                    self._found(Kind.TASKS, record, f"has {what} than the other tasks")
            return
        self.started = record
        try:
            self._rules = rules_of(record)
        except PolicyNotRecordedError as error:
            self._found(Kind.POLICY, record, f"no decision can be judged again: {error}")

    def verdict(self, now: datetime) -> Verdict:
        """How the run stands at `now`, and what is off, not yet put under its causes."""
        first = self._first
        absent = [n for n in range(min(first.task_count, MOST_NAMES)) if n not in self.tasks]
        finished = not absent and all(task.closing is not None for task in self.tasks.values())
        state = state_of(self.started, finished=finished, now=now)
        in_doubt: list[str] = []
        for _, task in sorted(self.tasks.items()):
            self._findings += task.findings(still_open=state == "open")
            # a run that is open may have been killed: the log alone cannot tell
            in_doubt += [f"{intent.path} ({intent.runtime_id})" for intent in task.without_outcome()]
        if absent and state != "open":
            self._of_run(Kind.MISSING_TASK, f"there is no record of task {numbers(absent)} of {first.task_count}")
        for task in self.tasks.values():
            if task.started is not None:
                self._check_opening(task.started, now)
        if finished:
            for fault in self._list_faults():
                self._of_run(Kind.LISTS, fault)
        return Verdict(
            run_id=first.run_id,
            job=first.job,
            environment=first.environment,
            started_at=None if self.started is None else self.started.time,
            state=state,
            records=sum(task.records for task in self.tasks.values()),
            listed=sum(task.tally.audited for task in self.tasks.values()),
            acts=sum(task.tally.answered for task in self.tasks.values()),
            findings=self._findings,
            in_doubt=in_doubt,
        )

    def _of_run(self, kind: Kind, message: str) -> None:
        of = self._first.run_id
        self._findings.append(Finding(kind=kind, run_id=of, task_index=None, seq=None, runtime=None, message=message))

    def _check_opening(self, started: Record, now: datetime) -> None:
        as_of = None if started.scope is None else started.scope.as_of
        if started.time is not None and started.time - now > CLOCK_TOLERANCE:
            self._found(Kind.TIME, started, "begins in the future")
        if as_of is not None and started.now is not None and to_millisecond(as_of) != started.now:
            self._found(Kind.INSTANT, started, f"judges as of {started.now}, and was asked for {as_of}")
        elif as_of is None and _apart(started.time, started.now):
            self._found(Kind.INSTANT, started, f"judges as of {started.now}, and says so at {started.time}")
        if started.scope is not None and started.scope.projects is None and started.scope.project_count is not None:
            self._found(Kind.SCOPE, started, "counts projects, and names none")
        judged = started.now
        if judged is not None and any(of.lapsed != (of.until <= judged) for of in started.exemptions):
            self._found(
                Kind.EXEMPTIONS, started, "says of an exemption that it has lapsed, or not, and its end denies it"
            )
        longest = LONGEST_DEADLINE / timedelta(seconds=1)
        deadline = started.limits.get("deadline_s", 0)
        if not isinstance(deadline, str) and deadline > longest:
            self._found(Kind.LIMITS, started, f"has a deadline of {deadline} s, more than can be set")

    def _list_faults(self) -> Iterator[str]:
        """Whether as many lists were asked for as there are projects, of those that were named."""
        scope = self.started.scope if self.started is not None else None
        closings = [task.closing for task in self.tasks.values() if task.closing is not None]
        lists = [closing.lists for closing in closings if closing.lists is not None]
        partly = any(task.tally.skipped for task in self.tasks.values()) or any(
            c.exit_code == ExitCode.UNRECORDED for c in closings
        )
        if scope is None or len(lists) < len(closings) or partly or self._first.job not in POLICIES:
            return
        asked = _lists_asked(scope)
        done = sum(of.read + of.unread for of in lists)
        if asked is not None and asked != done:
            yield f"{done} lists were asked for, and the scope has {asked}"


def _apart(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and abs(one - other) > CLOCK_TOLERANCE


def _lists_asked(scope: ScopeDetail) -> int | None:
    if scope.only is not None:
        return None if len(scope.only) >= MOST_NAMES else len({path.rpartition("/")[0] for path in scope.only})
    if scope.projects is None:
        return 1
    return len(scope.projects) if scope.project_count is None else scope.project_count
