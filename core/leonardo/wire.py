"""Leonardo's JSON to runtimes: a list as a stream, a single answer whole; nothing here sends or judges."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from core.leonardo.errors import ErrorKind, LeonardoError
from core.runtime import Disk, MalformedRuntime, Runtime

LARGEST_ITEM = 16 * 2**20
"""Bytes of one list without a boundary between items after which it is no list of runtimes; a real item has 1-2 KB."""
GUESSES = 4
"""How many boundaries of a chunk are tried before more of the list is awaited."""

OPENING, COMMA, CLOSING = b"[,]"
WHITESPACE = b" \t\n\r"
"""JSON's: fewer than Python's."""

Buffer = bytes | bytearray | memoryview
Batch = list[Runtime | MalformedRuntime]
"""Items that arrived together: one at a time, a million of them would cost more in waiting than in reading."""


class _Context(msgspec.Struct, frozen=True, rename="camel", gc=False):
    cloud_provider: str | None = None
    cloud_resource: str | None = None


class _Audit(msgspec.Struct, frozen=True, rename="camel", gc=False):
    creator: str | None = None
    created_date: str | None = None
    date_accessed: str | None = None


class _Config(msgspec.Struct, frozen=True, rename="camel", gc=False):
    config_type: str | None = None
    persistent_disk_id: int | None = None


class _Item(msgspec.Struct, rename="camel", gc=False):
    """The fields that are used, of the types that they should have: an item that has others is read as `_OddItem`."""

    id: int | None = None
    runtime_name: str | None = None
    google_project: str | None = None
    cloud_context: _Context = _Context()
    audit_info: _Audit = _Audit()
    runtime_config: _Config = _Config()
    status: str | None = None
    labels: dict[str, str] = {}
    autopause_threshold: int | None = None


class _OddItem(msgspec.Struct, rename="camel"):
    """The same fields, of any type: one odd value must cost no more than itself."""

    id: Any = None
    runtime_name: Any = None
    google_project: Any = None
    cloud_context: Any = None
    audit_info: Any = None
    runtime_config: Any = None
    status: Any = None
    labels: Any = None
    autopause_threshold: Any = None


_items = msgspec.json.Decoder(list[_Item])
_raw_items = msgspec.json.Decoder(list[msgspec.Raw])
_single = msgspec.json.Decoder(_Item)
_odd_single = msgspec.json.Decoder(_OddItem)

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


async def runtimes_from_list(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Batch, None]:
    """The items of one JSON array as they arrive, some at a time, in constant memory.

    Raises LeonardoError (unreadable).

    The text is cut behind an item and each part decoded as an array of its own. Where to cut is guessed (`},{`),
    and a wrong guess cannot pass: inside a string or a nested value the part in front of it is not valid JSON.
    """
    buffer = bytearray()
    blank = 0
    async for chunk in chunks:
        text = chunk if buffer else _from_the_bracket(chunk)
        buffer += text
        if items := _complete_items(buffer, len(text)):
            yield items
        blank += len(chunk) - len(text)
        if blank + len(buffer) > LARGEST_ITEM:
            raise _unreadable(f"{blank + len(buffer)} bytes without the end of an item")
    if not buffer:
        raise _unreadable("the answer is empty")
    try:
        last = _decode(buffer)
    except UNDECODABLE as error:
        raise _unreadable(f"the list does not end well: {error}") from None
    if last:
        yield last


def runtime_from_get(body: bytes) -> Runtime:
    """A single runtime. Raises LeonardoError (unreadable)."""
    try:
        item = _one(body)
    except UNDECODABLE as error:
        raise _unreadable(f"the answer is no runtime: {error}") from None
    runtime = _runtime(item)
    if isinstance(runtime, MalformedRuntime):
        raise _unreadable(runtime.detail)
    return runtime


def _from_the_bracket(chunk: bytes) -> bytes:
    """The chunk without the blanks in front of the array's opening bracket; nothing where that is still to come."""
    text = chunk.lstrip(WHITESPACE)
    if text and not text.startswith(b"["):
        raise _unreadable("the answer is no JSON array")
    return text


def _complete_items(buffer: bytearray, fresh: int) -> Batch:
    """Decode and take off the buffer all but the last item, where a boundary is found near its end.

    The comma between two items becomes the end of an array, and then the beginning of the next: no text is copied.
    """
    end = len(buffer)
    for _ in range(GUESSES):
        end = buffer.rfind(b"},{", max(0, len(buffer) - fresh - 2), end)
        if end < 0:
            break
        comma = end + 1
        buffer[comma] = CLOSING
        try:
            with memoryview(buffer)[: comma + 1] as array:
                items = _decode(array)
        except UNDECODABLE:
            buffer[comma] = COMMA
            continue
        del buffer[:comma]
        buffer[0] = OPENING
        return items
    return []


def _decode(array: Buffer) -> Batch:
    try:
        return [_runtime(item) for item in _items.decode(array)]
    except msgspec.ValidationError:  # a value of another type than expected, somewhere
        return [_alone(item) for item in _raw_items.decode(bytes(array))]


def _alone(item: msgspec.Raw) -> Runtime | MalformedRuntime:
    """One item, read as a single answer is: what its neighbours are must make no difference."""
    try:
        return _runtime(_one(item))
    except msgspec.ValidationError as error:  # no object, or a number that none could hold
        return MalformedRuntime(f"unreadable: {error}" if bytes(item).startswith(b"{") else "the item is no object")


def _one(body: Buffer | msgspec.Raw) -> _Item:
    try:
        return _single.decode(body)
    except msgspec.ValidationError:
        return _evened(_odd_single.decode(body))


def _evened(item: _OddItem) -> _Item:
    """Any value of another type than expected counts as missing."""
    context, audit, config, labels = (
        value if isinstance(value, dict) else {}
        for value in (item.cloud_context, item.audit_info, item.runtime_config, item.labels)
    )
    return _Item(
        id=_number(item.id),
        runtime_name=_text(item.runtime_name),
        google_project=_text(item.google_project),
        cloud_context=_Context(
            cloud_provider=_text(context.get("cloudProvider")), cloud_resource=_text(context.get("cloudResource"))
        ),
        audit_info=_Audit(
            creator=_text(audit.get("creator")),
            created_date=_text(audit.get("createdDate")),
            date_accessed=_text(audit.get("dateAccessed")),
        ),
        runtime_config=_Config(
            config_type=_text(config.get("configType")), persistent_disk_id=_number(config.get("persistentDiskId"))
        ),
        status=_text(item.status),
        labels={key: value for key, value in labels.items() if isinstance(value, str)},
        autopause_threshold=_number(item.autopause_threshold),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _runtime(item: _Item) -> Runtime | MalformedRuntime:
    context, audit, config = item.cloud_context, item.audit_info, item.runtime_config
    identity = None if item.id is None else str(item.id)  # Cloud Logging would return a number as a double
    project = context.cloud_resource or item.google_project or None
    name = item.runtime_name or None
    if identity is None or project is None or name is None:
        wanted = {"id": identity, "project": project, "name": name}
        unreadable = ", ".join(word for word, value in wanted.items() if value is None)
        return MalformedRuntime(f"unreadable: {unreadable}", identity, project, name)
    disk_id = config.persistent_disk_id
    return Runtime(  # in the order of the fields: naming them takes as long again
        identity,
        project,
        name,
        item.labels,
        context.cloud_provider or None,
        item.status or None,
        audit.creator or None,
        _instant(audit.created_date),
        _instant(audit.date_accessed),
        Disk.LOST if disk_id is None or config.config_type != "GceWithPdConfig" else Disk.KEPT,
        None if disk_id is None else str(disk_id),
        None if item.autopause_threshold is None else _minutes(item.autopause_threshold),
    )


def _instant(text: str | None) -> datetime | None:
    """Leonardo's timestamps have 0, 3 or 6 fraction digits and `Z`; anything without a zone is no instant."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is UTC:
            return instant
        return None if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _minutes(count: int) -> timedelta | None:
    if count < 0:
        return None
    try:
        return timedelta(minutes=count)
    except OverflowError:
        return timedelta.max


def _unreadable(message: str) -> LeonardoError:
    return LeonardoError(ErrorKind.UNREADABLE, message)
