"""A server that says what a test wrote down, byte for byte, one answer for each request; no test."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext

Said = bytes | Callable[[StreamWriter], Awaitable[None]]
"""What is sent, or what sends it."""


@dataclass
class Raw:
    """What came in."""

    url: str
    requests: list[str] = field(default_factory=list)
    """The first line of each, without the version."""
    heads: list[str] = field(default_factory=list)
    connections: int = 0


def said(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """An answer as a whole."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def saying(*answers: Said, tls: SSLContext | None = None) -> AsyncIterator[Raw]:
    """On loopback; after the last answer the connection is closed."""
    left = iter(answers)
    open_ones: dict[StreamWriter, asyncio.Task[None] | None] = {}

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        raw.connections += 1
        open_ones[writer] = asyncio.current_task()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                raw.requests.append(raw.heads[-1].partition(" HTTP/1.1")[0])
                answer = next(left, None)
                if answer is None:
                    break
                if isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    await answer(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls) as server:
        raw = Raw("http{}://127.0.0.1:{}".format("s" * (tls is not None), server.sockets[0].getsockname()[1]))
        yield raw
        for writer, task in open_ones.items():
            writer.close()
            if task is not None:
                await task
