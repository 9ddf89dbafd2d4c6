"""One pass over the inventory: list and decide; what is kept is recorded as it streams by, everything else is held."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.clock import OutOfTimeError
from core.leonardo.errors import LeonardoError
from core.leonardo.wire import Batch
from core.records import events
from core.records.events import FailedBefore
from core.records.outcome import Outcome
from core.records.writer import RecordNotKeptError
from core.rules.decision import KEEP, Decision, Reason
from core.rules.guards import Inventory
from core.rules.policy import RuntimePolicy
from core.rules.seen_ids import SeenIds
from core.run.account import Account
from core.run.case import Case
from core.run.concurrently import each
from core.run.running import Running
from core.runtime import MalformedRuntime, Runtime, RuntimeStatus

DELETING, KEPT = RuntimeStatus.DELETING, Outcome.KEPT


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


class Listing:
    """The inventory of one run, judged by one policy."""

    def __init__(
        self,
        running: Running,
        account: Account,
        policy: RuntimePolicy,
        scope: Scope,
        failed_before: Mapping[str, FailedBefore],
    ) -> None:
        self._running = running
        self._account = account
        self._policy = policy
        self._scope = scope
        self._failed_before = failed_before
        self._name_creator = running.names_creators
        self._seen = SeenIds()
        self._not_deleting = 0

    @property
    def inventory(self) -> Inventory:
        """As far as it was listed."""
        account = self._account
        return Inventory(listed=account.listed, living=self._not_deleting, lists=account.lists["read"])

    async def judge(self, now: datetime) -> list[Case]:
        """Judge every list; the condemned, and those whose list was not enough to judge by."""
        held: list[Case] = []

        async def judge_one(project: str | None) -> None:
            held.extend(await self._judge_one(project, now))

        if self._scope.projects is None:
            await judge_one(None)
        else:
            await each(self._scope.projects, self._running.settings.read_concurrency, judge_one)
        return held

    async def _judge_one(self, project: str | None, now: datetime) -> list[Case]:
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
            self._account.ended(case, outcome)
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
        policy, name_creator = self._policy, self._name_creator
        self._account.listed += len(items)
        kept: list[events.RuntimeAudited] = []
        held: list[Case] = []
        for item in items:
            if isinstance(item, MalformedRuntime):
                self._account.malformed(item)
                kept.append(events.malformed_audited(item, now))
                continue
            self._not_deleting += item.status != DELETING
            decision = self._decide(item, project, now)
            if decision.action is KEEP and not policy.needs_look(decision):
                why = policy.explain(item, decision)
                kept.append(events.runtime_audited(item, decision, KEPT, why, name_creator=name_creator))
            else:
                failed_before = self._failed_before.get(item.path)
                held.append(Case(policy=policy, runtime=item, decision=decision, failed_before=failed_before))
        if kept:
            self._account.audited(*kept)
        return held

    def _decide(self, runtime: Runtime, project: str | None, now: datetime) -> Decision:
        """By the policy, unless it was listed under another project than was asked for."""
        if project is not None and runtime.project != project:
            self._account.foreign(runtime.path)
            return Decision(KEEP, Reason.FOREIGN_PROJECT, now)
        decision = self._policy.judge(runtime, now, repeated=not self._seen.add(int(runtime.id)))
        if decision.matching and decision.reason is not Reason.DUPLICATE:
            self._account.exemptions.add(decision.matching)
        return decision

    def _report_missing(self, project: str | None, listed: set[str]) -> None:
        for path in self._scope.only or ():
            owner, _, name = path.rpartition("/")
            if owner == project and path not in listed:
                self._account.missing(owner, name)
