"""What must hold at the end of a life: nothing due remains, and the log alone leads whoever reads it to the truth."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from core.records import events
from core.records.files import AuditFiles
from core.records.outcome import ENDED, PLANNED, Outcome
from core.records.reader import AuditRecords
from core.review.promise import PATIENCE, promise
from core.rules.confirmation import Confirmation
from core.rules.decision import Reason
from core.rules.evidence import Evidence
from core.run.previous import REACH
from core.sandbox.machine import TrueStatus
from core.settings.fields import Settings
from core.verify import verify
from core.verify.finding import Kind, messages
from tests.lives.ends import End
from tests.lives.rule import is_due, is_exempt, milliseconds

if TYPE_CHECKING:
    from tests.lives.process import Process
    from tests.lives.world import World

SINCE = 30 * 86400.0 - 7200.0
"""Seconds that a confirmation looks back, less what passes until the last one."""
ASKED_AGAIN = REACH.total_seconds() - 86400.0
"""Seconds for which what was confirmed without evidence is asked again once it is listed, less what clocks differ."""
SECOND = 1000
TOLD_WITHIN = timedelta(minutes=5)
"""The period of a notice counts from when it was taken, which `not_before` cannot know."""
OF_CLOCKS = (Kind.PREDECESSOR, Kind.TIME, Kind.INSTANT, Kind.DURATION, Kind.DISK, Kind.ACT)
"""What `verify` rightly says of runs whose clocks differ by more than it tolerates."""
PLANNED_FOR = frozenset(
    {Outcome.DELETION_ACCEPTED, Outcome.FAILED, Outcome.CONFLICT, Outcome.ALREADY_DELETING, Outcome.GONE}
)
"""What a live run may come to where its rehearsal would have acted."""


class Remains:
    """A world in which all runs but the last ones have ended; raises ViolationError."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.oracle = world.oracle
        self.expect = world.oracle.expect

    def nothing_due(self, since: int, settings: Settings, last_began: datetime) -> None:
        """What was due as the first of two undisturbed runs began is gone, or its owner was told of a later time."""
        begin = self.world.at(0)
        for machine in self.world.living():
            state = self.world.state(machine)
            stuck = machine.deletion_ends_in != "gone" or machine.hidden
            promised = any(at > last_began - TOLD_WITHIN for at in self._not_before(str(state.id)))
            late = is_due(state, since, settings, begin) and not (stuck or promised)
            self.expect(
                "liveness", f"{state.project}/{state.name} ({state.id}) is still there: {state}", holds=not late
            )

    def same_decisions(self, rehearsed: "Process", lived: "Process") -> None:
        """A dry run decides as the live run right after it, and asks for the same but the acts."""
        dry, live = (
            {e.runtime_id: e for e in p.said if isinstance(e, events.RuntimeAudited) and e.reason != Reason.MALFORMED}
            for p in (rehearsed, lived)
        )
        moved = False
        for identity in dry.keys() & live.keys():
            planned, done = dry[identity], live[identity]
            final = None if planned.created_date is None else planned.created_date + lived.settings.max_age
            ends = [exemption.until for exemption in lived.settings.exemptions]
            turns = [at for at in (planned.due_at, final, *ends) if at is not None]
            allowed = any(
                planned.judged_at - TOLD_WITHIN <= at <= done.judged_at for at in self._allowed(lived, identity)
            )
            turned = allowed or any(planned.judged_at <= at <= done.judged_at for at in turns)
            if planned.status != done.status or turned:
                moved = True
                continue
            path = f"{planned.project}/{planned.name}"
            said = f"{path} is {planned.outcome}, {planned.reason}; then {done.outcome}, {done.reason}"
            same = (planned.action, planned.reason) == (done.action, done.reason)
            acted = done.outcome in PLANNED_FOR if planned.outcome in PLANNED else planned.outcome == done.outcome
            self.expect("same decisions", said, holds=same and acted)
        asked = [sum(e.is_look for e in p.exchanges) for p in (rehearsed, lived)]
        alike = moved or dry.keys() != live.keys() or asked[0] == asked[1]
        self.expect("same decisions", f"the dry run looks {asked[0]} times, the live one {asked[1]}", holds=alike)

    def _allowed(self, lived: "Process", identity: str | None) -> Iterator[datetime]:
        """From when, or a little later, a notice lets it be deleted, whatever period its own run went by."""
        period = lived.settings.notice_period or timedelta(0)
        for not_before in self._not_before(identity):
            yield from (not_before, not_before + period)

    def _not_before(self, identity: str | None) -> Iterator[datetime]:
        """What its owner was told: until then nobody deletes it."""
        for process in self.world.processes:
            for told in process.said:
                if isinstance(told, events.NoticeSent) and told.runtime_id == identity:
                    yield told.not_before

    def promise_is_told(self, last: "Process") -> None:
        """Who lives on above the maximum age as the last run ended, but what it had accepted."""
        world, settings = self.world, last.settings
        now, begin = world.instant(), world.at(0)
        told = promise(AuditRecords(AuditFiles([world.log.path])), now)
        self.expect("promise", f"it is told of {told.run.run_id}", holds=told.run.run_id == last.run_id)
        records = [e for e in last.said if isinstance(e, events.RuntimeAudited)]
        ended = {int(e.runtime_id or 0) for e in records if e.outcome in ENDED}
        at = (now - begin) // timedelta(milliseconds=1)
        limit = milliseconds(settings.max_age)
        old, breaking = set(), set()
        for machine in world.living():
            state = world.state(machine)
            over = at - state.created - limit
            if state.cloud != "GCP" or state.id in ended or abs(over - milliseconds(PATIENCE)) < SECOND:
                continue
            if over > SECOND:
                old.add(str(state.id))
                if over > milliseconds(PATIENCE) and not (
                    state.status in ("Running", "Stopped")
                    and is_exempt(state, at - milliseconds(PATIENCE), settings, begin)
                ):
                    breaking.add(str(state.id))
        rows = {row.runtime_id: row for row in told.over_age if row.runtime_id is not None}
        self.expect("promise", f"{sorted(map(str, rows))} are too old, and {old} are", holds=old <= rows.keys())
        said = {identity for identity, row in rows.items() if row.breaks}
        fine = said == breaking and told.kept is not bool(breaking)
        self.expect(
            "promise", f"it is broken by {said}, and is by {breaking}", holds=fine or bool(world.leonardo.raw_rows)
        )

    def confirmed(self, process: "Process") -> None:
        """What the log alone has led to is the truth."""
        told = {int(e.runtime_id): e for e in process.said if isinstance(e, events.DeletionConfirmed)}
        machines = self.world.machines()
        for identity, obeyed in self.oracle.ours.items():
            forgotten = all((e.served_at or 0.0) < self.world.now - SINCE for e in obeyed)
            if forgotten or all(exchange.fault == "is doubled" for exchange in obeyed):
                continue  # its own answer may be that it is being deleted already
            machine, record = machines[identity], told.get(identity)
            if record is None:
                gone = machine.status is TrueStatus.DELETED
                ended = self._confirmed_before(identity, gone=gone) or (gone and self._was_found_gone(identity))
                lost = self.oracle.power_failed or self.world.leonardo.raw_rows
                self.expect("confirm", f"nothing is said of {machine.name} ({identity})", holds=ended or bool(lost))
            elif record.outcome is Confirmation.CONFIRMED:
                gone = machine.status is TrueStatus.DELETED
                self.expect("confirm", f"{machine.name} ({identity}) is confirmed: {machine.status}", holds=gone)
            elif record.outcome is Confirmation.NOT_VISIBLE:
                seen = self._shows_something(machine.project)
                self.expect("confirm", f"{machine.name} ({identity}) is not visible, its project is", holds=not seen)
            else:
                there = machine.status is not TrueStatus.DELETED
                self.expect("confirm", f"{machine.name} ({identity}) is {record.outcome}", holds=there)

    def _shows_something(self, project: str) -> bool:
        """That the caller did not make itself, so that it has its role."""
        leonardo = self.world.leonardo
        creators = [machine.creator for machine in self.world.living() if machine.project == project]
        creators += [disk.creator for disk in leonardo.disks.values() if disk.project == project]
        return any(creator != leonardo.caller for creator in creators)

    def _confirmed_before(self, identity: int, *, gone: bool) -> bool:
        """Rightly, or by two lists between which the role came back, which nothing in the log shows, or long ago."""
        return any(
            isinstance(e, events.DeletionConfirmed)
            and e.runtime_id == str(identity)
            and (
                gone
                or (e.evidence == Evidence.PROJECT_SEEN and End(self.oracle, p).is_weak(e.evidence, e.project))
                or (e.evidence == Evidence.UNLISTED and p.born < self.world.now - ASKED_AGAIN)
            )
            for p in self.world.processes
            for e in p.said
        )

    def _was_found_gone(self, identity: int) -> bool:
        """By a run beside the one that did it: then the log tells what became of it, whoever was killed."""
        return any(
            isinstance(e, events.RuntimeAudited)
            and (e.runtime_id, e.outcome) == (str(identity), Outcome.GONE)
            and e.evidence is not None
            for p in self.world.processes
            for e in p.said
        )

    def log_is_whole(self) -> None:
        """`verify` finds nothing but what was done to the log."""
        records = AuditRecords(AuditFiles([self.world.log.path]))
        now = self.world.instant() + timedelta(days=1)
        lost = self.oracle.power_failed
        hurt = {
            p.run_id
            for p in self.world.processes
            if p.dead or any(sink.failed or (lost and sink.fault == "lies") for sink in p.sinks)
        }
        for verdict in verify(records, now):
            findings = [found for found in verdict.findings if not self._is_explained(found.kind, verdict.run_id, hurt)]
            self.expect("verify", f"{verdict.run_id}: {list(messages(findings))}", holds=not findings)
            doubt = verdict.in_doubt if verdict.run_id not in hurt else []
            self.expect("verify", f"{verdict.run_id}: in doubt {doubt}", holds=not doubt)
        if self.world.has_cloud and not hurt and not self.oracle.power_failed:
            alike = sorted(self.world.cloud.splitlines()) == sorted(self.world.log.path.read_bytes().splitlines())
            self.expect("verify", "the log service holds other records than the file", holds=alike)
        faults = [] if hurt else list(records.faults)
        self.expect("verify", f"{faults}", holds=not faults)

    def _is_explained(self, kind: Kind, run_id: str, hurt: set[str]) -> bool:
        cut_off = run_id in hurt and kind in (Kind.MISSING_CLOSING, Kind.MISSING_TASK)
        return cut_off or (self.oracle.clocks_differed and kind in OF_CLOCKS)
