"""Whether the records of one task of a run are all there and agree; what tasks have in common is asked in `runs`."""

from array import array
from collections.abc import Collection, Iterator
from itertools import islice, starmap
from operator import gt

from msgspec import UNSET

from core.records.digest import UNTOLD, Digests
from core.records.outcome import CONFIRMATIONS, NEEDS_A_PERSON, Severity
from core.records.reader import AUDITED, Record
from core.rules.confirmation import Confirmation
from core.rules.decision import CLOCK_TOLERANCE, Reason
from core.rules.disks import DiskReason
from core.rules.evidence import MISSING, Evidence
from core.rules.seen_ids import SeenIds
from core.rules.words import counted
from core.runtime import RuntimeStatus
from core.verify.acts import INTENTS, Acts
from core.verify.closing import Tally, closing_faults
from core.verify.decisions import Alike, Decisions
from core.verify.disks import disk_faults
from core.verify.finding import Finding, Kind, found
from core.verify.rejudge import Rules
from core.verify.standing import Standing

FEW = 10
NO_TIME = float("-inf")
"""Stands for the time of a record that has none."""
STATUSES: dict[str, tuple[str | None, ...]] = {
    Confirmation.CONFIRMED: (None, RuntimeStatus.DELETED),
    Confirmation.NOT_VISIBLE: (None,),
    Confirmation.PENDING: (RuntimeStatus.DELETING,),
    Confirmation.STUCK: (RuntimeStatus.DELETING,),
    Confirmation.ERRORED: (RuntimeStatus.ERROR,),
}
"""What a runtime can be when it is told so."""
SEVERITIES = {
    **dict.fromkeys(
        ("run_started", "run_finished", "run_skipped", *INTENTS, "notice_requested", "notice_sent"), Severity.NOTICE
    ),
    **dict.fromkeys(("run_refused", "runtime_missing", "exemption_unused"), Severity.WARNING),
    **dict.fromkeys(("project_unreadable", "notice_failed"), Severity.ERROR),
    "disk_audited": Severity.INFO,
}
"""Of what is neither about a runtime nor about what became of one; a stuck disk is a warning."""
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
        self._announced = Acts(rules)
        self._lines = Lines(first.lines)
        self._incarnations = Incarnations()
        self._decisions = Decisions(self.started, rules)
        self._standing = Standing(rules)
        self._findings: list[Finding] = []

    def add(self, record: Record) -> None:
        self.records += 1
        self._lines.add(record)
        if record.lacks:
            self._findings.append(found(Kind.FIELDS, record, f"has no {', '.join(record.lacks)}"))
        if record.event == AUDITED:  # as most are
            self._add_audited(record)
        else:
            self._add_other(record)

    def _add_other(self, record: Record) -> None:
        right = _severity_of(record)
        if record.severity is not None and right not in (None, record.severity):
            self._findings.append(found(Kind.SEVERITY, record, f"is not of severity {record.severity}"))
        match record.event:
            case "deletion_requested" | "stop_requested":
                self._findings += starmap(found, self._announced.add_intent(record))
            case "deletion_confirmed":
                self._add_confirmation(record)
            case "disk_audited":
                self.tally.note(record)
                self._findings += (found(Kind.DISK, record, fault) for fault in disk_faults(record, self.started))
            case "run_started":
                self._lines.opening_at = record.seq
            case "exemption_unused":
                self._standing.unused.append(record)
            case "run_finished":
                self.closing = record
            case _:
                self.tally.note(record)

    def _add_audited(self, record: Record) -> None:
        alike = self.tally.add_decision(record)
        self._standing.add(record, alike)
        if alike.failed:
            self.tally.failed[record.path] += 1
        if alike.judged:
            again = self._incarnations.add(record, alike)
            if again is not None:
                self._findings.append(found(Kind.INCARNATION, record, again))
        if not (alike.kept or record.dry_run):
            self._announced.add_end(record)
        for kind, fault in self._decisions.faults(record, alike):
            self._findings.append(found(kind, record, fault))

    def _add_confirmation(self, record: Record) -> None:
        self.tally.confirmations[record.outcome] += 1
        if record.outcome in NEEDS_A_PERSON:
            self.tally.failed[record.path] += 1
        for kind, fault in _confirmation_faults(record):
            self._findings.append(found(kind, record, fault))

    def without_outcome(self) -> list[Record]:
        """The intents that have none, one for each runtime."""
        return self._announced.without_outcome()

    def findings(self, *, still_open: bool) -> Iterator[Finding]:
        """What is off; an open run is not held to what it has not come to."""
        yield from self._findings
        for kind, message in self._lines.faults(self.closing):
            yield self._found(kind, message)
        for record in () if still_open else self._incarnations.of_no_other():
            yield found(Kind.INCARNATION, record, "is a duplicate of no other record")
        yield from starmap(found, self._announced.faults())
        if self.closing is not None:
            announced = self._announced.announced
            for kind, message in closing_faults(self.closing, self.tally, self.started, announced=announced):
                yield self._found(kind, message, self.closing.seq)
            for kind, message in () if self.started is None else self._standing.faults(self.closing, self.started):
                yield self._found(kind, message, self.closing.seq)
            for intent in self.without_outcome():
                yield found(Kind.ACT, intent, "an act was announced and has no outcome")
        elif not still_open:
            cut_off = "run_finished is missing: the run was cut off, or its last records were removed"
            yield self._found(Kind.MISSING_CLOSING, cut_off)

    def _found(self, kind: Kind, message: str, seq: int | None = None) -> Finding:
        return Finding(kind=kind, run_id=self._run_id, task_index=self._index, seq=seq, runtime=None, message=message)


class Lines:
    """The lines of one task, in whatever order they come: their numbers, times and digests."""

    def __init__(self, read: Digests | None) -> None:
        """`read` are the digests of those that were read, where they were."""
        self._read = read is not None
        self._digests = Digests() if read is None else read
        self._times = array("d")
        self.opening_at: int | None = None

    def add(self, record: Record) -> None:
        seq, times = record.seq, self._times
        if not self._read:
            self._digests.setdefault(seq, UNTOLD)
        at = NO_TIME if record.time is None else record.time.timestamp()
        if seq == (count := len(times)):
            times.append(at)
        elif 0 <= seq < count:
            times[seq] = at
        elif 0 <= seq < len(self._digests):
            times.extend([NO_TIME] * (seq - count))
            times.append(at)

    def faults(self, closing: Record | None) -> Iterator[tuple[Kind, str]]:
        for seq in self._digests.numbers_nobody_has():
            yield Kind.SEQ, f"seq {seq} has a seq that no record can have here"
        missing = [seq for seq in self._digests.missing() if seq or self.opening_at is not None]
        if missing:
            yield Kind.MISSING_RECORD, f"{counted(len(missing), 'record')} missing: seq {numbers(missing)}"
        if self.opening_at is None:
            yield Kind.MISSING_OPENING, "run_started is missing"
        elif self.opening_at != 0:
            yield Kind.SEQ, f"seq {self.opening_at} (run_started) is not the first record"
        if closing is not None and closing.seq != len(self._digests) - 1:
            yield Kind.SEQ, f"seq {closing.seq} (run_finished) is not the last record"
        yield from self._time_faults()
        said = None if closing is None else closing.records_digest
        if said is not None and said != (self._digests.whole() or said):
            yield Kind.DIGEST, "run_finished has a records_digest that its task's lines do not give"

    def _time_faults(self) -> Iterator[tuple[Kind, str]]:
        """A wall clock may have been set back a little while an older version wrote."""
        newest = NO_TIME
        if any(map(gt, self._times, self._times[1:])):
            for seq, at in enumerate(self._times):
                if newest - at > CLOCK_TOLERANCE.total_seconds() and at != NO_TIME:
                    yield Kind.TIME, f"seq {seq} is of a time before that of an earlier record"
                    return
                newest = max(newest, at)


class Incarnations:
    """Which runtimes one task has decided about: each once, but for its duplicates."""

    def __init__(self) -> None:
        self._judged = SeenIds()
        self._no_numbers: set[str] = set()
        """Ids that Leonardo cannot have dealt out."""
        self._foreign: set[str] = set()
        self._duplicates: list[Record] = []

    def add(self, record: Record, alike: Alike) -> str | None:
        """What is wrong with a second decision about an id."""
        runtime_id = record.runtime_id or ""
        if alike.single:
            if not self._is_new(runtime_id):
                return f"is a second decision about id {runtime_id}, and no duplicate"
        elif record.reason == Reason.DUPLICATE:
            self._duplicates.append(record)
        else:
            self._foreign.add(runtime_id)
        return None

    def _is_new(self, runtime_id: str) -> bool:
        try:
            return self._judged.add(int(runtime_id))
        except ValueError:
            known = runtime_id in self._no_numbers
            self._no_numbers.add(runtime_id)
            return not known

    def of_no_other(self) -> Iterator[Record]:
        return (record for record in self._duplicates if not self._is_known(record.runtime_id or ""))

    def _is_known(self, runtime_id: str) -> bool:
        if runtime_id in self._foreign or runtime_id in self._no_numbers:
            return True
        try:
            return int(runtime_id) in self._judged
        except ValueError:
            return False


def _severity_of(record: Record) -> Severity | None:
    stuck = record.event == "disk_audited" and record.reason == DiskReason.STUCK
    return Severity.WARNING if stuck else SEVERITIES.get(record.event)


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


def numbers(some: Collection[int]) -> str:
    shown = ", ".join(str(number) for number in islice(some, FEW))
    return f"{shown} and {len(some) - FEW} more" if len(some) > FEW else shown
