"""Standard output for answers, whose reader may have seen enough; audit records have sinks of their own."""

import atexit
import errno
import io
import os
import sys
from typing import TextIO

GONE = (errno.EPIPE, errno.EIO)
"""What writing fails with where a pipe has no reader any more, or a terminal was closed."""


def open_standard_streams() -> bool:
    """Open what is closed of the three, or the next file or socket would be taken for it; False where stdout was.

    What the encoding of a terminal lacks is shown as a question mark, and ends no run.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free is this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    atexit.register(_write_what_is_left)
    return sys.stdout is not None


def say(answer: bytes) -> None:
    """All of it, or as much as is read."""
    try:
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        goes_nowhere()


def tell(text: str) -> None:
    """All of it, or as much as is read, at once or in the end."""
    try:
        sys.stdout.write(text)
    except BrokenPipeError:  # where Python is told not to buffer
        goes_nowhere()


def goes_nowhere(stream: TextIO | None = None) -> None:
    """What is left to say is lost: the exit code tells of the work, not of its reader."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def _write_what_is_left() -> None:
    """Before Python does, which ends the process with 120 where it cannot."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError as error:
            if error.errno in GONE:
                goes_nowhere(stream)
