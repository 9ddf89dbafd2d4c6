"""Print what makes a shell complete jobs, flags and their choices.

The script is complete in itself: the program does not run while somebody types. After an update, print it again.
"""

import argparse

from core.screen.standard_output import say
from core.settings.faults import not_installed

EXAMPLES = (
    "leo-lifecycle completion bash > ~/.local/share/bash-completion/completions/leo-lifecycle",
    "leo-lifecycle completion zsh > FOLDER/_leo-lifecycle   # where FOLDER is one of $fpath",
    "leo-lifecycle completion fish > ~/.config/fish/completions/leo-lifecycle.fish",
)
SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell that shall complete")


def serve(arguments: argparse.Namespace) -> int:
    try:
        import shtab  # noqa: PLC0415 - for a person only
    except ImportError as error:
        raise not_installed("completion", error, "console") from None
    program = _Completed(prog="leo-lifecycle")
    arguments.add_jobs(program)
    program.mark_placeholders()
    say(shtab.complete(program, arguments.shell).encode())
    return 0


class _Completed(argparse.ArgumentParser):
    """A parser whose placeholders say what may stand there: `FILE`, `FOLDER`, or the words themselves."""

    def mark_placeholders(self) -> None:
        import shtab  # noqa: PLC0415 - see above

        for action in self._actions:
            if isinstance(action.choices, dict):
                for job in action.choices.values():
                    job.mark_placeholders()
                continue
            words = str(action.metavar or "").split("|")
            if "FILE" in words:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif "FOLDER" in words:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            elif len(words) > 1 and action.choices is None:
                action.choices = words
