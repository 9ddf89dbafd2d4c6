"""What a run is of, who watches it, and what is open during it; opening and closing that lives in `opening`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.background import Background, in_background
from core.clock import RunClock, utc_now
from core.leonardo.client import Leonardo
from core.leonardo.exchange import Wire
from core.records import events
from core.records.writer import AuditLog
from core.rules.policy import Policy
from core.run.task import Task
from core.screen.asking import agrees
from core.screen.columns import View
from core.settings.fields import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run says of itself, and what it may send."""

    name: str
    policy: Policy
    method: str | None
    """The HTTP method of its acts; no other but GET can leave. None where it does not act."""
    view: View
    typed: Sequence[str] = ()
    """The words of the command, so that a dry run can say by which it is applied."""
    wall: Callable[[], datetime] = utc_now
    """The clock that its runs are dated and judged by."""


class Watcher(Protocol):
    """Somebody who watches the run."""

    def seen(self, event: events.Event) -> None:
        """A record was written."""

    def expected(self, count: int) -> None:
        """The list has ended, so many runtimes are left to treat."""

    def agrees(self, question: str) -> bool:
        """Ask at the terminal whether to go on; a thread waits here, not the run."""

    def recorded(self, kept_in: Sequence[str], lost: str | None) -> None:
        """The run has ended, and its records are kept there; `lost` says where one could not be kept, and why."""


class Nobody:
    """Nobody watches: the records are the output."""

    def seen(self, event: events.Event) -> None:
        pass

    def expected(self, count: int) -> None:
        pass

    def agrees(self, question: str) -> bool:
        return agrees(question)

    def recorded(self, kept_in: Sequence[str], lost: str | None) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Running:
    """What is open during a run."""

    settings: Settings
    task: Task
    clock: RunClock
    audit: AuditLog
    leonardo: Leonardo
    watcher: Watcher
    background: Background = in_background
    connect: Callable[[], Wire] | None = None
    """What carries requests to others than Leonardo; None is TCP."""

    @property
    def names_creators(self) -> bool:
        """Whether its records name whose a runtime is."""
        return self.settings.audit_creator == "plain"


class Host(Protocol):
    """Where runs take place: opens what one needs, does the job's work with it, and says with which code it ended."""

    def __call__(self, job: Job, settings: Settings, task: Task, work: Callable[[Running], Awaitable[int]]) -> int: ...
