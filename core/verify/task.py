"""Whether the records of one task of a run are all there and agree; what tasks have in common is asked in `runs`."""

from array import array
from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import islice
from operator import gt

from msgspec import UNSET

from core.records.digest import Digests, of_line
from core.records.events import ALL_RUNTIMES
from core.records.outcome import CONFIRMATIONS, FAILED, NEEDS_A_PERSON, Outcome
from core.records.reader import Record
from core.rules.confirmation import Confirmation
from core.rules.decision import CLOCK_TOLERANCE, Reason
from core.rules.evidence import MISSING, Evidence
from core.rules.words import counted
from core.runtime import GCP, RuntimeStatus
from core.verify.acts import Acts
from core.verify.closing import Tally, closing_faults
from core.verify.decisions import Decisions
from core.verify.finding import Finding, Kind
from core.verify.rejudge import Rules

FEW = 10
UNTOLD = float("-inf")
"""Stands for the time of a record that has none."""
STATUSES: dict[str, tuple[str | None, ...]] = {
    Confirmation.CONFIRMED: (None, RuntimeStatus.DELETED),
    Confirmation.NOT_VISIBLE: (None,),
    Confirmation.PENDING: (RuntimeStatus.DELETING,),
    Confirmation.STUCK: (RuntimeStatus.DELETING,),
    Confirmation.ERRORED: (RuntimeStatus.ERROR,),
}
"""What a runtime can be when it is told so."""
GONE = (None, RuntimeStatus.DELETED, RuntimeStatus.DELETING, RuntimeStatus.ERROR)


class Task:
    """One task of a run: records with a `seq` of their own."""

    def __init__(self, first: Record, started: Record | None, rules: Rules | None) -> None:
        """`started` is its own first record, or else that of another task."""
        self._run_id, self._index = first.run_id, first.task_index
        self.started = started
        self.closing: Record | None = None
        self.records = 0
        self.tally = Tally()
        self._rules = rules
        self._announced = Acts()
        self._lines = Lines()
        self._incarnations = Incarnations()
        self._decisions = Decisions(self.started, rules)
        self._findings: list[Finding] = []

    def add(self, record: Record) -> None:
        self.records += 1
        self._lines.add(record)
        match record.event:
            case "runtime_audited":
                self._add_audited(record)
            case "deletion_requested" | "stop_requested":
                self._findings += map(_finding, self._announced.add_intent(record, self._rules))
            case "deletion_confirmed":
                self._add_confirmation(record)
            case "disk_audited":
                self.tally.disks[record.reason] += 1
            case "run_finished":
                self.closing = record
            case "run_refused":
                self.tally.refusals.append(record)
            case "run_skipped":
                self.tally.skipped = True
            case "project_unreadable":
                self.tally.unreadable += 1
                self.tally.failed[record.project or ALL_RUNTIMES] += 1
            case "runtime_missing":
                self.tally.failed[record.path] += 1
            case _:
                pass

    def _add_audited(self, record: Record) -> None:
        self.tally.add(record)
        if record.reason in (Reason.MALFORMED, Reason.FOREIGN_PROJECT) or record.outcome in FAILED:
            self.tally.failed[record.path] += 1
        if record.reason != Reason.MALFORMED:
            again = self._incarnations.add(record)
            if again is not None:
                self._findings.append(_finding((Kind.INCARNATION, record, again)))
        if record.outcome != Outcome.KEPT and not record.dry_run:
            self._announced.add_end(record)
        for kind, fault in self._decisions.faults(record):
            self._findings.append(_finding((kind, record, fault)))

    def _add_confirmation(self, record: Record) -> None:
        self.tally.confirmations[record.outcome] += 1
        if record.outcome in NEEDS_A_PERSON:
            self.tally.failed[record.path] += 1
        for kind, fault in _confirmation_faults(record):
            self._findings.append(_finding((kind, record, fault)))

    def without_outcome(self) -> list[Record]:
        """The intents that have none, one for each runtime."""
        return self._announced.without_outcome()

    def findings(self, *, still_open: bool) -> Iterator[Finding]:
        """What is off; an open run is not held to what it has not come to."""
        yield from self._findings
        for kind, message in self._lines.faults(self.closing):
            yield self._found(kind, message)
        for record in () if still_open else self._incarnations.of_no_other():
            yield _finding((Kind.INCARNATION, record, "is a duplicate of no other record"))
        yield from map(_finding, self._announced.faults())
        if self.closing is not None:
            announced = self._announced.announced
            for kind, message in closing_faults(self.closing, self.tally, self.started, announced=announced):
                yield self._found(kind, message, self.closing.seq)
            for intent in self.without_outcome():
                yield _finding((Kind.ACT, intent, "an act was announced and has no outcome"))
        elif not still_open:
            cut_off = "run_finished is missing: the run was cut off, or its last records were removed"
            yield self._found(Kind.MISSING_CLOSING, cut_off)

    def _found(self, kind: Kind, message: str, seq: int | None = None) -> Finding:
        return Finding(kind=kind, run_id=self._run_id, task_index=self._index, seq=seq, runtime=None, message=message)


class Lines:
    """The lines of one task, in whatever order they come: their numbers, times and digests."""

    def __init__(self) -> None:
        self._digests = Digests()
        self._times = array("d")
        self._untold = False
        """Whether the digest of a line is not known."""
        self._opening_at: int | None = None

    def add(self, record: Record) -> None:
        seq, digest = record.seq, record.line_digest
        if digest is None:
            self._untold, digest = True, of_line(b"%d" % seq)
        self._digests.setdefault(seq, digest)
        if record.event == "run_started":
            self._opening_at = seq
        count = len(self._times)
        at = UNTOLD if record.time is None else _timestamp(record.time)
        if seq == count:
            self._times.append(at)
        elif 0 <= seq < len(self._digests):
            if seq > count:
                self._times.extend([UNTOLD] * (seq + 1 - count))
            self._times[seq] = at

    def faults(self, closing: Record | None) -> Iterator[tuple[Kind, str]]:
        for seq in self._digests.numbers_nobody_has():
            yield Kind.SEQ, f"seq {seq} has a seq that no record can have here"
        missing = [seq for seq in self._digests.missing() if seq or self._opening_at is not None]
        if missing:
            yield Kind.MISSING_RECORD, f"{counted(len(missing), 'record')} missing: seq {numbers(missing)}"
        if self._opening_at is None:
            yield Kind.MISSING_OPENING, "run_started is missing"
        elif self._opening_at != 0:
            yield Kind.SEQ, f"seq {self._opening_at} (run_started) is not the first record"
        if closing is not None and closing.seq != len(self._digests) - 1:
            yield Kind.SEQ, f"seq {closing.seq} (run_finished) is not the last record"
        yield from self._time_faults()
        said = None if closing is None else closing.records_digest
        if said is not None and not self._untold and said != self._digests.whole():
            yield Kind.DIGEST, "run_finished has a records_digest that its task's lines do not give"

    def _time_faults(self) -> Iterator[tuple[Kind, str]]:
        """A wall clock may have been set back a little while an older version wrote."""
        newest = UNTOLD
        if any(map(gt, self._times, self._times[1:])):
            for seq, at in enumerate(self._times):
                if newest - at > CLOCK_TOLERANCE.total_seconds() and at != UNTOLD:
                    yield Kind.TIME, f"seq {seq} is of a time before that of an earlier record"
                    return
                newest = max(newest, at)


class Incarnations:
    """Which runtimes one task has decided about: each once, but for its duplicates."""

    def __init__(self) -> None:
        self._judged: set[str] = set()
        self._foreign: set[str] = set()
        self._duplicates: list[Record] = []

    def add(self, record: Record) -> str | None:
        """What is wrong with a second decision about an id."""
        runtime_id = record.runtime_id or ""
        if record.reason == Reason.DUPLICATE:
            self._duplicates.append(record)
        elif record.cloud_provider != GCP:
            self._foreign.add(runtime_id)
        elif runtime_id in self._judged:
            return f"is a second decision about id {runtime_id}, and no duplicate"
        else:
            self._judged.add(runtime_id)
        return None

    def of_no_other(self) -> Iterator[Record]:
        known = self._judged | self._foreign if self._duplicates else self._judged
        return (record for record in self._duplicates if (record.runtime_id or "") not in known)


def _timestamp(time: datetime) -> float:
    try:
        return time.timestamp()
    except (OverflowError, ValueError):
        return UNTOLD


def _confirmation_faults(record: Record) -> Iterator[tuple[Kind, str]]:
    """Whether what became of a deletion is what was seen of it."""
    right = STATUSES.get(record.outcome)
    known = record.outcome in set(Confirmation)
    if (right is not None and record.status not in right) or (known and right is None and record.status in GONE):
        yield Kind.CONFIRMATION, f"says {record.outcome}, and the status {record.status}"
    if known and record.severity not in (None, CONFIRMATIONS[Confirmation(record.outcome)].severity):
        yield Kind.SEVERITY, f"says {record.outcome}, which is not of severity {record.severity}"
    if record.evidence is UNSET:  # of a time when no record named any
        return
    proven = record.evidence is not None
    if known and proven != (record.outcome == Confirmation.CONFIRMED and record.status is None):
        yield Kind.EVIDENCE, f"says {record.outcome} on the evidence {record.evidence or 'of nothing'}"
    if record.disk_status is not None and record.persistent_disk_id is None:
        yield Kind.DISK, f"says that its disk is {record.disk_status}, and had none"
    if record.evidence == Evidence.UNLISTED and record.disk_status == MISSING:
        yield Kind.EVIDENCE, "says that nothing of its project is seen, and that its disk is missing there"


def _finding(told: tuple[Kind, Record, str]) -> Finding:
    kind, record, what = told
    return Finding(
        kind=kind,
        run_id=record.run_id,
        task_index=record.task_index,
        seq=record.seq,
        runtime=record.path if record.name else None,
        message=f"{where(record)} {what}",
    )


def where(record: Record) -> str:
    return f"seq {record.seq} ({record.path if record.name else record.event})"


def numbers(some: Collection[int]) -> str:
    shown = ", ".join(str(number) for number in islice(some, FEW))
    return f"{shown} and {len(some) - FEW} more" if len(some) > FEW else shown
