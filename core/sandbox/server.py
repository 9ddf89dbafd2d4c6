"""Runs the sandbox on a loopback port, beside the caller or in front; what it serves lives in `core.sandbox.app`."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.clock import utc_now
from core.sandbox.app import LoggedRequest, RequestLog, make_app
from core.sandbox.faults import Fault, FaultScript
from core.sandbox.fleet import left_disks, make_fleet, odd_rows
from core.sandbox.leonardo import Leonardo
from core.sandbox.users import Users

HOST = "127.0.0.1"
SOME_ARE_ODD = 100
"""From this size on a made-up fleet has its odd rows."""
KEEP_ALIVE = 75
"""Seconds; longer than clients keep idle connections, so that none is closed under a request."""


@dataclass(frozen=True, kw_only=True)
class SandboxServer:
    """A running sandbox, to be looked at and steered from the same process."""

    url: str
    leonardo: Leonardo
    faults: FaultScript
    log: RequestLog

    @property
    def users(self) -> Users:
        return Users(self.leonardo)

    @property
    def requests(self) -> list[LoggedRequest]:
        return self.log.entries

    @property
    def max_in_flight(self) -> int:
        return self.log.max_in_flight


@contextmanager
def serving(
    leonardo: Leonardo | None = None,
    *,
    port: int = 0,
    latency: float = 0.0,
    faults: Iterable[Fault] = (),
    required_token: str | None = None,
) -> Iterator[SandboxServer]:
    """Serve on a thread of its own while this is open; without a Leonardo, one with a made-up fleet."""
    leonardo = leonardo or made_up()
    script, log = FaultScript(faults), RequestLog()
    app = make_app(leonardo, script, latency=latency, requests=log, required_token=required_token)
    # Naming the protocol makes asyncio send at once; else each answer would wait for the client's delayed ACK.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(2048)
        # It listens already: who connects before the thread has begun waits in the backlog.
        server = _Server(app)
        app.state.vanish = server.vanish
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=server.run_on, args=(loop, listener), name="sandbox", daemon=True)
        thread.start()
        try:
            url = f"http://{HOST}:{listener.getsockname()[1]}"
            yield SandboxServer(url=url, leonardo=leonardo, faults=script, log=log)
        finally:
            loop.call_soon_threadsafe(server.told_to_stop.set)
            thread.join()


def made_up(runtimes: int = 400, seed: int = 7, **broken: bool) -> Leonardo:
    """An installation with a made-up fleet; what is broken goes to `make_fleet`."""
    now = utc_now()
    odd = odd_rows(now) if runtimes >= SOME_ARE_ODD else []
    fleet = make_fleet(runtimes - len(odd), seed, now, **broken)
    return Leonardo(fleet, disks=left_disks(fleet, now), raw_rows=odd)


def serve_forever(served: AbstractContextManager[SandboxServer], ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then return; only on the main thread. `ready` gets the URL."""
    told_to_stop = threading.Event()
    caught = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda *_: told_to_stop.set()) for number in caught]
    try:
        with served as server:
            ready(server.url)
            told_to_stop.wait()
    finally:
        for number, handler in zip(caught, previous, strict=True):
            signal.signal(number, handler)


class _Protocol(HttpToolsProtocol):
    """Hands each request its connection, for faults to cut."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class _Server(uvicorn.Server):
    """Quiet, and stops at once: uvicorn's own polls for the order and waits for clients to leave."""

    def __init__(self, app: object) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,  # the service dates its answers by its own clock
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        self.told_to_stop = asyncio.Event()

    def run_on(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        try:
            loop.run_until_complete(self.serve(sockets=[listener]))
        finally:
            loop.close()

    async def main_loop(self) -> None:
        await self.told_to_stop.wait()

    def vanish(self) -> None:
        """Listen no more, and close each connection when its answer has ended."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # until the connections know
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
