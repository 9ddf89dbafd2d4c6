"""Draws on a terminal of any size: texts that do no harm, tables that fit; what they say is settled elsewhere."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.records.outcome import CONFIRMATIONS, OUTCOMES, Severity
from core.screen.standard_output import goes_nowhere
from core.screen.styled import (
    FAULT,
    NOTHING,
    WARNING,
    Headers,
    Styled,
    all_numbers,
    printable,
    without_empty_columns,
)

SENTENCE = 32
"""Columns that a cell of several words is content with; words and names are never broken where they fit."""
BETWEEN = 2
"""Columns between two cells."""
INDENT = "  "
UNBROKEN = 100_000
"""Columns where no terminal has a width: a row is a line."""
STYLE_OF = {Severity.WARNING: WARNING, Severity.ERROR: FAULT}
STYLES = {"disk lost": FAULT} | {
    word: STYLE_OF[meaning.severity]
    for word, meaning in (*OUTCOMES.items(), *CONFIRMATIONS.items())
    if meaning.severity in STYLE_OF
}


class Terminal(Console):
    """Standard output, whose reader may have seen enough before the end."""

    def __init__(self) -> None:
        fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
        super().__init__(width=None if fitted else UNBROKEN)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        goes_nowhere()

    def blank(self) -> None:
        self.print()

    def lines(self, texts: Iterable[Styled]) -> None:
        for text in texts:
            self.print(_text(text), crop=False)

    def table(self, title: str, headers: Headers, rows: Sequence[Sequence[str]]) -> None:
        """A row on a line where there is space; else what belongs together stands on top of each other."""
        headers, some = without_empty_columns(headers, rows)
        cells = [[_text(printable(cell, STYLES.get(cell, ""))) for cell in row] for row in some]
        self.print(_draw_table(title, _fit_grid(headers, cells, self.width), self.width))


def _text(styled: Styled) -> Text:
    text = Text(styled.text, style=styled.style, overflow="ignore" if styled.unbroken else None)
    return Text("\n").join([text, Text(styled.below)]) if styled.below else text


class Grid(NamedTuple):
    """Cells of one or more lines each, in columns; without headers where the cells name themselves."""

    headers: list[Text]
    rows: list[list[Text]]

    def columns(self) -> list[list[Text]]:
        return [list(column) for column in zip(*([self.headers] if self.headers else []), *self.rows, strict=True)]


def _fit_grid(headers: Headers, rows: list[list[Text]], width: int) -> Grid:
    """The first way to lay them out that breaks no word at this width."""
    for grid in _stack_groups(headers, rows):
        if sum(map(_width_needed, columns := grid.columns())) + BETWEEN * (len(columns) - 1) <= width:
            return grid
    names = [name for group in headers for name in group]
    return Grid([], [[_card(names, row, width)] for row in rows])


def _stack_groups(headers: Headers, rows: list[list[Text]]) -> Iterator[Grid]:
    """On one line; each group on top of each other; and then also the name below its project."""
    names = [[Text(name) for name in group] for group in headers]
    flat = [cell for group in names for cell in group]
    yield Grid(flat, rows)
    for parts in (_whole, _halves):
        stacks = [list(_stacks(names, row, parts)) for row in (flat, *rows)]
        yield Grid(stacks[0], stacks[1:])


def _stacks(groups: list[list[Text]], row: list[Text], parts: Callable[[Text], list[Text]]) -> Iterator[Text]:
    cells = iter(row)
    for number, group in enumerate(groups):
        stack = [next(cells) for _ in group]
        if number == 0:  # its first line is what the eye looks for
            head, *below = [*parts(stack[0]), *stack[1:]]
            stack = [head, *(Text(INDENT) + cell for cell in below)]
        yield Text("\n").join(stack)


def _whole(path: Text) -> list[Text]:
    return [path]


def _halves(path: Text) -> list[Text]:
    slash = path.plain.find("/") + 1
    return list(path.divide([slash])) if slash else [path]


def _card(names: list[str], row: list[Text], width: int) -> Text:
    """The first cell, and below it the others one after the other; a number is named, a word speaks for itself."""
    lines = [row[0]]
    for name, cell in zip(names[1:], row[1:], strict=True):
        if cell.plain == NOTHING:
            continue
        named = Text(f"{name} ") + cell if cell.plain[:1].isdigit() else cell
        joined = Text(", ").join([lines[-1], named])
        if len(lines) > 1 and joined.cell_len <= width:
            lines[-1] = joined
        else:
            lines.append(Text(INDENT) + named)
    return Text("\n").join(lines)


def _draw_table(title: str, grid: Grid, width: int) -> Table:
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        show_header=bool(grid.headers),
        padding=(0, BETWEEN - 1, 0, 0),
        pad_edge=False,
    )
    columns = grid.columns()
    needed = [_width_needed(column) for column in columns]
    spare = max(width - sum(needed) - BETWEEN * (len(columns) - 1), 0)
    for number, column in enumerate(columns):
        natural = max(line.cell_len for cell in column for line in cell.split(allow_blank=True))
        more = min(natural - needed[number], spare)
        spare -= more
        cells = column[1:] if grid.headers else column
        numbers = all_numbers([cell.plain for cell in cells])
        table.add_column(
            grid.headers[number] if grid.headers else "",
            overflow="fold",
            width=min(needed[number] + more, width),
            justify="right" if numbers else "left",
        )
    for row in grid.rows:
        table.add_row(*row)
    return table


def _width_needed(column: list[Text]) -> int:
    """Columns in which no word of it is broken."""
    lines = [line.plain for cell in column for line in cell.split(allow_blank=True)]
    return max(max(min(cell_len(line), SENTENCE), *map(cell_len, line.split(" "))) for line in lines)
