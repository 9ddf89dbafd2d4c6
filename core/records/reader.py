"""Reads audit records back, from files of any order and age; what they answer is asked in `review`."""

import errno
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import UNSET, UnsetType

from core.records.events import SCHEMA, ErrorDetail, ExemptionDetail, Instant

SUFFIXES = (".jsonl", ".ndjson", ".json", ".log")
"""What is read out of a folder, also with `.gz` behind it; a file that is named is read whatever its name."""
CUT = "Input data was truncated"
"""How msgspec names JSON that is right as far as it goes."""
OPENING = b"run_started"
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)


class ScopeDetail(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """How far a run went, as it wrote it down."""

    projects: list[str] | None = None
    project_count: int | None = None
    only: list[str] | None = None
    as_of: Instant | None = None


class Record(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """One record of any event and any minor version: every field may be missing, unknown ones are left out.

    Words are plain text, since a newer version may know more of them. UNSET is a number that was not written at all.
    """

    event: str = ""
    schema: str = ""
    insert_id: str | None = msgspec.field(name="logging.googleapis.com/insertId", default=None)
    labels: dict[str, str] | None = msgspec.field(name="logging.googleapis.com/labels", default=None)
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

    version: str | None = None
    actor: str | None = None
    started_by: str | None = None
    approved_by: str | None = None
    now: Instant | None = None
    policy: dict[str, bool | float] | None = None
    policy_digest: str | None = None
    exemptions: list[ExemptionDetail] = []
    limits: dict[str, bool | float] = {}
    scope: ScopeDetail | None = None
    plan: dict[str, str] | None = None

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
    autopause_threshold_min: int | None = None
    overdue_s: float | UnsetType | None = UNSET
    accepted_run_id: str | None = None

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
    duration_s: float | None = None
    exit_code: int | None = None
    refused_by: list[str] | None = None
    would_be_refused_by: list[str] | None = None

    @property
    def path(self) -> str:
        return f"{self.project or '?'}/{self.name or '?'}"


class _Line(Record, kw_only=True, gc=False, omit_defaults=True):
    """A line as it comes: a bare record, or the entry that Cloud Logging made of one."""

    timestamp: Instant | None = None
    entry_id: str | None = msgspec.field(name="insertId", default=None)
    entry_labels: dict[str, str] | None = msgspec.field(name="labels", default=None)
    payload: Record | None = msgspec.field(name="jsonPayload", default=None)


class _Marks(msgspec.Struct):
    """What tells records from whatever else is in a log."""

    schema: str | None = None
    payload: "_Marks | None" = msgspec.field(name="jsonPayload", default=None)


_decode = msgspec.json.Decoder(_Line, strict=False).decode  # Cloud Logging returns whole numbers as doubles
_marks = msgspec.json.Decoder(_Marks).decode
_encode = msgspec.json.Encoder().encode


class Fault(msgspec.Struct, frozen=True):
    """Something that is wrong at one place of the files."""

    place: str
    what: str


class AuditFiles:
    """The records in files and folders: each once, and those that open a run before all others.

    Iterating reads the files anew each time; afterwards `records`, `repeated`, `foreign`, `torn` and `faults` tell what
    was met on the way.
    """

    def __init__(self, places: Iterable[Path]) -> None:
        """Raises OSError where a place cannot be read, or where a folder holds no log."""
        self.files = list(dict.fromkeys(file for place in places for file in _files(place)))
        for file in self.files:
            with file.open("rb"):
                pass
        self._begin()

    def _begin(self) -> None:
        self.records = 0
        self.repeated = 0
        """Records that were met again with the same content."""
        self.foreign = 0
        """Lines that are no records of this schema."""
        self.torn: list[Fault] = []
        """Where a killed writer left off: no fault of the log's."""
        self.faults: list[Fault] = []
        self._digests: dict[str, dict[int | str, bytes]] = {}

    def __iter__(self) -> Iterator[Record]:
        """Raises OSError where a file cannot be read any more."""
        self._begin()
        for place, line, _ in self._lines(OPENING):
            with suppress(*UNREADABLE):
                record = _read(line)
                if record is not None and record.event == "run_started" and self._is_new(place, record):
                    yield record
        openings, self.repeated = self.records, 0
        for place, line, following in self._lines():
            try:
                record = _read(line)
            except UNREADABLE as error:
                self._not_read(place, line, following, str(error))
                continue
            if record is None:
                self.foreign += 1
            elif self._is_new(place, record):
                yield record
        self.repeated -= openings
        self.torn, self.faults = list(dict.fromkeys(self.torn)), list(dict.fromkeys(self.faults))
        self._digests = {}

    def _lines(self, wanted: bytes = b"") -> Iterator[tuple[str, bytes, bytes | None]]:
        """Each line that holds what is wanted and is not blank, where it stands, and the next such line."""
        for file in self.files:
            name, number = str(file), 0
            place, line = "", b""
            with _opened(file) as stream:
                try:
                    for number, raw in enumerate(stream, 1):
                        if wanted not in raw or not (following := raw.strip()):
                            continue
                        if line:
                            yield place, line, following
                        place, line = f"{name}:{number}", following
                except EOFError:
                    self.torn.append(Fault(f"{file}:{number + 1}", "the compressed file ends early"))
                except (gzip.BadGzipFile, zlib.error) as error:
                    self.faults.append(Fault(f"{file}:{number + 1}", f"the file is not readable: {error}"))
            if line:
                yield place, line, None

    def _not_read(self, place: str, line: bytes, following: bytes | None, why: str) -> None:
        if why == CUT and (following is None or OPENING in following):  # the next run begins on a line of its own
            self.torn.append(Fault(place, "the line is torn: its writer was cut off"))
        elif _ours(line):
            self.faults.append(Fault(place, f"the line is not readable as a record: {why}"))
        else:
            self.foreign += 1

    def _is_new(self, place: str, record: Record) -> bool:
        """Whether the record was not met before; the same twice counts once."""
        task = f"{record.run_id}-{record.task_index}"
        identity = f"{task}-{record.seq}"
        labels, record.labels = record.labels, None  # an entry has more labels than its line had
        digest = blake2b(_encode(record), digest_size=12).digest()
        own = record.insert_id is None or record.insert_id == identity
        known = self._digests.setdefault(task, {}).setdefault(record.seq if own else str(record.insert_id), digest)
        if known is not digest:
            self.repeated += 1
            if known != digest:
                self.faults.append(Fault(place, f"record {identity} is here with other content than before"))
            return False
        self.records += 1
        if not own:
            self.faults.append(Fault(place, f"record {identity} has an insertId that is not its own"))
        for name, value in (("job", record.job), ("run_id", record.run_id), ("environment", record.environment)):
            if labels is not None and labels.get(name, value) != value:
                self.faults.append(Fault(place, f"record {identity} has another label {name}"))
        return True


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place.resolve(strict=True)]
    found = [
        path.resolve()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name.removesuffix(".gz").endswith(SUFFIXES)
    ]
    if not found:
        raise FileNotFoundError(errno.ENOENT, "the folder holds no log", str(place))
    return found


def _opened(file: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _read(line: bytes) -> Record | None:
    """None where the line is no record of this schema. Raises one of UNREADABLE."""
    entry = _decode(line)
    record = entry.payload
    if record is None:
        record = entry
    else:
        record.time, record.insert_id, record.severity = entry.timestamp, entry.entry_id, entry.severity
        record.labels = entry.entry_labels
    return record if record.schema == SCHEMA else None


def _ours(line: bytes) -> bool:
    """Whether a line that is not readable as a record says that it is one, or says nothing that can be read."""
    try:
        marks = _marks(line)
    except UNREADABLE:
        return True
    return SCHEMA in (marks.schema, marks.payload and marks.payload.schema)
