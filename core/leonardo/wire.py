"""Leonardo's JSON to runtimes and disks: lists as streams, a single answer whole; nothing here sends or judges."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Generic, TypeVar

import msgspec

from core.leonardo.array import UNDECODABLE, Buffer, items_of, unreadable
from core.runtime import Disk, MalformedDisk, MalformedRuntime, PersistentDisk, Runtime

KEPT, DETACHED, LOST = Disk.KEPT, Disk.DETACHED, Disk.LOST
LONGEST_NAME = 1000
"""Characters of an id, a project or a name; a longer one is none, and would not fit into a URL."""

Batch = list[Runtime | MalformedRuntime]
"""Items that arrived together: one at a time, a million of them would cost more in waiting than in reading."""
DiskBatch = list[PersistentDisk | MalformedDisk]
Shape = TypeVar("Shape", bound=msgspec.Struct)
Item = TypeVar("Item", bound=Runtime | MalformedRuntime | PersistentDisk | MalformedDisk)

_raw_items = msgspec.json.Decoder(list[msgspec.Raw])


class _Context(msgspec.Struct, frozen=True, rename="camel", gc=False):
    cloud_provider: str | None = None
    cloud_resource: str | None = None


class _Audit(msgspec.Struct, frozen=True, rename="camel", gc=False):
    creator: str | None = None
    created_date: datetime | None = None
    date_accessed: datetime | None = None


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


class _Reader(Generic[Shape, Item]):
    """Reads items of one shape: together, and by itself where one of them has a value of another type than expected."""

    def __init__(self, shape: type[Shape], value: Callable[[Shape], Item], malformed: Callable[..., Item]) -> None:
        """`value` makes an item of what was read, `malformed` one of which it is only known what is wrong with it."""
        self._shape = shape
        self._value = value
        self._malformed = malformed
        self._together = msgspec.json.Decoder(list[shape])  # type: ignore[valid-type]
        self._alone = msgspec.json.Decoder(shape)

    def together(self, array: Buffer) -> list[Item]:
        try:
            return [self._value(item) for item in self._together.decode(array)]
        except msgspec.ValidationError:
            return [self._one(item) for item in _raw_items.decode(bytes(array))]

    def alone(self, text: bytes) -> Item:
        try:
            return self._one(text)
        except UNDECODABLE as error:
            told = f"no JSON: {error}"
        try:
            remains = self.item(_repaired(text))
        except (*UNDECODABLE, ValueError):
            return self._malformed(told)
        return self._malformed(told, remains.id, remains.project, remains.name)

    def item(self, text: Buffer | msgspec.Raw) -> Item:
        """Raises one of UNDECODABLE where it is no JSON object."""
        try:
            return self._value(self._alone.decode(text))
        except msgspec.ValidationError:
            return self._value(_evened(text, self._shape))

    def _one(self, text: bytes | msgspec.Raw) -> Item:
        try:
            return self.item(text)
        except msgspec.ValidationError:
            return self._malformed("the item is no object")


def _repaired(text: bytes) -> bytes:
    """As JSON, without what is none: NaN, half a character, bytes that are no UTF-8. Raises ValueError, RecursionError.

    Good enough to name the item in a record, not to judge it by.
    """
    lenient = json.loads(text.decode("utf-8-sig", "replace"), strict=False, parse_constant=lambda _: None)
    return json.dumps(lenient, ensure_ascii=False).encode(errors="replace")


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
    return items_of(chunks, _runtimes)


def disks_from_list(chunks: AsyncIterator[bytes]) -> AsyncGenerator[DiskBatch, None]:
    """The disks of a list as they arrive. Raises LeonardoError (unreadable)."""
    return items_of(chunks, _disks)


def runtime_from_get(body: bytes) -> Runtime:
    """A single runtime. Raises LeonardoError (unreadable)."""
    try:
        runtime = _runtimes.item(body)
    except UNDECODABLE as error:
        raise unreadable(f"the answer is no runtime: {error}") from None
    if isinstance(runtime, MalformedRuntime):
        raise unreadable(runtime.detail)
    return runtime


def _runtime(item: _Item) -> Runtime | MalformedRuntime:
    context, audit, config = item.cloud_context, item.audit_info, item.runtime_config
    identity = None if item.id is None else str(item.id)  # Cloud Logging would return a number as a double
    project = context.cloud_resource or item.google_project or None
    name = item.runtime_name or None
    if identity is None or project is None or name is None or _too_long(identity, project, name):
        return MalformedRuntime(*_legible(identity, project, name))
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
        KEPT if disk_id is not None else DETACHED if config.config_type == "GceWithPdConfig" else LOST,
        None if disk_id is None else str(disk_id),
        None if threshold is None else _minutes(threshold),
        config.machine_type or config.master_machine_type or None,
        item.patch_in_progress is True,
    )


def _persistent_disk(item: _DiskItem) -> PersistentDisk | MalformedDisk:
    audit = item.audit_info
    identity = None if item.id is None else str(item.id)
    project = item.cloud_context.cloud_resource or item.google_project or None
    name = item.name or None
    if identity is None or project is None or name is None or _too_long(identity, project, name):
        return MalformedDisk(*_legible(identity, project, name))
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


def _too_long(identity: str, project: str, name: str) -> bool:
    return len(name) > LONGEST_NAME or len(project) > LONGEST_NAME or len(identity) > LONGEST_NAME


def _legible(*names: str | None) -> tuple[str, str | None, str | None, str | None]:
    """What is wrong with id, project and name, and those of them with which nothing is."""
    identity, project, name = (None if text is None or len(text) > LONGEST_NAME else text for text in names)
    faults = [
        word if text is None else f"{word} ({len(text)} characters)"
        for word, text, legible in zip(("id", "project", "name"), names, (identity, project, name), strict=True)
        if legible is None
    ]
    return f"unreadable: {', '.join(faults)}", identity, project, name


_runtimes = _Reader(_Item, _runtime, MalformedRuntime)
_disks = _Reader(_DiskItem, _persistent_disk, MalformedDisk)


def _instant(read: datetime | None) -> datetime | None:
    """Leonardo's timestamps have 0, 3 or 6 fraction digits and `Z`; anything without a zone is no instant."""
    if read is None or read.tzinfo is UTC:
        return read
    try:
        return None if read.tzinfo is None else read.astimezone(UTC)
    except OverflowError:
        return None


def _minutes(count: int) -> timedelta:
    try:
        return timedelta(minutes=count)
    except OverflowError:
        return timedelta.max if count > 0 else timedelta.min
