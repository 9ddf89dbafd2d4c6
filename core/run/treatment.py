"""The treatment of one runtime: look, judge, record the intent, act, and read what became of it.

Which runtimes are treated, in which order and how many at a time is the sweep's matter. Nothing here records an end: a
case's end is what a treatment answers.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Protocol

from core.clock import OutOfTimeError
from core.leonardo.calling import LOOK_GOES_STALE, LastExchange
from core.leonardo.client import Look
from core.leonardo.errors import ErrorKind, LeonardoError, LookAgainError
from core.records import events
from core.records.outcome import Outcome
from core.records.writer import RecordNotKeptError
from core.rules.decision import Action
from core.rules.evidence import PROVEN_BY, Evidence, Sighting
from core.rules.guards import FAILING, FailureStreak, Refusal, clock_refusals
from core.run.account import Account
from core.run.case import Case
from core.run.running import Running
from core.runtime import Runtime, RuntimeStatus

MAYBE_DONE = (ErrorKind.UNAVAILABLE, ErrorKind.UNREADABLE)
"""After such an answer to an act, only the state tells whether it was carried out."""
MOST_LOOKS = 3
"""So many looks may grow too old before the act can leave; a service or a log that slow is better left alone."""
BROKEN = "the act has left it in Error"


class Next(Enum):
    """What a case needs before it can end."""

    LOOK_AGAIN = auto()
    ASK_LISTS = auto()
    """What became of it only its project's lists can tell."""
    ACT_AGAIN = auto()
    """The act that failed was not carried out: it gets one second try."""


class Send(Protocol):
    """The request that carries an act out; `core.leonardo.client` says what it raises."""

    def __call__(self, project: str, name: str, last: LastExchange, *, looked_at: float) -> Awaitable[None]: ...


Refuse = Callable[[Sequence[Refusal]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What to do with a condemned runtime, and how to read what became of it."""

    intent: type[events.Requested]
    send: Send
    would: Outcome
    accepted: Outcome
    done: frozenset[str]
    """Statuses that show the act accepted."""
    gone: Outcome
    """What it means where the runtime is gone after an act that may have been carried out."""
    conflict: Callable[[LeonardoError], Outcome]
    """What a 409 means."""
    hint: str = ""
    """What to say where the act is refused with 403 or 404."""


class Treatment:
    """How this run treats a case: with one act, or with none."""

    def __init__(self, running: Running, account: Account, act: Act, refuse: Refuse, *, dry_run: bool) -> None:
        """`refuse` is told of the guards that end all acts."""
        self._leonardo = running.leonardo
        self._audit = running.audit
        self._clock = running.clock
        self._account = account
        self._act = act
        self._refuse = refuse
        self._dry_run = dry_run
        self._streak = FailureStreak()
        self._hopeless_streak = FailureStreak()
        self._hopeless_end = False

    def stopped(self, case: Case) -> Outcome | None:
        """What becomes of a runtime whose turn comes now, where the run does not act any more."""
        if self._account.refusals or (case.hopeless and self._hopeless_end):
            return Outcome.WITHHELD
        if self._audit.failure is not None or not self._clock.may_act:
            return Outcome.NOT_ATTEMPTED
        return None

    async def read(self, case: Case) -> Outcome | Next | None:
        """Fetch what the list does not tell, and judge by it; None where that condemns the runtime."""
        if stopped := self.stopped(case):
            return self._given_up(case, stopped)
        look = await self._look(case)
        if not isinstance(look, Look):
            return look
        end = self._judged(case, look)
        return Outcome.KEPT if end is Outcome.SPARED else end

    async def attempt(self, case: Case) -> Outcome | Next:
        """Look, judge, and act while the look is fresh; as often as Leonardo asks to come back."""
        while True:
            if stopped := self.stopped(case):
                return self._given_up(case, stopped)
            look = await self._look(case)
            if not isinstance(look, Look):
                return look
            end = self._judged(case, look) or await self._after_judgement(case, look)
            if end is not Next.LOOK_AGAIN:
                return end
            if case.looks >= MOST_LOOKS:
                slow = f"{MOST_LOOKS} looks in a row were too old before the act could leave"
                case.last.error = LeonardoError(ErrorKind.UNAVAILABLE, slow)
                return Outcome.FAILED

    def settled(self, case: Case, seen: Sighting | None) -> Outcome | Next:
        """What became of a case, by its project's lists; `seen` is None where they could not be read."""
        if seen is None:
            return self._given_up(case, Outcome.FAILED)
        kept = (seen.disks or {}).get(case.runtime.persistent_disk_id or "")
        case.runtime = case.runtime._replace(disk_gb=None if kept is None else kept.size_gb)
        case.evidence = seen.evidence(case.asked)
        if case.evidence is not None:
            case.note = PROVEN_BY[case.evidence]
            return self._act.gone if case.maybe_done else Outcome.GONE
        state = seen.runtimes[case.runtime.id]
        if not case.maybe_done:  # it is listed, and a look or an act says that it is not there
            return Outcome.FAILED
        if state.status in self._act.done:
            return self._act.accepted
        disk = case.runtime.persistent_disk_id
        if disk is not None and state.persistent_disk_id is None:
            case.note = f"the failed try has detached its disk {disk}, which is kept"
        if self._broke(case, state):
            case.note = BROKEN
            return Outcome.FAILED
        if case.second_try:
            return Outcome.FAILED
        case.settled_acts = case.last.acts
        return Next.ACT_AGAIN

    # look and judge

    async def _look(self, case: Case) -> Look | Outcome | Next:
        """The runtime as it is now, or what follows where there is no answer."""
        try:
            return await self._leonardo.get_runtime(case.runtime.project, case.runtime.name, case.last)
        except OutOfTimeError:
            return self._given_up(case, Outcome.NOT_ATTEMPTED)
        except LeonardoError as error:
            unsettled = case.maybe_done or error.kind is ErrorKind.NOT_VISIBLE
            return Next.ASK_LISTS if unsettled else Outcome.FAILED

    def _judged(self, case: Case, look: Look) -> Outcome | None:
        """How the look ends the case: done already, another incarnation, nothing (more) to hold against it."""
        if skewed := list(clock_refusals(look.skew)):
            self._leonardo.clock_skew = look.skew
            self._refuse(skewed)
            return self._given_up(case, Outcome.WITHHELD)
        looked = look.runtime
        if looked.id != case.runtime.id:
            case.evidence = Evidence.NAME_TAKEN
            return self._act.gone if case.maybe_done else Outcome.REPLACED
        if case.maybe_done and looked.status in self._act.done:
            return self._act.accepted
        if self._broke(case, looked):
            case.note = BROKEN
            return Outcome.FAILED
        return Outcome.SPARED if case.judge_again(looked, self._clock.now()) is Action.KEEP else None

    def _broke(self, case: Case, state: Runtime) -> bool:
        """Whether an act of ours has left the runtime in Error, where it was not before."""
        return case.maybe_done and state.status == RuntimeStatus.ERROR and case.runtime.status != RuntimeStatus.ERROR

    # record the intent and act

    async def _after_judgement(self, case: Case, look: Look) -> Outcome | Next:
        if self._clock.monotonic() - look.sent > LOOK_GOES_STALE:
            case.looks += 1
            return Next.LOOK_AGAIN
        if self._dry_run:
            return self._act.would
        acts_before = case.last.acts
        try:
            await self._announce(case, look)
            await self._act.send(case.runtime.project, case.runtime.name, case.last, looked_at=look.sent)
        except (OutOfTimeError, RecordNotKeptError):
            return self._given_up(case, Outcome.NOT_ATTEMPTED)
        except LookAgainError as again:
            return self._after_delay(case, again)
        except LeonardoError as error:
            return self._after_failed_act(case, error, sent=case.last.acts > acts_before)
        self._count_answer(case, failed=False)
        return self._act.accepted

    async def _announce(self, case: Case, look: Look) -> None:
        """Record the intent and wait until it is kept. Raises RecordNotKeptError, also where that is too slow twice."""
        self._audit.write(case.intent(self._act.intent))
        await self._audit.commit()
        if self._clock.monotonic() - look.sent <= LOOK_GOES_STALE:
            case.kept_waiting = 0
            return
        case.kept_waiting += 1
        if case.kept_waiting > 1:
            self._audit.give_up("records take longer to be kept than a look stays fresh")

    def _after_delay(self, case: Case, again: LookAgainError) -> Outcome | Next:
        """A renewed token that is refused too is a refusal; after anything else there is a new look."""
        case.looks += not again.asked_to_wait
        if again.answer is None:
            return Next.LOOK_AGAIN
        case.answer = again.answer
        if again.answer.kind is ErrorKind.DENIED:
            if case.token_renewed:
                self._count_answer(case, failed=True)
                return Outcome.FAILED
            case.token_renewed = True
        case.maybe_done |= again.answer.kind in MAYBE_DONE
        return Next.LOOK_AGAIN

    def _after_failed_act(self, case: Case, error: LeonardoError, *, sent: bool) -> Outcome | Next:
        case.answer = error
        if error.http_status == HTTPStatus.CONFLICT:
            self._count_answer(case, failed=False)
            return self._act.conflict(error)
        self._count_answer(case, failed=True)
        if error.http_status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            case.note = self._act.hint
        if sent and error.kind in MAYBE_DONE:
            case.maybe_done = True
            return Next.ASK_LISTS
        return Next.ASK_LISTS if sent and error.kind is ErrorKind.NOT_VISIBLE else Outcome.FAILED

    def _count_answer(self, case: Case, *, failed: bool) -> None:
        """Ten first tries in a row that fail end the run; of those that are known to fail, their own turn."""
        if self._clock.signalled or case.second_try:  # what was cut off says nothing of Leonardo
            return
        if case.hopeless:
            self._hopeless_end |= self._hopeless_streak.add(failed=failed)
        elif self._streak.add(failed=failed):
            self._refuse([FAILING])

    def _given_up(self, case: Case, outcome: Outcome) -> Outcome:
        """The run does not get any further with this runtime; what an earlier try of an act has led to stands."""
        if outcome is Outcome.NOT_ATTEMPTED:
            self._account.cut_short()
        if case.second_try and case.last.acts == case.settled_acts:
            return Outcome.FAILED
        return Outcome.IN_DOUBT if case.maybe_done else outcome
