"""Draws tables and lines for a pipe or a file, or without rich: a row is a line, no colour, nothing is fitted."""

from collections.abc import Iterable, Iterator, Sequence

from core.screen.standard_output import say
from core.screen.styled import Headers, Styled, all_numbers, printable, without_empty_columns

BETWEEN = "  "
WIDEST = 100
"""Columns that one cell makes the others as wide as: a longer one stands out of its row alone."""


class Plain:
    """One line a row, as wide as it takes."""

    def lines(self, texts: Iterable[Styled]) -> None:
        for text in texts:
            _print(text.text)
            if text.below:
                _print(text.below)

    def blank(self) -> None:
        _print("")

    def table(self, title: str, headers: Headers, rows: Sequence[Sequence[str]]) -> None:
        groups, told = without_empty_columns(headers, [[printable(cell).text for cell in row] for row in rows])
        _print(title)
        for line in _align([name for group in groups for name in group], told):
            _print(line)


class NoProgress:
    """In the place of a bar that moves."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def expect(self, count: int) -> None:
        pass

    def advance(self) -> None:
        pass

    def act(self) -> None:
        pass


def _align(names: list[str], rows: list[list[str]]) -> Iterator[str]:
    columns = [list(column) for column in zip(names, *rows, strict=True)]
    padded = [
        [cell.rjust(width) if all_numbers(cells[1:]) else cell.ljust(width) for cell in cells]
        for cells in columns
        for width in [min(max(map(len, cells)), WIDEST)]
    ]
    return (BETWEEN.join(row).rstrip() for row in zip(*padded, strict=True))


def _print(line: str) -> None:
    say(line.encode(errors="replace") + b"\n")
