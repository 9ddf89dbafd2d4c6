"""What the program's exit code says, and which of several reasons for one wins; what a run met is counted elsewhere."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The numbers are a promise to whoever schedules the program."""

    DONE = 0
    FAILED = 1
    """Done, but a runtime, a project or a list item failed or is in doubt."""
    USAGE = 2
    """Nothing was called."""
    REFUSED = 3
    """By a guard."""
    UNREADABLE = 4
    """The inventory could not be read; nothing was touched."""
    STOPPED = 5
    """By the deadline or a signal; the rest was not attempted."""
    UNRECORDED = 6
    """A record could not be kept; acts stopped."""
    FOUND = 8
    """Done, and there is what was asked for; only where `--exit-code` asks for it."""
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
