"""What a person at a terminal sees of a run: progress on stderr, a table and a verdict on stdout."""

from collections.abc import Iterator, Sequence
from shlex import quote
from types import TracebackType
from typing import Self

from core.records.causes import NOT_LISTED, NOT_TOLD, Causes
from core.records.events import (
    DeletionConfirmed,
    DiskAudited,
    Event,
    ExemptionUnused,
    NoticeFailed,
    NoticeRequested,
    ProjectUnreadable,
    Requested,
    RunFinished,
    RunRefused,
    RunSkipped,
    RunStarted,
    RuntimeAudited,
    RuntimeMissing,
)
from core.records.outcome import FAILED, NEEDS_A_PERSON, PLANNED, in_words
from core.rules.decision import NOT_JUDGED
from core.screen.asking import agrees
from core.screen.columns import TOTALS, View, calls_made, cells_of_total, promise_kept, together
from core.screen.drawing import open_drawing, open_progress
from core.screen.standard_output import goes_nowhere
from core.screen.styled import FAULT, WARNING, Styled, printable

MOST_NAMES = 10
"""Of what failed; the closing record has more."""


class ProgressView:
    """Watches one run and shows only how far it has come, beside records that go elsewhere."""

    def __init__(self) -> None:
        self._progress = open_progress()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def expected(self, count: int) -> None:
        self._progress.expect(count)

    def agrees(self, question: str) -> bool:
        self._progress.stop()
        try:
            return agrees(question)
        finally:
            self._progress.start()

    def recorded(self, kept_in: Sequence[str], lost: str | None) -> None:
        """The records are elsewhere, and say so themselves."""

    def seen(self, event: Event) -> None:
        match event:
            case RuntimeAudited() | DeletionConfirmed():
                self._progress.advance()
            case Requested():
                self._progress.act()
            case _:
                pass


class TableView(ProgressView):
    """Watches the records of one run and shows them as a table in the end."""

    def __init__(self, view: View, *, kept_in: Sequence[str], applied_by: str | None = None) -> None:
        super().__init__()
        self._applied_by = applied_by
        self._rule = ""
        self._view = view
        self._kept_in = kept_in
        self._lost: str | None = None
        self._out = open_drawing()
        self._rows: list[RuntimeAudited | DiskAudited] = []
        self._remarks: list[tuple[str, str]] = []
        self._refusals: list[str] = []
        self._causes = Causes()
        self._finished: list[RunFinished] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if error is None:
            try:
                self._show()
            except OSError:  # the terminal was closed, the disk is full: the records are elsewhere
                goes_nowhere()

    def recorded(self, kept_in: Sequence[str], lost: str | None) -> None:
        self._kept_in, self._lost = kept_in, lost

    def seen(self, event: Event) -> None:
        super().seen(event)
        match event:
            case RuntimeAudited():
                self._audited(event)
            case DiskAudited() if self._view.is_row(event):
                self._rows.append(event)
            case NoticeRequested() | NoticeFailed():
                self._notice(event)
            case RunStarted():
                self._rule = event.message.partition(": ")[2]
                self._remarks = [
                    (WARNING, f"lapsed exemption: {exemption.reason} (until {exemption.until:%Y-%m-%d %H:%M}Z)")
                    for exemption in event.exemptions
                    if exemption.lapsed
                ]
            case ProjectUnreadable():
                self._causes.add(NOT_LISTED, event)
            case DeletionConfirmed():
                self._remarks.append((WARNING if event.outcome in NEEDS_A_PERSON else "", event.message))
            case RuntimeMissing() | ExemptionUnused():
                self._remarks.append((WARNING, event.message))
            case RunRefused() | RunSkipped():
                self._refusals.append(event.message)
            case RunFinished():
                self._finished.append(event)
            case _:
                pass

    def _audited(self, row: RuntimeAudited) -> None:
        if self._view.is_row(row):
            self._rows.append(row)
        if row.outcome in FAILED:
            self._causes.add(in_words(row.outcome, row.action), row)
        if row.reason in NOT_JUDGED:
            self._remarks.append((WARNING, row.message))
        if row.failed_before is not None:
            self._remarks.append(("", f"{row.project}/{row.name} {row.failed_before}"))

    def _notice(self, event: NoticeRequested | NoticeFailed) -> None:
        self._remarks.append((FAULT if isinstance(event, NoticeFailed) else "", event.message))
        if isinstance(event, NoticeFailed):
            self._causes.add(NOT_TOLD, event)

    def _show(self) -> None:
        rule = [Styled(f"The rule: {self._rule}.")] if self._rule else []
        remarks = [printable(text, style) for style, text in sorted(self._remarks, key=lambda remark: not remark[0])]
        self._out.lines(rule)
        if self._rows:
            self._out.table(
                self._view.title,
                [[column.header for column in group] for group in self._view.columns],
                self._cells(),
            )
            self._out.blank()
        if self._rows and self._view.totals:
            title, headers = TOTALS
            self._out.table(title, headers, [cells_of_total(total) for total in self._view.totals(self._rows)])
            self._out.blank()
        self._out.lines([*remarks, *self._end()])

    def _cells(self) -> list[list[str]]:
        columns = [column for group in self._view.columns for column in group]
        return [[column.cell(row) for column in columns] for row in sorted(self._rows, key=self._view.order)]

    def _end(self) -> Iterator[Styled]:
        """What must stay in sight: refusals, failures, the verdict and where the records are."""
        for text in (*(warning for finished in self._finished for warning in finished.warnings), *self._refusals):
            yield printable(text, WARNING)
        if self._finished:
            finished = together(self._finished)
            for cause in self._causes.in_words():
                yield printable(cause, FAULT)
            if failed := finished.failed[:MOST_NAMES]:
                others = " and others" if len(finished.failed) > MOST_NAMES else ""
                yield printable(f"Failed: {', '.join(failed)}{others}", FAULT)
            yield Styled(self._view.verdict(finished), "bold")
            if promise := promise_kept(finished):
                yield printable(promise, "bold")
            yield Styled(calls_made(finished), "bold")
        if self._lost:
            yield printable(f"Not every decision is on record: {self._lost}", FAULT)
        for place in self._kept_in:  # a path is never broken, so that it can be copied
            yield Styled(f"Every decision is on record in {place}", unbroken=True)
        if (
            self._applied_by
            and self._kept_in
            and any(PLANNED & finished.outcomes.keys() for finished in self._finished)
        ):
            yield Styled(f"To apply it: {self._applied_by} {quote(self._kept_in[0])}", unbroken=True)
