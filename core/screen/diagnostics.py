"""What the program says of itself on stderr; audit records are not diagnostics and go elsewhere."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

import structlog


class _Stderr:
    """Standard error, unbuffered; that nobody reads it any more must neither stop a run nor change its exit code."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            if sys.stderr is sys.__stderr__:
                os.write(2, text.encode())
            else:  # somebody draws there, and lets lines pass without harm to the drawing
                sys.stderr.write(text)

    def flush(self) -> None:
        pass


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
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
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
    stderr = _Stderr()
    terminal = sys.stderr.isatty()

    def show(count: int) -> None:
        if terminal:
            stderr.write(f"\r{count:,} records read")
        elif count % EVERY_SO_MANY == 0 and count:
            stderr.write(f"{count:,} records read\n")

    try:
        yield show
    finally:
        if terminal:
            stderr.write("\r\x1b[K")
