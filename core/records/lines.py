"""Cuts the bytes of one log into the texts of its records, in bounded memory; which files there are is said in `files`.

A log is JSON Lines, or JSON over several lines: the array of entries that Logs Explorer downloads, or what `jq` prints.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Protocol

LARGEST = 2**20
"""Bytes after which a line or a value is no record: the writer stops at 60,000, and an entry holds 256 KB at most."""
BLOCK = 2**16
AS_WRITTEN = b'{"event":"'
"""How a line begins as the writer makes it; others have been through some tool."""
MOST = AS_WRITTEN + b'runtime_audited"'
"""How most begin."""
EVENT = b'"event"'

Place = int | str
"""The number of a line, or an entry in words."""
Report = Callable[[Place, str], None]
"""Is told where in the log something cannot be read, and what."""
Marks = dict[bytes, list[bytes]]
"""Of each event that is wanted, what one of its lines holds any of; as JSON."""

_OVER_LINES = re.compile(rb"\s*(\[\s*([{\]]|$)|\{\s*\n\s+\")")
"""How JSON begins that is not one value a line."""
_BETWEEN = re.compile(r"[\s,\[\]]*")
_BOUNDARY = re.compile(r"\}\s*,?\s*(?=\{)")
"""What stands between two values, and sometimes inside one."""
_PART_OF_A_BOUNDARY = 200
"""Characters: indented by more than that, the value behind a damaged one is not found."""
_value = json.JSONDecoder().raw_decode


class Stream(Protocol):
    """Bytes that were compressed, or not."""

    def read1(self, size: int = ..., /) -> bytes:
        """At most so many, as they come: what stands before the end of a cut compressed file is not lost."""

    def peek(self, size: int = ..., /) -> bytes:
        """Some of those that come next, and stay."""


def is_over_lines(head: bytes) -> bool:
    """Whether a log that begins so is JSON over several lines."""
    return _OVER_LINES.match(head) is not None


def lines(stream: Stream, marks: Marks, report: Report) -> Iterator[tuple[Place, bytes]]:
    """Each line that is not blank and its number; where there are marks, none that is of no use by them."""
    number, no_most = 0, bool(marks) and MOST[len(AS_WRITTEN) - 1 :] not in marks
    for block in _whole_lines(stream):
        begin = 0
        while begin < len(block):
            end = block.find(b"\n", begin)
            if end < 0:
                end = len(block)
            number += 1
            begin, at = end + 1, begin
            if no_most and block.startswith(MOST, at):  # which costs less than a copy of each
                continue
            raw = block[at:end]
            if marks and not _may_be(raw, marks):
                continue
            if len(raw) > LARGEST:
                report(number, f"the line is longer than {LARGEST:,} bytes")
            elif line := raw.strip():
                yield number, line


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _may_be(text: bytes, marks: Marks) -> bool:
    """As it was written a line's event comes first, and need not be looked for."""
    if text.startswith(AS_WRITTEN):
        event = text[len(AS_WRITTEN) - 1 : text.find(b'"', len(AS_WRITTEN)) + 1]
        return not event or any(mark in text for mark in marks.get(event, ()))
    return any(mark in text for mark in marks) or EVENT not in text


def _whole_lines(stream: Stream) -> Iterator[bytes]:
    """Many at a time; of one that is too long no more is held than shows it."""
    rest = b""
    while block := stream.read1(BLOCK):
        if end := block.rfind(b"\n") + 1:
            yield rest + block[:end]
            rest = block[end:]
        elif len(rest) <= LARGEST:
            rest += block
    if rest:
        yield rest


def values(stream: Stream, report: Report) -> Iterator[tuple[Place, bytes]]:
    """Each JSON value at the top or in an array there, and its number. What cannot be read costs itself only."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    text, at, number, depth = "", 0, 1, 0
    ended = lost = False
    while not ended or at < len(text):
        while not ended and len(text) - at <= LARGEST:
            block = stream.read1(BLOCK)
            ended = not block
            text, at = text[at:] + decode(block, final=ended), 0
        if lost:
            boundary = _BOUNDARY.search(text, at)
            lost = boundary is None
            at = boundary.end() if boundary else max(at, len(text) - _PART_OF_A_BOUNDARY * (not ended))
            continue
        end = _end_of(_BETWEEN, text, at)
        depth += text.count("[", at, end) - text.count("]", at, end)
        if (at := end) == len(text):
            continue
        try:
            _, end = _value(text, at)
        except (ValueError, RecursionError):
            report(f"entry {number}", f"it is no JSON, or longer than {LARGEST:,} characters")
            lost = True
        else:
            yield f"entry {number}", text[at:end].encode("utf-8", "surrogateescape")
            at = end
        number += 1
    if depth > 0 and not lost:
        report(f"entry {number}", "the list ends early")
