"""What must hold, held against the world's truth at each request, each end of a run and at the end of the life.

The rule is told a second time in `rule`; what must hold as a run ends lives in `ends`, and what remains of a life in
`remains`.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, NoReturn

from core.exit_code import ExitCode
from core.records import events
from core.sandbox.machine import Machine
from tests.lives.ends import hold_to_the_truth
from tests.lives.rule import (
    EPSILON,
    FRESH,
    HALF_TOLERANCE,
    LEAST_LEFT,
    MILLISECOND,
    REACH,
    SMALL_RUN,
    TOLERANCE,
    due_at,
    is_due,
    is_overdue,
)
from tests.lives.wire import Exchange

if TYPE_CHECKING:
    from tests.lives.process import Process
    from tests.lives.world import World


class ViolationError(AssertionError):
    """Something that must hold does not."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


class Oracle:
    """Sees everything, and raises ViolationError."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.ours: defaultdict[int, list[Exchange]] = defaultdict(list)
        """What Leonardo obeyed, by the runtime's id."""
        self.violation: ViolationError | None = None
        """The first, whatever the program makes of it."""
        self.power_failed = False
        self.clocks_differed = False
        """By so much that two runs may be further apart than is tolerated."""

    def fail(self, kind: str, what: str) -> NoReturn:
        self.violation = self.violation or ViolationError(kind, what)
        raise self.violation

    def expect(self, kind: str, what: str, *, holds: bool) -> None:
        if not holds:
            self.fail(kind, what)

    def at(self, process: "Process") -> int:
        return (process.wall() - self.world.at(0)) // MILLISECOND

    def sees_clock(self, process: "Process") -> None:
        self.clocks_differed |= abs(process.offset) > HALF_TOLERANCE

    # as a request leaves

    def departs(self, exchange: Exchange) -> None:
        process = exchange.process
        settings = process.settings
        now = exchange.departed
        in_flight = [e for e in process.exchanges if not e.answer.done()]
        reads = sum(e.is_list or e.is_look for e in in_flight)
        self.expect("kind", f"{process} asks too much at a time", holds=reads <= settings.read_concurrency)
        writes = len(in_flight) - reads
        self.expect("kind", f"{process} acts too much at a time", holds=writes <= settings.write_concurrency)
        if exchange.notices:
            self._may_tell(exchange)
            return
        waits = now >= process.hold_until - EPSILON or now <= process.told_to_hold_at  # which nobody could have read
        self.expect("kind", f"{process} does not wait as asked", holds=waits)
        if exchange.is_act:
            self._may_act(exchange)
            look = self._looked(exchange)
            exchange.meant = look.shown[0].id
            self._is_just(exchange, look)
            self._is_noticed(exchange)
            self._is_announced(exchange, look)

    def _may_act(self, exchange: Exchange) -> None:
        process = exchange.process
        settings, path = process.settings, exchange.path
        self.expect("dry", f"{process} acts on {path}", holds=not settings.dry_run)
        refused = [e.guard for e in process.said if isinstance(e, events.RunRefused)]
        self.expect("guard", f"{process} acts on {path}, refused by {refused}", holds=not refused)
        told = process.signalled_at
        heard = told is not None and exchange.departed > told + EPSILON and not process.was_suspended
        self.expect("signal", f"{process} acts on {path} after a signal", holds=not heard)
        needed = settings.request_timeout.total_seconds() + LEAST_LEFT
        left = process.deadline - exchange.departed
        self.expect("deadline", f"{process} acts on {path} with {left:.1f} s left", holds=left >= needed - EPSILON)
        kept = exchange.target.kind == "stop" or exchange.query == b"deleteDisk=false"
        self.expect("disk", f"{process} deletes {path} with {exchange.query!r}", holds=kept)
        self._in_turn(exchange)
        self.expect("only", f"{process} acts on {path}", holds=settings.only is None or path in settings.only)
        acted = {e.path for e in process.exchanges if e.is_act}
        cap = -(-settings.max_acts // process.task[1])
        self.expect("cap", f"{process} acts on {len(acted)}, max-acts {cap}", holds=len(acted) <= cap)
        listed = sum(len(e.shown) for e in process.exchanges if e.target.kind == "list" and e.delivered is not None)
        share = max(-(-SMALL_RUN // process.task[1]), settings.max_act_share * listed)
        self.expect("cap", f"{process} acts on {len(acted)} of {listed}", holds=len(acted) <= share)
        budget = settings.at_most is None or len(acted) <= settings.at_most
        self.expect("cap", f"{process} acts on {len(acted)}, at-most {settings.at_most}", holds=budget)
        self.expect("except", f"{process} acts on {path}", holds=path not in settings.excepted)

    def _may_tell(self, exchange: Exchange) -> None:
        """One owner at a time, on record, once, and never sooner than is said."""
        process, told = exchange.process, exchange.notices
        self.expect("dry", f"{process} tells owners", holds=not process.settings.dry_run)
        owners = {notice["data"]["creator"] for notice in told}
        self.expect("notice", f"{process} tells {owners} at once", holds=len(owners) == 1)
        before = self._told_before(process)
        for notice in told:
            about = notice["data"]
            self.expect("notice", f"{process}: {notice['id']}", holds=notice["id"] == f"prod-{about['runtime_id']}")
            again = about["runtime_id"] in before
            self.expect("notice", f"{process} tells of {about['runtime_id']} again", holds=not again)
            asked = b'"event":"notice_requested"', b'"runtime_id":"%s"' % about["runtime_id"].encode()
            for sink in process.sinks:
                kept = sink.lines[: sink.acknowledged]
                known = any(all(part in line for part in asked) for line in kept)
                self.expect("intent", f"notice of {about['name']}: {sink.name} did not keep it", holds=known)

    def _told_before(self, process: "Process") -> set[str]:
        """By what a run can read that began as this one did."""
        if self.power_failed:
            return set()
        earlier = (p for p in self.world.processes if p.ended_at < process.born < p.ended_at + REACH)
        return {e.runtime_id for p in earlier if p.is_on_record for e in p.said if isinstance(e, events.NoticeSent)}

    def _is_noticed(self, exchange: Exchange) -> None:
        """Its owner was told of this incarnation, and that it is not deleted before now."""
        process, period = exchange.process, exchange.process.settings.notice_period
        if period is None or exchange.target.kind == "stop":
            return
        told = self.world.told.get(exchange.meant, [])
        early = f"{process} acts on {exchange.path} ({exchange.meant}), whose owner was told {told}"
        allowed = any(not_before <= process.wall() + TOLERANCE * MILLISECOND for not_before, _ in told)
        self.expect("notice", early, holds=allowed or self.clocks_differed)
        waited = any(at + period.total_seconds() <= self.world.now + TOLERANCE / 1000 for _, at in told)
        self.expect("notice", early, holds=waited or self.clocks_differed)

    def _in_turn(self, exchange: Exchange) -> None:
        """What failed in earlier runs comes last."""
        process, path = exchange.process, exchange.path
        tried = {e.path for e in process.exchanges if e.is_act and e is not exchange}
        begun = tried | process.failed_before | process.held_up | self._perhaps_failed_before()
        late = tried & process.failed_before and path not in begun
        self.expect("order", f"{process} acts on {path} after {tried}, which failed before", holds=not late)
        if path not in begun and not any(e.fault for e in process.exchanges):
            sooner = self._more_overdue(process, path)
            self.expect("order", f"{process} acts on {path} before it looks at {sooner}", holds=not sooner)

    def _perhaps_failed_before(self) -> set[str]:
        """By runs that lost a record and may have closed on record all the same, or that may be out of reach."""
        edge = self.world.now - REACH + 2 * TOLERANCE / 1000
        perhaps = (p for p in self.world.processes if p.code is ExitCode.UNRECORDED or p.born < edge)
        closings = (e for p in perhaps for e in p.said[-1:] if isinstance(e, events.RunFinished))
        return {path for closing in closings for path in closing.failed}

    def _more_overdue(self, process: "Process", path: str) -> set[str]:
        """What was due before this one as the run began, and was not looked at yet; nothing where it cannot be told."""
        settings, begin = process.settings, self.world.at(0)
        began = next((e for e in process.said if isinstance(e, events.RunStarted)), None)
        aside = settings.notice_period or settings.spare_possibly_busy or settings.stop_overdue or self.world.odd_rows
        if began is None or aside:
            return set()
        at = (began.now - begin) // MILLISECOND
        listed = {
            f"{s.project}/{s.name}": (due_at(s, settings), f"{s.project}/{s.name}")
            for e in process.exchanges
            if e.target.kind == "list" and e.delivered is not None
            for s in e.shown
            if e.project in (None, s.project)
            if is_due(s, at, settings, begin) and (process.planned is None or s.id in process.planned)
            if settings.only is None or f"{s.project}/{s.name}" in settings.only
        }
        looked = process.held_up | {e.path for e in process.exchanges if e.is_look}
        ended = [e for p in self.world.processes for e in p.said[-1:] if isinstance(e, events.RunFinished)]
        left = listed.keys() - looked - {*settings.excepted} - {of for e in ended for of in e.failed}
        exempt = {of for of in listed if of.startswith("terra-exempt/")} | ({path} - listed.keys())
        return {of for of in left - exempt if path not in exempt and listed[of] < listed[path]}

    def failed_before(self, job: str) -> frozenset[str]:
        """By the closing records that a run of this job which begins now can read."""
        return frozenset(
            path
            for process in self.world.processes
            if process.job == job and not process.settings.dry_run and not (process.dead or self.power_failed)
            if self.world.now - process.born < REACH
            for event in process.said[-1:]
            if isinstance(event, events.RunFinished) and process.code not in (None, ExitCode.UNRECORDED)
            for path in event.failed
        )

    def _looked(self, exchange: Exchange) -> Exchange:
        """The look that justifies it."""
        path = exchange.path
        before = [e for e in exchange.process.exchanges if e.path == path and e is not exchange]
        look = next((e for e in reversed(before) if e.is_look and e.true and e.shown), None)
        if look is None or look.delivered is None:
            self.fail("look", f"{exchange.process} acts on {path} without a look")
        acts = [e.number for e in before if e.is_act]
        self.expect("look", f"{path} is acted on again without a look", holds=look.number > max(acts, default=-1))
        waited = exchange.departed - look.departed
        self.expect("stale look", f"{path}: {waited:.3f} s after the look", holds=waited <= FRESH + EPSILON)
        return look

    def _is_just(self, exchange: Exchange, look: Exchange) -> None:
        process, settings, (state,) = exchange.process, exchange.process.settings, look.shown
        begin = self.world.at(0)
        at = max(self.at(process), look.wall_at)
        rule = is_due if exchange.target.kind == "delete" else is_overdue
        kept = f"{process} acts on {exchange.path} ({state.id}), which the rule keeps: {state}"
        self.expect("unjust", kept, holds=rule(state, at, settings, begin))
        listed = {
            s.id
            for e in process.exchanges
            if e.target.kind == "list" and e.delivered
            for s in e.shown
            if e.project in (None, s.project)
        }
        self.expect("incarnation", f"{exchange.path}: {state.id} was never listed", holds=state.id in listed)
        allowed = process.planned is None or state.id in process.planned
        self.expect("plan", f"{process} acts on {exchange.path}, which is not in its plan", holds=allowed)
        if look.delivered is not None and look.delivered_at is not None:
            slack = (look.delivered_at - look.departed + 1.0) * 1000 + TOLERANCE
            self.expect("clock", f"{process} acts by a wrong clock", holds=abs(look.offset) * 1000 <= slack)

    def _is_announced(self, exchange: Exchange, look: Exchange) -> None:
        process, (state,) = exchange.process, look.shown
        attempt = 1 + sum(e.is_act and e.path == exchange.path and e is not exchange for e in process.exchanges)
        for sink in process.sinks:
            intent = any(
                b'_requested"' in line and b'"runtime_id":"%d"' % state.id in line and b'"attempt":%d' % attempt in line
                for line in sink.lines[: sink.acknowledged]
            )
            self.expect("intent", f"{exchange.path}: {sink.name} did not acknowledge it", holds=intent)

    def obeyed(self, exchange: Exchange, machine: Machine) -> None:
        if exchange.target.kind == "delete" and machine.id == exchange.meant:
            self.ours[machine.id].append(exchange)

    # as a run ends

    def killed(self, process: "Process") -> None:
        self.world.tell(f"{process} is killed")

    def ended(self, process: "Process") -> None:
        self.expect("bug", f"{process} ended with 70", holds=process.code != ExitCode.BUG)
        for context in process.loop.broken:
            self.fail("bug", f"{process}: {context}")
        if process.code != ExitCode.USAGE:
            hold_to_the_truth(self, process)
