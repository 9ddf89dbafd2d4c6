"""Cuts a record that is too long for one log entry, field by field, and makes it say so; short ones never come here."""

from typing import Any

import msgspec

LARGEST = 60_000
"""Bytes of a line: a longer one may reach Cloud Logging split, and no part of it could be read as a record (64 KB)."""
UNCUT = frozenset({"event", "schema", "time", "job", "run_id", "environment", "logging.googleapis.com/insertId"})
"""What a record is known by."""

_encode = msgspec.json.Encoder().encode


def fitted(line: bytes) -> bytes:
    """The line of a record with its longest texts and lists shortened until it fits, named in `truncated`."""
    fields: dict[str, Any] = msgspec.json.decode(line)
    cut: dict[str, None] = {}
    while len(line) > LARGEST:
        sizes = {name: len(_encode(value)) for name, value in fields.items() if _can_be_cut(name, value)}
        if not sizes:
            break
        longest = max(sizes, key=sizes.__getitem__)
        fields[longest] = _shorter(fields[longest], sizes[longest], len(line) - LARGEST)
        cut[longest] = None
        fields["truncated"] = list(cut)
        line = _encode(fields) + b"\n"
    return line


def _can_be_cut(name: str, value: object) -> bool:
    shortest = 2 if isinstance(value, str) else 1  # a letter and the mark of the cut
    return name not in UNCUT and isinstance(value, str | list) and len(value) > shortest


def _shorter(value: Any, size: int, excess: int) -> Any:
    """By as many of its characters or entries as hold the excess, if they are of equal size."""
    left = max(1, int(len(value) * max(0.0, 1 - excess / size)) - 1)
    return value[:left] + "…" if isinstance(value, str) else value[:left]
