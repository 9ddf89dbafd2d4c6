"""The digest that a task's records end in: made as they are written, and made again of the lines that were read.

It is the SHA-256 over the SHA-256 digests of the lines, without line ends, in the order of `seq`; the closing line
counts as it stands without it.
"""

import re
from collections.abc import Iterator
from hashlib import sha256
from struct import Struct

ALGORITHM = "sha256:"
SIZE = sha256().digest_size
FORM = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
"""How a person may write one."""
NONE = bytes(SIZE)
"""Stands for a line that is not there."""
UNTOLD = b"\xff" * SIZE
"""Stands for that of a line that cannot be restored: it has fields of a later version."""
MOST_MISSING = 1_000_000
"""A `seq` so far ahead is a wrong number rather than that many missing records."""
_PLACE = Struct(f"{SIZE}s")
"""One digest among many, which is set in a third of the time that a slice takes."""
_UNSET = b'"records_digest":null'
_SET = re.compile(rb'"records_digest":"sha256:[0-9a-f]{64}"')
"""In a text its quotes would be escaped, so that no message can look like the field."""


def of_line(line: bytes) -> bytes:
    """The digest of one line without its end."""
    return sha256(line).digest()


def in_words(digest: bytes) -> str:
    """A digest as a record holds it."""
    return ALGORITHM + digest.hex()


def with_digest(closing: bytes, digest: str) -> bytes:
    """The closing line with its digest set."""
    before, _, behind = closing.rpartition(_UNSET)
    return b'%b"records_digest":"%b"%b' % (before, digest.encode(), behind)


def without_digest(closing: bytes) -> bytes:
    """The closing line as its digest was made of it."""
    return _SET.sub(_UNSET, closing)


class Digests:
    """The digests of one task's lines by their `seq`, in whatever order they come: 32 bytes for each."""

    def __init__(self) -> None:
        self._in_order = bytearray()
        self._next = 0
        self._far_ahead: dict[int, bytes] = {}

    def __len__(self) -> int:
        """One more than the highest `seq` but those that no task comes to."""
        return self._next

    def setdefault(self, seq: int, digest: bytes) -> bytes | None:
        """Keep the digest of a line; that of an earlier one with this `seq`, if there was one."""
        if seq == self._next:
            self._in_order += digest
            self._next += 1
            return None
        begin = seq * SIZE
        if 0 <= seq < self._next:
            (known,) = _PLACE.unpack_from(self._in_order, begin)
            if known != NONE:
                return bytes(known)
            _PLACE.pack_into(self._in_order, begin, digest)
            return None
        if 0 <= seq < self._next + MOST_MISSING:
            self._in_order += bytes(begin - len(self._in_order)) + digest
            self._next = seq + 1
            return None
        before = self._far_ahead.setdefault(seq, digest)
        return None if before is digest else before

    def numbers_nobody_has(self) -> list[int]:
        """Each `seq` so far ahead of all others that it is none."""
        for seq in sorted(self._far_ahead):
            if 0 <= seq < len(self) + MOST_MISSING:  # where the last came first
                self.setdefault(seq, self._far_ahead.pop(seq))
        return sorted(self._far_ahead)

    def missing(self) -> Iterator[int]:
        """Each `seq` below the highest of which there is no line."""
        return self._places_of(NONE)

    def whole(self) -> str | None:
        """The digest over all of them, as a record holds it; None where one is not known."""
        if next(self._places_of(UNTOLD), None) is not None:
            return None
        return in_words(sha256(self._in_order).digest())

    def _places_of(self, digest: bytes) -> Iterator[int]:
        at = self._in_order.find(digest)
        while at >= 0:
            seq, beside = divmod(at, SIZE)
            if not beside:
                yield seq
            at = self._in_order.find(digest, at + 1 if beside else at + SIZE)
