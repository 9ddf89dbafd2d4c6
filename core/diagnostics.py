"""What the program says of itself on stderr; audit records are not diagnostics and go elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


class _Stderr:
    """Standard error as it is at the time; that nobody can read it any more must not stop a run."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def to_stderr(level: str, *, as_json: bool) -> None:
    """One line per event: JSON with a severity, as Cloud Logging lifts it, or plain text for a person."""
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.processors.LogfmtRenderer(key_order=["event"])
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, _severity, structlog.processors.EventRenamer("message"), render]
        if as_json
        else [render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=False,
    )


def _severity(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["severity"] = event.pop("level").upper()
    return event
