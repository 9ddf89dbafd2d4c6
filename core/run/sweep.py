"""One run over one inventory: list, guard, and treat the condemned in order, or none of them.

How a list is judged lives in `listing`, how the condemned are treated in `turns`, what the run comes to in `account`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.exit_code import ExitCode
from core.records import events
from core.records.outcome import Outcome
from core.rules.guards import Caps, Expectations, Refusal, clock_refusals
from core.rules.plan import Plan
from core.run.account import Account
from core.run.case import Case, in_turn
from core.run.listing import Listing
from core.run.running import Running
from core.run.treatment import Act, Treatment
from core.run.turns import Turns


async def _nobody() -> None:
    return None


async def _unasked(_: Sequence[Case]) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a sweep may do."""

    dry_run: bool
    looks: bool = True
    """Whether the condemned are looked at again; nobody can be asked about a saved list."""
    caps: Caps
    expectations: Expectations
    plan: Plan | None = None
    """What the run is held to: it acts on nothing else."""
    excepted: Collection[str] = ()
    """`PROJECT/NAME` of what is not acted on this time."""
    at_most: int | None = None
    """So many are acted on, the most overdue first."""
    refusals: Sequence[Refusal] = ()
    """Why the run must not act, as far as that is known before it begins."""
    accepted_last: datetime | None = None
    """When an act was accepted last in live runs of the last days."""
    approve: Callable[[Sequence[Case]], Awaitable[bool]] = _unasked
    """Whether these may be acted on, where somebody is asked."""
    older_run: Callable[[], Awaitable[str | None]] = _nobody
    """Names a run that is still going and before which this one steps back."""


class Sweep:
    """One run over one inventory."""

    def __init__(self, running: Running, account: Account, listing: Listing, act: Act, bounds: Bounds) -> None:
        self._running = running
        self._account = account
        self._listing = listing
        self._bounds = bounds
        self._would = act.would
        self._candidates = 0
        """How many are to be acted on, as far as that is known."""
        treatment = Treatment(running, account, act, self._refuse, dry_run=bounds.dry_run)
        settings = running.settings
        actors = settings.read_concurrency if bounds.dry_run else settings.write_concurrency
        self._turns = Turns(running, account, treatment, actors=actors, accepted_last=bounds.accepted_last)

    async def run(self, started: events.RunStarted) -> ExitCode:
        """Sweep, from the first record to the closing one, judging the list by `started.now`; the exit code."""
        await self._account.open(started)
        older = await self._bounds.older_run()
        if older is not None:
            self._account.skipped(older)
        elif self._running.audit.failure is None:
            held = await self._listing.judge(started.now)
            if self._account.lists["read"]:
                await self._guard_and_treat(held)
        return await self._account.close()

    async def _guard_and_treat(self, held: list[Case]) -> None:
        """Nobody is looked at again where a cap would refuse the live run that is rehearsed, or about a saved list."""
        self._candidates = len(held)
        self._running.watcher.expected(len(held))
        self._guard_inventory()
        condemned = [case for case in held if not case.needs_look]
        condemned += await self._turns.read([case for case in held if case.needs_look])
        within_budget = self._guard_caps(sorted(self._narrow(condemned), key=in_turn))
        if self._account.caps_tripped or not self._bounds.looks:
            self._end(within_budget, self._would)
        elif within_budget and not self._account.refusals and not await self._bounds.approve(within_budget):
            self._account.cut_short()
            self._end(within_budget, Outcome.NOT_ATTEMPTED)
        else:
            await self._turns.act(within_budget)
        await self._turns.settle(candidates=len(held))

    def _guard_inventory(self) -> None:
        self._refuse(self._bounds.refusals)
        self._refuse(list(self._bounds.expectations.refusals(self._listing.inventory)))
        self._refuse(list(clock_refusals(self._running.leonardo.clock_skew)))

    def _narrow(self, condemned: Iterable[Case]) -> Iterator[Case]:
        """To what the plan holds and nobody has excepted."""
        plan = self._bounds.plan
        excepted = dict.fromkeys(self._bounds.excepted, False)
        for case in condemned:
            if case.runtime.path in excepted:
                excepted[case.runtime.path] = True
                self._account.ended(case, Outcome.EXCEPTED)
            elif plan is not None and not plan.allows(case.runtime):
                self._account.ended(case, Outcome.NOT_IN_PLAN)
            else:
                yield case
        for path, met in excepted.items():
            if not met and self._running.task.share([path.rpartition("/")[0]]):
                self._account.warnings.append(f"except {path}: it is not due, is the name right?")

    def _guard_caps(self, condemned: list[Case]) -> list[Case]:
        """Those within the budget; by a plan the caps look at these, else at all."""
        bounds, account = self._bounds, self._account
        within_budget = condemned[: bounds.at_most]
        self._candidates = len(condemned if bounds.plan is None else within_budget)
        tripped = list(bounds.caps.refusals(acts=self._candidates, listed=account.listed))
        if bounds.dry_run:
            account.would_refuse(tripped)
        else:
            self._refuse(tripped)
        self._end(condemned[len(within_budget) :], Outcome.OVER_BUDGET)
        return within_budget

    def _refuse(self, refusals: Sequence[Refusal]) -> None:
        if refusals:
            self._running.leonardo.stop_acts()
        self._account.refuse(refusals, candidates=self._candidates)

    def _end(self, cases: Iterable[Case], outcome: Outcome) -> None:
        for case in cases:
            self._account.ended(case, outcome)
