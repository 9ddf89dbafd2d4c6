"""One JSON array as a stream, cut between its items; what an item is, is known in `wire`."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from core.leonardo.errors import ErrorKind, LeonardoError

LARGEST_ITEM = 16 * 2**20
"""Bytes of one item after which it is none that we could hold; a real one has 1-2 KB."""
GUESSES = 4
"""How many boundaries of a chunk are tried before they are sought from the beginning."""
LONG = 2**18
"""Bytes in which a boundary should have been guessed: from there on it is sought, when they have doubled once more."""

QUOTE, OPENING, COMMA, CLOSING = b'"[,]'
OPENERS = b"[{"
WHITESPACE = b" \t\n\r"
"""JSON's: fewer than Python's."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SPACED = re.compile(rb"\}[ \t\n\r]*+,[ \t\n\r]*+\{")
# Possessive, so that a quote that is never closed costs no more than one that is.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[][{},]', re.DOTALL)

Buffer = bytes | bytearray | memoryview
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

Item = TypeVar("Item")


class Reader(Protocol[Item]):
    """Reads items, alike in whatever company."""

    def together(self, array: Buffer) -> list[Item]:
        """The items of a whole array. Raises one of UNDECODABLE where it is none."""

    def alone(self, text: bytes) -> Item:
        """What stands between braces as an item, whatever it is."""


async def items_of(chunks: AsyncIterator[bytes], reader: Reader[Item]) -> AsyncGenerator[list[Item], None]:
    """The items of one JSON array as they arrive, some at a time, in constant memory.

    Raises LeonardoError (unreadable).

    The text is cut behind an item and each part decoded as an array of its own. Where to cut is guessed (`},{`),
    and a wrong guess cannot pass: inside a string or a nested value the part in front of it is not valid JSON.
    Where no guess passes, the boundaries are sought sign by sign; a text between two of them that is no JSON, but
    stands between braces, costs that item alone. It hides no other and makes up none: where a stray quote turns texts
    into structure, no key of an item can come of them, since no text holds a bare quote.
    """
    head, buffer = b"", bytearray()
    sought = 0
    async for chunk in chunks:
        text = chunk
        if not buffer:
            head = text = _without_blanks(head + chunk)
            if not text.startswith(b"["):
                continue
        buffer += text
        items = _cut_where_guessed(buffer, len(text), reader)
        enough = 2 * sought if items is None else max(LONG, 2 * sought)
        if not items and len(buffer) >= min(enough, LARGEST_ITEM):
            items = _cut_where_sought(buffer, reader)
            sought = 0 if items else len(buffer)
        if items:
            yield items
        if len(buffer) > LARGEST_ITEM:
            raise unreadable(f"{len(buffer)} bytes without the end of an item")
    if not buffer:
        raise unreadable("the answer is no JSON array" if head else "the answer is empty")
    try:
        last = _all_of(buffer, reader)
    except UNDECODABLE as error:
        raise unreadable(f"the list does not end well: {error}") from None
    if last:
        yield last


def unreadable(message: str) -> LeonardoError:
    return LeonardoError(ErrorKind.UNREADABLE, message)


def _without_blanks(head: bytes) -> bytes:
    """What is left in front of and at the array's opening bracket; a byte order mark counts as blank there."""
    text = head.lstrip(WHITESPACE)
    if BYTE_ORDER_MARK.startswith(text):  # it may go on
        return text
    text = text.removeprefix(BYTE_ORDER_MARK).lstrip(WHITESPACE)
    if text and not text.startswith(b"["):
        raise unreadable("the answer is no JSON array")
    return text


def _cut_where_guessed(buffer: bytearray, fresh: int, reader: Reader[Item]) -> list[Item] | None:
    """Decode and take off all but the last item, where a guess near the end of the buffer is right.

    Nothing where there is none to be made, None where they were all wrong.
    """
    guessed = False
    for comma in _guesses(buffer, fresh):
        guessed = True
        try:
            return _cut(buffer, comma, reader)
        except UNDECODABLE:
            buffer[comma] = COMMA
    return None if guessed else []


def _guesses(buffer: bytearray, fresh: int) -> Iterator[int]:
    """Commas between braces, from the last one backwards: close to both, or with blanks where there are none such."""
    end, start = len(buffer), max(0, len(buffer) - fresh - 2)
    for number in range(GUESSES):
        end = buffer.rfind(b"},{", start, end)
        if end < 0:
            if number:
                return
            break
        yield end + 1
    else:
        return
    brace = max(0, buffer.rfind(b"}", 0, len(buffer) - fresh))
    spaced = [buffer.index(b",", found.start()) for found in SPACED.finditer(buffer, brace)]
    yield from reversed(spaced[-GUESSES:])


def _cut(buffer: bytearray, comma: int, reader: Reader[Item]) -> list[Item]:
    """The items in front of a comma, which becomes the end of an array, and then the beginning of the next.

    No text is copied. Raises one of UNDECODABLE, the comma still an end.
    """
    buffer[comma] = CLOSING
    with memoryview(buffer)[: comma + 1] as array:
        items = reader.together(array)
    _begin_at(buffer, comma)
    return items


def _begin_at(buffer: bytearray, comma: int) -> None:
    del buffer[:comma]
    buffer[0] = OPENING


def _cut_where_sought(buffer: bytearray, reader: Reader[Item]) -> list[Item]:
    """Decode and take off every item that a comma follows, and blanks without end if they belong to no text.

    Raises LeonardoError.
    """
    items: list[Item] = []
    try:
        found = _seek(buffer)
        commas = found.ends[:-1] if found.closed else found.ends
        if commas:
            items = _one_by_one(buffer, commas, reader)
            _begin_at(buffer, commas[-1])
    except UNDECODABLE as error:
        raise unreadable(f"the list breaks off: {error}") from None
    if not found.in_text:
        blanks = len(buffer) - len(buffer.rstrip(WHITESPACE))
        if blanks > LONG:
            del buffer[len(buffer) - blanks + 1 :]  # one stays: it may part two values
    return items


def _all_of(buffer: bytearray, reader: Reader[Item]) -> list[Item]:
    """The last items, with the end of the array. Raises one of UNDECODABLE."""
    try:
        return reader.together(buffer)
    except UNDECODABLE:
        found = _seek(buffer)
        if not found.closed or buffer[found.ends[-1] + 1 :].strip(WHITESPACE):
            raise
        return _one_by_one(buffer, found.ends, reader)


class _Found(NamedTuple):
    ends: list[int]
    """Where each item ends: at a comma, or at the bracket that closes the array."""
    closed: bool
    in_text: bool
    """Whether what follows belongs to a string."""


def _seek(buffer: bytearray) -> _Found:
    """Every boundary between items: a sign of JSON's that is neither in a string nor in an item.

    Raises one of UNDECODABLE where two follow each other without one.
    """
    ends: list[int] = []
    depth, nested = 0, False
    for token in TOKEN.finditer(buffer, 1):
        place = token.start()
        sign = buffer[place]
        if sign == QUOTE:
            if not token[1]:
                return _Found(ends, closed=False, in_text=True)
        elif sign == COMMA:
            if not depth:
                ends.append(place)
                nested = False
        elif sign in OPENERS:
            if nested and not depth:
                raise msgspec.DecodeError("two items without a comma")
            depth, nested = depth + 1, True
        elif depth:
            depth -= 1
        else:
            ends.append(place)
            return _Found(ends, closed=True, in_text=False)
    return _Found(ends, closed=False, in_text=False)


def _one_by_one(buffer: bytearray, ends: list[int], reader: Reader[Item]) -> list[Item]:
    """The items that end there. Raises one of UNDECODABLE where one is neither JSON nor between braces."""
    items: list[Item] = []
    start = 1
    for end in ends:
        text = bytes(buffer[start:end]).strip(WHITESPACE)
        if text.removeprefix(BYTE_ORDER_MARK).startswith(b"{") and text.endswith(b"}"):
            items.append(reader.alone(text))
        elif text:
            items += reader.together(b"[%b]" % text)
        else:
            raise msgspec.DecodeError("an item is missing")
        start = end + 1
    return items
