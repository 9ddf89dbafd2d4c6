"""Where its records go: a file and a log service, which may fail, hang, be slow, or lie about what they keep."""

import os
from errno import ENOSPC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from tests.lives.process import Process

SOON = 0.1
"""Seconds after which a file is given what was written; as the program's own thread does."""
TAKES = 0.004


class VirtualSink:
    """Keeps lines in order; `acknowledged` of them are durable, as far as the program was told."""

    def __init__(self, process: "Process", name: str) -> None:
        self.name = name
        self.process = process
        self.lines: list[bytes] = []
        self.acknowledged = 0
        self._failed = False
        self._efforts: list[asyncio.Future[None]] = []
        self.fault = ""
        self.was_slow = False
        """So that looks may have grown too old meanwhile."""
        self._written = 0
        self._flushing = False

    @property
    def failed(self) -> bool:
        """Whether the program was told so, or waited in vain."""
        return self._failed or any(effort.cancelled() for effort in self._efforts)

    @property
    def full(self) -> bool:
        return False

    def write(self, *lines: bytes) -> None:
        if self.process.dead:
            return
        if self.fault == "fails":
            self._failed = True
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        self.lines += lines
        if not self._flushing:
            self._flushing = True
            self.process.loop.call_later(SOON, self.flush)

    def catch_up(self) -> "asyncio.Future[None]":
        return self.make_durable()

    def make_durable(self) -> "asyncio.Future[None]":
        process = self.process
        done: asyncio.Future[None] = process.loop.create_future()
        wanted = len(self.lines)
        self._efforts.append(done)

        def end() -> None:
            if done.done() or self.fault == "hangs":  # nobody waits any more, or all do
                self._failed = True
            elif self.fault in ("fails", "fails to sync"):
                self._failed = True
                done.set_exception(OSError(ENOSPC, os.strerror(ENOSPC)))
            else:
                self.flush(wanted)
                if self.fault != "lies":
                    process.world.log.sync()
                self.acknowledged = max(self.acknowledged, wanted)
                done.set_result(None)

        if self.fault == "hangs":
            self._failed = True
        else:
            self.was_slow |= self.fault == "is slow"
            takes = process.world.random.choice((3.0, 6.0, 11.0)) if self.fault == "is slow" else TAKES
            process.world.disk_works(process, takes, end)
        return done

    def flush(self, count: int | None = None) -> None:
        """Hand on what was written, so that it outlives the process."""
        self._flushing = False
        count = len(self.lines) if count is None else count
        if self.process.dead or self.fault in ("fails", "hangs") or count <= self._written:
            return
        fresh = b"".join(self.lines[self._written : count])
        self._written = count
        self.keep(fresh)

    def keep(self, content: bytes) -> None:
        raise NotImplementedError

    def torn(self, share: float) -> None:
        """The process is killed in the middle of a write."""
        rest = b"".join(self.lines[self._written :])
        self.keep(rest[: int(len(rest) * share)])


class VirtualFile(VirtualSink):
    """The audit file, which all runs of the machine append to."""

    def keep(self, content: bytes) -> None:
        if content:
            self.process.world.log.append(content)


class VirtualCloud(VirtualSink):
    """A log service; what it has taken nobody can take away."""

    def keep(self, content: bytes) -> None:
        self.process.world.cloud += content
