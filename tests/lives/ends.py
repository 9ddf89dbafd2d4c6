"""What must hold as a run ends: its exit code, its records, and what it asked for, against what is so."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from core.exit_code import ExitCode
from core.records import events
from core.records.outcome import CONFIRMATIONS, Outcome
from core.rules.confirmation import Confirmation
from core.rules.decision import Reason
from core.rules.evidence import MISSING, Evidence
from core.sandbox.machine import Machine, TrueStatus
from tests.lives.rule import HALF_TOLERANCE, LEAST_LEFT, MILLISECOND, REACH, SMALL_RUN, SWEEPS
from tests.lives.wire import Exchange

if TYPE_CHECKING:
    from tests.lives.oracle import Oracle
    from tests.lives.process import Process

Of = TypeVar("Of", bound=events.Event)
ON_ITS_WAY_OUT = (TrueStatus.PRE_DELETING, TrueStatus.DELETING, TrueStatus.DELETED)
TRIES = 5
LAST_PASSES = 2
"""So often at most is what is unsettled asked of the lists of its project."""
STREAK = 10
"""So many failures in a row end all acts."""
SMALL_RUN_OF_DISKS = 2


def hold_to_the_truth(oracle: "Oracle", process: "Process") -> None:
    """Raises ViolationError."""
    end = End(oracle, process)
    end.exit_code_is_right()
    end.follows_the_newest()
    end.asks_kindly()
    if process.job in SWEEPS:
        end.believes_its_inventory()
        end.accounts_for_all()
        end.stops_where_all_fails()
        end.records_are_true()
    elif process.job == "confirm-deletions":
        end.confirmations_are_true()
    elif process.job == "notify-owners":
        end.notices_are_true()
    else:
        end.disks_are_true()


class End:
    """One run that has ended."""

    def __init__(self, oracle: "Oracle", process: "Process") -> None:
        self.oracle = oracle
        self.world = oracle.world
        self.process = process
        self.expect = oracle.expect

    def said(self, kind: type[Of]) -> list[Of]:
        return [event for event in self.process.said if isinstance(event, kind)]

    @cached_property
    def audited(self) -> list[events.RuntimeAudited]:
        return self.said(events.RuntimeAudited)

    @cached_property
    def finished(self) -> events.RunFinished | None:
        return next(iter(self.said(events.RunFinished)), None)

    @property
    def was_cut_short(self) -> bool:
        return self.process.code in (ExitCode.UNRECORDED, ExitCode.STOPPED)

    def lists(self, *, disks: bool = False) -> Iterator[Exchange]:
        """Those that came whole."""
        kind = "disks" if disks else "list"
        for e in self.process.exchanges:
            if e.target.kind == kind and e.true and e.delivered is not None and e.delivered.status == 200:
                yield e

    # how it ended

    def exit_code_is_right(self) -> None:
        process, code, finished = self.process, self.process.code, self.finished
        late = process.monotonic() > process.deadline - process.settings.request_timeout.total_seconds() - LEAST_LEFT
        may_stop = process.signalled_at is not None or late
        not_attempted = any(e.outcome is Outcome.NOT_ATTEMPTED for e in self.audited)
        slow = code == ExitCode.UNRECORDED and any(sink.was_slow for sink in process.sinks)
        if slow or any(sink.failed for sink in process.sinks):
            self.expect("exit code", f"{process}: {code} with a record lost", holds=code == ExitCode.UNRECORDED)
            return
        if finished is None:
            self.expect("exit code", f"{process}: {code} without a closing record", holds=code == 5 and may_stop)
            return
        self.expect("exit code", f"{process}: {code}, said {finished.exit_code}", holds=finished.exit_code == code)
        if not_attempted:
            stopped = code == ExitCode.STOPPED and may_stop
            self.expect("exit code", f"{process}: {code}, not all attempted", holds=stopped)
        elif code == ExitCode.STOPPED:
            self.expect("exit code", f"{process}: 5 for no reason", holds=may_stop)
        elif finished.lists["unread"] and not finished.lists["read"]:
            self.expect("exit code", f"{process}: {code}, nothing read", holds=code == ExitCode.UNREADABLE)
        else:
            failed = ExitCode.FAILED if self._anything_failed() or finished.failed else ExitCode.DONE
            right = ExitCode.REFUSED if self.said(events.RunRefused) else failed
            self.expect("exit code", f"{process}: {code} instead of {right}", holds=code == right)
        self._names_what_failed(finished)

    def _anything_failed(self) -> bool:
        told = self.process.said
        return (
            any(e.outcome in (Outcome.FAILED, Outcome.IN_DOUBT) for e in self.audited)
            or any(e.reason in (Reason.MALFORMED, Reason.FOREIGN_PROJECT) for e in self.audited)
            or any(CONFIRMATIONS[e.outcome].failed for e in self.said(events.DeletionConfirmed))
            or any(isinstance(e, events.ProjectUnreadable | events.RuntimeMissing | events.NoticeFailed) for e in told)
        )

    def _names_what_failed(self, finished: events.RunFinished) -> None:
        failed = {f"{e.project}/{e.name}" for e in self.audited if e.outcome in (Outcome.FAILED, Outcome.IN_DOUBT)}
        unnamed = failed - set(finished.failed)
        self.expect("exit code", f"{self.process} does not name {unnamed} as failed", holds=not unnamed)

    def follows_the_newest(self) -> None:
        """As far as clocks that differ by what is tolerated can tell which that is."""
        process, world = self.process, self.world
        began = next(iter(self.said(events.RunStarted)), None)
        before = [
            p
            for p in world.processes
            if p.run_id != process.run_id and p.ended_at < process.born < p.ended_at + REACH and p.is_on_record
        ]
        if began is None or not before or self.oracle.clocks_differed or self.oracle.power_failed:
            return
        named = None if began.follows is None else began.follows.run_id
        ended = max((p.ended_at for p in world.processes if p.run_id == named), default=0.0)
        newest = max(p.ended_at for p in before)
        self.expect("chain", f"{process} follows {named}", holds=ended >= newest - 2 * HALF_TOLERANCE)

    # what it asked for

    def asks_kindly(self) -> None:
        """Lists are asked for five times at most, and what is unsettled twice; each call is counted."""
        process = self.process
        swept = process.settings.swept is not None or process.settings.only is not None
        tries = Counter(e.target for e in process.exchanges if e.is_list and not e.asks_to_wait)
        whole = Counter(e.target for disks in (False, True) for e in self.lists(disks=disks))
        for target, count in tries.items():
            of_inventory = target.kind == "list" and (target.project is None or swept)
            most = of_inventory + LAST_PASSES if process.job in SWEEPS else 1
            asked = f"{process} asks {count} times for {target}, {whole[target]} came"
            self.expect("kind", asked, holds=whole[target] <= most and count <= most * TRIES)
        if self.finished is not None:
            self._counts_its_calls(self.finished.calls)

    def _counts_its_calls(self, said: dict[str, int]) -> None:
        process = self.process
        left = Counter(e.target.kind for e in process.exchanges)
        refused = Counter(target.kind for target in process.refused.elements())
        for kind in ("delete", "stop"):
            made = left[kind] + refused[kind]
            counted = f"{process} says that it made {said[kind]} calls ({kind}), and made {made}"
            self.expect("untrue", counted, holds=said[kind] == made)

    # a sweep

    def believes_its_inventory(self) -> None:
        """An inventory that is not to be believed is refused; a list that broke off counts as none."""
        process, settings, finished = self.process, self.process.settings, self.finished
        if finished is None:
            return
        whole = sum(1 for _ in self.lists())
        read = finished.lists["read"]
        self.expect("list", f"{process} read {read} lists, {whole} came whole", holds=read <= whole)
        must = read > 0 and not (finished.listed or settings.allow_empty or settings.only or process.task[1] > 1)
        refused = "empty_inventory" in finished.refused_by
        self.expect("guard", f"{process} believes an empty inventory", holds=refused or not must)
        lost = self._shrunken(finished)
        fine = lost is None or "shrunken_inventory" in finished.refused_by
        self.expect("guard", f"{process} believes an inventory that has lost {lost}", holds=fine)

    def _shrunken(self, finished: events.RunFinished) -> str | None:
        """By the newest run of all runtimes that was like this one; None where nothing can be told."""
        process, world = self.process, self.world
        if not _sees_all(process) or process.settings.allow_shrunken or not finished.lists["read"]:
            return None
        if self.oracle.clocks_differed or self.oracle.power_failed:
            return None
        alike = [
            p
            for p in world.processes
            if p.job == process.job
            and _sees_all(p)
            and p.is_on_record
            and p.settings.dry_run == process.settings.dry_run
            if p.ended_at < process.born < p.born + REACH
        ]
        if not alike or any(p.settings.allow_shrunken for p in alike[:-1]):
            return None
        closing = alike[-1].said[-1]
        if not isinstance(closing, events.RunFinished) or closing.lists["unread"] or not closing.lists["read"]:
            return None
        if {"empty_inventory", "shrunken_inventory", "clock_skew", "expect_at_least"} & set(closing.refused_by):
            return None
        since = [
            p for p in world.processes if p is not alike[-1] and not p.settings.dry_run and p.ended_at > alike[-1].born
        ]
        accepted = sum(
            e.outcome is Outcome.DELETION_ACCEPTED
            for p in since
            for e in p.said
            if isinstance(e, events.RuntimeAudited)
        )
        expected = closing.living - accepted
        lives = sum(e.status != "Deleting" for e in self.audited)
        lost = expected - lives
        return f"{lost} of {expected}" if lost > max(SMALL_RUN, 0.25 * expected) else None

    def accounts_for_all(self) -> None:
        """Each runtime of the lists that the sweep went by has its one record, and is judged once."""
        if self.was_cut_short or self.process.settings.only is not None:
            return
        lists: dict[str | None, Exchange] = {}
        for exchange in self.lists():
            if self.process.settings.swept is not None or exchange.project is None:
                lists.setdefault(exchange.project, exchange)
        shown = Counter(str(state.id) for exchange in lists.values() for state in exchange.shown)
        said = Counter(e.runtime_id for e in self.audited if e.runtime_id in shown)
        broke_off = any(e.target.kind == "list" and e.fault == "breaks off" for e in self.process.exchanges)
        fine = shown <= said if broke_off else shown == said
        self.expect("account", f"{self.process}: listed {shown}, recorded {said}", holds=fine)
        aside = (Reason.DUPLICATE, Reason.FOREIGN_PROJECT, Reason.CLOUD_NOT_SUPPORTED)
        judged = Counter(e.runtime_id for e in self.audited if e.runtime_id in shown and e.reason not in aside)
        twice = [identity for identity, count in judged.items() if count > 1]
        self.expect("account", f"{self.process} judges {twice} twice", holds=not twice)

    def stops_where_all_fails(self) -> None:
        """Of acts that fail in a row no more leave than are on their way as the tenth fails."""
        process = self.process
        answered = [e for e in process.exchanges if e.is_act and e.delivered is not None]
        in_a_row, known = 0, set(process.failed_before)
        for act in sorted(answered, key=lambda e: e.delivered_at or 0.0):
            if act.path in known or act.asks_to_wait:
                continue
            known.add(act.path)
            in_a_row = in_a_row + 1 if act.failed else 0
            fine = in_a_row < STREAK + process.settings.write_concurrency or process.signalled_at is not None
            self.expect("failing", f"{process} goes on after {in_a_row} failures in a row", holds=fine)

    def records_are_true(self) -> None:
        """Without evidence few are gone: of many, a lost role is the better reason."""
        unlisted = sum(e.evidence == Evidence.UNLISTED for e in self.audited)
        held = sum(e.outcome is not Outcome.KEPT for e in self.audited)
        few = unlisted <= max(SMALL_RUN, 0.25 * held)
        self.expect("untrue", f"{self.process} believes that {unlisted} of {held} are gone", holds=few)
        machines = self.world.machines() if self.audited else {}
        for record in self.audited:
            machine = None if record.runtime_id is None else machines.get(int(record.runtime_id))
            if machine is not None and record.reason not in (Reason.MALFORMED, Reason.FOREIGN_PROJECT):
                self._is_true(record, machine)

    def _is_true(self, record: events.RuntimeAudited, machine: Machine) -> None:
        """Against what the process was told, and what is so."""
        process = self.process
        told = {
            (s.status, s.created, s.accessed)
            for e in process.exchanges
            if e.delivered is not None and (e.true or e.fault == "breaks off")
            for s in e.shown
            if s.id == machine.id
        }
        saw = (record.status, self._date(record.created_date), self._date(record.date_accessed))
        self.expect("untrue", f"{process} saw {saw} of {record.name}, was told {told}", holds=saw in told)
        said = f"{process}: {record.project}/{record.name} ({machine.id}) is {record.outcome}, {record.evidence}"
        path = f"{record.project}/{record.name}"
        mine = [e.target for e in process.exchanges if e.is_act] + list(process.refused.elements())
        tries = sum(target.kind in ("delete", "stop") and target.path == path for target in mine)
        tries = 0 if record.reason == Reason.DUPLICATE else tries
        self.expect("untrue", f"{said}, {record.attempts} attempts", holds=record.attempts == tries)
        gone = machine.status in ON_ITS_WAY_OUT or any(status in ON_ITS_WAY_OUT for status, *_ in told)
        weak = self.is_weak(record.evidence, record.project)
        ours = any(e.process is process for e in self.oracle.ours.get(machine.id, ()))
        if record.outcome == Outcome.DELETION_ACCEPTED:
            self.expect("untrue", said, holds=ours or gone or weak)
        if record.outcome in (Outcome.GONE, Outcome.REPLACED):
            self.expect("untrue", said, holds=machine.status is TrueStatus.DELETED or weak)
        self._what_was_obeyed_is_said(record, machine, said)

    def is_weak(self, evidence: str | None, project: str | None) -> bool:
        """Two lists see two instants: where the role comes back between them, the second proves too much."""
        if evidence != Evidence.PROJECT_SEEN:
            return evidence == Evidence.UNLISTED
        lists, disks = ([e for e in self.lists(disks=of) if e.project == project] for of in (False, True))
        return bool(lists and disks) and lists[-1].blind and not disks[-1].blind

    def _was_in_error(self, machine: Machine) -> bool:
        """As it was listed: where its deletion fails once more, a look finds it as it was, but for a later date."""
        return any((s.id, s.status) == (machine.id, "Error") for e in self.lists() for s in e.shown)

    def _what_was_obeyed_is_said(self, record: events.RuntimeAudited, machine: Machine, said: str) -> None:
        """Where Leonardo obeyed before the process asked last, it is not said that nothing happened."""
        process = self.process
        if process.job != "delete-old-runtimes":
            return
        for exchange in self.oracle.ours.get(machine.id, ()):
            if exchange.process is process and exchange.answer.done() and exchange.delivered is not None:
                fine = (Outcome.DELETION_ACCEPTED, Outcome.IN_DOUBT, Outcome.FAILED, Outcome.ALREADY_DELETING)
                by_its_twin = record.outcome == Outcome.GONE and exchange.fault == "is doubled"
                no_worse = record.outcome == Outcome.SPARED and self._was_in_error(machine) and record.status == "Error"
                told = record.outcome in fine or by_its_twin or no_worse or record.reason == Reason.DUPLICATE
                self.expect("untrue", f"{said}, though Leonardo obeyed", holds=told)
                later = [e for e in process.exchanges[exchange.number + 1 :] if e.project == exchange.project]
                asked = record.outcome is not Outcome.FAILED or later or exchange.fault == "is doubled"
                self.expect("untrue", f"{said}, and nobody asked whether Leonardo obeyed", holds=bool(asked))

    def _date(self, date: datetime | None) -> int | None:
        return None if date is None else (date - self.world.at(0)) // MILLISECOND

    # the other jobs

    def confirmations_are_true(self) -> None:
        """What is confirmed is gone; what a confirmation before this one had confirmed is not asked about again."""
        process, machines = self.process, self.world.machines()
        confirmed = self.said(events.DeletionConfirmed)
        self._believes_few(confirmed)
        for e in confirmed:
            machine = machines[int(e.runtime_id)]
            fine = machine.status is TrueStatus.DELETED or self.is_weak(e.evidence, e.project)
            said = f"{process}: {e.project}/{e.name} ({e.runtime_id}) is confirmed, {e.evidence}"
            self.expect("confirm", said, holds=fine or e.outcome is not Confirmation.CONFIRMED)
            seen = not any(list_.blind for list_ in self.lists(disks=True) if list_.project == e.project)
            there = e.disk_status == MISSING and int(e.persistent_disk_id or 0) in self.world.leonardo.disks and seen
            self.expect("confirm", f"{process}: disk {e.persistent_disk_id} is missing, and is there", holds=not there)
            self._rests_on_lists(e)
        asked = {e.runtime_id for e in confirmed}
        in_order = not (self.oracle.power_failed or self.oracle.clocks_differed)
        known = {
            e.runtime_id
            for other in (self.world.processes if asked and in_order else ())
            if other.ended_at < process.born and other.code in (ExitCode.DONE, ExitCode.FAILED)
            for e in other.said
            if isinstance(e, events.DeletionConfirmed) and e.outcome is Confirmation.CONFIRMED
            if not self._is_listed_since(other, e.runtime_id)
        }
        self.expect("confirm", f"{process} asks about {asked & known} again", holds=not asked & known)

    def _rests_on_lists(self, told: events.DeletionConfirmed) -> None:
        """What it takes for proof was listed, and where only the disks could tell, they were asked for."""
        said = f"{self.process}: {told.project}/{told.name} ({told.runtime_id}) is {told.outcome}, {told.evidence}"
        lists, disks = ([e for e in self.lists(disks=of) if e.project == told.project] for of in (False, True))
        if told.evidence == Evidence.PROJECT_SEEN:
            seen = any(s.project == told.project for e in lists for s in e.shown) or any(e.disk_ids for e in disks)
            self.expect("confirm", f"{said}, and nothing of it was listed", holds=seen)
        if told.status is None and (told.persistent_disk_id is not None or told.evidence == Evidence.UNLISTED):
            self.expect("confirm", f"{said}, and no disks were asked for", holds=bool(disks))

    def _believes_few(self, confirmed: list[events.DeletionConfirmed]) -> None:
        """Without evidence, but for what was out of sight before."""
        known = {
            e.runtime_id
            for p in self.world.processes
            for e in p.said
            if p is not self.process and isinstance(e, events.DeletionConfirmed)
            if e.outcome is Confirmation.NOT_VISIBLE
        }
        with_disk = [e for e in confirmed if e.persistent_disk_id is not None]
        asked = with_disk or confirmed
        unlisted = sum(e.evidence == Evidence.UNLISTED and e.runtime_id not in known for e in asked)
        few = unlisted <= max(SMALL_RUN_OF_DISKS if with_disk else SMALL_RUN, 0.25 * len(asked))
        self.expect("confirm", f"{self.process} believes that {unlisted} of {len(asked)} are gone", holds=few)

    def _is_listed_since(self, earlier: "Process", identity: str) -> bool:
        """Whether a run that went on after this one has judged the runtime, or said that it was about to delete it."""
        return any(
            isinstance(e, events.DeletionRequested | events.RuntimeAudited) and e.runtime_id == identity
            for p in self.world.processes
            if p.is_running or p.dead or p.ended_at > earlier.born
            for e in p.said
        )

    def notices_are_true(self) -> None:
        """Whoever is said to be told was told, and the other way round."""
        process = self.process
        taken = {
            notice["data"]["runtime_id"]
            for e in process.exchanges
            if e.delivered is not None and 200 <= e.delivered.status < 300 and not e.delivered.breaks_off
            for notice in e.notices
        }
        told = {e.runtime_id for e in self.said(events.NoticeSent)}
        right = told <= taken if self.was_cut_short else told == taken
        self.expect("notice", f"{process} says that it told of {told}, and told of {taken}", holds=right)

    def disks_are_true(self) -> None:
        """Each disk of a list that came whole has its one record, which says rightly whether it is attached."""
        if self.was_cut_short:
            return
        records = self.said(events.DiskAudited)
        said = Counter(int(e.disk_id) for e in records)
        shown = Counter(number for e in self.lists(disks=True) for number in e.disk_ids)
        broke_off = any(e.target.kind == "disks" and e.fault == "breaks off" for e in self.process.exchanges)
        fine = shown <= said if broke_off else shown == said
        self.expect("account", f"{self.process}: disks {shown}, recorded {said}", holds=fine)
        attached = {number for e in self.lists() for number in e.disk_ids}
        wrong = [e.disk_id for e in records if (e.reason == "attached") != (int(e.disk_id) in attached)]
        self.expect("untrue", f"{self.process}: disks {wrong} are said to be attached, or not to be", holds=not wrong)


def _sees_all(process: "Process") -> bool:
    settings = process.settings
    return settings.swept is None and settings.only is None and process.task[1] == 1
