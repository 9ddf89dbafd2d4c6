"""Leonardo's JSON to runtimes and disks: lists as streams, a single answer whole; nothing here sends or judges."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Generic, TypeVar

import msgspec

from core.leonardo.errors import ErrorKind, LeonardoError
from core.runtime import Disk, MalformedDisk, MalformedRuntime, PersistentDisk, Runtime

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
DiskBatch = list[PersistentDisk | MalformedDisk]
Shape = TypeVar("Shape", bound=msgspec.Struct)
Item = TypeVar("Item")


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
    machine_type: str | None = None
    master_machine_type: str | None = None


class _Item(msgspec.Struct, rename="camel", gc=False):
    """The fields that are used, of the types that they should have."""

    id: int | None = None
    runtime_name: str | None = None
    google_project: str | None = None
    cloud_context: _Context = _Context()
    audit_info: _Audit = _Audit()
    runtime_config: _Config = _Config()
    status: str | None = None
    labels: dict[str, str] | None = None
    autopause_threshold: int | None = None
    patch_in_progress: bool | None = None


class _DiskItem(msgspec.Struct, rename="camel", gc=False):
    """As `_Item`, of a list of disks."""

    id: int | None = None
    name: str | None = None
    google_project: str | None = None
    cloud_context: _Context = _Context()
    audit_info: _Audit = _Audit()
    status: str | None = None
    size: int | None = None
    disk_type: str | None = None


_raw_items = msgspec.json.Decoder(list[msgspec.Raw])

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Reader(Generic[Shape, Item]):
    """Reads items of one shape: together, and by itself where one of them has a value of another type than expected."""

    def __init__(self, shape: type[Shape], value: Callable[[Shape], Item], malformed: Callable[[str], Item]) -> None:
        """`value` makes an item of what was read, `malformed` one of which it is only known what is wrong with it."""
        self._shape = shape
        self._value = value
        self._malformed = malformed
        self._together = msgspec.json.Decoder(list[shape])  # type: ignore[valid-type]
        self._alone = msgspec.json.Decoder(shape)

    def items(self, array: Buffer) -> list[Item]:
        """Raises one of UNDECODABLE where it is no JSON array."""
        try:
            return [self._value(item) for item in self._together.decode(array)]
        except msgspec.ValidationError:
            return [self._one(item) for item in _raw_items.decode(bytes(array))]

    def item(self, text: Buffer | msgspec.Raw) -> Item:
        """Raises one of UNDECODABLE where it is no JSON object."""
        try:
            return self._value(self._alone.decode(text))
        except msgspec.ValidationError:
            return self._value(_evened(text, self._shape))

    def _one(self, text: msgspec.Raw) -> Item:
        try:
            return self.item(text)
        except msgspec.ValidationError:
            return self._malformed("the item is no object")


def _evened(text: Buffer | msgspec.Raw, shape: type[Shape]) -> Shape:
    """Any value of another type than expected counts as missing: it must cost no more than itself."""
    values = {}
    texts = msgspec.json.decode(text, type=_loose(shape))
    for field in msgspec.structs.fields(shape):
        value = getattr(texts, field.name)
        with suppress(msgspec.ValidationError):
            nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
            read = _evened(value, field.type) if nested else msgspec.json.decode(value, type=field.type)
            values[field.name] = read
    return shape(**values)


@cache
def _loose(shape: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same fields, as the texts that they came in."""
    fields = msgspec.structs.fields(shape)
    return msgspec.defstruct(
        shape.__name__,
        [(field.name, msgspec.Raw, msgspec.Raw(b"null")) for field in fields],
        rename={field.name: field.encode_name for field in fields},
    )


def runtimes_from_list(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Batch, None]:
    """The runtimes of a list as they arrive. Raises LeonardoError (unreadable)."""
    return _batches(chunks, _runtimes.items)


def disks_from_list(chunks: AsyncIterator[bytes]) -> AsyncGenerator[DiskBatch, None]:
    """The disks of a list as they arrive. Raises LeonardoError (unreadable)."""
    return _batches(chunks, _disks.items)


def runtime_from_get(body: bytes) -> Runtime:
    """A single runtime. Raises LeonardoError (unreadable)."""
    try:
        runtime = _runtimes.item(body)
    except UNDECODABLE as error:
        raise _unreadable(f"the answer is no runtime: {error}") from None
    if isinstance(runtime, MalformedRuntime):
        raise _unreadable(runtime.detail)
    return runtime


async def _batches(
    chunks: AsyncIterator[bytes], decode: Callable[[Buffer], list[Item]]
) -> AsyncGenerator[list[Item], None]:
    """The items of one JSON array as they arrive, some at a time, in constant memory.

    The text is cut behind an item and each part decoded as an array of its own. Where to cut is guessed (`},{`),
    and a wrong guess cannot pass: inside a string or a nested value the part in front of it is not valid JSON.
    """
    buffer = bytearray()
    blank = 0
    async for chunk in chunks:
        text = chunk if buffer else _from_the_bracket(chunk)
        buffer += text
        if items := _complete_items(buffer, len(text), decode):
            yield items
        blank += len(chunk) - len(text)
        if blank + len(buffer) > LARGEST_ITEM:
            raise _unreadable(f"{blank + len(buffer)} bytes without the end of an item")
    if not buffer:
        raise _unreadable("the answer is empty")
    try:
        last = decode(buffer)
    except UNDECODABLE as error:
        raise _unreadable(f"the list does not end well: {error}") from None
    if last:
        yield last


def _from_the_bracket(chunk: bytes) -> bytes:
    """The chunk without the blanks in front of the array's opening bracket; nothing where that is still to come."""
    text = chunk.lstrip(WHITESPACE)
    if text and not text.startswith(b"["):
        raise _unreadable("the answer is no JSON array")
    return text


def _complete_items(buffer: bytearray, fresh: int, decode: Callable[[Buffer], list[Item]]) -> list[Item]:
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
                items = decode(array)
        except UNDECODABLE:
            buffer[comma] = COMMA
            continue
        del buffer[:comma]
        buffer[0] = OPENING
        return items
    return []


def _runtime(item: _Item) -> Runtime | MalformedRuntime:
    context, audit, config = item.cloud_context, item.audit_info, item.runtime_config
    identity = None if item.id is None else str(item.id)  # Cloud Logging would return a number as a double
    project = context.cloud_resource or item.google_project or None
    name = item.runtime_name or None
    if identity is None or project is None or name is None:
        return MalformedRuntime(_missing(identity, project, name), identity, project, name)
    disk_id, threshold = config.persistent_disk_id, item.autopause_threshold
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
        _disk(config),
        None if disk_id is None else str(disk_id),
        None if threshold is None else _minutes(threshold),
        config.machine_type or config.master_machine_type or None,
        item.patch_in_progress is True,
    )


def _disk(config: _Config) -> Disk:
    if config.persistent_disk_id is not None:
        return Disk.KEPT
    return Disk.DETACHED if config.config_type == "GceWithPdConfig" else Disk.LOST


def _persistent_disk(item: _DiskItem) -> PersistentDisk | MalformedDisk:
    audit = item.audit_info
    identity = None if item.id is None else str(item.id)
    project = item.cloud_context.cloud_resource or item.google_project or None
    name = item.name or None
    if identity is None or project is None or name is None:
        return MalformedDisk(_missing(identity, project, name), identity, project, name)
    return PersistentDisk(
        identity,
        project,
        name,
        item.status or None,
        item.size,
        item.disk_type or None,
        audit.creator or None,
        _instant(audit.created_date),
        _instant(audit.date_accessed),
    )


def _missing(identity: str | None, project: str | None, name: str | None) -> str:
    wanted = {"id": identity, "project": project, "name": name}
    return f"unreadable: {', '.join(word for word, value in wanted.items() if value is None)}"


_runtimes = _Reader(_Item, _runtime, MalformedRuntime)
_disks = _Reader(_DiskItem, _persistent_disk, MalformedDisk)


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


def _minutes(count: int) -> timedelta:
    try:
        return timedelta(minutes=count)
    except OverflowError:
        return timedelta.max if count > 0 else timedelta.min


def _unreadable(message: str) -> LeonardoError:
    return LeonardoError(ErrorKind.UNREADABLE, message)
