"""The leanest HTTP server that will do, so that what is measured is the client; what it answers is the caller's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

Answer = tuple[int, Iterable[bytes] | bytes, int]
"""Status, body, and the body's length."""


def whole(body: bytes, status: int = 200) -> Answer:
    return status, body, len(body)


async def serve(answer: Callable[[str, str], Answer], *, latency: float) -> None:
    """Answer each request (method and path) after a latency, on a free port of loopback, whose URL is printed."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for method, path in _requests(reader):
            await asyncio.sleep(latency)
            status, body, length = answer(method, path)
            head = f"HTTP/1.1 {status} Any\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            writer.write(head.encode())
            for part in [body] if isinstance(body, bytes) else body:
                writer.write(part)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, str]]:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0]) if lengths else 0)
        yield method, path
