"""What the program's exit code says, and which of several reasons for one wins; what a run met is counted elsewhere."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The numbers are a promise to whoever schedules the program."""

    DONE = 0
    FAILED = 1
    """A runtime, a project or a list item."""
    USAGE = 2
    REFUSED = 3
    UNREADABLE = 4
    STOPPED = 5
    """By the deadline or a signal."""
    UNRECORDED = 6
    FOUND = 8
    """Only where `--exit-code` asks for it."""
    BUG = 70


IN_WORDS: dict[int, str] = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "done, but something failed or is in doubt",
    ExitCode.USAGE: "not asked rightly, nothing was called",
    ExitCode.REFUSED: "refused by a guard",
    ExitCode.UNREADABLE: "the inventory could not be read, nothing was touched",
    ExitCode.STOPPED: "stopped early, the rest was not attempted",
    ExitCode.UNRECORDED: "a record could not be kept, acts stopped",
    ExitCode.FOUND: "done, and there is what --exit-code asks about",
    ExitCode.BUG: "a bug in this program",
}


def exit_code_of(
    *, unrecorded: bool, stopped: bool, signalled: bool, nothing_read: bool, refused: bool, failed: bool
) -> ExitCode:
    """Of a run that met all this: the highest wins, but an inventory that was not read is 4 unless a signal came."""
    if unrecorded:
        return ExitCode.UNRECORDED
    if stopped and (signalled or not nothing_read):
        return ExitCode.STOPPED
    if nothing_read:
        return ExitCode.UNREADABLE
    if refused:
        return ExitCode.REFUSED
    return ExitCode.FAILED if failed else ExitCode.DONE
