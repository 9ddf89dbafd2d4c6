"""Failures in groups of one cause each, so that a person reads thirteen of a kind once; whom they hit is on record."""

import re
from typing import NamedTuple, Protocol

from core.records.events import ALL_RUNTIMES, ErrorDetail

Cause = tuple[str, int | None, str, str]
"""What was not done, and the answer's status, kind and message, without what differs from one runtime to the next."""


NOT_LISTED, NOT_TOLD = "could not list", "could not tell its owner"
"""What was not done where a list could not be read, or an owner not be told; of an act its outcome says it."""


class Failed(Protocol):
    """A record of something that failed, written or read back."""

    @property
    def project(self) -> str | None: ...

    @property
    def error(self) -> ErrorDetail | None: ...


class Example(NamedTuple):
    """The first of a cause."""

    answer: str
    """What was not done, and what was answered: kind, status and message."""
    whom: str
    trace_id: str | None


class Causes:
    """What failed and why, the most frequent cause first."""

    def __init__(self) -> None:
        self.found: dict[Cause, tuple[int, Example]] = {}
        """How often each, and its first example."""

    def add(self, what: str, failed: Failed) -> None:
        """One more, of which `what` says what was not done; without an answer there is nothing to group by."""
        if failed.error is None:
            return
        name, http_status, trace_id = (getattr(failed, field, None) for field in ("name", "http_status", "trace_id"))
        whom = f"{failed.project}/{name}" if name else failed.project or ALL_RUNTIMES
        message = failed.error.message
        cause = (what, http_status, failed.error.kind, _without_particulars(message, failed.project, name))
        status = "" if http_status is None else f", HTTP {http_status}"
        self._note(cause, 1, Example(f"{what}: {failed.error.kind}{status}: {message}", whom, trace_id))

    def include(self, others: "Causes") -> None:
        """Those of another run too."""
        for cause, (count, example) in others.found.items():
            self._note(cause, count, example)

    def _note(self, cause: Cause, more: int, example: Example) -> None:
        count, first = self.found.get(cause, (0, example))
        self.found[cause] = count + more, first

    def most_frequent_first(self) -> list[tuple[int, Example]]:
        return sorted(self.found.values(), key=lambda found: -found[0])

    def in_words(self) -> list[str]:
        """One line each."""
        return [
            f"{count:,} x {example.answer} ({'such as ' if count > 1 else ''}{example.whom}"
            + (f", trace {example.trace_id})" if example.trace_id else ")")
            for count, example in self.most_frequent_first()
        ]


def _without_particulars(message: str, *names: str | None) -> str:
    """Names and numbers differ where the cause is the same."""
    for name in filter(None, names):
        message = message.replace(name, "…")
    return re.sub(r"\w*\d\w*", "…", message)
