"""What the program says of itself on stderr; audit records are not diagnostics and go elsewhere."""

import logging
import sys

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _severity(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["severity"] = event.pop("level").upper()
    return event
