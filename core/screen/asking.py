"""Asks whoever sits at the terminal; what is asked, and when, is the run's matter."""

import sys


def somebody_is_there() -> bool:
    """Whether a question can be read and answered."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def agrees(question: str) -> bool:
    """Anything but yes is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
