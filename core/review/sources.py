"""Where audit records are read from, files and folders or Cloud Logging, and what is said of what could not be read."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from core.records.files import AuditFiles, named
from core.records.reader import AuditRecords, Record, Source
from core.rules.words import counted
from core.settings.faults import UsageError
from core.settings.fields import GoogleSettings

CLOUD_LOGGING = "cloud-logging"


def open_places(
    places: Sequence[str], since: datetime, google: GoogleSettings, *, read: Callable[[int], None] = lambda _: None
) -> Source:
    """All that files and folders hold, or the records that Cloud Logging took since then.

    `read` is told how many have come over the network so far. Raises UsageError, OSError.
    """
    if CLOUD_LOGGING not in places:
        return AuditFiles(map(Path, places))
    if set(places) != {CLOUD_LOGGING}:
        raise UsageError(f"from: {CLOUD_LOGGING} goes with no other place")
    if google.audit_cloud_log is None:
        raise UsageError("audit-cloud-log: which log is to be read? projects/P/logs/NAME")
    from core.google.log_entries import CloudLogEntries  # noqa: PLC0415 - 400 ms that files do without

    return CloudLogEntries(google.audit_cloud_log, since, emulator=google.google_emulator, read=read)


def some(log: AuditRecords) -> Iterator[Record]:
    """The records, of which there must be one. Raises UsageError."""
    yield from log
    if log.records:
        return
    of_it = "" if log.environment is None else f" of environment {log.environment}"
    others = f", only of {' and '.join(sorted(log.elsewhere))}" if log.elsewhere else ""
    if log.outside:
        of_it = f"{of_it} of a run that began then"
    missing = not_read(log)
    if log.elsewhere or log.outside or not missing:
        missing = [f"from: there is no audit record{of_it}{others}", *missing]
    raise UsageError(*missing, *passed_over(log))


def not_read(log: AuditRecords) -> list[str]:
    """What of a log is torn, could not be read, or contradicts the rest, in sentences."""
    return [*map(str, (*log.torn, *log.faults))]


def passed_over(log: AuditRecords) -> list[str]:
    """What was not read since it is no log, in a sentence if any."""
    return [f"passed over, since they are no logs: {named(log.passed_over)}"] if log.passed_over else []


def unnamed(log: AuditRecords) -> list[str]:
    """What may be of the creator who was asked for, in a sentence if anything."""
    few = f"of {counted(log.unnamed, 'record')} no creator is named: it may be {log.creator}"
    return [few] if log.unnamed else []


def cannot_be_read(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}" if error.filename else str(error)
