"""What the program says of itself on stderr; audit records are not diagnostics and go elsewhere."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import TextIO, cast

import structlog

PATIENCE = 0.5
"""Seconds that whoever says something waits for it to be written; after that a terminal or a pipe hangs."""
MOST_WAITING = 1000
"""Texts that wait for one that hangs; those that come then are lost."""


class _Stderr:
    """Standard error, unbuffered; that nobody reads it any more must neither stop a run nor change its exit code.

    A daemon thread writes, and while it hangs nobody waits for it.
    """

    def __init__(self) -> None:
        self._todo: SimpleQueue[tuple[str, Event]] = SimpleQueue()
        self._last_written = Event()
        self._last_written.set()
        self._thread: Thread | None = None

    def write(self, text: str) -> None:
        caught_up = self._last_written.is_set()
        if not caught_up and self._todo.qsize() >= MOST_WAITING:
            return
        self._last_written = written = Event()
        self._todo.put((text, written))
        if self._thread is None:
            self._thread = Thread(target=self._work, name="writes stderr", daemon=True)
            self._thread.start()
        if caught_up:
            written.wait(PATIENCE)

    def flush(self) -> None:
        pass

    def _work(self) -> None:
        while True:
            text, written = self._todo.get()
            stderr: TextIO = sys.stderr
            with suppress(OSError, ValueError):
                if stderr is sys.__stderr__:
                    os.write(2, text.encode(stderr.encoding, "backslashreplace"))
                else:  # somebody draws there, and lets lines pass without harm to the drawing
                    stderr.write(text)
            written.set()


_stderr = _Stderr()


def to_stderr(level: str, *, as_json: bool) -> None:
    """One line per event: JSON with a severity, as Cloud Logging lifts it, or plain text for a person."""
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.processors.LogfmtRenderer(key_order=["event"])
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, _severity, structlog.processors.EventRenamer("message"), render]
        if as_json
        else [render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _stderr)),
        cache_logger_on_first_use=False,
    )


def _severity(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["severity"] = event.pop("level").upper()
    return event


EVERY_SO_MANY = 20_000
"""Records read between two lines about it, where no terminal can show them on one."""


@contextmanager
def reading() -> Iterator[Callable[[int], None]]:
    """While this is open, what it gives is told how many records a long read has brought so far."""
    terminal = sys.stderr.isatty()

    def show(count: int) -> None:
        if terminal:
            _stderr.write(f"\r{count:,} records read")
        elif count % EVERY_SO_MANY == 0 and count:
            _stderr.write(f"{count:,} records read\n")

    try:
        yield show
    finally:
        if terminal:
            _stderr.write("\r\x1b[K")
