"""One run over one inventory: list, decide, guard, and treat the condemned in order, one by one.

How a single one is treated lives in `treatment`, what the run comes to in `account`; which rule judges is the job's.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from core.clock import OutOfTimeError
from core.exit_code import ExitCode
from core.leonardo.errors import ErrorKind, LeonardoError
from core.leonardo.wire import Batch
from core.records import events
from core.records.events import FailedBefore
from core.records.outcome import OUTCOMES, Outcome
from core.records.writer import RecordNotKeptError
from core.rules.decision import Action, Decision, Reason
from core.rules.evidence import Evidence, too_many_unlisted
from core.rules.guards import Caps, Expectations, Inventory, Refusal, clock_refusals
from core.rules.plan import Plan
from core.rules.policy import RuntimePolicy
from core.run.account import Account
from core.run.concurrently import each
from core.run.evidence import needs_disks, see_disks, see_runtimes
from core.run.running import Running
from core.run.seen_ids import SeenIds
from core.run.treatment import Case, Treatment
from core.runtime import MalformedRuntime, Runtime, RuntimeStatus


class Lists(Protocol):
    """Where runtimes come from: Leonardo, or a list that somebody saved."""

    def list_runtimes(self, project: str | None = None) -> AsyncGenerator[Batch, None]:
        """Every runtime of one project or of all, as received. Raises LeonardoError, OutOfTimeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How far a sweep goes: one unscoped list, or one list per project, perhaps of single runtimes only."""

    projects: Sequence[str] | None = None
    only: Collection[str] | None = None
    """`PROJECT/NAME` of the runtimes to judge."""
    saved: Lists | None = None
    """What is listed instead of asking Leonardo."""


async def _nobody() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a sweep may do, and how much at a time."""

    dry_run: bool
    looks: bool = True
    """Whether the condemned are looked at again; nobody can be asked about a saved list."""
    caps: Caps
    expectations: Expectations
    readers: int
    """Runtimes or projects worked on at a time while nothing is changed."""
    actors: int
    """Runtimes worked on at a time while acting."""
    plan: Plan | None = None
    """What the run is held to: it acts on nothing else."""
    excepted: Collection[str] = ()
    """`PROJECT/NAME` of what is not acted on this time."""
    at_most: int | None = None
    """So many are acted on, the most overdue first."""
    refusals: Sequence[Refusal] = ()
    """Why the run must not act, as far as that is known before it begins."""
    failed_before: Mapping[str, FailedBefore] = field(default_factory=dict)
    """By `PROJECT/NAME`, from live runs of the last days: their turn comes last."""
    accepted_last: datetime | None = None
    """When an act was accepted last in these runs."""
    older_run: Callable[[], Awaitable[str | None]] = _nobody
    """Names a run that is still going and before which this one steps back."""


class Sweep:
    """One run over one inventory."""

    def __init__(
        self,
        running: Running,
        account: Account,
        treatment: Treatment,
        *,
        scope: Scope,
        policy: RuntimePolicy,
        bounds: Bounds,
    ) -> None:
        self._running = running
        self._account = account
        self._treatment = treatment
        self._scope = scope
        self._policy = policy
        self._bounds = bounds
        self._name_creator = running.settings.audit_creator == "plain"
        self._seen = SeenIds()
        self._not_deleting = 0

    async def run(self, started: events.RunStarted) -> ExitCode:
        """Sweep, from the first record to the closing one, judging the list by `started.now`; the exit code."""
        await self._account.open(started)
        older = await self._bounds.older_run()
        if older is not None:
            self._account.skipped(older)
        elif self._running.audit.failure is None:
            held = await self._list(started.now)
            if self._account.lists["read"]:
                await self._guard_and_treat(held)
        return await self._account.close()

    # list -> decide

    async def _list(self, now: datetime) -> list[Case]:
        """Judge every list; the condemned, and those whose list was not enough to judge by."""
        held: list[Case] = []

        async def list_one(project: str | None) -> None:
            held.extend(await self._list_one(project, now))

        if self._scope.projects is None:
            await list_one(None)
        else:
            await each(self._scope.projects, self._bounds.readers, list_one)
        return held

    async def _list_one(self, project: str | None, now: datetime) -> list[Case]:
        """Judge one list as it streams by; its condemned are only held, and released if it does not end well."""
        held: list[Case] = []
        listed: set[str] = set()
        try:
            async with aclosing((self._scope.saved or self._running.leonardo).list_runtimes(project)) as batches:
                async for items in batches:
                    held += self._take(self._wanted(items, listed), project, now)
                    await self._running.audit.drain()
        except RecordNotKeptError:
            return self._release(held, Outcome.NOT_ATTEMPTED)
        except OutOfTimeError:
            self._account.list_cut_off(project)
            return self._release(held, Outcome.NOT_ATTEMPTED)
        except LeonardoError as error:
            self._account.list_unread(project, error)
            return self._release(held, Outcome.WITHHELD)
        self._account.list_read()
        self._report_missing(project, listed)
        return held

    def _release(self, held: list[Case], outcome: Outcome) -> list[Case]:
        for case in held:
            self._close(case, outcome)
        return []

    def _wanted(self, items: Batch, listed: set[str]) -> Batch:
        only = self._scope.only
        if only is None:
            return items
        paths = [f"{item.project}/{item.name}" for item in items]
        listed.update(paths)
        return [item for item, path in zip(items, paths, strict=True) if path in only]

    def _take(self, items: Batch, project: str | None, now: datetime) -> list[Case]:
        """Judge what arrived together: the kept are recorded, in one write, and the others returned."""
        self._account.listed += len(items)
        kept: list[events.RuntimeAudited] = []
        held: list[Case] = []
        for item in items:
            if isinstance(item, MalformedRuntime):
                self._account.malformed(item)
                kept.append(events.malformed_audited(item, now))
                continue
            self._not_deleting += item.status != RuntimeStatus.DELETING
            if project is not None and item.project != project:
                self._account.foreign(item.path)
                decision = Decision(Action.KEEP, Reason.FOREIGN_PROJECT, now)
            else:
                decision = self._policy.judge(item, now, repeated=not self._seen.add(int(item.id)))
                if decision.matching and decision.reason is not Reason.DUPLICATE:
                    self._account.exempt(decision.matching)
            if decision.action is Action.KEEP and not self._policy.needs_look(decision):
                why = self._policy.explain(item, decision)
                kept.append(events.runtime_audited(item, decision, Outcome.KEPT, why, name_creator=self._name_creator))
            else:
                held.append(self._case(item, decision))
        if kept:
            self._account.audited(*kept)
        return held

    def _case(self, runtime: Runtime, decision: Decision) -> Case:
        failed_before = self._bounds.failed_before.get(runtime.path)
        return Case(runtime=runtime, decision=decision, failed_before=failed_before)

    def _report_missing(self, project: str | None, listed: set[str]) -> None:
        for path in self._scope.only or ():
            owner, _, name = path.rpartition("/")
            if owner == project and path not in listed:
                self._account.missing(owner, name)

    # guard

    async def _guard_and_treat(self, held: list[Case]) -> None:
        account, bounds = self._account, self._bounds
        inventory = Inventory(listed=account.listed, living=self._not_deleting, lists=account.lists["read"])
        for refusals in (
            bounds.refusals,
            bounds.expectations.refusals(inventory),
            clock_refusals(self._running.leonardo.clock_skew),
        ):
            account.refuse(refusals, candidates=len(held))
        self._running.watcher.expected(len(held))
        self._treatment.candidates = len(held)
        unsettled: list[Case] = []
        condemned = await self._read(held, unsettled)
        condemned = sorted(self._to_act_on(condemned), key=_turn)
        within_budget = condemned[: bounds.at_most]
        acts = len(condemned if bounds.plan is None else within_budget)
        self._treatment.candidates = acts
        tripped = list(bounds.caps.refusals(acts=acts, listed=account.listed))
        if bounds.dry_run:
            account.caps_tripped = tripped
        else:
            account.refuse(tripped, candidates=acts)
        for case in condemned[len(within_budget) :]:
            self._close(case, Outcome.OVER_BUDGET)
        await self._treat(within_budget, unsettled, candidates=len(held))

    async def _read(self, held: list[Case], unsettled: list[Case]) -> list[Case]:
        """Fetch what the list did not tell; those that are condemned by now."""
        condemned = [case for case in held if not self._policy.needs_look(case.decision)]

        async def read(case: Case) -> None:
            end = await self._treatment.read(case)
            if end is None:
                condemned.append(case)
            elif isinstance(end, Outcome):
                self._close(case, end)
            else:
                unsettled.append(case)

        await each((case for case in held if self._policy.needs_look(case.decision)), self._bounds.readers, read)
        return condemned

    def _to_act_on(self, condemned: Iterable[Case]) -> Iterator[Case]:
        """What the plan holds and nobody has excepted."""
        plan = self._bounds.plan
        excepted = dict.fromkeys(self._bounds.excepted, False)
        for case in condemned:
            if case.runtime.path in excepted:
                excepted[case.runtime.path] = True
                self._close(case, Outcome.EXCEPTED)
            elif plan is not None and not plan.allows(case.runtime):
                self._close(case, Outcome.NOT_IN_PLAN)
            else:
                yield case
        unmet = [
            path for path, met in excepted.items() if not met and self._running.task.share([path.partition("/")[0]])
        ]
        self._account.warnings += [f"except {path}: it is not due, is the name right?" for path in unmet]

    # treat

    async def _treat(self, condemned: list[Case], unsettled: list[Case], *, candidates: int) -> None:
        """The most overdue first; what no answer settled is settled in a last pass, with at most one second try.

        Where a cap would refuse the live run its rehearsal stops here too, and nobody is asked about a saved list.
        """
        if self._account.caps_tripped or not self._bounds.looks:
            for case in condemned:
                self._close(case, self._treatment.would)
        else:
            await self._attempt((case for case in condemned if case.failed_before is None), unsettled)
            await self._attempt(self._known_to_fail(condemned), unsettled)
        await self._settle_all(unsettled, candidates)

    async def _settle_all(self, unsettled: list[Case], candidates: int) -> None:
        """By one list of runtimes and at most one of disks a project each time, which is at most twice."""
        unlisted: list[tuple[Case, Outcome]] = []
        while unsettled:
            by_project: defaultdict[str, list[Case]] = defaultdict(list)
            for case in unsettled:
                by_project[case.runtime.project].append(case)
            again: list[Case] = []
            unsettled = []

            async def settle(cases: list[Case], again: list[Case] = again) -> None:
                await self._settle(cases, again, unlisted)

            await each(by_project.values(), self._bounds.readers, settle)
            await self._attempt(sorted(again, key=_most_overdue), unsettled)
        self._close_unlisted(unlisted, candidates)

    def _known_to_fail(self, condemned: list[Case]) -> Iterable[Case]:
        """They say nothing of Leonardo where other acts were accepted since: a few hopeless ones hold up nobody."""
        accepted_now = self._account.accepted_any
        for case in condemned:
            if case.failed_before is not None:
                last = self._bounds.accepted_last
                case.hopeless = accepted_now or (last is not None and last > case.failed_before.since)
                yield case

    async def _attempt(self, cases: Iterable[Case], unsettled: list[Case]) -> None:
        async def attempt(case: Case) -> None:
            end = await self._treatment.attempt(case)
            if isinstance(end, Outcome):
                self._close(case, end)
            else:
                unsettled.append(case)
            with suppress(RecordNotKeptError):
                await self._running.audit.drain()

        await each(cases, self._bounds.readers if self._bounds.dry_run else self._bounds.actors, attempt)

    async def _settle(self, cases: list[Case], again: list[Case], unlisted: list[tuple[Case, Outcome]]) -> None:
        """Read what became of one project's unsettled runtimes from its lists: a 404 proves nothing."""
        seen = None
        try:
            runtimes = await see_runtimes(self._running.leonardo, cases[0].runtime.project)
            if needs_disks(runtimes, [case.asked for case in cases]):
                await see_disks(self._running.leonardo, runtimes)
            seen = runtimes
        except OutOfTimeError:
            self._account.cut_short()
        except LeonardoError:
            pass  # each case says for itself what it means that its state cannot be read
        for case in cases:
            end = self._treatment.settled(case, seen)
            if not isinstance(end, Outcome):
                again.append(case)
            elif case.evidence is Evidence.UNLISTED:
                unlisted.append((case, end))
            else:
                self._close(case, end)

    def _close_unlisted(self, unlisted: list[tuple[Case, Outcome]], candidates: int) -> None:
        """Gone by the weakest evidence: believed, but not of many at once, which a lost role explains better."""
        doubted = too_many_unlisted(len(unlisted), candidates)
        for case, end in unlisted:
            if doubted:
                many = f"{len(unlisted)} of {candidates} are not listed any more: has the caller lost its role?"
                case.evidence, case.note = None, ""
                case.last.error = LeonardoError(ErrorKind.NOT_VISIBLE, many, case.last.http_status)
            self._close(case, Outcome.FAILED if doubted else end)

    # record

    def _close(self, case: Case, outcome: Outcome) -> None:
        """The one record in which a judged runtime ends."""
        explanation = "; ".join(
            filter(None, (self._policy.explain(case.runtime, case.decision), str(case.failed_before or ""), case.note))
        )
        answer = case.answer if OUTCOMES[outcome].failed and case.last.error is None else None
        error = answer or case.last.error
        self._account.audited(
            events.runtime_audited(
                case.runtime,
                case.decision,
                outcome,
                explanation,
                name_creator=self._name_creator,
                exchanged=events.Exchanged(
                    http_status=case.last.http_status if answer is None else answer.http_status,
                    error=None if error is None else events.error_detail(error),
                    attempts=case.last.acts,
                    trace_id=case.last.trace_id,
                    evidence=case.evidence,
                    failed_before=case.failed_before,
                ),
            )
        )


def _turn(case: Case) -> tuple[bool, datetime, str]:
    """What failed in earlier runs comes last."""
    return case.failed_before is not None, *_most_overdue(case)


def _most_overdue(case: Case) -> tuple[datetime, str]:
    due_at = case.decision.due_at or case.decision.judged_at - (case.decision.overdue or timedelta(0))
    return due_at, case.runtime.path
