"""Where audit records are read from: files and folders, or Cloud Logging; what they answer is asked in `records`."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from core.records.files import AuditFiles
from core.records.reader import Source
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


def cannot_be_read(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}" if error.filename else str(error)
