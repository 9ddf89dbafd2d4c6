"""Failures in groups of one cause each, so that a person reads thirteen of a kind once; whom they hit is on record."""

import re
from typing import NamedTuple, Protocol

from core.records.events import ALL_RUNTIMES, ErrorDetail

Cause = tuple[str, int | None, str, str]
"""What was not done, and the answer's status, kind and message, without what differs from one runtime to the next."""


class Failed(Protocol):
    """A record of something that failed, written or read back."""

    @property
    def project(self) -> str | None: ...

    @property
    def http_status(self) -> int | None: ...

    @property
    def error(self) -> ErrorDetail | None: ...


class Example(NamedTuple):
    """The first of a cause."""

    answer: str
    whom: str
    trace_id: str | None


class Causes:
    """What failed and why, the most frequent cause first."""

    def __init__(self) -> None:
        self._counts: dict[Cause, int] = {}
        self._examples: dict[Cause, Example] = {}

    def add(self, what: str, failed: Failed) -> None:
        """One more, of which `what` says what was not done; without an answer there is nothing to group by."""
        if failed.error is None:
            return
        name, trace_id = getattr(failed, "name", None), getattr(failed, "trace_id", None)
        whom = f"{failed.project}/{name}" if name else failed.project or ALL_RUNTIMES
        message = failed.error.message
        cause = (what, failed.http_status, failed.error.kind, _without_particulars(message, failed.project, name))
        self._counts[cause] = self._counts.get(cause, 0) + 1
        answer = f"{what}: {'' if failed.http_status is None else f'HTTP {failed.http_status}: '}{message}"
        self._examples.setdefault(cause, Example(answer, whom, trace_id))

    def in_words(self) -> list[str]:
        """One line each."""
        return [
            f"{count:,} x {example.answer} ({'such as ' if count > 1 else ''}{example.whom}"
            + (f", trace {example.trace_id})" if example.trace_id else ")")
            for cause, count in sorted(self._counts.items(), key=lambda item: -item[1])
            for example in [self._examples[cause]]
        ]


def _without_particulars(message: str, *names: str | None) -> str:
    """Names and numbers differ where the cause is the same."""
    for name in filter(None, names):
        message = message.replace(name, "…")
    return re.sub(r"\w*\d\w*", "…", message)
