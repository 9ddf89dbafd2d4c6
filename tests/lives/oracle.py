"""What must hold, held against the world's truth at each act, at each run's end and at the end of the life.

The rule stands here a second time, told independently of the program's.
"""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

from core.exit_code import ExitCode
from core.records import events
from core.records.files import AuditFiles
from core.records.outcome import CONFIRMATIONS, Outcome
from core.records.reader import AuditRecords
from core.rules.confirmation import Confirmation
from core.rules.decision import Reason
from core.rules.evidence import Evidence
from core.sandbox.machine import Machine, TrueStatus
from core.settings.fields import Settings
from core.verify import verify
from core.verify.finding import Kind, messages
from tests.lives.wire import Exchange, State

if TYPE_CHECKING:
    from tests.lives.process import Process
    from tests.lives.world import World

REACH = 6.9 * 86400.0
"""Seconds that a run surely looks back to earlier ones."""
SINCE = 30 * 86400.0 - 7200.0
"""Seconds that a confirmation looks back, less what passes until the last one."""
MILLISECOND = timedelta(milliseconds=1)
TOLERANCE = 300_000
"""Milliseconds by which clocks may differ."""
FRESH = 10.0
LEAST_LEFT = 15.0
EPSILON = 1e-6
HALF_TOLERANCE = 150.0
OF_CLOCKS = (Kind.PREDECESSOR, Kind.TIME, Kind.INSTANT, Kind.DURATION)
"""What `verify` rightly says of runs whose clocks differ by more than it tolerates."""
ON_ITS_WAY_OUT = (TrueStatus.PRE_DELETING, TrueStatus.DELETING, TrueStatus.DELETED)


class ViolationError(AssertionError):
    """Something that must hold does not."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


def milliseconds(duration: timedelta) -> int:
    return duration // MILLISECOND


def is_exempt(state: State, at: int, settings: Settings, begin: datetime) -> bool:
    return any(
        (exemption.project in (None, state.project))
        and all(state.labels.get(key) == value for key, _, value in (part.partition("=") for part in exemption.label))
        and at < -(-(exemption.until - begin) // MILLISECOND)
        for exemption in settings.exemptions
    )


def is_due(state: State, at: int, settings: Settings, begin: datetime) -> bool:
    """Whether the rule deletes it, to the millisecond; later can only mean sooner."""
    age, idle = at - state.created, at - state.accessed
    eligible = ("Running", "Stopped", "Error") if settings.delete_errored else ("Running", "Stopped")
    if state.cloud != "GCP" or state.status not in eligible or state.accessed < state.created - TOLERANCE:
        return False
    if min(age, idle) < -TOLERANCE or is_exempt(state, at, settings, begin):
        return False
    if age > milliseconds(settings.max_age):
        return True
    busy = max(state.threshold * 60_000, milliseconds(settings.kernel_busy_limit))
    spared = settings.spare_possibly_busy and state.status == "Running"
    least = milliseconds(settings.idle_after)
    if spared:
        least = max(least, busy + milliseconds(settings.autopause_margin))
    return age > milliseconds(settings.max_age_if_idle) and idle >= least


def is_overdue(state: State, at: int, settings: Settings, begin: datetime) -> bool:
    """Whether autopause has missed it."""
    threshold = state.threshold * 60_000
    idle = at - state.accessed
    return (
        state.cloud == "GCP"
        and state.status == "Running"
        and 0 < threshold <= milliseconds(settings.autopause_max_threshold)
        and idle >= max(threshold, milliseconds(settings.kernel_busy_limit)) + milliseconds(settings.autopause_margin)
        and not is_exempt(state, at, settings, begin)
    )


def _act_paths(record: events.RuntimeAudited) -> tuple[str, str]:
    path = f"/api/google/v1/runtimes/{record.project}/{record.name}"
    return f"DELETE {path}", f"POST {path}/stop"


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
        self.checks = Counter[str]()

    def fail(self, kind: str, what: str) -> NoReturn:
        self.violation = self.violation or ViolationError(kind, what)
        raise self.violation

    def expect(self, kind: str, what: str, *, holds: bool) -> None:
        if not holds:
            self.fail(kind, what)

    def _at(self, process: "Process") -> int:
        return (process.wall() - self.world.at(0)) // MILLISECOND

    def sees_clock(self, process: "Process") -> None:
        self.clocks_differed |= abs(process.offset) > HALF_TOLERANCE

    # as a request leaves

    def departs(self, exchange: Exchange) -> None:
        process = exchange.process
        settings = process.settings
        now = exchange.departed
        in_flight = [e for e in process.exchanges if not e.answer.done()]
        acts = sum(e.is_act for e in in_flight)
        limits = (settings.read_concurrency, settings.write_concurrency)
        self.expect("kind", f"{process} asks too much at a time", holds=len(in_flight) - acts <= limits[0])
        self.expect("kind", f"{process} acts too much at a time", holds=acts <= limits[1])
        self.expect("kind", f"{process} does not wait as asked", holds=now >= process.hold_until - EPSILON)
        if exchange.is_act:
            self._may_act(exchange)
            look = self._looked(exchange)
            exchange.meant = look.shown[0].id
            self._is_just(exchange, look)
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
        kept = exchange.stop or exchange.query == b"deleteDisk=false"
        self.expect("disk", f"{process} deletes {path} with {exchange.query!r}", holds=kept)
        self._in_turn(exchange)
        self.expect("only", f"{process} acts on {path}", holds=settings.only is None or path in settings.only)
        acted = {e.path for e in process.exchanges if e.is_act}
        cap = -(-settings.max_acts // process.task[1])
        self.expect("cap", f"{process} acts on {len(acted)}, max-acts {cap}", holds=len(acted) <= cap)
        budget = settings.at_most is None or len(acted) <= settings.at_most
        self.expect("cap", f"{process} acts on {len(acted)}, at-most {settings.at_most}", holds=budget)
        self.expect("except", f"{process} acts on {path}", holds=path not in settings.excepted)
        noticed = exchange.stop or settings.notice_period is None
        self.expect("notice", f"{process} acts on {path}, of which nobody was told", holds=noticed)

    def _in_turn(self, exchange: Exchange) -> None:
        """What failed in earlier runs comes last."""
        process, path = exchange.process, exchange.path
        tried = {e.path for e in process.exchanges if e.is_act and e is not exchange}
        late = tried & process.failed_before and path not in tried | process.failed_before
        self.expect("order", f"{process} acts on {path} after {tried}, which failed before", holds=not late)

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
        look = next((e for e in reversed(before) if not e.is_act and e.name is not None and e.true and e.shown), None)
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
        at = max(self._at(process), look.wall_at)
        rule = is_overdue if exchange.stop else is_due
        kept = f"{process} acts on {exchange.path} ({state.id}), which the rule keeps: {state}"
        self.expect("unjust", kept, holds=rule(state, at, settings, begin))
        listed = {s.id for e in process.exchanges if e.name is None and not e.disks and e.delivered for s in e.shown}
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
        if not exchange.stop and machine.id == exchange.meant:
            self.ours[machine.id].append(exchange)

    # as a run ends

    def killed(self, process: "Process") -> None:
        self.world.tell(f"{process} is killed")

    def ended(self, process: "Process") -> None:
        self.expect("bug", f"{process} ended with 70", holds=process.code != ExitCode.BUG)
        for context in process.loop.broken:
            self.fail("bug", f"{process}: {context}")
        if process.code == ExitCode.USAGE:
            return
        self._exit_code(process)
        self._guards(process)
        self._asks_once(process)
        self._follows_the_newest(process)
        self._all_accounted_for(process)
        audited = [e for e in process.said if isinstance(e, events.RuntimeAudited)]
        machines = self.world.machines() if audited else {}
        for record in audited:
            if record.runtime_id is not None:
                self._is_true(process, record, machines.get(int(record.runtime_id)))

    def _exit_code(self, process: "Process") -> None:
        said, code = process.said, process.code
        audited = [e for e in said if isinstance(e, events.RuntimeAudited)]
        confirmed = [e for e in said if isinstance(e, events.DeletionConfirmed)]
        failed = (
            any(e.outcome in (Outcome.FAILED, Outcome.IN_DOUBT) for e in audited)
            or any(e.reason in (Reason.MALFORMED, Reason.FOREIGN_PROJECT) for e in audited)
            or any(CONFIRMATIONS[e.outcome].failed for e in confirmed)
            or any(isinstance(e, events.ProjectUnreadable | events.RuntimeMissing) for e in said)
        )
        refused = any(isinstance(e, events.RunRefused) for e in said)
        unrecorded = any(sink.failed for sink in process.sinks)
        late = process.monotonic() > process.deadline - process.settings.request_timeout.total_seconds() - LEAST_LEFT
        may_stop = process.signalled_at is not None or late
        not_attempted = any(e.outcome is Outcome.NOT_ATTEMPTED for e in audited)
        finished = next((e for e in reversed(said) if isinstance(e, events.RunFinished)), None)
        slow = code == ExitCode.UNRECORDED and any(sink.was_slow for sink in process.sinks)
        if unrecorded or slow:
            self.expect("exit code", f"{process}: {code} with a record lost", holds=code == ExitCode.UNRECORDED)
            return
        if finished is None:
            self.expect("exit code", f"{process}: {code} without a closing record", holds=code == 5 and may_stop)
            return
        self.expect("exit code", f"{process}: {code}, said {finished.exit_code}", holds=finished.exit_code == code)
        if not_attempted:
            self.expect("exit code", f"{process}: {code}, not all attempted", holds=code == 5 and may_stop)
        elif code == ExitCode.STOPPED:
            self.expect("exit code", f"{process}: 5 for no reason", holds=may_stop)
        elif finished.lists["unread"] and not finished.lists["read"]:
            self.expect("exit code", f"{process}: {code}, nothing read", holds=code == ExitCode.UNREADABLE)
        else:
            right = ExitCode.REFUSED if refused else ExitCode.FAILED if failed or finished.failed else ExitCode.DONE
            self.expect("exit code", f"{process}: {code} instead of {right}", holds=code == right)

    def _guards(self, process: "Process") -> None:
        """An inventory that is not to be believed is refused; a list that broke off counts as none."""
        finished = next((e for e in reversed(process.said) if isinstance(e, events.RunFinished)), None)
        if finished is None or process.job == "confirm-deletions":
            return
        whole = sum(e.name is None and not e.disks and e.true and e.delivered is not None for e in process.exchanges)
        read = finished.lists["read"]
        self.expect("list", f"{process} read {read} lists, {whole} came whole", holds=read <= whole)
        settings = process.settings
        must = read > 0 and not (finished.listed or settings.allow_empty or settings.only or process.task[1] > 1)
        refused = "empty_inventory" in finished.refused_by
        self.expect("guard", f"{process} believes an empty inventory", holds=refused or not must)

    def _follows_the_newest(self, process: "Process") -> None:
        """As far as clocks that differ by what is tolerated can tell which that is."""
        began = next((e for e in process.said if isinstance(e, events.RunStarted)), None)
        before = [
            p
            for p in self.world.processes
            if p.run_id != process.run_id and p.ended_at < process.born < p.ended_at + REACH and p.is_on_record
        ]
        if began is None or not before or self.clocks_differed or self.power_failed:
            return
        named = None if began.follows is None else began.follows.run_id
        ended = max((p.ended_at for p in self.world.processes if p.run_id == named), default=0.0)
        newest = max(p.ended_at for p in before)
        self.expect("chain", f"{process} follows {named}", holds=ended >= newest - 2 * HALF_TOLERANCE)

    def _asks_once(self, process: "Process") -> None:
        """What a confirmation before it had confirmed is not asked about again."""
        asked = {e.runtime_id for e in process.said if isinstance(e, events.DeletionConfirmed)}
        known = {
            e.runtime_id
            for other in (self.world.processes if asked and not self.power_failed else ())
            if other.ended_at < process.born and other.code in (ExitCode.DONE, ExitCode.FAILED)
            for e in other.said
            if isinstance(e, events.DeletionConfirmed) and e.outcome is Confirmation.CONFIRMED
        }
        self.expect("confirm", f"{process} asks about {asked & known} again", holds=not asked & known)

    def _all_accounted_for(self, process: "Process") -> None:
        """Each runtime of the lists that the sweep went by has its one record."""
        if process.code in (ExitCode.UNRECORDED, ExitCode.STOPPED) or process.settings.only is not None:
            return
        if process.job == "confirm-deletions":
            return
        lists: dict[str | None, Exchange] = {}
        for exchange in process.exchanges:
            if exchange.name is None and not exchange.disks and exchange.true and exchange.delivered:
                swept = process.settings.swept is not None or exchange.project is None
                if swept and exchange.delivered.status == 200:
                    lists.setdefault(exchange.project, exchange)
        shown = Counter(str(state.id) for exchange in lists.values() for state in exchange.shown)
        said = Counter(
            e.runtime_id for e in process.said if isinstance(e, events.RuntimeAudited) and e.runtime_id in shown
        )
        self.expect("account", f"{process}: listed {shown}, recorded {said}", holds=shown == said)

    def _is_true(self, process: "Process", record: events.RuntimeAudited, machine: Machine | None) -> None:
        """Against what the process was told, and what is so."""
        if machine is None or record.reason in (Reason.MALFORMED, Reason.FOREIGN_PROJECT):
            return
        of_it = [e for e in process.exchanges if e.delivered is not None]
        mine = [e for e in process.exchanges if e.is_act and e.path == f"{record.project}/{record.name}"]
        told = {
            (s.status, s.created, s.accessed)
            for e in of_it
            if e.true or e.fault == "breaks off"
            for s in e.shown
            if s.id == machine.id
        }
        saw = (record.status, self._date(record.created_date), self._date(record.date_accessed))
        self.expect("untrue", f"{process} saw {saw} of {record.name}, was told {told}", holds=saw in told)
        said = f"{process}: {record.project}/{record.name} ({machine.id}) is {record.outcome}, {record.evidence}"
        tries = len(mine) + sum(process.refused[path] for path in _act_paths(record))
        self.expect("untrue", f"{said}, {record.attempts} attempts", holds=record.attempts == tries)
        gone = machine.status in ON_ITS_WAY_OUT
        # Two lists see two instants: a role that comes back between them lets the second prove too much.
        came_back = self.world.roles_given_at >= process.born
        weak = record.evidence == Evidence.UNLISTED or (record.evidence == Evidence.PROJECT_SEEN and came_back)
        ours = any(e.process is process for e in self.ours.get(machine.id, ()))
        if record.outcome == Outcome.DELETION_ACCEPTED:
            self.expect("untrue", said, holds=ours or gone or weak)
        if record.outcome in (Outcome.GONE, Outcome.REPLACED):
            self.expect("untrue", said, holds=machine.status is TrueStatus.DELETED or weak)
        self._what_was_obeyed_is_said(process, record, machine, said)

    def _what_was_obeyed_is_said(
        self, process: "Process", record: events.RuntimeAudited, machine: Machine, said: str
    ) -> None:
        """Where Leonardo obeyed before the process asked last, it is not said that nothing happened."""
        if process.job != "delete-old-runtimes":
            return
        for exchange in self.ours.get(machine.id, ()):
            if exchange.process is process and exchange.answer.done() and exchange.delivered is not None:
                fine = (Outcome.DELETION_ACCEPTED, Outcome.IN_DOUBT, Outcome.FAILED, Outcome.ALREADY_DELETING)
                self.expect("untrue", f"{said}, though Leonardo obeyed", holds=record.outcome in fine)
                later = [e for e in process.exchanges[exchange.number + 1 :] if e.project == exchange.project]
                asked = record.outcome is not Outcome.FAILED or later or exchange.fault == "is doubled"
                self.expect("untrue", f"{said}, and nobody asked whether Leonardo obeyed", holds=bool(asked))

    def _date(self, date: datetime | None) -> int | None:
        return None if date is None else (date - self.world.at(0)) // MILLISECOND

    # at the end of the life

    def nothing_due_remains(self, since: int, settings: Settings) -> None:
        """What was due as the first of two undisturbed runs began is gone."""
        begin = self.world.at(0)
        for machine in self.world.living():
            state = self.world.state(machine)
            stuck = machine.deletion_ends_in != "gone" or machine.hidden
            late = is_due(state, since, settings, begin) and not stuck
            self.expect(
                "liveness", f"{state.project}/{state.name} ({state.id}) is still there: {state}", holds=not late
            )

    def confirmed(self, process: "Process") -> None:
        """What the log alone has led to is the truth."""
        told = {int(e.runtime_id): e for e in process.said if isinstance(e, events.DeletionConfirmed)}
        machines = self.world.machines()
        for identity, obeyed in self.ours.items():
            forgotten = all((e.served_at or 0.0) < self.world.now - SINCE for e in obeyed)
            if forgotten or all(exchange.fault == "is doubled" for exchange in obeyed):
                continue  # its own answer may be that it is being deleted already
            machine, record = machines[identity], told.get(identity)
            if record is None:
                ended = self._confirmed_before(identity)
                lost = self.power_failed or self.world.leonardo.raw_rows
                self.expect("confirm", f"nothing is said of {machine.name} ({identity})", holds=ended or bool(lost))
            elif record.outcome is Confirmation.CONFIRMED:
                gone = machine.status is TrueStatus.DELETED
                self.expect("confirm", f"{machine.name} ({identity}) is confirmed: {machine.status}", holds=gone)
            else:
                there = machine.status is not TrueStatus.DELETED
                self.expect("confirm", f"{machine.name} ({identity}) is {record.outcome}", holds=there)
        for identity, record in told.items():
            if record.outcome is Confirmation.CONFIRMED:
                gone = machines[identity].status is TrueStatus.DELETED
                self.expect("confirm", f"{record.name} ({identity}) is confirmed, and lives", holds=gone)

    def _confirmed_before(self, identity: int) -> bool:
        return any(
            isinstance(e, events.DeletionConfirmed) and e.runtime_id == str(identity)
            for process in self.world.processes
            for e in process.said
        )

    def log_is_whole(self) -> None:
        """`verify` finds nothing but what was done to the log."""
        records = AuditRecords(AuditFiles([self.world.log.path]))
        now = self.world.instant() + timedelta(days=1)
        hurt = {p.run_id for p in self.world.processes if p.dead or any(sink.failed for sink in p.sinks)}
        for verdict in verify(records, now):
            findings = [found for found in verdict.findings if not self._is_explained(found.kind, verdict.run_id, hurt)]
            self.expect("verify", f"{verdict.run_id}: {list(messages(findings))}", holds=not findings)
            doubt = verdict.in_doubt if verdict.run_id not in hurt else []
            self.expect("verify", f"{verdict.run_id}: in doubt {doubt}", holds=not doubt)
        faults = [fault for fault in chain(records.faults, ()) if not hurt]
        self.expect("verify", f"{faults}", holds=not faults)

    def _is_explained(self, kind: Kind, run_id: str, hurt: set[str]) -> bool:
        cut_off = run_id in hurt and kind in (Kind.MISSING_CLOSING, Kind.MISSING_TASK)
        return cut_off or (self.clocks_differed and kind in OF_CLOCKS)
