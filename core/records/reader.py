"""Reads audit records back, each once, from wherever lines of them come; what they answer is asked in `review`."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from itertools import chain
from typing import Protocol, get_args

import msgspec
from msgspec import UNSET, UnsetType, structs

from core.records.digest import UNTOLD, Digests, without_digest
from core.records.events import EVENTS, SCHEMA, Common, ErrorDetail, ExemptionDetail, Instant
from core.records.lines import AS_WRITTEN
from core.records.restoring import LABELS, UnknownFieldError, restored
from core.records.selection import EVERYTHING, RUNS, Only, Wanted, alone, events_of, is_creator, of_environment

CUT = "Input data was truncated"
"""How msgspec names JSON that is right as far as it goes."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Stands for an instant that is not on record."""
FRAMES = frozenset({"run_started", "run_finished"})
"""The events that a run begins and ends with."""
AUDITED = "runtime_audited"
NOTHING = (None, UNSET)
OPENING = b'"run_started"'
OF_AUDIT = f'"{SCHEMA.rpartition("v")[0]}'.encode()
"""How the schema of a record is named, of whichever version; a path that ends so begins otherwise."""
BACKSLASH = ord("\\")
MOST_FAULTS = 20
OF_A_CREATOR = frozenset({"runtime_audited", "disk_audited"})
"""The events about what somebody made."""
ALL = Only()
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class ListsDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """How many of a run's lists of runtimes could be read."""

    read: int = 0
    unread: int = 0


class ScopeDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """How far a run went, as it wrote it down."""

    projects: list[str] | None = None
    project_count: int | None = None
    only: list[str] | None = None
    excepted: list[str] | None = msgspec.field(name="except", default=None)
    as_of: Instant | None = None
    inventory: str | None = None
    leonardo_url: str | None = None

    @property
    def is_of_now(self) -> bool:
        """Whether Leonardo itself was asked, and judged by the clock."""
        return self.as_of is None and self.inventory is None


class PreviousDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """The run that this one's inventory was held against."""

    run_id: str = ""
    living: int = 0
    lists: int = 0


class FollowsDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """The run that had finished last when this one began."""

    run_id: str = ""
    finished_at: Instant | None = None
    records_digest: str | None = None


class OldestDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """The oldest runtime that a run left."""

    project: str | None = None
    name: str | None = None
    age_s: float = 0.0
    status: str | None = None
    reason: str = ""
    date_accessed: Instant | None = None


class LateDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """By how much a run's acts came later than they were due."""

    max: float = 0.0
    median: float = 0.0


class LabelsDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """Those of our own; an entry may have others, for instance of Cloud Run."""

    job: str | None = None
    run_id: str | None = None
    environment: str | None = None


class Record(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """One record of any event and any minor version: every field may be missing, unknown ones are left out.

    Words are plain text, since a newer version may know more of them. UNSET is a number that was not written at all.
    """

    event: str = ""
    schema: str = ""
    insert_id: str | None = msgspec.field(name="logging.googleapis.com/insertId", default=None)
    labels: LabelsDetail | None = msgspec.field(name="logging.googleapis.com/labels", default=None)
    severity: str | None = None
    message: str = ""
    time: Instant | None = None
    job: str = ""
    run_id: str = ""
    environment: str = ""
    dry_run: bool = True
    seq: int = -1
    task_index: int = 0
    task_count: int = 1
    truncated: list[str] | None = None

    version: str | None = None
    actor: str | None = None
    started_by: str | None = None
    approved_by: str | None = None
    now: Instant | None = None
    policy: dict[str, bool | float | str] | None = None
    policy_digest: str | None = None
    exemptions: list[ExemptionDetail] = []
    limits: dict[str, bool | float | str] = {}
    scope: ScopeDetail | None = None
    plan: dict[str, str] | None = None
    previous: PreviousDetail | None = None
    follows: FollowsDetail | UnsetType | None = UNSET

    runtime_id: str | None = None
    project: str | None = None
    name: str | None = None
    cloud_provider: str | None = None
    status: str | None = None
    creator: str | None = None
    created_date: Instant | None = None
    date_accessed: Instant | None = None
    judged_at: Instant | None = None
    age_s: float | UnsetType | None = UNSET
    idle_s: float | UnsetType | None = UNSET
    due_at: Instant | UnsetType | None = UNSET
    disk: str | None = None
    persistent_disk_id: str | None = None
    action: str = ""
    reason: str = ""
    outcome: str = ""
    exemption: ExemptionDetail | None = None
    http_status: int | None = None
    error: ErrorDetail | None = None
    attempts: int = 0
    attempt: int = 0
    trace_id: str | None = None
    evidence: str | UnsetType | None = UNSET
    disk_status: str | None = None
    autopause_threshold_min: int | None = None
    overdue_s: float | UnsetType | None = UNSET
    accepted_run_id: str | None = None

    final_at: Instant | None = None
    not_before: Instant | None = None
    notice_id: str | None = None

    disk_id: str | None = None
    size_gb: int | None = None
    unused_s: float | None = None
    left_by_run: str | None = None

    older_execution: str | None = None

    guard: str | None = None
    detail: str | None = None
    candidates: int | None = None
    listed: int | None = None
    audited: int | None = None
    actions: dict[str, int] | None = None
    reasons: dict[str, int] | None = None
    outcomes: dict[str, int] | None = None
    failed: list[str] | None = None
    calls: dict[str, int] | None = None
    lists: ListsDetail | None = None
    living: int | None = None
    duration_s: float | None = None
    exit_code: int | None = None
    refused_by: list[str] | None = None
    would_be_refused_by: list[str] | None = None
    clock_skew_s: float | None = None
    oldest: OldestDetail | None = None
    over_age: dict[str, int] | None = None
    """Not null where a run measured its promise."""
    late_s: LateDetail | None = None
    exemptions_matched: list[int] | None = None
    warnings: list[str] = []
    records_digest: str | None = None

    lines: Digests | None = msgspec.field(name="(lines)", default=None)
    """Those of its task as they are read; None where it was not read. On no line."""
    lacks: Sequence[str] = msgspec.field(name="(lacks)", default=())
    """Fields that are null, and never are in records of its event. On no line."""

    @property
    def path(self) -> str:
        return f"{self.project or '?'}/{self.name or '?'}"


class _Line(Record, kw_only=True, gc=False, omit_defaults=True):
    """A line as it comes: a bare record, or the entry that Cloud Logging made of one."""

    timestamp: Instant | None = None
    entry_id: str | None = msgspec.field(name="insertId", default=None)
    entry_labels: LabelsDetail | None = msgspec.field(name="labels", default=None)
    payload: Record | None = msgspec.field(name="jsonPayload", default=None)


class _Marks(msgspec.Struct):
    """What tells records from whatever else is in a log."""

    schema: str | None = None
    payload: "_Marks | None" = msgspec.field(name="jsonPayload", default=None)


_decode = msgspec.json.Decoder(_Line, strict=False).decode  # Cloud Logging returns whole numbers as doubles
_marks = msgspec.json.Decoder(_Marks).decode


class Fault(msgspec.Struct, frozen=True):
    """Something that is wrong at one place of the files."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class Faults:
    """What is wrong, each once, and no more of one file than a person reads."""

    def __init__(self) -> None:
        self._by_file: dict[str, dict[Fault, None]] = {}

    def add(self, file: str, place: str, what: str) -> None:
        known = self._by_file.setdefault(file, {})
        if len(known) < MOST_FAULTS:
            known[Fault(place, what)] = None
        elif Fault(place, what) not in known:
            known[Fault(file, f"there are more than {MOST_FAULTS} such faults in it")] = None

    def __iter__(self) -> Iterator[Fault]:
        return chain.from_iterable(self._by_file.values())


class Line(msgspec.Struct, frozen=True, gc=False):
    """The text of one record, and where it stands."""

    file: str
    at: int | str
    """The number of a line, or words."""
    text: bytes

    @property
    def place(self) -> str:
        return f"{self.file}:{self.at}" if isinstance(self.at, int) else f"{self.file} {self.at}"


class Source(Protocol):
    """Where lines come from; what else it tells grows while they are read."""

    @property
    def torn(self) -> Iterable[Fault]:
        """Where it ends early as a killed writer leaves it."""

    @property
    def faults(self) -> Iterable[Fault]:
        """Where it cannot be read."""

    @property
    def passed_over(self) -> Sequence[str]:
        """What is there and was not read, since it is no log."""

    def lines(self, wanted: Wanted) -> Iterator[Line]:
        """At least the wanted lines, anew each time. Raises OSError."""


class _Task:
    """What was met of one task of a run."""

    __slots__ = ("ended_in", "index", "lines", "places", "prefix", "run_id")

    def __init__(self, run_id: str, index: int) -> None:
        self.run_id, self.index = run_id, index
        self.prefix = f"{run_id}-{index}-"
        """How the insertId of each of its records begins, before its `seq`."""
        self.lines = Digests()
        self.places: dict[int, int] = {}
        """Of few lines by their `seq`, where of the others no digest is kept: gaps would take as much as they do."""
        self.ended_in: str | None = None


@cache
def _always_there(event: str) -> tuple[str, ...]:
    """The fields of an event that are never null and not of a later version, as far as a reader has them."""
    kind = next((kind for kind in EVENTS if kind.__struct_config__.tag == event), None)
    told = () if kind is None else (*structs.fields(kind), *structs.fields(Common))
    read = {field.name for field in structs.fields(Record) if field.default in NOTHING}
    return tuple(of.name for of in told if of.required and of.name in read and type(None) not in get_args(of.type))


def _nulls(line: bytes, names: tuple[str, ...], record: Record) -> list[str]:
    """Which of these fields are null; one that is not there at all is of an older version that did not have it."""
    unset = [name for name in names if getattr(record, name) in NOTHING]
    return [name for name in unset if re.search(rb'"%b"\s*:\s*null' % name.encode(), line)]


class _Met:
    """Which records were met, each by its task and `seq`, and what they say against each other or themselves."""

    def __init__(self, *, sparse: bool) -> None:
        """`sparse`: few are to be known again."""
        self._sparse = sparse
        self.records = 0
        self.repeated = 0
        self.contradictions = Faults()
        self.unopened = False
        """Whether a record of some task came before the one that opens it."""
        self._tasks: dict[tuple[str, int], _Task] = {}
        self._of = _Task("", -1)
        """That of the record before."""
        self._strange: dict[str | None, bytes] = {}
        """Digests by each insertId that is not a record's own."""
        self._to_come_again: set[tuple[str, int, int, str | None]] = set()

    def expect(self, frames: Iterable[Record]) -> None:
        """What was read ahead comes again in its turn."""
        self._to_come_again.update(map(_identity, frames))

    def forget(self) -> None:
        self._tasks.clear()
        self._strange.clear()

    def is_new(self, line: Line, record: Record) -> bool:
        """Whether the record was not met before; the same twice counts once."""
        insert_id, seq, labels = record.insert_id, record.seq, record.labels
        of = self._of
        if of.run_id != record.run_id or of.index != record.task_index:
            of = self._of = self._task_of(record)
        own = insert_id is None or insert_id == f"{of.prefix}{seq}"
        closing = record.event == "run_finished"
        digest = _digest(line.text, closing=closing)
        place = of.places.setdefault(seq, len(of.places)) if self._sparse else seq
        known = of.lines.setdefault(place, digest) if own else self._strange.get(insert_id)
        if known is not None:
            same = known == digest and not (closing and of.ended_in != record.records_digest)
            self._meet_again(line, record, differs=not same and UNTOLD not in (known, digest))
            return False
        if closing:
            of.ended_in = record.records_digest
        record.lines = of.lines
        if record.event != AUDITED or record.severity is None or record.time is None:
            record.lacks = _nulls(line.text, _always_there(record.event), record)
        self.records += 1
        if not own:
            self._strange[insert_id] = digest
            self._contradict(line, record, "has an insertId that is not its own")
        if labels is not None and not (
            labels.run_id == record.run_id and labels.job == record.job and labels.environment == record.environment
        ):
            for name in LABELS:
                if getattr(labels, name) not in (None, getattr(record, name)):
                    self._contradict(line, record, f"has another label {name}")
        return True

    def is_new_or_no_frame(self, line: Line, record: Record) -> bool:
        """The same for who does not mind to be given one twice: it is not looked up."""
        if record.event in FRAMES:
            return self.is_new(line, record)
        self.records += 1
        return True

    def _task_of(self, record: Record) -> "_Task":
        task = self._tasks.get((record.run_id, record.task_index))
        if task is None:
            task = self._tasks[record.run_id, record.task_index] = _Task(record.run_id, record.task_index)
            self.unopened = self.unopened or record.event != "run_started"
        return task

    def _meet_again(self, line: Line, record: Record, *, differs: bool) -> None:
        """What opens or closes a run is read ahead, and then comes in its turn."""
        identity = _identity(record)
        if identity in self._to_come_again:
            self._to_come_again.remove(identity)
        else:
            self.repeated += 1
        if differs:
            self._contradict(line, record, "is here with other content than before")

    def _contradict(self, line: Line, record: Record, what: str) -> None:
        told = f"record {record.run_id}-{record.task_index}-{record.seq} {what}"
        self.contradictions.add(line.file, line.place, told)


class AuditRecords:
    """The records of a source: each once, and those that open and close runs before all others, or at least theirs.

    Iterating reads the source anew each time; afterwards `records`, `frames`, `elsewhere`, `repeated`, `foreign`,
    `torn`, `unread` and `faults` tell what was met on the way.
    """

    def __init__(
        self,
        source: Source,
        wanted: Callable[[Sequence[Record]], Wanted] | None = lambda _: EVERYTHING,
        *,
        environment: str | None = None,
        only: Only = ALL,
        may_repeat: bool = False,
    ) -> None:
        """`wanted` tells, by the records that open and close runs, which others need to be read; None is all, at once.

        Of another environment, or beside `only`, none are given. Who does not mind to be given one twice saves the
        32 bytes of each record by which it is known again; contradictions are not told then.
        """
        self._source = source
        self._may_repeat = may_repeat
        self._wanted = wanted
        self._only = only if environment is None else replace(only, environment=environment)
        self._begin()

    def _begin(self, *, sparse: bool = False) -> None:
        self.frames: list[Record] = []
        """Those that open runs, and behind them those that close them."""
        self.elsewhere: set[str] = set()
        """Other environments whose records were passed over."""
        self.foreign = 0
        """Lines that are no records of this schema."""
        self._torn: list[Fault] = []
        self._unread = Faults()
        self._met = _Met(sparse=sparse or self._may_repeat)
        self.outside: set[str] = set()
        """Runs that began at another time than was asked for."""
        self.unnamed = 0
        """Records that may be of the creator who was asked for: they name none."""

    @property
    def environment(self) -> str | None:
        return self._only.environment

    @property
    def creator(self) -> str | None:
        return self._only.creator

    @property
    def records(self) -> int:
        return self._met.records

    @property
    def repeated(self) -> int:
        """Records that were met again with the same content."""
        return self._met.repeated

    @property
    def torn(self) -> list[Fault]:
        """Where a killed writer left off: no fault of the log's."""
        return list(dict.fromkeys([*self._source.torn, *self._torn]))

    @property
    def unread(self) -> list[Fault]:
        """What could not be read, so that records may be missing."""
        return list(dict.fromkeys([*self._source.faults, *self._unread]))

    @property
    def faults(self) -> list[Fault]:
        """What could not be read, and what records say against each other or themselves."""
        return [*self.unread, *self._met.contradictions]

    @property
    def passed_over(self) -> Sequence[str]:
        """What is there and was not read, since it is no log."""
        return self._source.passed_over

    def runs(self, since: datetime = LONG_AGO) -> list[Record]:
        """The records since then that open and close runs. Raises OSError."""
        return list(self.alone(RUNS, since))

    def alone(self, wanted: Wanted, since: datetime = LONG_AGO) -> Iterator[Record]:
        """The wanted records since then, perhaps with others of their events; no other event is looked at.

        Raises OSError.
        """
        events = frozenset(events_of(wanted))
        self._begin(sparse="runtime_audited" not in events)
        for record in self._given(alone(wanted), events):
            if (record.time or LONG_AGO) >= since:
                yield record
        self._met.forget()

    def __iter__(self) -> Iterator[Record]:
        """Raises OSError where the source cannot be read any more."""
        self._begin()
        if self._wanted is None and self._only == ALL:
            yield from self._in_one_reading()
        else:
            self.frames = self._read_ahead()
            yield from self.frames
            wanted = self._wanted(self.frames) if self._wanted and self.frames else EVERYTHING
            yield from self._given(wanted)
        self._met.forget()

    def _in_one_reading(self) -> Iterator[Record]:
        """Everything as it comes, and where a task's first record does not come first, what opens runs before it."""
        ahead = False
        for record in self._given(EVERYTHING):
            if self._met.unopened and not ahead:
                ahead = True
                frames = self._read_ahead()
                self.frames += frames
                yield from frames
            if record.event in FRAMES:
                self.frames.append(record)
            yield record

    def _read_ahead(self) -> list[Record]:
        """Those that open runs, and behind them those that close them, as far as they were not met yet."""
        met = self._met
        before = [*self._torn], met.repeated, self.foreign
        frames = sorted(self._given(RUNS, FRAMES), key=lambda record: record.event == "run_finished")
        self._torn, met.repeated, self.foreign = before
        began: dict[str, datetime | None] = {}
        for frame in frames:
            began.setdefault(frame.run_id, frame.time)
        self.outside = {run_id for run_id, time in began.items() if not self._only.has_run(time)}
        frames, known = [frame for frame in frames if frame.run_id not in self.outside], len(frames)
        met.records -= known - len(frames)
        met.expect(frames)
        return frames

    def _is_meant(self, record: Record) -> bool:
        only = self._only
        if only.environment is not None and record.environment != only.environment:
            self.elsewhere.add(record.environment)
            return False
        if record.run_id in self.outside:
            return False
        if only.creator is None or record.event not in OF_A_CREATOR:
            return True
        self.unnamed += record.creator is None
        return is_creator(record.creator, only.creator)

    def _given(self, wanted: Wanted, events: frozenset[str] = frozenset()) -> Iterator[Record]:
        """The wanted records that were not met before, perhaps among others, but of no other events."""
        cut_short: Line | None = None
        everything = self._only == ALL
        is_new = self._met.is_new_or_no_frame if self._may_repeat else self._met.is_new
        for line in self._source.lines(of_environment(wanted, self.environment)):
            if cut_short is not None:
                self._cut_short(cut_short, line)
                cut_short = None
            try:
                record = _read(line.text)
            except UNREADABLE as error:
                if str(error) == CUT:
                    cut_short = line
                else:
                    self._not_read(line, str(error))
                continue
            if record is None:
                self._not_ours(line)
            elif events and record.event not in events:
                continue
            elif (everything or self._is_meant(record)) and is_new(line, record):
                yield record
        if cut_short is not None:
            self._cut_short(cut_short, None)

    def _cut_short(self, line: Line, following: Line | None) -> None:
        """Its writer may have been killed over it where nothing follows, or the next run does."""
        if following is None or following.file != line.file or OPENING in following.text:
            self._torn.append(Fault(line.place, "the line is torn: its writer was cut off"))
        else:
            self._not_read(line, CUT)

    def _not_ours(self, line: Line) -> None:
        """No record, unless one is somewhere inside: as a text, in an answer of the API, or of a later schema."""
        if OF_AUDIT in line.text:
            self._unread.add(line.file, line.place, "it holds what is no record as the jobs or Cloud Logging write one")
        else:
            self.foreign += 1

    def _not_read(self, line: Line, why: str) -> None:
        if _ours(line.text):
            self._unread.add(line.file, line.place, f"the line is not readable as a record: {why}")
        else:
            self.foreign += 1


def _identity(record: Record) -> tuple[str, int, int, str | None]:
    return record.run_id, record.task_index, record.seq, record.insert_id


def _read(line: bytes) -> Record | None:
    """None where the line is no record of this schema. Raises one of UNREADABLE."""
    entry = _decode(line)
    record = entry.payload
    if record is None:
        record = entry
    else:
        record.time, record.insert_id, record.severity = entry.timestamp, entry.entry_id, entry.severity
        record.labels = entry.entry_labels
    return record if record.schema == SCHEMA and record.event else None


def _digest(text: bytes, *, closing: bool) -> bytes:
    """Of the line as it was written, by which the same record is known again wherever it was kept."""
    line = text
    if not text.startswith(AS_WRITTEN) or (BACKSLASH in text and b"\\u" in text):  # one byte is found much faster
        try:
            line = restored(msgspec.json.decode(text))
        except (UnknownFieldError, *UNREADABLE):  # in what no reader looks at there may be anything
            return UNTOLD
    return sha256(without_digest(line) if closing else line).digest()


def _ours(line: bytes) -> bool:
    """Whether a line that is not readable as a record says that it is one, or says nothing that can be read."""
    try:
        marks = _marks(line)
    except UNREADABLE:
        return True
    return SCHEMA in (marks.schema, marks.payload and marks.payload.schema)
