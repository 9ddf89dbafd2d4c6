"""The HTTP library and nothing else: connections, TLS, time limits and failures; which calls there are lives beside."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import httpx

from core.clock import RunClock
from core.leonardo.errors import ErrorKind, LeonardoError

LARGEST_BODY = 4 * 2**20
"""Bytes of an answer that is read whole; a real runtime has a few KB."""
LONGEST_URL = 40_000
"""Characters of a service's; httpx makes none of more than 65,536, and a path of 25,000 may follow."""
QUOTED = re.compile(r":? (?:bytearray\(|b['\"])")
FAILURES = (TimeoutError, httpx.DecodingError, httpx.TransportError)
"""How an exchange fails."""
CONNECTED = "connection.connect_tcp.complete"
FIRST_BYTE = "http11.send_request_headers.started"
"""What httpcore says when there is TCP, and when a connection stands and nothing was written on it yet."""


Wire = httpx.AsyncBaseTransport
"""What carries requests and answers; it tells of FIRST_BYTE as httpcore does."""


class MethodRefusedError(RuntimeError):
    """A request that this run must never send was about to leave: a bug in this program."""


class NarrowTransport(httpx.AsyncBaseTransport):
    """Lets the methods through that a run needs and no other: GET alone in a dry run.

    Requests are handed to it without a client of the HTTP library's: one would follow redirects, keep the cookies in
    which Leonardo sends bearer tokens back, and take a third of the processor time of a request.
    """

    def __init__(self, wrapped: httpx.AsyncBaseTransport, methods: Collection[str]) -> None:
        self._wrapped = wrapped
        self._methods = methods

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method not in self._methods:
            raise MethodRefusedError(f"{request.method} in a run that may only {', '.join(sorted(self._methods))}")
        return await self._wrapped.handle_async_request(request)

    async def aclose(self) -> None:
        await self._wrapped.aclose()


@dataclass(slots=True)
class Question:
    """One request."""

    method: str
    path: str
    """Behind the service's URL; escaped, its query with it."""
    headers: Mapping[str, str]
    leaving: Callable[[], Awaitable[None]]
    """Awaited when the first byte is about to leave; where it raises, none does."""
    content: bytes = b""
    """Of a POST."""


@dataclass(slots=True)
class Answer:
    """What came back; it can be read as long as its exchange is open."""

    status: int
    headers: Mapping[str, str]
    """Their names in any case."""
    sent: float
    """The clock's reading when the question's first byte was about to leave."""
    took: timedelta
    """From then until the headers had come."""
    received: datetime
    """When they had come."""
    body: bytes
    """Empty where it is to be read in chunks."""
    chunks: AsyncIterator[bytes]

    @property
    def is_success(self) -> bool:
        return httpx.codes.is_success(self.status)


class _Departure:
    """What httpcore tells of a request until its first byte is about to leave."""

    def __init__(
        self, request: httpx.Request, question: Question, clock: RunClock, act_left: Callable[[], None]
    ) -> None:
        self._request = request
        self._question = question
        self._clock = clock
        self._act_left = act_left
        self._socket: Any = None
        self.sent = clock.monotonic()
        request.extensions["trace"] = self.trace

    async def trace(self, event: str, told: Mapping[str, Any]) -> None:
        if event == CONNECTED:
            self._socket = told["return_value"]
        elif event == FIRST_BYTE:
            self._socket = None  # a connection's by now
            self._request.extensions.pop("trace")  # what follows need not be told
            await self._question.leaving()
            self.sent = self._clock.monotonic()
            if self._question.method != "GET":
                self._act_left()

    async def hang_up(self) -> None:
        """Close what httpcore leaves open where a TLS handshake is cut short."""
        if self._socket is not None:
            await self._socket.aclose()


class Connections:
    """As many connections to one service as there may be exchanges at a time.

    A pool that holds one connection each is cheaper than one large pool.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: RunClock,
        timeout: float,
        count: int,
        methods: Collection[str],
        connect: Callable[[], Wire] | None = None,
    ) -> None:
        """Without `connect`, over TCP. Raises ValueError where it is no URL that anything can be asked of."""
        self._url = _checked(url.rstrip("/"))
        self._host = self._url.netloc.decode()
        self._path = self._url.raw_path.rstrip(b"/")
        self._clock = clock
        self._timeout = timeout
        self._idle: asyncio.LifoQueue[NarrowTransport] = asyncio.LifoQueue()
        connect = connect or partial(_connection, _tls(self._url))
        for _ in range(count):
            self._idle.put_nowait(NarrowTransport(connect(), methods))

    async def aclose(self) -> None:
        while not self._idle.empty():
            await self._idle.get_nowait().aclose()

    @asynccontextmanager
    async def exchange(self, question: Question, *, whole: bool) -> AsyncIterator[Answer]:
        """The answer, with its body where it is wanted `whole` or says no, within the time for one answer.

        Raises LeonardoError, OutOfTimeError, and what `question.leaving` raises.
        """
        connection = await self._idle.get()
        try:
            try:
                async with self._clock.bound(self._timeout) as act_left:
                    answer, response = await self._answer(connection, question, act_left, whole=whole)
            except FAILURES as error:
                raise _in_our_words(error) from None
            try:
                yield answer
            finally:
                await response.aclose()
        finally:
            self._idle.put_nowait(connection)

    async def _answer(
        self, connection: NarrowTransport, question: Question, act_left: Callable[[], None], *, whole: bool
    ) -> tuple[Answer, httpx.Response]:
        headers = {"Host": self._host, **question.headers}
        if question.method == "POST":
            headers["Content-Length"] = str(len(question.content))
        request = httpx.Request(
            question.method,
            self._url,
            headers=headers,
            stream=httpx.ByteStream(question.content),  # as `content` it would take three times as long to make
            # `RunClock.bound` cuts the exchange as a whole; a URL made of each path would take a tenth of its time.
            extensions={"timeout": {}, "target": self._path + question.path.encode() or b"/"},
        )
        departure = _Departure(request, question, self._clock, act_left)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await departure.hang_up()
            raise
        sent = departure.sent
        took, received = timedelta(seconds=self._clock.monotonic() - sent), self._clock.wall()
        body = await _body(response) if whole or not response.is_success else b""
        chunks = self._chunks(response)
        return Answer(response.status_code, response.headers, sent, took, received, body, chunks), response

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The rest of the answer as it comes, each part of it within the time for one answer."""
        chunks = aiter(response.aiter_bytes())
        while True:
            try:
                async with self._clock.bound(self._timeout):
                    chunk = await anext(chunks, None)
            except FAILURES as error:
                raise _in_our_words(error) from None
            if chunk is None:
                return
            yield chunk


def _in_our_words(error: Exception) -> LeonardoError:
    """The HTTP library's failure, or its lack of an answer."""
    if isinstance(error, TimeoutError):
        return LeonardoError(ErrorKind.UNAVAILABLE, "no answer in time")
    if isinstance(error, httpx.DecodingError):
        return LeonardoError(ErrorKind.UNREADABLE, f"the body cannot be decoded: {error}")
    # What is no HTTP is quoted behind the reason, at any length and with whatever it hands back to us.
    reason = QUOTED.split(str(error), maxsplit=1)[0] or "the connection broke"
    return LeonardoError(ErrorKind.UNAVAILABLE, f"{type(error).__name__}: {reason}")


@cache  # the same for each of many clients
def _checked(url: str) -> httpx.URL:
    try:
        if len(url) > LONGEST_URL:
            raise ValueError(f"it is longer than {LONGEST_URL:,} characters")  # noqa: TRY301 - as the library's own
        checked = httpx.URL(url)
        checked.host  # noqa: B018 - read to have it checked
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url[:200]} cannot be asked: {error}") from None
    return checked


def _tls(url: httpx.URL) -> ssl.SSLContext:
    """Whom to trust: nobody where the URL has no use for it, since reading the authorities takes a while."""
    if url.scheme == "https":
        return httpx.create_ssl_context(trust_env=False)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _connection(tls: ssl.SSLContext) -> Wire:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    return httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_BODY:
            await response.aclose()
            raise LeonardoError(
                ErrorKind.UNREADABLE, f"an answer of more than {LARGEST_BODY} bytes", http_status=response.status_code
            )
    return bytes(body)
