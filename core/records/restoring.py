"""A record's line as it was written, byte for byte, out of what a log or a tool has made of it; pure.

Cloud Logging lifts some fields out of a record, gives mappings back in any order, and whole numbers as doubles. The
order of fields is that of the records' definition; a field that a record does not have stays absent.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from core.records.events import EVENTS, Common
from core.records.numbers import whole

LABELS = ("job", "run_id", "environment")
"""Those that a record has itself; an entry may have more, for instance of Cloud Run."""
LIFTED = {
    "severity": "severity",
    "logging.googleapis.com/labels": "labels",
    "logging.googleapis.com/insertId": "insertId",
    "time": "timestamp",
}
"""The fields that are an entry's own, by their names in the line."""

Shape = dict[str, "Shape | None"]
"""The fields of a structure in their order; None where a value has none of its own."""

_encode = msgspec.json.Encoder().encode


class UnknownFieldError(Exception):
    """A field of a later version: where it stood is not known here."""


def _shape(of: inspect.Type) -> Shape | None:
    match of:
        case inspect.StructType():
            return {field.encode_name: _shape(field.type) for field in of.fields}
        case inspect.ListType():
            return _shape(of.item_type)
        case inspect.UnionType():
            return next(filter(None, map(_shape, of.types)), None)
        case _:
            return None


@cache  # most runs read nothing back
def _shapes() -> dict[str, Shape]:
    common = _shape(inspect.type_info(Common)) or {}
    return {
        str(event.__struct_config__.tag): {"event": None, **(_shape(inspect.type_info(event)) or {}), **common}
        for event in EVENTS
    }


def restored(value: Mapping[str, Any]) -> bytes:
    """The line, without its end, of a record or of the entry that was made of it. Raises UnknownFieldError."""
    payload = value.get("jsonPayload")
    record = _of_entry(value, payload) if isinstance(payload, dict) else dict(value)
    shape = _shapes().get(str(record.get("event")))
    if shape is None:
        raise UnknownFieldError
    return _encode(whole(_ordered(record, shape)))


def _of_entry(entry: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    lifted = {name: entry[field] for name, field in LIFTED.items() if field in entry}
    labels = lifted.get("logging.googleapis.com/labels")
    if isinstance(labels, dict):
        lifted["logging.googleapis.com/labels"] = {name: labels[name] for name in LABELS if name in labels}
    if "time" in lifted:
        lifted["time"] = _instant(lifted["time"])
    return {**payload, **lifted}


def _instant(text: str) -> datetime | str:
    """Written with six digits of a second or none; an entry may have three or nine."""
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return text


def _ordered(value: Any, shape: Shape | None) -> Any:
    match value:
        case dict() if shape is not None:
            if value.keys() - shape.keys():
                raise UnknownFieldError
            return {name: _ordered(value[name], of) for name, of in shape.items() if name in value}
        case dict():
            return {name: _ordered(value[name], None) for name in sorted(value)}
        case list():
            return [_ordered(one, shape) for one in value]
        case _:
            return value
