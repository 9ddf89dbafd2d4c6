"""How far a run has come, as a terminal shows it while it goes; what is shown in the end is drawn by `run`."""

import sys

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn


class RunProgress:
    """What is listed is counted; what is then looked at again is counted anew, of so many."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(style=""),
            TextColumn("{task.description} {task.completed:,}{task.fields[of]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),  # a colour that is asked for makes no terminal of a log
        )
        self._listing = self._progress.add_task("listing", total=None, of="")
        self._treating = self._progress.add_task("looking", total=None, visible=False, of="")
        self._counting = self._listing

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def expect(self, count: int) -> None:
        """The list has ended; so many are looked at now."""
        self._progress.update(self._listing, total=self._progress.tasks[self._listing].completed)
        self._progress.update(self._treating, total=count, visible=True, of=f" of {count:,}")
        self._counting = self._treating

    def advance(self) -> None:
        self._progress.advance(self._counting)
