"""A record as an entry of Cloud Logging and back: a few fields are the entry's own, all others its payload."""

from collections.abc import Mapping
from typing import Any

import msgspec
from google.cloud.logging_v2.types import LogEntry

from core.records.restoring import LIFTED


def to_entry(line: bytes) -> Any:
    """The protobuf entry that the log agent would make of a record's line."""
    payload: dict[str, Any] = msgspec.json.decode(line)
    own = {field: payload.pop(name) for name, field in LIFTED.items() if name in payload}
    entry = LogEntry.pb()(severity=own["severity"], labels=own["labels"], insert_id=own["insertId"])
    entry.timestamp.FromJsonString(own["timestamp"])
    entry.json_payload.update(payload)
    return entry


def to_record(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the record that an entry in its JSON form was made of; whole numbers have become doubles."""
    return {**entry.get("jsonPayload", {}), **{name: entry[field] for name, field in LIFTED.items() if field in entry}}
