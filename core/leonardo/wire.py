"""Leonardo's JSON to runtimes: a list as a stream, a single answer whole; nothing here sends or judges."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from core.leonardo.errors import ErrorKind, LeonardoError
from core.runtime import Disk, MalformedRuntime, Runtime

LARGEST_ITEM = 16 * 2**20
"""Bytes of one list without a boundary between items after which it is no list of runtimes; a real item has 1-2 KB."""
GUESSES = 4
"""How many boundaries of a chunk are tried before more of the list is awaited."""


class _Item(msgspec.Struct, rename="camel"):
    """The fields that are used, of any type: one odd value must cost no more than itself."""

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
_anything = msgspec.json.Decoder(list[Any])
_single = msgspec.json.Decoder(_Item)

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


async def runtimes_from_list(chunks: AsyncIterator[bytes]) -> AsyncIterator[Runtime | MalformedRuntime]:
    """The items of one JSON array as they arrive, in constant memory. Raises LeonardoError (unreadable).

    The text is cut behind an item and each part decoded as an array of its own. Where to cut is guessed (`},{`),
    and a wrong guess cannot pass: inside a string or a nested value the part in front of it is not valid JSON.
    """
    buffer = bytearray()
    opened = False
    async for chunk in chunks:
        buffer += chunk
        if not opened:
            opened = _open(buffer)
        if opened:
            for item in _complete_items(buffer, len(chunk)):
                yield item
        if len(buffer) > LARGEST_ITEM:
            raise _unreadable(f"{len(buffer)} bytes without the end of an item")
    if not opened:
        raise _unreadable("the answer is empty")
    try:
        last = _decode(b"[" + buffer)
    except UNDECODABLE as error:
        raise _unreadable(f"the list does not end well: {error}") from None
    for item in last:
        yield item


def runtime_from_get(body: bytes) -> Runtime:
    """A single runtime. Raises LeonardoError (unreadable)."""
    try:
        item = _single.decode(body)
    except UNDECODABLE as error:
        raise _unreadable(f"the answer is no runtime: {error}") from None
    runtime = _runtime(item)
    if isinstance(runtime, MalformedRuntime):
        raise _unreadable(runtime.detail)
    return runtime


def _open(buffer: bytearray) -> bool:
    """Take the array's opening bracket off the buffer, once it is there."""
    text = buffer.lstrip()
    if not text:
        return False
    if not text.startswith(b"["):
        raise _unreadable("the answer is no JSON array")
    buffer[:] = text[1:]
    return True


def _complete_items(buffer: bytearray, fresh: int) -> Iterator[Runtime | MalformedRuntime]:
    """Decode and take off the buffer all but the last item, where a boundary is found near its end."""
    end = len(buffer)
    for _ in range(GUESSES):
        end = buffer.rfind(b"},{", max(0, len(buffer) - fresh - 2), end)
        if end < 0:
            return
        try:
            items = _decode(b"[" + buffer[: end + 1] + b"]")
        except UNDECODABLE:
            continue
        del buffer[: end + 2]
        yield from items
        return


def _decode(array: bytes) -> list[Runtime | MalformedRuntime]:
    try:
        return [_runtime(item) for item in _items.decode(array)]
    except msgspec.ValidationError:  # an item that is no object; the others must not suffer for it
        return [
            _runtime(msgspec.convert(item, _Item))
            if isinstance(item, dict)
            else MalformedRuntime("the item is no object")
            for item in _anything.decode(array)
        ]


def _runtime(item: _Item) -> Runtime | MalformedRuntime:
    context = item.cloud_context if isinstance(item.cloud_context, dict) else {}
    audit = item.audit_info if isinstance(item.audit_info, dict) else {}
    config = item.runtime_config if isinstance(item.runtime_config, dict) else {}
    labels = item.labels if isinstance(item.labels, dict) else {}
    identity = _number(item.id)
    project = _word(context.get("cloudResource")) or _word(item.google_project)
    name = _word(item.runtime_name)
    if identity is None or project is None or name is None:
        wanted = {"id": identity, "project": project, "name": name}
        unreadable = ", ".join(word for word, value in wanted.items() if value is None)
        return MalformedRuntime(f"unreadable: {unreadable}", identity, project, name)
    persistent_disk_id = _number(config.get("persistentDiskId"))
    return Runtime(
        id=identity,
        project=project,
        name=name,
        cloud_provider=_word(context.get("cloudProvider")),
        status=_word(item.status),
        creator=_word(audit.get("creator")),
        created_date=_instant(audit.get("createdDate")),
        date_accessed=_instant(audit.get("dateAccessed")),
        labels={key: value for key, value in labels.items() if isinstance(value, str)},
        disk=Disk.KEPT if config.get("configType") == "GceWithPdConfig" and persistent_disk_id else Disk.LOST,
        persistent_disk_id=persistent_disk_id,
        autopause_threshold=_minutes(item.autopause_threshold),
    )


def _number(value: object) -> str | None:
    """An integer as text: Cloud Logging would return a number as a double and lose digits."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _instant(value: object) -> datetime | None:
    """Leonardo's timestamps have 0, 3 or 6 fraction digits and `Z`; anything without a zone is no instant."""
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
        return None if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _minutes(value: object) -> timedelta | None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    try:
        return timedelta(minutes=value)
    except OverflowError:
        return timedelta.max


def _unreadable(message: str) -> LeonardoError:
    return LeonardoError(ErrorKind.UNREADABLE, message)
