"""What draws for a person: rich where it is installed, else plain lines, and then it is said what is missing."""

import sys
from collections.abc import Sequence
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

    def height_of(self, text: Styled) -> int:
        """In lines."""

    def lines(self, texts: Sequence[Styled]) -> None:
        """These, or the first of them."""

    def whole(self, text: Styled) -> None:
        """What must stay in sight."""

    def blank(self) -> None:
        """An empty line."""

    def table(
        self, title: str, headers: Headers, rows: Sequence[Sequence[str]], *, beside: int = 0, last: bool = False
    ) -> None:
        """`beside` is the number of lines that share the screen; of too many rows the first are shown, or the last."""


def open_drawing(*, elsewhere: str) -> Drawing:
    """`elsewhere` says where a person finds what was cut."""
    try:
        from core.screen.terminal import Terminal  # noqa: PLC0415 - rich may not be installed
    except ImportError:
        _say_what_is_missing()
        return Plain(elsewhere=elsewhere)
    return Terminal(elsewhere=elsewhere)


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
