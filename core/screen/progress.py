"""How far a run has come, as a terminal shows it while it goes; what is shown in the end is drawn by `run`."""

import sys
from contextlib import suppress
from threading import Event, Thread

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.theme import Theme

UNCOLOURED = Theme({"progress.elapsed": "", "progress.remaining": ""})
"""rich's own colours of the two cannot be read on a light screen."""
REFRESHES_EVERY = 0.1
"""Seconds between two pictures."""


class RunProgress:
    """What is listed is counted; what is then looked at again is counted anew, of so many.

    It is drawn by a thread: a terminal that hangs (Ctrl-S) holds up no run.
    """

    def __init__(self) -> None:
        self._listed = 0
        self._treated = 0
        self._acts = 0
        self._to_treat: int | None = None
        """Unknown until the list has ended."""
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        if sys.stderr.isatty():  # a colour that is asked for makes no terminal of a log
            self._ended.clear()
            self._thread = Thread(target=self._draw, name="draws progress", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def expect(self, count: int) -> None:
        """The list has ended; so many are looked at now."""
        self._to_treat = count

    def act(self) -> None:
        """An act leaves."""
        self._acts += 1

    def advance(self) -> None:
        if self._to_treat is None:
            self._listed += 1
        else:
            self._treated += 1

    def _draw(self) -> None:
        progress = Progress(
            SpinnerColumn(style=""),
            TextColumn("{task.description} {task.completed:,}{task.fields[of]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, theme=UNCOLOURED),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
        )
        listing = progress.add_task("listing", total=None, of="")
        treating = progress.add_task("looking", total=None, visible=False, of="")
        with suppress(OSError), progress:
            while not self._ended.wait(REFRESHES_EVERY):
                progress.update(listing, completed=self._listed)
                if self._to_treat is not None:
                    progress.update(listing, total=self._listed)
                    of = f" of {self._to_treat:,}" + (f", {self._acts:,} acts sent" if self._acts else "")
                    progress.update(treating, completed=self._treated, total=self._to_treat, visible=True, of=of)
                progress.refresh()
