"""What a person at a terminal sees of a run: progress on stderr, a table and a verdict on stdout."""

import os
import sys
from collections.abc import Iterable
from itertools import chain
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from core.records.events import (
    DeletionConfirmed,
    Event,
    Outcome,
    ProjectUnreadable,
    RunFinished,
    RunRefused,
    RunSkipped,
    RunStarted,
    RuntimeAudited,
    RuntimeMissing,
)
from core.records.view import Column, View, calls_made, together
from core.rules.confirmation import NEEDS_A_PERSON
from core.rules.decision import Reason

MOST_ROWS = 100
"""A table of more rows would push the verdict's neighbours off any screen; the audit file has them all."""
WIDE = 150
"""Columns from which a runtime fits on one line."""
STYLES = {
    "disk lost": "red",
    Outcome.DELETION_ACCEPTED: "green",
    Outcome.STOP_ACCEPTED: "green",
    Outcome.ALREADY_DELETING: "green",
    Outcome.GONE: "green",
    Outcome.CONFLICT: "yellow",
    Outcome.WITHHELD: "yellow",
    Outcome.NOT_ATTEMPTED: "yellow",
    Outcome.FAILED: "red",
    Outcome.IN_DOUBT: "red",
}


def printable(text: str, style: str = "") -> Text:
    """A text from outside: never markup, and nothing that a terminal would obey."""
    return Text("".join(c if c.isprintable() else "�" for c in text), style=style)


class _Output(Console):
    """Standard output, whose reader may have seen enough before the end."""

    def on_broken_pipe(self) -> None:
        """What is left to say goes nowhere: the exit code tells of the run, not of its reader."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class TableView:
    """Watches the records of one run and shows them as a table in the end."""

    def __init__(self, view: View, *, kept_in: Iterable[str]) -> None:
        self._rule = ""
        self._view = view
        self._kept_in = list(kept_in)
        self._out = _Output()
        stderr = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        self._listing = self._progress.add_task("listing", total=None)
        self._treating = self._progress.add_task("looking", total=None, visible=False)
        self._listed = False
        self._rows: list[RuntimeAudited] = []
        self._remarks: list[tuple[str, str]] = []
        self._finished: list[RunFinished] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        if error is None:
            self._show()

    def expected(self, count: int) -> None:
        self._listed = True
        self._progress.update(self._listing, total=self._progress.tasks[self._listing].completed)
        self._progress.update(self._treating, total=count, visible=True)

    def seen(self, event: Event) -> None:
        match event:
            case RuntimeAudited():
                self._progress.advance(self._treating if self._listed else self._listing)
                if self._view.is_row(event):
                    self._rows.append(event)
                if event.reason is Reason.MALFORMED:
                    self._remarks.append(("yellow", event.message))
            case RunStarted():
                self._rule = event.message.partition(": ")[2]
                self._remarks = [
                    ("yellow", f"lapsed exemption: {exemption.reason} (until {exemption.until:%Y-%m-%d %H:%M}Z)")
                    for exemption in event.exemptions
                    if exemption.lapsed
                ]
            case ProjectUnreadable():
                self._remarks.append(("red", event.message))
            case DeletionConfirmed():
                self._progress.advance(self._treating)
                self._remarks.append(("yellow" if event.outcome in NEEDS_A_PERSON else "", event.message))
            case RuntimeMissing() | RunRefused() | RunSkipped():
                self._remarks.append(("yellow", event.message))
            case RunFinished():
                self._finished.append(event)
            case _:
                pass

    def _show(self) -> None:
        if self._rule:
            self._out.print(Text(f"The rule: {self._rule}."))
        if self._rows:
            self._out.print(self._table())
        for style, remark in self._remarks:
            self._out.print(printable(remark, style))
        if self._finished:
            finished = together(self._finished)
            for guard in finished.would_be_refused_by:
                self._out.print(Text(f"A live run would be refused: {guard}.", style="yellow"))
            if finished.failed:
                self._out.print(printable(f"Failed: {', '.join(finished.failed)}", "red"))
            self._out.print(Text(f"{self._view.verdict(finished)} {calls_made(finished)}", style="bold"))
        for place in self._kept_in:
            self._out.print(Text(f"Every decision is on record in {place}"))

    def _table(self) -> Table:
        """One line a runtime where there is room; else what belongs together stands on top of each other."""
        wide = self._out.width >= WIDE
        table = Table(title=self._view.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for group in self._view.columns:
            headers = [column.header for column in group]
            for header in headers if wide else [" / ".join(headers)]:
                table.add_column(header, overflow="fold")
        rows = sorted(self._rows, key=self._view.order)
        for row in rows[:MOST_ROWS]:
            groups = [[_cell(column, row) for column in group] for group in self._view.columns]
            table.add_row(*(chain(*groups) if wide else (Text("\n").join(cells) for cells in groups)))
        if len(rows) > MOST_ROWS:
            table.caption = f"and {len(rows) - MOST_ROWS} more"
        return table


def _cell(column: Column, row: RuntimeAudited) -> Text:
    text = column.cell(row)
    return printable(text, STYLES.get(text, ""))
