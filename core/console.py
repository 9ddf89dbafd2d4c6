"""What a person at a terminal sees of a run: progress on stderr, a table and a verdict on stdout."""

import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from itertools import chain
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from core.records.events import (
    Event,
    Outcome,
    ProjectUnreadable,
    RunFinished,
    RunRefused,
    RunStarted,
    RuntimeAudited,
    RuntimeMissing,
)
from core.rules.decision import Reason, in_words
from core.runtime import Disk

MOST_ROWS = 100
"""A table of more rows would push the verdict's neighbours off any screen; the audit file has them all."""
WIDE = 150
"""Columns from which a runtime fits on one line."""
COLUMNS = (("project", "name", "creator"), ("status", "disk"), ("age", "idle"), ("reason", "outcome"))
STYLES = {
    Outcome.DELETION_ACCEPTED: "green",
    Outcome.ALREADY_DELETING: "green",
    Outcome.GONE: "green",
    Outcome.CONFLICT: "yellow",
    Outcome.WITHHELD: "yellow",
    Outcome.NOT_ATTEMPTED: "yellow",
    Outcome.FAILED: "red",
    Outcome.IN_DOUBT: "red",
}


def printable(text: str | None) -> Text:
    """A text from outside as a table cell: never markup, and nothing that a terminal would obey."""
    return Text("".join(c if c.isprintable() else "�" for c in text or "-"), overflow="fold")


class _Output(Console):
    """Standard output, whose reader may have seen enough before the end."""

    def on_broken_pipe(self) -> None:
        """What is left to say goes nowhere: the exit code tells of the run, not of its reader."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class TableView:
    """Watches the records of one run and shows them as a table in the end."""

    def __init__(self, rule: str, *, kept_in: Iterable[str]) -> None:
        self._rule = rule
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
        self._treating = self._progress.add_task("treating what is due", total=None, visible=False)
        self._rows: list[RuntimeAudited] = []
        self._remarks: list[tuple[str, str]] = []
        self._finished: RunFinished | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._show()

    def condemned(self, count: int) -> None:
        self._progress.update(self._listing, total=self._progress.tasks[self._listing].completed)
        self._progress.update(self._treating, total=count, visible=True)

    def seen(self, event: Event) -> None:
        match event:
            case RuntimeAudited(outcome=Outcome.KEPT):
                self._progress.advance(self._listing)
                if event.reason is Reason.MALFORMED:
                    self._remarks.append(("yellow", event.message))
            case RuntimeAudited():
                self._progress.advance(self._treating)
                self._rows.append(event)
            case RunStarted():
                self._remarks += [
                    ("yellow", f"lapsed exemption: {exemption.reason} (until {exemption.until:%Y-%m-%d %H:%M}Z)")
                    for exemption in event.exemptions
                    if exemption.lapsed
                ]
            case ProjectUnreadable():
                self._remarks.append(("red", event.message))
            case RuntimeMissing() | RunRefused():
                self._remarks.append(("yellow", event.message))
            case RunFinished():
                self._finished = event
            case _:
                pass

    def _show(self) -> None:
        self._out.print(Text(f"The rule: {self._rule}."))
        if self._rows:
            self._out.print(self._table())
        for style, remark in self._remarks:
            self._out.print(Text(printable(remark).plain, style=style))
        for finished in filter(None, [self._finished]):
            for guard in finished.would_be_refused_by:
                self._out.print(Text(f"A live run would be refused: {guard}.", style="yellow"))
            if finished.failed:
                self._out.print(Text(f"Failed: {printable(', '.join(finished.failed)).plain}", style="red"))
            self._out.print(Text(self._verdict(finished), style="bold"))
        for place in self._kept_in:
            self._out.print(Text(f"Every decision is on record in {place}"))

    def _table(self) -> Table:
        """One line a runtime where there is room, else two: the columns are the same."""
        rows = sorted(self._rows, key=lambda row: (row.due_at or row.judged_at, row.project or "", row.name or ""))
        wide = self._out.width >= WIDE
        table = Table(title="Due, most overdue first", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for group in COLUMNS:
            for header in group if wide else [" / ".join(group)]:
                table.add_column(header, overflow="fold")
        for row in rows[:MOST_ROWS]:
            cells = [
                (printable(row.project), printable(row.name), printable(row.creator)),
                (printable(row.status), Text(f"disk {row.disk}", style="" if row.disk is Disk.KEPT else "red")),
                (_words(row.age_s), _words(row.idle_s)),
                (Text(row.reason), Text(row.outcome, style=STYLES.get(row.outcome, ""))),
            ]
            table.add_row(*(chain(*cells) if wide else (Text("\n").join(group) for group in cells)))
        if len(rows) > MOST_ROWS:
            table.caption = f"and {len(rows) - MOST_ROWS} more"
        return table

    def _verdict(self, finished: RunFinished) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(finished.outcomes.items()))
        calls = ", ".join(f"{count} {kind}" for kind, count in finished.calls.items() if count)
        return (
            f"{finished.listed} listed: {counts or 'none'}. Exit code {finished.exit_code}"
            f" after {finished.duration_s:.1f} s ({calls or 'no'} calls)."
        )


def _words(number: float | None) -> Text:
    return Text("-" if number is None else in_words(timedelta(seconds=number)), no_wrap=True)
