"""Audit records: one line and one write each, durable when promised, and an end where one is lost."""

import asyncio
import json
import os
import resource
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records.events import Event, RuntimeMissing
from core.records.outcome import Severity
from core.records.sinks import MOST_BYTES, AuditFile, Blocking, InThread, Sink, Stdout
from core.records.writer import AuditLog, RecordNotKeptError, RunIdentity
from tests.conftest import read_records
from tests.test_clock import LeapingLoop
from tests.test_clock import run as run_leaping

START = datetime(2026, 11, 20, 3, tzinfo=UTC)
IDENTITY = RunIdentity(job="delete-old-runtimes", run_id="run-1", environment="test", dry_run=True)


class Memory:
    """Keeps lines, and counts the efforts to make them durable."""

    name = "memory"
    full = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.durable: list[int] = []
        """How many lines each effort covered."""
        self.caught_up: list[int] = []

    def write(self, *lines: bytes) -> None:
        self.lines.extend(lines)

    async def catch_up(self) -> None:
        self.caught_up.append(len(self.lines))

    async def make_durable(self) -> None:
        self.durable.append(len(self.lines))


class Gated(Memory):
    """Makes nothing durable until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let = asyncio.Event(), asyncio.Event()

    async def make_durable(self) -> None:
        await super().make_durable()
        self.entered.set()
        await self.let.wait()


class Dying(Gated):
    """Takes nothing any more, and fails an effort that was already under way."""

    def write(self, *lines: bytes) -> None:
        if self.entered.is_set():
            raise OSError(28, "No space left on device")
        super().write(*lines)

    async def make_durable(self) -> None:
        await super().make_durable()
        raise OSError(5, "Input/output error")


class Unnamed(Memory):
    """Fails with an error that has a sentence and no number."""

    name = "unnamed"

    def write(self, *lines: bytes) -> None:
        raise OSError(f"no room for {len(lines[0]) // 10**6} MB")


def missing(number: int = 1, message: str = "it is not listed") -> RuntimeMissing:
    return RuntimeMissing(severity=Severity.WARNING, message=message, project="terra-1", name=f"x-{number}")


def ticking() -> Callable[[], datetime]:
    """A clock that is a second later each time it is read."""
    seconds = iter(range(1000))
    return lambda: START + timedelta(seconds=next(seconds))


def a_log(*sinks: Sink, identity: RunIdentity = IDENTITY) -> AuditLog:
    return AuditLog(identity, sinks, now=ticking())


def write_all(log: AuditLog, *numbers: int) -> None:
    for number in numbers:
        log.write(missing(number))


def keep(log: AuditLog, *numbers: int) -> None:
    """Write records one by one, and wait until they are kept."""

    async def run() -> None:
        write_all(log, *numbers)
        await log.commit()

    asyncio.run(run())


@pytest.fixture
def aside() -> Iterator[Callable[[Blocking], InThread]]:
    """Puts a sink into a thread, which ends with the test."""
    with ExitStack() as opened:

        def put(sink: Blocking) -> InThread:
            in_thread = InThread(sink)
            opened.callback(in_thread.close)
            return in_thread

        yield put


Aside = Callable[[Blocking], InThread]


class Hanging:
    """A disk or a pipe that takes nothing until it is let, and then everything."""

    name = "hanging"
    syncs = True

    def __init__(self) -> None:
        self.entered, self.let = threading.Event(), threading.Event()
        self.contents: list[bytes] = []

    def write_now(self, _: bytes) -> int:
        return 0

    def write(self, contents: Sequence[bytes]) -> None:
        self.entered.set()
        self.let.wait()
        self.contents += contents

    def sync(self) -> None:
        self.entered.set()
        self.let.wait()

    def close(self) -> None:
        pass


class HangingSync(Hanging):
    """A disk that takes everything and never says that it has it."""

    def write(self, contents: Sequence[bytes]) -> None:
        self.contents += contents


@asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    """There is no time to wait."""
    async with asyncio.timeout(0):
        yield


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)
    os.close(reader)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Lines


def test_a_record_is_the_event_and_what_is_common_to_the_run() -> None:
    memory = Memory()
    identity = RunIdentity(
        job="delete-old-runtimes", run_id="run-1", environment="prod", dry_run=False, task_index=2, task_count=3
    )
    write_all(a_log(memory, identity=identity), 1)
    (line,) = memory.lines
    assert json.loads(line) == {
        "event": "runtime_missing",
        "severity": "WARNING",
        "message": "it is not listed",
        "project": "terra-1",
        "name": "x-1",
        "time": "2026-11-20T03:00:00Z",
        "logging.googleapis.com/labels": {"job": "delete-old-runtimes", "run_id": "run-1", "environment": "prod"},
        "logging.googleapis.com/insertId": "run-1-2-0",
        "schema": "leo-lifecycle/audit/v1",
        "job": "delete-old-runtimes",
        "run_id": "run-1",
        "environment": "prod",
        "dry_run": False,
        "seq": 0,
        "task_index": 2,
        "task_count": 3,
        "truncated": None,
    }


def test_records_are_numbered_from_0_without_gaps() -> None:
    memory = Memory()
    log = a_log(memory)
    write_all(log, *range(12))
    records = read_records([line.decode() for line in memory.lines])
    assert [r["seq"] for r in records] == list(range(12))
    assert [r["logging.googleapis.com/insertId"] for r in records] == [f"run-1-0-{seq}" for seq in range(12)]
    assert [r["time"] for r in records] == [f"2026-11-20T03:00:{second:02}Z" for second in range(12)]
    assert [r["name"] for r in records] == [f"x-{number}" for number in range(12)]
    assert log.written == 12


def test_every_sink_gets_the_same_bytes() -> None:
    one, two = Memory(), Memory()
    write_all(a_log(one, two), 1, 2)
    assert len(one.lines) == 2
    assert one.lines == two.lines


@given(st.text())
def test_a_record_is_one_line_in_one_write_whatever_it_says(message: str) -> None:
    memory = Memory()
    a_log(memory).write(missing(message=message))
    (line,) = memory.lines
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["message"] == message


def test_who_looks_on_sees_each_event_in_order() -> None:
    seen: list[Event] = []
    log = AuditLog(IDENTITY, [Memory()], now=ticking(), seen_by=seen.append)
    write_all(log, 1, 2)
    assert seen == [missing(1), missing(2)]


def test_a_log_without_sinks_still_counts(pipe: tuple[int, int]) -> None:
    log = a_log()
    write_all(log, 1, 2)
    asyncio.run(log.commit())
    assert (log.written, log.failure) == (2, None)
    assert pipe


# Standard output


def test_standard_output_gets_a_line_at_once(pipe: tuple[int, int], aside: Aside) -> None:
    reader, writer = pipe
    memory = Memory()
    os.set_blocking(writer, False)
    log = a_log(aside(Stdout(writer)), memory)
    assert os.get_blocking(writer)
    write_all(log, 1)
    assert os.read(reader, 65_536) == memory.lines[0]
    write_all(log, 2)
    assert os.read(reader, 65_536) == memory.lines[1]
    asyncio.run(log.commit())
    assert stat.S_ISFIFO(os.fstat(writer).st_mode)


def test_a_line_longer_than_a_pipe_comes_through_whole(pipe: tuple[int, int], aside: Aside) -> None:
    reader, writer = pipe
    received = bytearray()

    def drain() -> None:
        while not received.endswith(b"\n"):
            received.extend(os.read(reader, 4096))

    thread = threading.Thread(target=drain)
    thread.start()
    memory = Memory()
    log = a_log(aside(Stdout(writer)), memory)

    async def write() -> None:
        log.write(missing(message="x" * 300_000))
        await log.commit()

    asyncio.run(write())
    thread.join(30)
    assert bytes(received) == memory.lines[0]


def test_what_finds_the_pipe_full_comes_later_and_in_order(pipe: tuple[int, int], aside: Aside) -> None:
    memory = Memory()
    log = a_log(aside(Stdout(pipe[1])), memory)

    async def write() -> bytes:
        for number in range(1, 100):
            log.write(missing(number, "x" * 3000))
        committing = asyncio.create_task(log.commit())
        received = bytearray()
        while not committing.done() or len(received) < len(b"".join(memory.lines)):
            received += await asyncio.to_thread(os.read, pipe[0], 10_000)
        return bytes(received)

    assert asyncio.run(write()) == b"".join(memory.lines)
    keep(log, 100)
    assert os.read(pipe[0], 10_000) == memory.lines[-1]


def test_standard_output_may_be_a_file_or_a_socket(tmp_path: Path, aside: Aside) -> None:
    memory = Memory()
    with (tmp_path / "out.jsonl").open("wb") as file:
        keep(a_log(aside(Stdout(file.fileno())), memory), 1, 2)
    assert (tmp_path / "out.jsonl").read_bytes() == b"".join(memory.lines)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keep(a_log(aside(Stdout(ours.fileno())), memory), 3)
        assert theirs.recv(10_000) == memory.lines[-1]


def test_a_closed_pipe_is_a_lost_record(aside: Aside) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    memory = Memory()
    log = a_log(aside(Stdout(writer)), memory)
    with pytest.raises(RecordNotKeptError, match=r"^stdout: Broken pipe$"):
        keep(log, 1)
    assert [json.loads(line)["seq"] for line in memory.lines] == [0]
    assert log.kept_in == ["memory"]
    os.close(writer)


def test_records_that_are_written_together_are_lines_of_their_own(pipe: tuple[int, int], aside: Aside) -> None:
    memory = Memory()
    log = a_log(aside(Stdout(pipe[1])), memory)

    async def write() -> None:
        log.write(missing(1), missing(2), missing(3))
        log.write()
        await log.commit()

    asyncio.run(write())
    assert os.read(pipe[0], 2**16) == b"".join(memory.lines)
    records = read_records([line.decode() for line in memory.lines])
    assert [record["name"] for record in records] == ["x-1", "x-2", "x-3"]
    assert {record["time"] for record in records} == {"2026-11-20T03:00:00Z"}
    assert log.written == 3


def test_what_is_written_together_comes_soon_though_nobody_waits_for_it(pipe: tuple[int, int], aside: Aside) -> None:
    memory = Memory()
    log = a_log(aside(Stdout(pipe[1])), memory)

    async def write() -> bytes:
        log.write(missing(1), missing(2))
        return await asyncio.to_thread(os.read, pipe[0], 2**16)

    assert asyncio.run(write()) == b"".join(memory.lines)


# Files


def test_a_file_gets_every_record_and_its_folders(tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit" / "deep" / "run.jsonl"
    memory = Memory()
    file = AuditFile(path)
    log = a_log(aside(file), memory)
    keep(log, 1, 2, 3)
    assert file.name == str(path)
    assert path.read_bytes() == b"".join(memory.lines)
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_a_file_is_appended_to(tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"seq":0}\n')
    memory = Memory()
    keep(a_log(aside(AuditFile(path)), memory), 1)
    assert path.read_bytes() == b'{"seq":0}\n' + memory.lines[0]


def test_a_torn_last_line_does_not_swallow_the_first_record(tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"seq":0}\n{"seq":1,"mess')
    memory = Memory()
    keep(a_log(aside(AuditFile(path)), memory), 1)
    assert path.read_bytes() == b'{"seq":0}\n{"seq":1,"mess\n' + memory.lines[0]


def test_the_torn_line_of_a_run_that_was_killed_beside_swallows_no_record(tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit.jsonl"
    memory = Memory()
    log = a_log(aside(AuditFile(path)), memory)
    keep(log, 1)
    with path.open("ab") as file:
        file.write(b'{"seq":1,"mess')
    keep(log, 2)
    assert path.read_bytes() == memory.lines[0] + b'{"seq":1,"mess\n' + memory.lines[1]


def test_a_file_that_was_only_opened_stays_as_it_was(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"{}\n"):
        path = tmp_path / "audit.jsonl"
        path.write_bytes(content)
        AuditFile(path).close()
        assert path.read_bytes() == content


def test_a_closed_file_takes_nothing(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "audit.jsonl")
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write([b"late\n"])


def test_two_logs_in_one_file_do_not_overwrite_each_other(tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit.jsonl"
    memory = Memory()
    one, two = (a_log(aside(AuditFile(path)), memory) for _ in range(2))
    keep(one, 1)
    keep(two, 2)
    keep(one, 3)
    keep(two)
    assert path.read_bytes() == b"".join(memory.lines)


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        AuditFile(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AuditFile(tmp_path / "file" / "audit.jsonl")


def removed(path: Path) -> None:
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def cut_by_a_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def emptied_and_grown(path: Path) -> None:
    path.write_bytes(b"x" * (path.stat().st_size + 1))


def untouched(_: Path) -> None:
    pass


def appended_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{}\n")


LOSSES = [
    (removed, "it was removed"),
    (renamed, "it was removed"),
    (replaced, "another file took its name"),
    (emptied, "it was cut short or written over"),
    (cut_by_a_byte, "it was cut short or written over"),
    (emptied_and_grown, "it was cut short or written over"),
]


@pytest.mark.parametrize(("befalls", "told"), LOSSES)
@pytest.mark.parametrize("first", [[], [1]])
def test_a_file_that_is_lost_during_the_run_is_a_lost_record(
    befalls: Callable[[Path], None], told: str, first: list[int], tmp_path: Path, aside: Aside
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"seq":0}\n')
    log = a_log(aside(AuditFile(path)), Memory())
    keep(log, *first)
    befalls(path)
    with pytest.raises(RecordNotKeptError, match=rf"audit\.jsonl: {told} during the run$"):
        keep(log, 2)
    assert log.kept_in == ["memory"]


def test_a_file_that_is_cut_short_while_nothing_is_written_is_noticed_when_it_is_made_durable(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    file = AuditFile(path)
    file.write([b"{}\n"])
    file.sync()
    cut_by_a_byte(path)
    with pytest.raises(OSError, match=r"^it was cut short or written over during the run$"):
        file.sync()
    file.close()


@pytest.mark.parametrize("befalls", [untouched, appended_to])
def test_a_file_that_only_grows_is_kept(befalls: Callable[[Path], None], tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit.jsonl"
    log = a_log(aside(AuditFile(path)))
    keep(log, 1)
    befalls(path)
    keep(log, 2)
    assert log.kept_in == [str(path)]


# Durability


def test_those_who_wait_together_share_one_effort() -> None:
    memory = Memory()
    log = a_log(memory)
    write_all(log, *range(50))

    async def commit_all() -> None:
        await asyncio.gather(*(log.commit() for _ in range(50)))

    asyncio.run(commit_all())
    assert memory.durable == [50]


def test_what_is_durable_already_needs_no_effort() -> None:
    memory = Memory()
    log = a_log(memory)

    async def run() -> None:
        await log.commit()
        write_all(log, 1)
        await log.commit()
        await log.commit()
        write_all(log, 2)
        await log.commit()

    asyncio.run(run())
    assert memory.durable == [1, 2]


def test_who_writes_many_waits_where_much_is_held_back() -> None:
    holding = Memory()
    log = a_log(holding)

    async def run() -> None:
        for holding.full in (False, True, False):
            write_all(log, 1)
            await log.drain()

    asyncio.run(run())
    assert (holding.caught_up, holding.durable) == ([2], [])


def test_a_thread_holds_back_a_megabyte_and_then_whoever_writes_waits(aside: Aside) -> None:
    hanging = Hanging()
    sink = aside(hanging)
    half = b"x" * (MOST_BYTES // 2)

    async def run() -> None:
        sink.write(half)
        await asyncio.to_thread(hanging.entered.wait)
        sink.write(half[1:])
        assert not sink.full
        sink.write(b"x")
        assert sink.full
        caught_up = sink.catch_up()
        await asyncio.sleep(0)
        assert not caught_up.done()
        hanging.let.set()
        await caught_up
        assert not sink.full

    asyncio.run(run())
    assert hanging.contents == [half, half[1:], b"x"]


def test_a_commit_returns_only_when_the_effort_has_ended_and_covers_nothing_later() -> None:
    gated = Gated()
    log = a_log(gated)
    order: list[str] = []

    async def commit(name: str) -> None:
        await log.commit()
        order.append(f"{name} durable, {len(gated.durable)} efforts")

    async def run() -> None:
        write_all(log, 1)
        first = asyncio.create_task(commit("first"))
        await gated.entered.wait()
        write_all(log, 2)
        second = asyncio.create_task(commit("second"))
        await gated.entered.wait()
        write_all(log, 3)
        third = asyncio.create_task(commit("third"))
        await gated.entered.wait()
        order.append("let")
        gated.let.set()
        await asyncio.gather(first, second, third)

    asyncio.run(run())
    assert order == ["let", "first durable, 1 efforts", "second durable, 2 efforts", "third durable, 2 efforts"]
    assert gated.durable == [1, 3]


def test_every_sink_is_made_durable() -> None:
    one, two = Memory(), Memory()
    log = a_log(one, two)
    write_all(log, 1)
    asyncio.run(log.commit())
    assert (one.durable, two.durable) == ([1], [1])


# Sinks that hang


@pytest.mark.parametrize("kind", [Hanging, HangingSync])
def test_a_sink_that_hangs_is_given_up_and_keeps_nothing_from_the_others(kind: type[Hanging], aside: Aside) -> None:
    hanging, memory = kind(), Memory()
    log = AuditLog(IDENTITY, [aside(hanging), memory], now=ticking(), in_time=at_once)

    async def run() -> None:
        write_all(log, 1)
        with pytest.raises(RecordNotKeptError, match=r"^hanging: not kept in time$"):
            await log.commit()
        with pytest.raises(RecordNotKeptError):
            write_all(log, 2)
        with pytest.raises(RecordNotKeptError):
            await log.commit()

    asyncio.run(run())
    assert (log.kept_in, len(memory.lines), memory.durable) == (["memory"], 2, [1, 2])
    hanging.let.set()


def test_a_sink_that_holds_much_back_for_too_long_is_given_up(aside: Aside) -> None:
    hanging = Hanging()
    log = AuditLog(IDENTITY, [aside(hanging)], now=ticking(), in_time=at_once)
    large = missing(message="x" * 50_000)

    async def run() -> None:
        for _ in range(MOST_BYTES // 50_000):
            log.write(large)
            await log.drain()
        log.write(large)
        with pytest.raises(RecordNotKeptError, match=r"^hanging: not kept in time$"):
            await log.drain()

    asyncio.run(run())
    hanging.let.set()


def test_a_commit_says_how_many_seconds_it_took() -> None:
    gated = Gated()
    log = a_log(gated)

    async def run(loop: LeapingLoop) -> None:
        write_all(log, 1)
        first = asyncio.create_task(log.commit())
        await gated.entered.wait()
        loop.leap += 5
        second = asyncio.create_task(log.commit())
        await asyncio.sleep(0)
        loop.leap += 5.5
        gated.let.set()
        assert (int(await first), int(await second)) == (10, 5)
        assert int(await log.commit()) == 0

    run_leaping(run)


# Records that are lost


def test_a_full_disk_ends_acts_and_the_other_sinks_go_on(aside: Aside) -> None:
    before, after = Memory(), Memory()
    seen: list[Event] = []
    full = aside(AuditFile(Path("/dev/full")))
    log = AuditLog(IDENTITY, [before, full, after], now=ticking(), seen_by=seen.append)
    log.check()
    lost = r"^/dev/full: No space left on device$"
    with pytest.raises(RecordNotKeptError, match=lost):
        keep(log, 1)
    with pytest.raises(RecordNotKeptError, match=lost):
        log.check()
    with pytest.raises(RecordNotKeptError, match=lost):
        log.write(missing(2))
    with pytest.raises(RecordNotKeptError, match=lost):
        asyncio.run(log.commit())
    assert log.failure == "/dev/full: No space left on device"
    assert before.lines == after.lines
    assert [record["seq"] for record in read_records([line.decode() for line in after.lines])] == [0, 1]
    assert (before.durable, after.durable) == ([1, 2], [1, 2])
    assert seen == [missing(1), missing(2)]


def test_a_sink_that_failed_once_gets_no_more(tmp_path: Path, aside: Aside) -> None:
    path = tmp_path / "audit.jsonl"
    room = 2**20
    path.write_bytes(b"x" * (room - 11) + b"\n")
    memory = Memory()
    sink = aside(AuditFile(path))
    log = a_log(sink, memory)
    with no_file_beyond(room), pytest.raises(RecordNotKeptError, match=r"audit\.jsonl: File too large$"):
        keep(log, 1)
    with pytest.raises(RecordNotKeptError):
        write_all(log, 2)
    with pytest.raises(OSError, match="File too large"):
        sink.write(b"whoever wrote it")
    assert path.read_bytes()[room - 10 :] == memory.lines[0][:10]
    assert len(memory.lines) == 2


def test_a_record_that_cannot_be_made_durable_is_lost(tmp_path: Path, aside: Aside) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    memory = Memory()
    log = a_log(aside(AuditFile(fifo)), memory)
    for _ in range(2):
        with pytest.raises(RecordNotKeptError, match=r"fifo: Invalid argument$"):
            keep(log, 1)
    assert log.failure == f"{fifo}: Invalid argument"
    assert memory.durable == [1]


def test_all_who_wait_learn_of_a_lost_record(tmp_path: Path, aside: Aside) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    log = a_log(aside(AuditFile(fifo)))

    async def commit_all() -> list[float | BaseException]:
        write_all(log, 1)
        return await asyncio.gather(*(log.commit() for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(commit_all())] == [RecordNotKeptError] * 3


def test_a_sink_that_fails_to_write_while_it_is_made_durable_is_one_lost_sink() -> None:
    dying, memory = Dying(), Memory()
    log = a_log(dying, memory)

    async def run() -> None:
        write_all(log, 1)
        commit = asyncio.create_task(log.commit())
        await dying.entered.wait()
        with pytest.raises(RecordNotKeptError, match=r"^memory: No space left on device$"):
            write_all(log, 2)
        dying.let.set()
        with pytest.raises(RecordNotKeptError):
            await commit

    asyncio.run(run())
    assert (len(memory.lines), memory.durable) == (2, [1])


def test_an_error_without_a_number_is_told_in_its_own_words() -> None:
    log = a_log(Unnamed())
    with pytest.raises(RecordNotKeptError, match=r"^unnamed: no room for 0 MB$"):
        write_all(log, 1)
