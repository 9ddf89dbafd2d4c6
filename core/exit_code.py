"""What the program's exit code says; which one a run has earned is its own matter."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Where several apply to a run it is the highest; the numbers never change (README, "How it ended")."""

    DONE = 0
    FAILED = 1
    """Done, but something failed or is in doubt."""
    USAGE = 2
    REFUSED = 3
    """By a guard."""
    UNREADABLE = 4
    """The inventory: nothing was touched."""
    STOPPED = 5
    """Early, by the deadline or a signal."""
    UNRECORDED = 6
    """A record could not be kept."""
    BUG = 70
    """Of this program."""
