"""Keeps audit records: one line each, made durable before an act; what they say lives in `events`."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from core.records.events import SCHEMA, Common, Event, Stamp
from core.records.fitting import LARGEST, fitted

log = structlog.get_logger(__name__)

MOST_WAITING = 500
"""Lines that a sink may hold back before whoever writes many waits for it."""

_encode = msgspec.json.Encoder().encode
BEFORE_SEQ = b'","seq":'
"""What stands between the number of a record in its insertId and the number as `seq`."""


class RecordNotKeptError(Exception):
    """A record could not be written or made durable: nothing may be acted on any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What every record of a run says of the run."""

    job: str
    run_id: str
    environment: str
    dry_run: bool
    task_index: int = 0
    task_count: int = 1


class Sink(Protocol):
    """Where lines go, until whoever opened it closes it; its methods raise OSError."""

    name: str

    def write(self, *lines: bytes) -> None:
        """Take these lines, at once and whole."""

    @property
    def waiting(self) -> int:
        """Lines taken that are held back until they are made durable."""

    async def make_durable(self) -> None:
        """Return when every line taken so far outlives this process and its machine."""


class Stdout:
    """Lines for Cloud Run's log agent, which reads them as they are written: there is nothing to wait for."""

    name = "stdout"
    waiting = 0

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, True)

    def write(self, *lines: bytes) -> None:
        _write_whole(self._descriptor, b"".join(lines))

    async def make_durable(self) -> None:
        pass


class AuditFile:
    """A file of JSON Lines, appended to and fsynced."""

    waiting = 0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            _write_whole(self._descriptor, b"\n")  # a killed run's torn line must not swallow our first one

    def write(self, *lines: bytes) -> None:
        _write_whole(self._descriptor, b"".join(lines))

    async def make_durable(self) -> None:
        await asyncio.to_thread(os.fsync, self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _write_whole(descriptor: int, content: bytes) -> None:
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, content[written:])


class AuditLog:
    """The records of one run, in order. `failure` says whether one could not be kept."""

    def __init__(
        self,
        identity: RunIdentity,
        sinks: Sequence[Sink],
        *,
        now: Callable[[], datetime],
        seen_by: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._insert_id = f"{identity.run_id}-{identity.task_index}-"
        self._same_on_all = _same_on_all(identity)
        self._sinks = list(sinks)
        self._now = now
        self._seen_by = seen_by
        self._lock = asyncio.Lock()
        self._durable = 0
        self.written = 0
        self.failure: str | None = None

    def write(self, *records: Event) -> None:
        """Write records, together, to every sink that still works. Raises RecordNotKeptError where one does not."""
        stamp = self._stamp(self._now())
        lines = [self._line(event, stamp, seq) for seq, event in enumerate(records, self.written)]
        self.written += len(lines)
        for sink in tuple(self._sinks):
            try:
                sink.write(*lines)
            except OSError as error:
                self._drop(sink, error)
        for event in records:
            self._seen_by(event)
        self.check()

    async def commit(self) -> None:
        """Return when all that is written is durable; those who wait together share one effort.

        Raises RecordNotKeptError where it cannot be made so.
        """
        wanted = self.written
        async with self._lock:
            if self._durable < wanted:
                covered = self.written
                for sink in tuple(self._sinks):
                    try:
                        await sink.make_durable()
                    except OSError as error:
                        self._drop(sink, error)
                self._durable = covered
        self.check()

    async def drain(self) -> None:
        """Return at once unless a sink holds many lines back; call it where many are written in a row.

        Raises RecordNotKeptError where any record was lost so far.
        """
        if any(sink.waiting >= MOST_WAITING for sink in self._sinks):
            await self.commit()
        self.check()

    def give_up(self, why: str) -> None:
        """No record counts as kept any more. Raises RecordNotKeptError."""
        self.failure = self.failure or why
        self.check()

    def check(self) -> None:
        """Raises RecordNotKeptError where any record was lost so far."""
        if self.failure is not None:
            raise RecordNotKeptError(self.failure)

    def _drop(self, sink: Sink, error: OSError) -> None:
        """A sink that failed once may hold half a line: it gets no more, the others go on."""
        if sink not in self._sinks:  # it failed to take a line while it failed to make the earlier ones durable
            return
        self._sinks.remove(sink)
        self.failure = f"{sink.name}: {error.strerror or error}"
        log.error("record not kept", sink=sink.name, reason=self.failure)

    def _line(self, event: Event, stamp: bytes, seq: int) -> bytes:
        number = b"%d" % seq
        line = b"".join((_encode(event)[:-1], stamp, number, BEFORE_SEQ, number, self._same_on_all))
        return line if len(line) <= LARGEST else fitted(line)

    def _stamp(self, now: datetime) -> bytes:
        """What stands between a record's own fields and its number."""
        stamp = _encode(Stamp(time=now, insert_id=self._insert_id, seq=0))
        return b"," + stamp[1:].removesuffix(BEFORE_SEQ + b"0}")


def _same_on_all(identity: RunIdentity) -> bytes:
    """What follows a record's stamp, encoded once for the whole run."""
    stamp = Stamp(time=datetime.min.replace(tzinfo=UTC), insert_id="", seq=0)
    common = Common(
        time=stamp.time,
        insert_id=stamp.insert_id,
        seq=stamp.seq,
        labels={"job": identity.job, "run_id": identity.run_id, "environment": identity.environment},
        schema=SCHEMA,
        job=identity.job,
        run_id=identity.run_id,
        environment=identity.environment,
        dry_run=identity.dry_run,
        task_index=identity.task_index,
        task_count=identity.task_count,
    )
    return _encode(common)[len(_encode(stamp)) - 1 :] + b"\n"
