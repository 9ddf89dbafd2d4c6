"""Standard output for answers, whose reader may have seen enough; audit records have a writer of their own."""

import os
import sys


def say(answer: bytes) -> None:
    """All of it, or as much as is read."""
    try:
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        goes_nowhere()


def goes_nowhere() -> None:
    """What is left to say is lost: the exit code tells of the work, not of its reader."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
