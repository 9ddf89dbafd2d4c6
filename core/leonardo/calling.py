"""One call of Leonardo until its answer: tokens, tries, waits, and when an act may leave.

Which calls there are lives in `client`, how a request leaves in `exchange`.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, Self

import structlog
import tenacity

from core import __version__
from core.clock import OutOfTimeError, RunClock
from core.leonardo.errors import (
    CredentialsError,
    ErrorKind,
    LeonardoError,
    LookAgainError,
    asked_to_wait,
    error_from_answer,
)
from core.leonardo.exchange import Answer, Connections, Question, Wire
from core.records.events import CALLS

LOOK_GOES_STALE = 10.0
"""Seconds after a look was sent in which an act may leave: Leonardo has no conditional delete."""
TRIES = 5
FIRST_WAIT = 1 / 150
"""Between two tries, as a share of the time for one answer; each other is up to twice the last."""
VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What a header can carry of a token."""


class Credentials(Protocol):
    """Where bearer tokens come from."""

    @property
    def actor(self) -> str | None:
        """Whose tokens they are, as far as known."""

    async def token(self, *, refused: str | None = None) -> str:
        """A valid token; another one than `refused` where one can be had. Raises CredentialsError."""


@dataclass(slots=True)
class LastExchange:
    """What was said about one runtime last, for its record."""

    trace_id: str | None = None
    http_status: int | None = None
    error: LeonardoError | None = None
    acts: int = 0
    """Acts that were sent, answered or not."""


@dataclass(slots=True)
class Call:
    """One call until its answer; `kind` is the word under which the closing record counts it."""

    kind: str
    method: str
    path: str
    looked_at: float | None = None
    """When the look that justifies it was sent; None where nothing is changed."""
    tries: int = 0
    """Requests but those that were answered with a wait to obey."""
    token_renewed: bool = False


def user_agent(job: str) -> str:
    return f"leo-lifecycle/{__version__} ({job})"


def _new_trace_id() -> str:
    return secrets.token_hex(16)


class Calling:
    """How one run calls: no more requests at a time than it may, and none before its time.

    Reads are tried up to 5 times on 5xx, timeouts and broken connections; acts once.
    The waits between tries grow with the request timeout: where an answer may take 75 s, they are up to 0.5, 1, 2, 4 s.
    """

    def __init__(  # noqa: PLR0913 - four settings, four of the job, and what a test of time and wire replaces
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
        connect: Callable[[], Wire] | None = None,
        new_trace_id: Callable[[], str] = _new_trace_id,
    ) -> None:
        """`methods` are those that may leave; nothing else can. Without `connect`, they leave over TCP."""
        self._clock = clock
        self._credentials = credentials
        self._request_timeout = request_timeout
        self._reads = asyncio.Semaphore(read_concurrency)
        self._writes = asyncio.Semaphore(write_concurrency)
        self._hold_until = 0.0
        self._acts_stopped = False
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        count = max(read_concurrency, write_concurrency)
        self._connections = Connections(
            url, clock=clock, timeout=request_timeout, count=count, methods=methods, connect=connect
        )
        self._new_trace_id = new_trace_id
        self._log = structlog.get_logger(__name__).bind()  # once: each request says something
        self.calls = dict.fromkeys(CALLS, 0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.aclose()

    @property
    def actor(self) -> str | None:
        return None if self._credentials is None else self._credentials.actor

    def stop_acts(self) -> None:
        """None leaves any more, not even one that is waiting for its connection: it raises LookAgainError."""
        self._acts_stopped = True

    def _tries(self, call: Call) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=lambda _: call.tries >= TRIES,
            wait=tenacity.wait_random_exponential(
                multiplier=self._request_timeout * FIRST_WAIT, max=self._request_timeout / 4
            ),
            sleep=self._clock.sleep,
            reraise=True,
        )

    @asynccontextmanager
    async def _answered(self, call: Call, last: LastExchange, *, whole: bool = True) -> AsyncIterator[Answer]:
        """A successful answer, its body with it where `whole`; every failure is noted on `last` and raised.

        A read is sent again after a wait that Leonardo asked for, or once with a renewed token; an act never is.
        """
        async with self._reads if call.looked_at is None else self._writes:
            try:
                while True:
                    call.tries += 1
                    token = await self._turn()
                    last.trace_id = self._new_trace_id()
                    async with (
                        self._leaving(call, last) as leaving,
                        self._connections.exchange(self._question(call, last, token, leaving), whole=whole) as answer,
                    ):
                        self._note(call, last, answer)
                        if answer.is_success:
                            last.error = None
                            yield answer
                            return
                    last.error = error_from_answer(answer.status, answer.body, token=token)
                    await self._prepare_another(call, last.error, answer.headers.get("Retry-After", ""), token)
            except LeonardoError as error:
                last.error = error
                raise

    def _question(
        self, call: Call, last: LastExchange, token: str | None, leaving: Callable[[], Awaitable[None]]
    ) -> Question:
        headers = self._headers | {"X-Cloud-Trace-Context": f"{last.trace_id}/1"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return Question(call.method, call.path, headers, leaving)

    def _note(self, call: Call, last: LastExchange, answer: Answer) -> None:
        last.http_status = answer.status
        self._log.debug(
            "exchange",
            call=call.kind,
            path=call.path,
            status=answer.status,
            seconds=round(self._clock.monotonic() - answer.sent, 3),
            trace_id=last.trace_id,
        )

    def _leaving(self, call: Call, last: LastExchange) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """What is awaited when the call's first byte is about to leave: the last moment to keep it back."""
        self.calls[call.kind] += 1
        if call.looked_at is None:
            return nullcontext(self._hold)
        return self._act_leaving(call, last, call.looked_at + LOOK_GOES_STALE)

    @asynccontextmanager
    async def _act_leaving(
        self, call: Call, last: LastExchange, fresh_until: float
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """An act leaves while its look is fresh, a new connection included. Raises LookAgainError, OutOfTimeError."""
        last.acts += 1
        try:
            self._check_act(fresh_until)
            async with asyncio.timeout(fresh_until - self._clock.monotonic()) as time_to_leave:

                async def leave() -> None:
                    self._check_act(fresh_until)
                    time_to_leave.reschedule(None)

                yield leave
        except (LookAgainError, OutOfTimeError, TimeoutError) as kept_back:
            self.calls[call.kind] -= 1
            last.acts -= 1
            if isinstance(kept_back, TimeoutError):
                raise LookAgainError from None
            raise

    def _check_act(self, fresh_until: float) -> None:
        if self._acts_stopped or self._clock.monotonic() >= fresh_until:
            raise LookAgainError
        if self._hold_until > self._clock.monotonic():
            raise LookAgainError(asked_to_wait=True)
        if not self._clock.may_act:
            raise OutOfTimeError

    async def _prepare_another(self, call: Call, error: LeonardoError, retry_after: str, token: str | None) -> None:
        """Return where a read may be sent again; raises LookAgainError where an act may, else `error`."""
        wait = asked_to_wait(error.http_status, retry_after, self._clock.wall())
        if wait is not None:
            call.tries -= 1
            self._hold_until = max(self._hold_until, self._clock.monotonic() + wait)
            if call.looked_at is None:  # an act's next look waits: what cuts that wait must not hide this answer
                await self._hold()
        elif error.http_status == HTTPStatus.UNAUTHORIZED and token is not None and not call.token_renewed:
            call.token_renewed = True
            if call.tries >= TRIES or await self._token(token) == token:
                raise error
        else:
            raise error
        if call.looked_at is not None:
            raise LookAgainError(error, asked_to_wait=wait is not None)

    async def _turn(self) -> str | None:
        """The token to send, once nobody has to wait any more."""
        while True:
            await self._hold()
            token = await self._token(None)
            if self._hold_until <= self._clock.monotonic():
                return token

    async def _token(self, refused: str | None) -> str | None:
        return await token_of(self._credentials, self._clock, self._request_timeout, refused=refused)

    async def _hold(self) -> None:
        """Wait while Leonardo asked to: whoever was told, everybody waits. Raises OutOfTimeError."""
        while (wait := self._hold_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)


async def token_of(
    credentials: Credentials | None, clock: RunClock, within: float, *, refused: str | None = None
) -> str | None:
    """One that a header can carry, within so many seconds; None where none is needed.

    Raises LeonardoError, OutOfTimeError.
    """
    if credentials is None:
        return None
    try:
        async with clock.bound(within):
            token = await credentials.token(refused=refused)
    except TimeoutError:
        raise LeonardoError(ErrorKind.UNAVAILABLE, "no access token in time") from None
    except CredentialsError as error:
        raise LeonardoError(ErrorKind.DENIED, str(error)) from None
    if not VISIBLE.fullmatch(token):
        raise LeonardoError(ErrorKind.DENIED, "the access token holds characters that no header can carry")
    return token


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, LeonardoError) and error.kind is ErrorKind.UNAVAILABLE
