"""Each condemned runtime in its turn, and in a last pass what no answer settled; who is condemned is settled before."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from core.clock import OutOfTimeError
from core.leonardo.errors import ErrorKind, LeonardoError
from core.records.outcome import Outcome
from core.records.writer import RecordNotKeptError
from core.rules.evidence import Evidence, Sighting, too_many_unlisted
from core.run.account import Account
from core.run.case import Case, most_overdue
from core.run.concurrently import each
from core.run.evidence import needs_disks, see_disks, see_runtimes
from core.run.running import Running
from core.run.treatment import Next, Treatment


class Turns:
    """The turns of one run."""

    def __init__(
        self, running: Running, account: Account, treatment: Treatment, *, actors: int, accepted_last: datetime | None
    ) -> None:
        """`actors` are treated at a time; `accepted_last` is when earlier runs last had an act accepted."""
        self._running = running
        self._account = account
        self._treatment = treatment
        self._actors = actors
        self._accepted_last = accepted_last
        self._unsettled: list[Case] = []
        """What became of them only their projects' lists can tell."""

    async def read(self, held: Iterable[Case]) -> list[Case]:
        """Fetch what the list did not tell; those that are condemned by now."""
        condemned: list[Case] = []

        async def read(case: Case) -> None:
            end = await self._treatment.read(case)
            if end is None:
                condemned.append(case)
            else:
                self._end(case, end)

        await each(held, self._running.settings.read_concurrency, read)
        return condemned

    async def act(self, condemned: Sequence[Case]) -> None:
        """In their order, those that failed in earlier runs when all others are through."""
        await self._attempt(case for case in condemned if case.failed_before is None)
        await self._attempt(self._known_to_fail(condemned))

    async def settle(self, *, candidates: int) -> None:
        """By one list of runtimes and at most one of disks a project each time, which is at most twice."""
        unlisted: list[tuple[Case, Outcome]] = []
        while self._unsettled:
            by_project: defaultdict[str, list[Case]] = defaultdict(list)
            for case in self._unsettled:
                by_project[case.runtime.project].append(case)
            self._unsettled, again = [], list[Case]()

            async def settle(cases: list[Case], again: list[Case] = again) -> None:
                again += await self._settle_project(cases, unlisted)

            await each(by_project.values(), self._running.settings.read_concurrency, settle)
            await self._attempt(sorted(again, key=most_overdue))
        self._end_unlisted(unlisted, candidates)

    def _known_to_fail(self, condemned: Iterable[Case]) -> Iterable[Case]:
        """They say nothing of Leonardo where other acts were accepted since: a few hopeless ones hold up nobody."""
        accepted_now, last = self._account.accepted_any, self._accepted_last
        for case in condemned:
            if case.failed_before is not None:
                case.hopeless = accepted_now or (last is not None and last > case.failed_before.since)
                yield case

    async def _attempt(self, cases: Iterable[Case]) -> None:
        async def attempt(case: Case) -> None:
            self._end(case, await self._treatment.attempt(case))
            with suppress(RecordNotKeptError):
                await self._running.audit.drain()

        await each(cases, self._actors, attempt)

    def _end(self, case: Case, end: Outcome | Next) -> None:
        if isinstance(end, Outcome):
            self._account.ended(case, end)
        else:
            self._unsettled.append(case)

    async def _settle_project(self, cases: list[Case], unlisted: list[tuple[Case, Outcome]]) -> list[Case]:
        """Those whose act was not carried out, and gets a second try, by the lists of their project."""
        again: list[Case] = []
        seen = await self._see(cases)
        for case in cases:
            end = self._treatment.settled(case, seen)
            if not isinstance(end, Outcome):
                again.append(case)
            elif case.evidence is Evidence.UNLISTED:
                unlisted.append((case, end))
            else:
                self._account.ended(case, end)
        return again

    async def _see(self, cases: list[Case]) -> Sighting | None:
        """What one project's lists show of its cases: a 404 proves nothing. None where they cannot be read."""
        leonardo = self._running.leonardo
        try:
            seen = await see_runtimes(leonardo, cases[0].runtime.project)
            if needs_disks(seen, [case.asked for case in cases]):
                await see_disks(leonardo, seen)
        except OutOfTimeError:
            self._account.cut_short()
            return None
        except LeonardoError:  # each case says for itself what it means that its state cannot be read
            return None
        return seen

    def _end_unlisted(self, unlisted: list[tuple[Case, Outcome]], candidates: int) -> None:
        """Gone by the weakest evidence: believed, but not of many at once, which a lost role explains better."""
        doubted = too_many_unlisted(len(unlisted), candidates)
        for case, end in unlisted:
            if doubted:
                many = f"{len(unlisted)} of {candidates} are not listed any more: has the caller lost its role?"
                case.evidence, case.note = None, ""
                case.last.error = LeonardoError(ErrorKind.NOT_VISIBLE, many, case.last.http_status)
            self._account.ended(case, Outcome.FAILED if doubted else end)
