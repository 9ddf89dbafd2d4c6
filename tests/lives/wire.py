"""Carries a process's requests to Leonardo and the answers back, without a socket; what befalls them is the world's."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import httpx

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


@dataclass(slots=True)
class Exchange:
    """One request of one process, what Leonardo did about it, and what the process was told."""

    process: "Process"
    number: int
    method: str
    project: str | None
    name: str | None
    disks: bool
    stop: bool
    query: bytes
    departed: float
    """By the process's own clock, as the first byte left."""
    answer: "Future[Delivered | Exception]"
    shown: tuple[State, ...] = ()
    """What Leonardo's own answer shows."""
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
        return f"{self.project}/{self.name}"

    @property
    def is_act(self) -> bool:
        return self.method != "GET"


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
        fault = process.world.weather(process, request.method)
        if fault == "refused":
            process.refused[f"{request.method} {request.url.path}"] += 1
            raise httpx.ConnectError("connection refused")
        if fault == "slow connect":
            await process.sleep(process.world.random.choice((2.0, 9.9, 10.1, 30.0)))
        await request.extensions["trace"](FIRST_BYTE, {})
        exchange = process.departs(request.method, request.url.raw_path, fault)
        answer = await exchange.answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))
