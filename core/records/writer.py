"""Keeps audit records: one line each, made durable before an act; what they say and where they go lives beside."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
import structlog

from core.records import digest
from core.records.events import SCHEMA, Common, Event, RunFinished, Stamp
from core.records.fitting import LARGEST, fitted
from core.records.numbers import WITH_FRACTION, in_whole_numbers
from core.records.sinks import Sink

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder(order="deterministic").encode
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


class AuditLog:
    """The records of one run, in order. `failure` says whether one could not be kept."""

    def __init__(
        self,
        identity: RunIdentity,
        sinks: Sequence[Sink],
        *,
        now: Callable[[], datetime],
        seen_by: Callable[[Event], None] = lambda _: None,
        in_time: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        """`in_time` raises TimeoutError where what is done in it takes longer than the run can wait for a record."""
        self._insert_id = f"{identity.run_id}-{identity.task_index}-"
        self._same_on_all = _same_on_all(identity)
        self._sinks = list(sinks)
        self._now = now
        self._seen_by = seen_by
        self._in_time = in_time
        self._lock = asyncio.Lock()
        self._durable = 0
        self._newest = datetime.min.replace(tzinfo=UTC)
        self._digest = sha256()
        self.written = 0
        self.failure: str | None = None

    def also_keep_in(self, sink: Sink) -> None:
        """Call it before the first record."""
        self._sinks.append(sink)

    @property
    def kept_in(self) -> list[str]:
        """Where every record is that was written so far."""
        return [sink.name for sink in self._sinks]

    def write(self, *records: Event) -> None:
        """Give records, together, to every sink that still works. Raises RecordNotKeptError where one does not.

        What a sink cannot keep of them is known once `commit` or `drain` returns.
        """
        self._newest = max(self._newest, self._now())  # a wall clock that is set back takes no record with it
        stamp = self._stamp(self._newest)
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

    async def commit(self) -> float:
        """Return when all that is written is durable, with the seconds that it took; those who wait share one effort.

        Raises RecordNotKeptError where it cannot be made so, or not in time.
        """
        loop = asyncio.get_running_loop()
        began, wanted = loop.time(), self.written
        async with self._lock:
            if self._durable < wanted:
                covered = self.written
                await self._all({sink: sink.make_durable() for sink in self._sinks})
                self._durable = covered
        self.check()
        return loop.time() - began

    async def drain(self) -> None:
        """Return at once unless a sink holds much back; call it where many are written in a row.

        Raises RecordNotKeptError where any record was lost so far.
        """
        if full := [sink for sink in self._sinks if sink.full]:
            async with self._lock:
                await self._all({sink: sink.catch_up() for sink in full})
        self.check()

    def give_up(self, why: str) -> None:
        """No record counts as kept any more. Raises RecordNotKeptError."""
        self.failure = self.failure or why
        self.check()

    async def _all(self, efforts: Mapping[Sink, Awaitable[None]]) -> None:
        """At once, so that a sink that hangs keeps no record from the others."""
        futures = {sink: asyncio.ensure_future(effort) for sink, effort in efforts.items()}
        if unfinished := [future for future in futures.values() if not future.done()]:
            with suppress(TimeoutError):
                async with self._in_time():
                    await asyncio.wait(unfinished)
        for sink, future in futures.items():
            if not future.done():
                future.cancel()
                self._drop(sink, OSError("not kept in time"))
            elif isinstance(error := future.exception(), OSError):
                self._drop(sink, error)
            else:
                future.result()

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
        if WITH_FRACTION.search(line):
            line = in_whole_numbers(line) + b"\n"
        if len(line) > LARGEST:
            line = fitted(line)
        self._digest.update(digest.of_line(line[:-1]))
        if isinstance(event, RunFinished):
            line = digest.with_digest(line, digest.in_words(self._digest.digest()))
        return line

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
