"""What draws for a person: rich on a terminal, plain lines elsewhere; where rich is missing that is said."""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Protocol

from core.screen.plain import NoProgress, Plain
from core.screen.styled import Headers, Styled

if TYPE_CHECKING:
    from core.screen.progress import RunProgress

MISSING = (
    "leo-lifecycle: tables that fit the terminal, colours and progress come with an extra; in the checkout:"
    " pip install '.[console]'"
)


class Drawing(Protocol):
    """Draws on standard output."""

    def lines(self, texts: Iterable[Styled]) -> None:
        """Each on lines of its own."""

    def blank(self) -> None:
        """An empty line."""

    def table(self, title: str, headers: Headers, rows: Sequence[Sequence[str]]) -> None:
        """All rows, however many: what matters most stands below them, where the eye is in the end."""


def open_drawing() -> Drawing:
    """Into a file or a pipe a row is a line, unless colours or columns are asked for."""
    if not (sys.stdout.isatty() or {"COLUMNS", "FORCE_COLOR"} & os.environ.keys()):
        return Plain()
    try:
        from core.screen.terminal import Terminal  # noqa: PLC0415 - rich may not be installed
    except ImportError:
        _say_what_is_missing()
        return Plain()
    return Terminal()


def open_progress() -> "RunProgress | NoProgress":
    """What shows on standard error how far a run has come."""
    try:
        from core.screen.progress import RunProgress  # noqa: PLC0415 - rich may not be installed
    except ImportError:
        return NoProgress()
    return RunProgress()


@cache
def _say_what_is_missing() -> None:
    with suppress(OSError):  # that nobody reads it must not change how the run ends
        sys.stderr.write(f"{MISSING}\n")
