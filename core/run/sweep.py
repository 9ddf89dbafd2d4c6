"""The only loop: list, decide, guard, then look again, record the intent, act and record the outcome, one by one.

Which rule judges and which act follows is the job's matter; what Leonardo's answers look like is the client's.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Protocol

from core.clock import OutOfTimeError, RunClock
from core.exit_code import ExitCode
from core.leonardo.client import LastExchange, Leonardo, Look
from core.leonardo.errors import ErrorKind, LeonardoError, LookAgainError
from core.leonardo.saved_list import SavedList
from core.leonardo.wire import Batch
from core.records import events
from core.records.events import Outcome
from core.records.writer import AuditLog, RecordNotKeptError
from core.rules.decision import Action, Decision
from core.rules.guards import Caps, Expectations, FailureStreak, Refusal, clock_refusals
from core.rules.plan import Plan
from core.run.concurrently import each
from core.run.seen_ids import SeenIds
from core.runtime import MalformedRuntime, Runtime, RuntimeStatus

MAYBE_DONE = (ErrorKind.UNAVAILABLE, ErrorKind.UNREADABLE)
"""After such an answer to an act, only the state tells whether it was carried out."""


class Judge(Protocol):
    """A rule with its policy: a pure function of a runtime and an instant."""

    def __call__(self, runtime: Runtime, instant: datetime, *, repeated: bool, second_look: bool) -> Decision: ...


class Explain(Protocol):
    """A judgement in words."""

    def __call__(self, runtime: Runtime, decision: Decision) -> str: ...


class Send(Protocol):
    """The request that carries an act out; `core.leonardo.client` says what it raises."""

    def __call__(self, project: str, name: str, last: LastExchange, *, looked_at: float) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What to do with a condemned runtime, and how to read what became of it."""

    intent: type[events.Requested]
    send: Send
    would: Outcome
    accepted: Outcome
    done: frozenset[str]
    """Statuses that show the act accepted."""
    conflict: Callable[[LeonardoError], Outcome]
    """What a 409 means."""
    hint: str = ""
    """What to say where the act is refused with 403 or 404."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How far a sweep goes: one unscoped list, or one list per project, perhaps of single runtimes only."""

    projects: Sequence[str] | None = None
    only: Collection[str] | None = None
    """`PROJECT/NAME` of the runtimes to judge."""
    saved: SavedList | None = None
    """What stands in for Leonardo's answer; then nobody is asked, and there is no second look."""

    @property
    def nothing(self) -> bool:
        """Whether there is no list to ask for: of several tasks, one may have no share."""
        return self.projects is not None and not self.projects


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a job hands to the sweep: who is condemned, why, and to what."""

    judge: Judge
    explain: Explain
    act: Act
    look_first: Callable[[Decision], bool] = lambda _: False
    """Whether the list was not enough to judge by, so that the runtime is fetched and judged again."""


async def _nobody() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a sweep may do, and how much at a time."""

    dry_run: bool
    caps: Caps
    expectations: Expectations
    readers: int
    """Runtimes or projects worked on at a time while nothing is changed."""
    actors: int
    """Runtimes worked on at a time while acting."""
    plan: Plan | None = None
    """What the run is held to: it acts on nothing else."""
    refusals: Sequence[Refusal] = ()
    """Why the run must not act, as far as that is known before it begins."""
    older_run: Callable[[], Awaitable[str | None]] = _nobody
    """Names a run that is still going and before which this one steps back."""


@dataclass(slots=True, kw_only=True)
class Case:
    """A runtime on its way through the run, condemned or still to be judged."""

    runtime: Runtime
    decision: Decision
    last: LastExchange = field(default_factory=LastExchange)
    maybe_done: bool = False
    """An act left and its answer does not tell whether it was carried out."""
    second_try: bool = False
    token_renewed: bool = False
    note: str = ""

    def judged_again(self, looked: Runtime, decision: Decision) -> None:
        if self.last.acts:  # a failed try may have detached the disk: the record tells of the one there was
            looked = looked._replace(disk=self.runtime.disk, persistent_disk_id=self.runtime.persistent_disk_id)
        self.runtime, self.decision = looked, decision


class Sweep:
    """One run over one inventory."""

    def __init__(
        self,
        *,
        leonardo: Leonardo,
        audit: AuditLog,
        clock: RunClock,
        scope: Scope,
        rule: Rule,
        bounds: Bounds,
        name_creator: bool,
        expected: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`expected` is told how many runtimes are left to treat, once the list has ended."""
        self._leonardo = leonardo
        self._audit = audit
        self._clock = clock
        self._scope = scope
        self._judge = rule.judge
        self._explain = rule.explain
        self._act = rule.act
        self._look_first = rule.look_first
        self._bounds = bounds
        self._workers = bounds.readers if bounds.dry_run else bounds.actors
        self._name_creator = name_creator
        self._expected = expected
        self._now: datetime
        self._seen = SeenIds()
        self._cases: list[Case] = []
        self._unread: list[Case] = []
        self._unsettled: list[Case] = []
        self._second_tries: list[Case] = []
        self._streak = FailureStreak()
        self._refusals: list[Refusal] = []
        self._caps_tripped: list[Refusal] = []
        self._listed = 0
        self._lists_read = 0
        self._skipped = False
        self._cut_short = False
        self._failed: list[str] = []
        self._ends: Counter[tuple[str, str, str]] = Counter()
        """How many runtimes ended in which action, reason and outcome."""

    async def run(self, started: events.RunStarted) -> ExitCode:
        """Sweep, from the first record to the closing one, judging the list by `started.now`; the exit code."""
        self._now = started.now
        self._record(started)
        with suppress(RecordNotKeptError):
            await self._audit.commit()  # that it has begun is known wherever it is followed from
        await self._step_back()
        if not self._skipped and self._audit.failure is None:
            await self._list()
        if self._lists_read:
            self._guard(self._bounds.refusals)
            self._guard(self._bounds.expectations.refusals(listed=self._listed))
            self._guard(clock_refusals(self._leonardo.clock_skew))
            self._expected(len(self._cases) + len(self._unread))
            await each(self._unread, self._bounds.readers, self._read)
            self._hold_to_plan()
            self._guard_acts()
            await self._treat()
        self._record(self._finished(self._exit_code()))
        with suppress(RecordNotKeptError):
            await self._audit.commit()
        return self._exit_code()

    async def _step_back(self) -> None:
        """Before an older run of the same job: what it does not get to, the next one will."""
        older = await self._bounds.older_run()
        if older is not None:
            self._skipped = True
            self._record(
                events.RunSkipped(
                    severity=events.Severity.NOTICE,
                    message=f"skipped: {older}, an older run of this job, is still going",
                    older_execution=older,
                )
            )

    # list -> decide

    async def _list(self) -> None:
        if self._scope.projects is None:
            await self._list_one(None)
        else:
            await each(self._scope.projects, self._bounds.readers, self._list_one)

    async def _list_one(self, project: str | None) -> None:
        """Judge one list as it streams by; its condemned are only held, and released if it does not end well."""
        held: list[Case] = []
        listed: set[str] = set()
        try:
            async with aclosing((self._scope.saved or self._leonardo).list_runtimes(project)) as batches:
                async for items in batches:
                    held += self._take(self._wanted(items, listed))
                    await self._audit.drain()
        except RecordNotKeptError:
            self._close_all(held, Outcome.NOT_ATTEMPTED)
        except OutOfTimeError:
            self._cut_short = True
            why = "a signal" if self._clock.signalled else "the deadline"
            self._unreadable(project, LeonardoError(ErrorKind.UNAVAILABLE, f"{why} came before the list had ended"))
            self._close_all(held, Outcome.NOT_ATTEMPTED)
        except LeonardoError as error:
            self._unreadable(project, error)
            self._close_all(held, Outcome.WITHHELD)
        else:
            self._lists_read += 1
            for case in held:
                (self._unread if self._look_first(case.decision) else self._cases).append(case)
            self._report_missing(project, listed)

    def _wanted(self, items: Batch, listed: set[str]) -> Batch:
        only = self._scope.only
        if only is None:
            return items
        paths = [f"{item.project}/{item.name}" for item in items]
        listed.update(paths)
        return [item for item, path in zip(items, paths, strict=True) if path in only]

    def _take(self, items: Batch) -> list[Case]:
        """Judge what arrived together: the kept are recorded, in one write, and the others returned."""
        self._listed += len(items)
        kept: list[events.RuntimeAudited] = []
        held: list[Case] = []
        for item in items:
            if isinstance(item, MalformedRuntime):
                self._failed.append(f"{item.project or '?'}/{item.name or '?'}")
                kept.append(events.malformed_audited(item, self._now))
                continue
            repeated = not self._seen.add(int(item.id))
            decision = self._judge(item, self._now, repeated=repeated, second_look=False)
            if decision.action is Action.KEEP and not self._look_first(decision):
                why = self._explain(item, decision)
                kept.append(events.runtime_audited(item, decision, Outcome.KEPT, why, name_creator=self._name_creator))
            else:
                held.append(Case(runtime=item, decision=decision))
        if kept:
            self._audited(*kept)
        return held

    def _unreadable(self, project: str | None, error: LeonardoError) -> None:
        self._failed.append(project or events.ALL_RUNTIMES)
        self._record(events.project_unreadable(project, error))

    def _report_missing(self, project: str | None, listed: set[str]) -> None:
        for path in self._scope.only or ():
            owner, _, name = path.rpartition("/")
            if owner == project and path not in listed:
                self._failed.append(path)
                self._record(
                    events.RuntimeMissing(
                        severity=events.Severity.WARNING,
                        message=f"{path} is not listed",
                        project=owner,
                        name=name,
                    )
                )

    # guard

    def _guard(self, refusals: Iterable[Refusal]) -> None:
        for refusal in refusals:
            self._refuse(refusal)

    def _hold_to_plan(self) -> None:
        plan = self._bounds.plan
        if plan is not None:
            self._close_all((case for case in self._cases if not plan.allows(case.runtime)), Outcome.NOT_IN_PLAN)
            self._cases = [case for case in self._cases if plan.allows(case.runtime)]

    def _guard_acts(self) -> None:
        tripped = list(self._bounds.caps.refusals(acts=len(self._cases), listed=self._listed))
        if self._bounds.dry_run:
            self._caps_tripped = tripped
        else:
            self._guard(tripped)

    def _refuse(self, refusal: Refusal) -> None:
        self._refusals.append(refusal)
        self._record(events.run_refused(refusal, candidates=len(self._cases), listed=self._listed))

    # look again -> record the intent -> act -> record the outcome

    async def _treat(self) -> None:
        """The most overdue first; what no answer settled is settled in a last pass, with at most one second try.

        Where a cap would refuse the live run its rehearsal stops here too; where the list was saved nobody is asked.
        """
        self._cases.sort(key=_most_overdue)
        if self._caps_tripped or self._scope.saved:
            self._close_all(self._cases, self._act.would)
        else:
            await each(self._cases, self._workers, self._attempt)
        while self._unsettled:
            by_project: defaultdict[str, list[Case]] = defaultdict(list)
            for case in self._unsettled:
                by_project[case.runtime.project].append(case)
            self._unsettled, self._second_tries = [], []
            await each(by_project.values(), self._bounds.readers, self._settle)
            await each(sorted(self._second_tries, key=_most_overdue), self._workers, self._attempt)

    def _stopped(self) -> Outcome | None:
        """What becomes of a runtime whose turn comes now, where the run does not act any more."""
        if self._refusals:
            return Outcome.WITHHELD
        if self._audit.failure is not None or not self._clock.may_act:
            return Outcome.NOT_ATTEMPTED
        return None

    async def _look(self, case: Case) -> Look | None:
        """The runtime as it is now; None where there was no answer, and the case is taken care of."""
        try:
            return await self._leonardo.get_runtime(case.runtime.project, case.runtime.name, case.last)
        except OutOfTimeError:
            self._give_up(case, Outcome.NOT_ATTEMPTED)
            return None
        except LeonardoError as error:
            if error.http_status == HTTPStatus.NOT_FOUND or case.maybe_done:
                self._unsettled.append(case)
            else:
                self._close(case, Outcome.FAILED)
            return None

    async def _read(self, case: Case) -> None:
        """Fetch what the list does not tell, and judge by it."""
        if stopped := self._stopped():
            self._give_up(case, stopped)
        elif (look := await self._look(case)) and not self._kept(case, look.runtime, Outcome.KEPT):
            self._cases.append(case)

    async def _attempt(self, case: Case) -> None:
        """Look, judge, and act while the look is fresh; as often as Leonardo asks to come back."""
        while True:
            if stopped := self._stopped():
                self._give_up(case, stopped)
                return
            look = await self._look(case)
            if look is None or self._kept(case, look.runtime, Outcome.SPARED):
                return
            if self._bounds.dry_run:
                self._close(case, self._act.would)
                with suppress(RecordNotKeptError):
                    await self._audit.drain()
                return
            if await self._acted(case, look.sent):
                return

    def _kept(self, case: Case, looked: Runtime, outcome: Outcome) -> bool:
        """Whether the look ends the case: done already, another incarnation, or nothing (more) to hold against it."""
        if case.maybe_done and (looked.id != case.runtime.id or looked.status in self._act.done):
            self._close(case, self._act.accepted)
            return True
        if looked.id != case.runtime.id:
            self._close(case, Outcome.REPLACED)
            return True
        decision = self._judge(looked, self._clock.now(), repeated=False, second_look=True)
        case.judged_again(looked, decision)
        if decision.action is Action.KEEP:
            self._close(case, outcome)
            return True
        return False

    async def _acted(self, case: Case, looked_at: float) -> bool:
        """Whether the case is through; False asks for a new look."""
        acts_before = case.last.acts
        try:
            self._audit.write(self._intent(case))
            await self._audit.commit()
            await self._act.send(case.runtime.project, case.runtime.name, case.last, looked_at=looked_at)
        except (OutOfTimeError, RecordNotKeptError):
            self._give_up(case, Outcome.NOT_ATTEMPTED)
        except LookAgainError as again:
            return self._refused_again(case, again.answer)
        except LeonardoError as error:
            self._act_failed(case, error, sent=case.last.acts > acts_before)
        else:
            self._count_answer(failed=False)
            self._close(case, self._act.accepted)
        return True

    def _intent(self, case: Case) -> events.Event:
        runtime, decision = case.runtime, case.decision
        return self._act.intent(
            severity=events.Severity.NOTICE,
            message=f"about to {decision.action} {runtime.path}: {self._explain(runtime, decision)}",
            runtime_id=runtime.id,
            project=runtime.project,
            name=runtime.name,
            action=decision.action,
            reason=decision.reason,
            age_s=events.seconds(decision.age),
            idle_s=events.seconds(decision.idle),
            attempt=case.last.acts + 1,
        )

    def _refused_again(self, case: Case, answer: LeonardoError | None) -> bool:
        """A renewed token that is refused too is a refusal; after anything else there is a new look."""
        if answer is not None and answer.kind is ErrorKind.DENIED:
            if case.token_renewed:
                self._count_answer(failed=True)
                self._close(case, Outcome.FAILED)
                return True
            case.token_renewed = True
        if answer is not None and answer.kind in MAYBE_DONE:
            case.maybe_done = True
        return False

    def _act_failed(self, case: Case, error: LeonardoError, *, sent: bool) -> None:
        if error.http_status == HTTPStatus.CONFLICT:
            self._count_answer(failed=False)
            self._close(case, self._act.conflict(error))
            return
        self._count_answer(failed=True)
        if error.http_status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            case.note = self._act.hint
        if sent and error.kind in MAYBE_DONE:
            case.maybe_done = True
            self._unsettled.append(case)
        elif sent and error.http_status == HTTPStatus.NOT_FOUND:
            self._unsettled.append(case)
        else:
            self._close(case, Outcome.FAILED)

    def _count_answer(self, *, failed: bool) -> None:
        if self._clock.signalled:  # answers that were cut off say nothing of Leonardo
            return
        if refusal := self._streak.add(failed=failed):
            self._refuse(refusal)

    # the last pass

    async def _settle(self, cases: list[Case]) -> None:
        """Read what became of one project's unsettled runtimes from its list: a 404 proves nothing."""
        found: dict[str, Runtime] = {}
        try:
            found = await self._leonardo.find_runtimes(cases[0].runtime.project, {case.runtime.id for case in cases})
        except OutOfTimeError:
            self._cut_short = True
        except LeonardoError:
            pass  # each case says for itself what it means that its state cannot be read
        for case in cases:
            self._settle_one(case, found.get(case.runtime.id))

    def _settle_one(self, case: Case, state: Runtime | None) -> None:
        if not case.maybe_done:
            gone = state is not None and state.status == RuntimeStatus.DELETED
            self._close(case, Outcome.GONE if gone else Outcome.FAILED)
        elif state is None:
            self._close(case, Outcome.IN_DOUBT)
        elif state.status in self._act.done:
            self._close(case, self._act.accepted)
        else:
            disk = case.runtime.persistent_disk_id
            if disk is not None and state.persistent_disk_id is None:
                case.note = f"the failed try has detached its disk {disk}, which is kept"
            if case.second_try:
                self._close(case, Outcome.FAILED)
            else:
                case.second_try = True
                self._second_tries.append(case)

    # record

    def _give_up(self, case: Case, outcome: Outcome) -> None:
        """The run does not get to this runtime any more; what an earlier try of an act has led to stands."""
        if outcome is Outcome.NOT_ATTEMPTED and self._audit.failure is None:
            self._cut_short = True
        if case.second_try:
            outcome = Outcome.FAILED
        elif case.maybe_done:
            outcome = Outcome.IN_DOUBT
        self._close(case, outcome)

    def _close_all(self, cases: Iterable[Case], outcome: Outcome) -> None:
        for case in cases:
            self._close(case, outcome)

    def _close(self, case: Case, outcome: Outcome) -> None:
        """The one record in which a judged runtime ends."""
        if outcome in (Outcome.FAILED, Outcome.IN_DOUBT):
            self._failed.append(case.runtime.path)
        explanation = self._explain(case.runtime, case.decision)
        self._audited(
            events.runtime_audited(
                case.runtime,
                case.decision,
                outcome,
                f"{explanation}; {case.note}" if case.note else explanation,
                name_creator=self._name_creator,
                exchanged=events.Exchanged(
                    http_status=case.last.http_status,
                    error=None if case.last.error is None else events.error_detail(case.last.error),
                    attempts=case.last.acts,
                    trace_id=case.last.trace_id,
                ),
            )
        )

    def _audited(self, *records: events.RuntimeAudited) -> None:
        self._ends.update((record.action, record.reason, record.outcome) for record in records)
        self._record(*records)

    def _record(self, *records: events.Event) -> None:
        """Write where it can be written still; the audit log remembers a loss, and `_stopped` asks it."""
        with suppress(RecordNotKeptError):
            self._audit.write(*records)

    def _exit_code(self) -> ExitCode:
        unread = not (self._lists_read or self._skipped or self._scope.nothing)
        if self._audit.failure is not None:
            return ExitCode.UNRECORDED
        if self._cut_short and (self._clock.signalled or not unread):
            return ExitCode.STOPPED
        if unread:
            return ExitCode.UNREADABLE
        if self._refusals:
            return ExitCode.REFUSED
        return ExitCode.FAILED if self._failed else ExitCode.DONE

    def _finished(self, exit_code: ExitCode) -> events.RunFinished:
        actions, reasons, outcomes = (Counter[str]() for _ in range(3))
        for (action, reason, outcome), count in self._ends.items():
            actions[action] += count
            reasons[reason] += count
            outcomes[outcome] += count
        return events.RunFinished(
            severity=events.Severity.NOTICE,
            message=f"finished with exit code {exit_code}: {self._listed} listed, {_counts(outcomes)}",
            listed=self._listed,
            audited=self._ends.total(),
            actions=dict(actions),
            reasons=dict(reasons),
            outcomes=dict(outcomes),
            failed=self._failed[: events.MOST_NAMES],
            calls=dict(self._leonardo.calls),
            duration_s=round(self._clock.elapsed(), 3),
            exit_code=exit_code,
            refused_by=list(dict.fromkeys(refusal.guard for refusal in self._refusals)),
            would_be_refused_by=[refusal.guard for refusal in self._caps_tripped],
            clock_skew_s=events.seconds(self._leonardo.clock_skew),
        )


def _most_overdue(case: Case) -> tuple[datetime, str]:
    due_at = case.decision.due_at or case.decision.judged_at - (case.decision.overdue or timedelta(0))
    return due_at, case.runtime.path


def _counts(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or "none judged"
