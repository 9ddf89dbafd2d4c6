"""Texts as they are shown, with a style and without harm; `terminal` draws them with rich, `plain` without."""

from collections.abc import Sequence
from typing import NamedTuple
from unicodedata import bidirectional

from core.rules.words import shortened

LONGEST_TEXT = 1000
"""Characters of one text from outside; the records have the rest."""
NOTHING = "-"
"""A column of these alone is left out."""
RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
LEFT_TO_RIGHT_MARK = "\u200e"
EMOJI_STYLE = "\ufe0f"
"""Changes no sign, only how wide terminals believe it to be."""
WARNING = "bold magenta"
FAULT = "bold red"
"""Of the named colours these two can be read on light and on dark, yellow and green cannot. Bold, since on dark they
are dim, and where there is no colour at all."""

Headers = Sequence[Sequence[str]]
"""In groups, which stand on top of each other where a terminal is narrow."""


class Styled(NamedTuple):
    """A text on lines of its own."""

    text: str
    style: str = ""
    below: str = ""
    """A line that is never shown without the one above, and has no style."""
    unbroken: bool = False
    """However narrow the screen, so that it can be copied."""


def printable(text: str, style: str = "") -> Styled:
    """A text from outside: never markup, nothing that a terminal would obey, and no more than a screen holds."""
    text = "".join(c if c.isprintable() else "�" for c in shortened(text, LONGEST_TEXT) if c != EMOJI_STYLE)
    if not text.isascii() and any(bidirectional(c) in RIGHT_TO_LEFT for c in text):
        text = f"{LEFT_TO_RIGHT_MARK}{text}{LEFT_TO_RIGHT_MARK}"  # or it would turn its neighbours around
    return Styled(text, style)


def without_empty_columns(headers: Headers, rows: Sequence[Sequence[str]]) -> tuple[Headers, list[list[str]]]:
    """The same without the columns that say nothing."""
    kept = [any(cell != NOTHING for cell in column) for column in zip(*rows, strict=True)]
    keeps = iter(kept)
    groups = [[name for name in group if next(keeps)] for group in headers]
    return [group for group in groups if group], [
        [cell for cell, keep in zip(row, kept, strict=True) if keep] for row in rows
    ]


def all_numbers(cells: Sequence[str]) -> bool:
    """Numbers stand to the right of their column, and so does where there is none."""
    return all(cell == NOTHING or cell.replace(",", "").isdecimal() for cell in cells)
