"""Draws tables and lines without rich, for an installation without extras: no colour, no fitting, no progress."""

from collections.abc import Iterator, Sequence

from core.screen.standard_output import say
from core.screen.styled import MOST_LINES, Headers, Styled, all_numbers, printable, without_empty_columns

BETWEEN = "  "


class Plain:
    """One line a row, as wide as it takes."""

    def __init__(self, *, elsewhere: str) -> None:
        """`elsewhere` says where a person finds what was cut."""
        self._elsewhere = elsewhere

    def height_of(self, text: Styled) -> int:
        return 2 if text.below else 1

    def lines(self, texts: Sequence[Styled]) -> None:
        for text in texts[:MOST_LINES]:
            self.whole(text)
        self._tell_of_the_rest(len(texts) - MOST_LINES)

    def whole(self, text: Styled) -> None:
        _print(text.text)
        if text.below:
            _print(text.below)

    def blank(self) -> None:
        _print("")

    def table(
        self,
        title: str,
        headers: Headers,
        rows: Sequence[Sequence[str]],
        *,
        beside: int = 0,  # noqa: ARG002 - nothing is fitted to a screen
        last: bool = False,
    ) -> None:
        some = rows[-MOST_LINES:] if last else rows[:MOST_LINES]
        groups, told = without_empty_columns(headers, [[printable(cell).text for cell in row] for row in some])
        _print(title)
        for line in _align([name for group in groups for name in group], told):
            _print(line)
        self._tell_of_the_rest(len(rows) - len(some))

    def _tell_of_the_rest(self, count: int) -> None:
        if count > 0:
            _print(f"and {count:,} more; {self._elsewhere}")


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


def _align(names: list[str], rows: list[list[str]]) -> Iterator[str]:
    columns = [list(column) for column in zip(names, *rows, strict=True)]
    padded = [
        [cell.rjust(width) if all_numbers(cells[1:]) else cell.ljust(width) for cell in cells]
        for cells in columns
        for width in [max(map(len, cells))]
    ]
    return (BETWEEN.join(row).rstrip() for row in zip(*padded, strict=True))


def _print(line: str) -> None:
    say(line.encode(errors="replace") + b"\n")
