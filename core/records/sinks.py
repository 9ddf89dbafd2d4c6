"""Where lines are kept on this machine: standard output and a file, each by a thread of its own; records are no matter.

A write or an fsync may hang for ever. A daemon thread that hangs holds up neither the run nor the end of the process.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

MOST_BYTES = 2**20
"""Held back for a thread before whoever writes many lines waits for it."""
TOGETHER = 2**18
"""Bytes that are handed over at once where many lines are written in a row: a handover costs both threads a while."""
SOON = 0.1
"""Seconds after which fewer are handed over all the same."""
HEAD = 256
"""Bytes of a file that are read again, to see that it is still ours."""


class Sink(Protocol):
    """Where lines go, until whoever opened it closes it; its methods raise OSError."""

    name: str

    def write(self, *lines: bytes) -> None:
        """Take these lines, at once and whole."""

    @property
    def full(self) -> bool:
        """Whether so much is held back that whoever writes many lines should wait."""

    def catch_up(self) -> Awaitable[None]:
        """Done when what is held back now has been passed on."""

    def make_durable(self) -> Awaitable[None]:
        """Done when every line taken so far outlives this process and its machine."""


class Blocking(Protocol):
    """A sink whose methods may block, but for `write_now`; they raise OSError."""

    name: str
    syncs: bool
    """Whether what is written must still be made durable."""

    def write_now(self, content: bytes) -> int:
        """How many bytes of it could be written without waiting."""

    def write(self, contents: Sequence[bytes]) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class InThread:
    """A blocking sink as one that is awaited. Once it has failed it takes nothing more."""

    def __init__(self, sink: Blocking) -> None:
        self.name = sink.name
        self._sink = sink
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._held: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._held_bytes = 0
        self._given = 0
        self._passed_on = 0
        self._error: OSError | None = None
        Thread(target=self._work, name=f"writes {sink.name}", daemon=True).start()

    @property
    def full(self) -> bool:
        return self._given + self._held_bytes - self._passed_on >= MOST_BYTES

    @property
    def _idle(self) -> bool:
        return not self._held and self._given == self._passed_on

    def write(self, *lines: bytes) -> None:
        if self._error is not None:
            raise self._error
        content = b"".join(lines)
        if self._idle:
            content = content[self._sink.write_now(content) :]
        if not content:
            return
        self._held.append(content)
        self._held_bytes += len(content)
        if self._held_bytes >= TOGETHER:
            self._hand_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self._hand_over)

    def catch_up(self) -> asyncio.Future[None]:
        return self._effort(None)

    def make_durable(self) -> asyncio.Future[None]:
        return self._effort(self._sink.sync if self._sink.syncs else None)

    def close(self) -> None:
        """When all that it was given is written, should that ever be."""
        self._hand_over()
        self._todo.put(None)

    def _effort(self, sync: Callable[[], None] | None) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._idle and sync is None:
            _settle(done, self._error)
        else:
            self._hand_over()
            self._todo.put(partial(self._try, sync, done))
        return done

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._given += self._held_bytes
            self._todo.put(partial(self._pass_on, self._held, self._held_bytes))
            self._held, self._held_bytes = [], 0

    def _work(self) -> None:
        for task in iter(self._todo.get, None):
            task()
        self._sink.close()

    def _pass_on(self, contents: Sequence[bytes], size: int) -> None:
        if self._error is None:
            try:
                self._sink.write(contents)
            except OSError as error:
                self._error = error
        self._passed_on += size

    def _try(self, sync: Callable[[], None] | None, done: asyncio.Future[None]) -> None:
        if sync is not None and self._error is None:
            try:
                sync()
            except OSError as error:
                self._error = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            done.get_loop().call_soon_threadsafe(_settle, done, self._error)


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():  # whoever waited has given up
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Stdout:
    """Lines for Cloud Run's log agent, which reads them as they are written: there is nothing to make durable.

    A pipe or a device takes them at once, unless it is full: for that it is opened once more, since not to wait is a
    property that whoever shares a descriptor would share.
    """

    name = "stdout"
    syncs = False

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._at_once: int | None = None
        os.set_blocking(descriptor, True)
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            with suppress(OSError):  # another user's, or no Linux
                self._at_once = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)

    def write_now(self, content: bytes) -> int:
        if self._at_once is None:
            return 0
        try:
            return os.write(self._at_once, content)
        except BlockingIOError:
            return 0

    def write(self, contents: Sequence[bytes]) -> None:
        _write_whole(self._descriptor, contents)

    def sync(self) -> None:
        pass

    def close(self) -> None:
        if self._at_once is not None:
            os.close(self._at_once)


class AuditFile:
    """A file of JSON Lines, appended to and fsynced; one that is removed, replaced or cut short meanwhile is lost."""

    syncs = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        self._opened = os.fstat(self._descriptor)
        self._regular = stat.S_ISREG(self._opened.st_mode)
        self._least = self._opened.st_size
        """What it must hold, whoever else appends to it."""
        self._head = os.pread(self._descriptor, HEAD, 0) if self._regular else b""
        """How it begins; where it was empty, with what is written first."""

    def write_now(self, _: bytes) -> int:
        return 0  # a disk never says that it will hang

    def write(self, contents: Sequence[bytes]) -> None:
        if self._regular and self._is_torn():  # a killed run's last line must not swallow our next one
            contents = [b"\n", *contents]
        self._least += _write_whole(self._descriptor, contents)
        if self._regular and not self._head:
            self._head = os.pread(self._descriptor, HEAD, 0)

    def sync(self) -> None:
        os.fsync(self._descriptor)
        if self._regular:
            self._check()

    def close(self) -> None:
        os.close(self._descriptor)

    def _is_torn(self) -> bool:
        size = os.fstat(self._descriptor).st_size
        return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def _check(self) -> None:
        try:
            named = self._path.stat()
        except FileNotFoundError:
            raise OSError("it was removed during the run") from None
        if not os.path.samestat(named, self._opened):
            raise OSError("another file took its name during the run")
        longer = named.st_size - self._least  # by what others appended, or wrote over it
        if longer < 0 or (longer and os.pread(self._descriptor, len(self._head), 0) != self._head):
            raise OSError("it was cut short or written over during the run")


def _write_whole(descriptor: int, contents: Sequence[bytes]) -> int:
    """How many bytes they are."""
    length = sum(map(len, contents))
    written = os.writev(descriptor, contents)
    while written < length:
        written += os.write(descriptor, b"".join(contents)[written:])
    return length
