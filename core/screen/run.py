"""What a person at a terminal sees of a run: progress on stderr, a table and a verdict on stdout."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Event as Flag
from threading import Thread
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from core.records.events import (
    DeletionConfirmed,
    Event,
    ProjectUnreadable,
    RunFinished,
    RunRefused,
    RunSkipped,
    RunStarted,
    RuntimeAudited,
    RuntimeMissing,
)
from core.records.outcome import NEEDS_A_PERSON
from core.rules.decision import Reason
from core.screen.columns import View, calls_made, together
from core.screen.standard_output import goes_nowhere
from core.screen.terminal import FAULT, WARNING, Terminal, printable

MOST_NAMES = 10
"""Of what failed; the closing record has more."""
REFRESHES_EVERY = 0.1
"""Seconds between two pictures of the progress."""


class ProgressLine:
    """How far a run has come, on stderr, drawn by a thread: a terminal that hangs (Ctrl-S) holds up no run."""

    def __init__(self) -> None:
        self.listed = 0
        self.treated = 0
        self.to_treat: int | None = None
        """Unknown until the list has ended."""
        self._ended = Flag()
        self._thread = Thread(target=self._draw, name="draws progress", daemon=True)

    def start(self) -> None:
        if sys.stderr.isatty():  # a colour that is asked for makes no terminal of a log
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def count(self) -> None:
        if self.to_treat is None:
            self.listed += 1
        else:
            self.treated += 1

    def _draw(self) -> None:
        progress = Progress(
            SpinnerColumn(style=""),
            TextColumn("{task.description} {task.completed:,}{task.fields[of]}"),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
        )
        listing = progress.add_task("listing", total=None, of="")
        treating = progress.add_task("looking", total=None, visible=False, of="")
        with suppress(OSError), progress:
            while not self._ended.wait(REFRESHES_EVERY):
                progress.update(listing, completed=self.listed)
                if self.to_treat is not None:
                    progress.update(listing, total=self.listed)
                    of = f" of {self.to_treat:,}"
                    progress.update(treating, completed=self.treated, total=self.to_treat, visible=True, of=of)
                progress.refresh()


class TableView:
    """Watches the records of one run and shows them as a table in the end."""

    def __init__(self, view: View, *, kept_in: Sequence[str]) -> None:
        self._rule = ""
        self._view = view
        self._kept_in = kept_in
        self._lost: str | None = None
        self._out = Terminal(elsewhere="all are on record")
        self._progress = ProgressLine()
        self._rows: list[RuntimeAudited] = []
        self._remarks: list[tuple[str, str]] = []
        self._refusals: list[str] = []
        self._finished: list[RunFinished] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        if error is None:
            try:
                self._show()
            except OSError:  # the terminal was closed, the disk is full: the records are elsewhere
                goes_nowhere()

    def expected(self, count: int) -> None:
        self._progress.to_treat = count

    def recorded(self, kept_in: Sequence[str], lost: str | None) -> None:
        self._kept_in, self._lost = kept_in, lost

    def seen(self, event: Event) -> None:
        match event:
            case RuntimeAudited():
                self._audited(event)
            case RunStarted():
                self._rule = event.message.partition(": ")[2]
                self._remarks = [
                    (WARNING, f"lapsed exemption: {exemption.reason} (until {exemption.until:%Y-%m-%d %H:%M}Z)")
                    for exemption in event.exemptions
                    if exemption.lapsed
                ]
            case ProjectUnreadable():
                self._remarks.append((FAULT, event.message))
            case DeletionConfirmed():
                self._progress.count()
                self._remarks.append((WARNING if event.outcome in NEEDS_A_PERSON else "", event.message))
            case RuntimeMissing():
                self._remarks.append((WARNING, event.message))
            case RunRefused() | RunSkipped():
                self._refusals.append(event.message)
            case RunFinished():
                self._finished.append(event)
            case _:
                pass

    def _audited(self, row: RuntimeAudited) -> None:
        self._progress.count()
        if self._view.is_row(row):
            self._rows.append(row)
        if row.reason in (Reason.MALFORMED, Reason.FOREIGN_PROJECT):
            self._remarks.append((WARNING, row.message))
        if row.failed_before is not None:
            self._remarks.append(("", f"{row.project}/{row.name} {row.failed_before}"))

    def _show(self) -> None:
        rule = [Text(f"The rule: {self._rule}.")] if self._rule else []
        remarks = [printable(text, style) for style, text in sorted(self._remarks, key=lambda remark: not remark[0])]
        end = list(self._end())
        self._out.lines(rule)
        if self._rows:
            self._out.table(
                self._view.title,
                [[column.header for column in group] for group in self._view.columns],
                self._cells(),
                beside=sum(map(self._out.height_of, (*rule, *remarks, *end))) + 1,  # the prompt
            )
            self._out.print()
        self._out.lines(remarks)
        for text in end:
            self._out.print(text, crop=False)

    def _cells(self) -> list[list[str]]:
        columns = [column for group in self._view.columns for column in group]
        return [[column.cell(row) for column in columns] for row in sorted(self._rows, key=self._view.order)]

    def _end(self) -> Iterator[Text]:
        """What must stay in sight: refusals, failures, the verdict and where the records are."""
        for text in (*(warning for finished in self._finished for warning in finished.warnings), *self._refusals):
            yield printable(text, WARNING)
        if self._finished:
            finished = together(self._finished)
            for guard in finished.would_be_refused_by:
                yield Text(f"A live run would be refused: {guard}.", style=WARNING)
            if failed := finished.failed[:MOST_NAMES]:
                others = " and others" if len(finished.failed) > MOST_NAMES else ""
                yield printable(f"Failed: {', '.join(failed)}{others}", FAULT)
            yield Text(self._view.verdict(finished), style="bold")
            yield Text(calls_made(finished), style="bold")
        if self._lost:
            yield printable(f"Not every decision is on record: {self._lost}", FAULT)
        for place in self._kept_in:  # a path is never broken, so that it can be copied
            yield Text(f"Every decision is on record in {place}", overflow="ignore")
