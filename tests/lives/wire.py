"""Carries a process's requests to Leonardo and the answers back, without a socket; what befalls them is the world's."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import httpx
import msgspec

from core.leonardo.exchange import FIRST_BYTE

if TYPE_CHECKING:
    from asyncio import Future

    from tests.lives.process import Process


class State(NamedTuple):
    """One runtime as an answer showed it."""

    id: int
    project: str
    name: str
    creator: str
    cloud: str
    status: str
    created: int
    """Milliseconds since the world began, as all instants here."""
    accessed: int
    labels: dict[str, str]
    threshold: int


class Delivered(NamedTuple):
    """What comes back of an exchange."""

    status: int
    headers: dict[str, str]
    body: bytes
    breaks_off: bool = False
    """The connection breaks before the end of the body."""


class Target(NamedTuple):
    """What a request is about."""

    kind: str
    """As the closing record counts it, or `notice`."""
    project: str | None = None
    name: str | None = None

    @property
    def path(self) -> str:
        return f"{self.project}/{self.name}"


NOTICES = "/notices"
"""Where owners are told, on the same host."""
KINDS = {"GET": "get", "DELETE": "delete", "POST": "stop"}


def target_of(method: str, path: str) -> Target:
    if path == NOTICES:
        return Target("notice")
    things, *rest = [unquote(part) for part in path.split("/")[4:]]
    project, name = [*rest[:2], None, None][:2]
    listed = "disks" if things == "disks" else "list"
    return Target(listed if name is None else KINDS[method], project, name)


@dataclass(slots=True)
class Exchange:
    """One request of one process, what Leonardo did about it, and what the process was told."""

    process: "Process"
    number: int
    target: Target
    query: bytes
    departed: float
    """By the process's own clock, as the first byte left."""
    answer: "Future[Delivered | Exception]"
    notices: Sequence[dict[str, Any]] = ()
    """What owners are told."""
    shown: tuple[State, ...] = ()
    """What Leonardo's own answer shows."""
    disk_ids: tuple[int, ...] = ()
    """The disks that it lists, or of the runtimes that it lists."""
    blind: bool = False
    """Whether the caller had no role on the project as Leonardo looked."""
    meant: int = 0
    """The id of the runtime that an act is to befall: its name may be another's once it arrives."""
    served_at: float | None = None
    """When Leonardo looked at it, by the world's clock."""
    delivered: Delivered | None = None
    delivered_at: float | None = None
    wall_at: int = 0
    """What the process's wall clock showed then, in milliseconds since the world began."""
    offset: float = 0.0
    """How far that was ahead of the truth, in seconds."""
    true: bool = False
    """Whether what was delivered is Leonardo's own answer, whole."""
    fault: str = ""

    @property
    def path(self) -> str:
        return self.target.path

    @property
    def project(self) -> str | None:
        return self.target.project

    @property
    def is_act(self) -> bool:
        return self.target.kind in ("delete", "stop")

    @property
    def is_list(self) -> bool:
        return self.target.kind in ("list", "disks")

    @property
    def is_look(self) -> bool:
        return self.target.kind == "get"

    @property
    def asks_to_wait(self) -> bool:
        return self.delivered is not None and "retry-after" in self.delivered.headers

    @property
    def failed(self) -> bool:
        """Whether an act's answer is neither a yes nor that it cannot be just now."""
        answer = self.delivered
        return answer is not None and (answer.status not in (202, 409) or answer.breaks_off)


class _Body(httpx.AsyncByteStream):
    def __init__(self, delivered: Delivered) -> None:
        self._delivered = delivered

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._delivered.body
        if self._delivered.breaks_off:
            yield body[: len(body) // 2]
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        yield body


@dataclass
class VirtualWire(httpx.AsyncBaseTransport):
    """One connection of a process."""

    process: "Process"
    opened: bool = field(default=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        process = self.process
        path, _, query = request.extensions["target"].partition(b"?")
        target = target_of(request.method, path.decode())
        fault = process.world.weather(request.method)
        if fault in ("refused", "slow connect") and target.name is not None:
            process.held_up.add(target.path)
        if fault == "refused":
            process.refused[target] += 1
            raise httpx.ConnectError("connection refused")
        if fault == "slow connect":
            await process.sleep(process.world.random.choice((2.0, 9.9, 10.1, 30.0)))
        await request.extensions["trace"](FIRST_BYTE, {})
        notices = msgspec.json.decode(await request.aread()) if target.kind == "notice" else ()
        exchange = process.departs(target, query, notices, fault)
        answer = await exchange.answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))
