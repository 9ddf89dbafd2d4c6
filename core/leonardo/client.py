"""Leonardo's HTTP: list, get, delete and stop runtimes, kindly; to whom and why is not known here."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Protocol, Self
from urllib.parse import quote

import httpx
import structlog
import tenacity

from core.clock import OutOfTimeError, RunClock
from core.leonardo.errors import (
    CredentialsError,
    ErrorKind,
    LeonardoError,
    LookAgainError,
    asked_to_wait,
    error_from_answer,
    http_instant,
)
from core.leonardo.wire import Batch, runtime_from_get, runtimes_from_list
from core.rules.guards import clock_skew
from core.runtime import Runtime

log = structlog.get_logger(__name__)

LOOK_GOES_STALE = 10.0
"""Seconds after a look in which an act may leave: Leonardo has no conditional delete."""
CALLS = ("list", "get", "delete", "stop")
"""The kinds that are counted."""
TRIES = 5
LARGEST_ANSWER = 4 * 2**20
"""Bytes of an answer that is no list; a real runtime has a few KB."""


class Credentials(Protocol):
    """Where bearer tokens come from."""

    @property
    def actor(self) -> str | None:
        """Whose tokens they are, as far as known."""

    async def token(self, *, refused: str | None = None) -> str:
        """A valid token; another one than `refused` where one can be had. Raises CredentialsError."""


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
class LastExchange:
    """What was said about one runtime last, for its record."""

    trace_id: str | None = None
    http_status: int | None = None
    error: LeonardoError | None = None
    acts: int = 0
    """Acts that left, answered or not."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One request to make; `kind` is the word under which the closing record counts it."""

    kind: str
    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)


class Leonardo:
    """A client for one run; use it as an async context manager.

    Every request leaves with one of as many connections as may be in flight: a pool that holds one connection each is
    cheaper than one large pool. GETs are tried up to 5 times on 5xx, timeouts and broken connections; acts once.
    The waits between tries grow with the request timeout: where an answer may take 75 s, they are up to 0.5, 1, 2, 4 s.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: RunClock,
        credentials: Credentials | None,
        request_timeout: float,
        read_concurrency: int,
        write_concurrency: int,
        methods: Collection[str],
        user_agent: str,
    ) -> None:
        """`methods` are those that may leave; nothing else can."""
        self._url = url.rstrip("/")
        self._clock = clock
        self._credentials = credentials
        self._request_timeout = request_timeout
        self._reads = asyncio.Semaphore(read_concurrency)
        self._writes = asyncio.Semaphore(write_concurrency)
        self._hold_until = 0.0
        self._connections: asyncio.LifoQueue[NarrowTransport] = asyncio.LifoQueue()
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        tls = _tls(self._url)
        for _ in range(max(read_concurrency, write_concurrency)):
            self._connections.put_nowait(_connection(tls, methods))
        self.calls = dict.fromkeys(CALLS, 0)
        self.clock_skew: timedelta | None = None
        """How far our clock is ahead of Leonardo's, by the list that shows the most; None where none was dated."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._connections.empty():
            await self._connections.get_nowait().aclose()

    @property
    def actor(self) -> str | None:
        return None if self._credentials is None else self._credentials.actor

    async def list_runtimes(
        self, project: str | None = None, *, include_deleted: bool = False
    ) -> AsyncGenerator[Batch, None]:
        """Every runtime that the caller can see, of one project or of all, as they are received.

        Tried again only until the first items are decoded. Raises LeonardoError, OutOfTimeError.
        Unknown query parameters would filter by label and return an empty list, so there is none but includeDeleted.
        """
        path = "/api/google/v1/runtimes" + ("" if project is None else f"/{_segment(project)}")
        call = _Call("list", "GET", path, {"includeDeleted": "true"} if include_deleted else {})
        begun = False
        async for attempt in self._tries():
            with attempt:
                try:
                    async with self._exchange(call, LastExchange(), whole=False) as (response, _):
                        async for items in runtimes_from_list(self._chunks(response)):
                            begun = True
                            yield items
                except LeonardoError as error:
                    if begun:  # its items are on record: a second list could not be told from the first
                        raise LeonardoError(ErrorKind.UNREADABLE, f"the list broke off: {error.message}") from None
                    raise

    async def find_runtimes(self, project: str, ids: Collection[str]) -> dict[str, Runtime]:
        """These incarnations by id, as their project's list shows them, deleted ones included.

        One that is not listed is not in the answer: a 404 to its name would prove nothing. Raises as `list_runtimes`.
        """
        async with aclosing(self.list_runtimes(project, include_deleted=True)) as batches:
            return {
                item.id: item
                async for items in batches
                for item in items
                if isinstance(item, Runtime) and item.id in ids
            }

    async def get_runtime(self, project: str, name: str, last: LastExchange) -> Runtime:
        """One runtime by name, whichever incarnation holds it now. Raises LeonardoError, OutOfTimeError."""
        call = _Call("get", "GET", runtime_path(project, name))
        async for attempt in self._tries():
            with attempt:
                async with self._exchange(call, last) as (_, body):
                    return runtime_from_get(body)
        raise AssertionError("tenacity returns or raises")  # pragma: no cover

    async def delete_runtime(self, project: str, name: str, last: LastExchange, *, looked_at: float) -> None:
        """Ask for a runtime's deletion, its disk kept; sent once.

        `looked_at` is the monotonic instant of the look that justifies it. Raises LookAgainError where it is too long
        ago or Leonardo asked to come back, else LeonardoError or OutOfTimeError.
        """
        # `deleteDisk` is compared as text: only lower case `false` means the same to every version of the service.
        call = _Call("delete", "DELETE", runtime_path(project, name), {"deleteDisk": "false"})
        await self._act(call, last, looked_at)

    async def stop_runtime(self, project: str, name: str, last: LastExchange, *, looked_at: float) -> None:
        """Ask for a runtime to be stopped; sent once. `looked_at` and what is raised are as for a deletion."""
        await self._act(_Call("stop", "POST", f"{runtime_path(project, name)}/stop"), last, looked_at)

    async def _act(self, call: _Call, last: LastExchange, looked_at: float) -> None:
        async with self._exchange(call, last, looked_at=looked_at) as (response, _):
            if response.status_code != HTTPStatus.ACCEPTED:
                raise LeonardoError(
                    ErrorKind.UNREADABLE, "an answer other than 202 Accepted", http_status=response.status_code
                )

    def _tries(self) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_random_exponential(
                multiplier=self._request_timeout / 150, max=self._request_timeout / 4
            ),
            sleep=self._clock.sleep,
            reraise=True,
        )

    @asynccontextmanager
    async def _exchange(
        self, call: _Call, last: LastExchange, *, whole: bool = True, looked_at: float | None = None
    ) -> AsyncIterator[tuple[httpx.Response, bytes]]:
        """A successful answer and, where `whole`, its body; every failure is noted on `last` and raised."""
        slots = self._reads if call.method == "GET" else self._writes
        async with slots, self._connection() as connection:
            try:
                with self._translated(call):
                    response, body = await self._answer(call, connection, last, whole=whole, looked_at=looked_at)
                    try:
                        yield response, body
                    finally:
                        await response.aclose()
            except LeonardoError as error:
                last.error = error
                raise

    async def _answer(
        self, call: _Call, connection: NarrowTransport, last: LastExchange, *, whole: bool, looked_at: float | None
    ) -> tuple[httpx.Response, bytes]:
        """Send until there is an answer to keep.

        A read is sent again after a wait that Leonardo asked for, or once with a renewed token; an act never is.
        """
        refused_token: str | None = None
        while True:
            await self._hold()
            token = await self._token()
            last.trace_id = secrets.token_hex(16)
            request = self._request(call, token, last.trace_id, looked_at)
            async with self._clock.bound(self._request_timeout, act=looked_at is not None):
                self.calls[call.kind] += 1
                last.acts += looked_at is not None
                began, sent = self._clock.monotonic(), self._clock.wall()
                response = await connection.handle_async_request(request)
                if call.kind == "list" and response.is_success:
                    self._compare_clocks(response, sent)
                body = await _body(response) if whole or not response.is_success else b""
            last.http_status = response.status_code
            log.debug(
                "exchange",
                call=call.kind,
                path=call.path,
                status=response.status_code,
                seconds=round(self._clock.monotonic() - began, 3),
                trace_id=last.trace_id,
            )
            if response.is_success:
                last.error = None
                return response, body
            await response.aclose()
            last.error = error = error_from_answer(response.status_code, body, token=token)
            retry_after = response.headers.get("Retry-After", "")
            if (wait := asked_to_wait(response.status_code, retry_after, self._clock.wall())) is not None:
                self._hold_until = max(self._hold_until, self._clock.monotonic() + wait)
                await self._hold()
            elif error.http_status == HTTPStatus.UNAUTHORIZED and refused_token is None and token is not None:
                refused_token = token
                if await self._token(refused=token) == token:
                    raise error
            else:
                raise error
            if looked_at is not None:
                raise LookAgainError(error)

    def _request(self, call: _Call, token: str | None, trace_id: str, looked_at: float | None) -> httpx.Request:
        """Raises LookAgainError or OutOfTimeError where an act must not leave any more."""
        timeout = {}  # `RunClock.bound` cuts the exchange as a whole
        if looked_at is not None:
            fresh_for = looked_at + LOOK_GOES_STALE - self._clock.monotonic()
            if fresh_for <= 0:
                raise LookAgainError
            if not self._clock.may_act:
                raise OutOfTimeError
            timeout["connect"] = fresh_for
        headers = self._headers | {"X-Cloud-Trace-Context": f"{trace_id}/1"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Request(
            call.method,
            self._url + call.path,
            params=call.params or None,
            headers=headers,
            extensions={"timeout": timeout},
        )

    async def _token(self, *, refused: str | None = None) -> str | None:
        if self._credentials is None:
            return None
        try:
            async with self._clock.bound(self._request_timeout):
                return await self._credentials.token(refused=refused)
        except CredentialsError as error:
            raise LeonardoError(ErrorKind.DENIED, str(error)) from None

    def _compare_clocks(self, response: httpx.Response, sent: datetime) -> None:
        with suppress(ValueError):
            date = http_instant(response.headers.get("Date", ""))
            skew = clock_skew(date, sent=sent, answered=self._clock.wall())
            self.clock_skew = max(skew, self.clock_skew or skew, key=abs)

    async def _hold(self) -> None:
        """Wait while Leonardo asked to: whoever was told, everybody waits. Raises OutOfTimeError."""
        while (wait := self._hold_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        chunks = aiter(response.aiter_bytes())
        while True:
            async with self._clock.bound(self._request_timeout):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[NarrowTransport]:
        connection = await self._connections.get()
        try:
            yield connection
        finally:
            self._connections.put_nowait(connection)

    @contextmanager
    def _translated(self, call: _Call) -> Iterator[None]:
        """The HTTP library's failures in our words."""
        try:
            yield
        except TimeoutError:
            if self._clock.signalled and call.method == "GET":
                raise OutOfTimeError from None
            raise LeonardoError(ErrorKind.UNAVAILABLE, "no answer in time") from None
        except httpx.ConnectTimeout:
            raise LeonardoError(ErrorKind.UNAVAILABLE, "no connection in time") from None
        except httpx.DecodingError as error:
            raise LeonardoError(ErrorKind.UNREADABLE, f"the body cannot be decoded: {error}") from None
        except httpx.TransportError as error:
            # What is no HTTP is quoted behind the reason, at any length and with whatever it hands back to us.
            reason = str(error).partition(": bytearray(")[0] or "the connection broke"
            raise LeonardoError(ErrorKind.UNAVAILABLE, f"{type(error).__name__}: {reason}") from None


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, LeonardoError) and error.kind is ErrorKind.UNAVAILABLE


def _tls(url: str) -> ssl.SSLContext:
    """Whom to trust: nobody where the URL has no use for it, since reading the authorities takes a while."""
    if url.lower().startswith("https://"):
        return httpx.create_ssl_context(trust_env=False)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _connection(tls: ssl.SSLContext, methods: Collection[str]) -> NarrowTransport:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    return NarrowTransport(httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False), methods)


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            await response.aclose()
            raise LeonardoError(
                ErrorKind.UNREADABLE, f"an answer of more than {LARGEST_ANSWER} bytes", http_status=response.status_code
            )
    return bytes(body)


def runtime_path(project: str, name: str) -> str:
    """Two segments behind the list's, whatever the two texts hold."""
    return f"/api/google/v1/runtimes/{_segment(project)}/{_segment(name)}"


def _segment(text: str) -> str:
    """One URL path segment whatever the text holds; dots alone would climb, so they are escaped too."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted.strip(".") == "" else quoted
