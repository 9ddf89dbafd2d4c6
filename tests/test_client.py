"""What a call to Leonardo is: when it may leave, how often it is tried, and what its answer has to be about."""

import asyncio
import json
import socket
import ssl
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from core.clock import OutOfTimeError, RunClock, utc_now
from core.leonardo.calling import Credentials, LastExchange
from core.leonardo.client import Leonardo, Look
from core.leonardo.errors import ErrorKind, LeonardoError, LookAgainError
from core.leonardo.exchange import Wire
from core.leonardo.wire import Batch
from core.runtime import MalformedDisk, PersistentDisk
from tests.raw_server import Raw, Said, said, saying
from tests.test_wire import an_item, as_runtime, compact
from tests.tls import a_certificate, pass_on

PROJECT, NAME = "terra-1", "all-of-us-1201"
GET = f"GET /api/google/v1/runtimes/{PROJECT}/{NAME}"
DELETE = f"DELETE /api/google/v1/runtimes/{PROJECT}/{NAME}?deleteDisk=false"
STOP = f"POST /api/google/v1/runtimes/{PROJECT}/{NAME}/stop"
FOUND, LISTED = said(200, compact(an_item())), said(200, compact([an_item()]))
ACCEPTED = said(202, b"accepted")
BUSY = said(429, headers={"Retry-After": "0"})


class Elapsing:
    """A clock that a test can push, and its date with it or not."""

    def __init__(self) -> None:
        self.pushed = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.pushed

    def push(self, seconds: float) -> None:
        self.pushed += seconds


class Tokens:
    """Credentials that hand out these tokens, each of them until it is refused."""

    actor = None

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)

    async def token(self, *, refused: str | None = None) -> str:
        if refused == self._tokens[0] and len(self._tokens) > 1:
            self._tokens.pop(0)
        return self._tokens[0]


@asynccontextmanager
async def asking(
    raw: Raw,
    *,
    clock: RunClock | None = None,
    credentials: Credentials | None = None,
    url: str | None = None,
    connect: Callable[[], Wire] | None = None,
) -> AsyncIterator[Leonardo]:
    async with Leonardo(
        url or raw.url,
        clock=clock or a_clock(),
        credentials=credentials,
        request_timeout=5,
        read_concurrency=2,
        write_concurrency=2,
        methods={"GET", "DELETE", "POST"},
        user_agent="test",
        connect=connect,
    ) as leonardo:
        yield leonardo


def a_clock(deadline: float = 600, **clocks: Any) -> RunClock:
    return RunClock(deadline=timedelta(seconds=deadline), request_timeout=timedelta(seconds=5), **clocks)


async def look(leonardo: Leonardo) -> Look:
    return await leonardo.get_runtime(PROJECT, NAME, LastExchange())


async def list_all(leonardo: Leonardo) -> Batch:
    return [item async for items in leonardo.list_runtimes() for item in items]


async def delete(leonardo: Leonardo, looked_at: float, last: LastExchange | None = None) -> None:
    await leonardo.delete_runtime(PROJECT, NAME, last or LastExchange(), looked_at=looked_at)


# A look


def test_a_look_is_the_runtime_as_it_is_and_when_it_was_asked_for() -> None:
    async def ask() -> None:
        clock = a_clock()
        async with saying(FOUND) as raw, asking(raw, clock=clock) as leonardo:
            before = clock.monotonic()
            looked = await look(leonardo)
            assert (looked.runtime, looked.skew) == (as_runtime(), None)
            assert before <= looked.sent <= clock.monotonic()
            assert raw.requests == [GET]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"runtimeName": "b"}, "terra-1/b"),
        ({"cloudContext": {"cloudProvider": "GCP", "cloudResource": "terra-2"}}, "terra-2/all-of-us-1201"),
        ({"runtimeName": "All-of-us-1201"}, "terra-1/All-of-us-1201"),
    ],
)
def test_a_look_at_another_runtime_than_the_one_asked_for_is_none(changes: dict[str, Any], path: str) -> None:
    async def ask() -> None:
        async with saying(said(200, compact(an_item(**changes)))) as raw, asking(raw) as leonardo:
            last = LastExchange()
            with pytest.raises(LeonardoError) as caught:
                await leonardo.get_runtime(PROJECT, NAME, last)
            expected = LeonardoError(ErrorKind.UNREADABLE, f"the answer is about {path} instead")
            assert caught.value == last.error == expected
            assert raw.requests == [GET]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("ahead", "stepping", "expected"),
    [(-3600, 0, 3600), (3600, 0, -3600), (0, 21600, 21600), (0, 0, 0), (None, 0, None)],
)
def test_a_look_tells_how_far_our_clock_is_from_the_one_that_dated_it(
    ahead: int | None, stepping: int, expected: int | None
) -> None:
    """Also where ours is set while the answer is under way."""

    async def ask() -> None:
        stepped = timedelta(0)

        async def answer(writer: StreamWriter) -> None:
            nonlocal stepped
            stepped = timedelta(seconds=stepping)
            date = utc_now() + timedelta(seconds=ahead or 0)
            headers = {} if ahead is None else {"Date": f"{date:%a, %d %b %Y %H:%M:%S} GMT"}
            writer.write(said(200, compact(an_item()), headers))

        clock = a_clock(wall=lambda: utc_now() + stepped)
        async with saying(answer) as raw, asking(raw, clock=clock) as leonardo:
            skew = (await look(leonardo)).skew
        assert (skew is None) == (expected is None)
        if skew is not None and expected is not None:
            assert abs(skew.total_seconds() - expected) <= 3

    asyncio.run(ask())


# When an act may leave


@pytest.mark.parametrize(("dripping", "leaves"), [(9.0, True), (10.5, False), (60.0, False)])
def test_a_look_is_as_old_as_its_question(*, dripping: float, leaves: bool) -> None:
    async def ask() -> None:
        elapsing = Elapsing()

        async def drip(writer: StreamWriter) -> None:
            writer.write(FOUND[:100])
            await writer.drain()
            elapsing.push(dripping)
            writer.write(FOUND[100:])

        async with saying(drip, ACCEPTED) as raw, asking(raw, clock=a_clock(monotonic=elapsing)) as leonardo:
            looked, last = await look(leonardo), LastExchange()
            if leaves:
                await delete(leonardo, looked.sent, last)
            else:
                with pytest.raises(LookAgainError) as caught:
                    await delete(leonardo, looked.sent, last)
                assert caught.value == LookAgainError()
            assert raw.requests == [GET, DELETE][: 1 + leaves]
            assert (last.acts, leonardo.calls["delete"]) == (leaves, leaves)

    asyncio.run(ask())


@pytest.mark.parametrize(("passing", "leaves"), [(9.0, True), (10.5, False)])
@pytest.mark.parametrize("warm", [True, False])
def test_the_age_of_the_look_is_taken_again_when_the_first_byte_is_about_to_leave(
    *, passing: float, leaves: bool, warm: bool
) -> None:
    async def ask() -> None:
        elapsing = Elapsing()
        clock = a_clock(monotonic=elapsing)
        async with saying(*[FOUND] * warm, ACCEPTED) as raw, asking(raw, clock=clock) as leonardo:
            looked_at = (await look(leonardo)).sent if warm else clock.monotonic()
            asyncio.get_running_loop().call_soon(elapsing.push, passing)  # whatever holds up the loop behind the check
            if leaves:
                await delete(leonardo, looked_at)
            else:
                with pytest.raises(LookAgainError):
                    await delete(leonardo, looked_at)
            assert raw.requests == [*[GET] * warm, *[DELETE] * leaves]

    asyncio.run(ask())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_is_not_there_in_time_asks_for_a_new_look(scheme: str) -> None:
    """TCP that is never accepted, its queue being full, and a handshake that is never answered."""

    async def ask() -> None:
        clock = a_clock()
        with socket.socket() as mute, socket.socket() as first, socket.socket() as second:
            mute.bind(("127.0.0.1", 0))
            mute.listen(0 if scheme == "http" else 8)
            for early in (first, second):
                early.setblocking(False)
                early.connect_ex(mute.getsockname())
            url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}"
            async with saying() as raw, asking(raw, clock=clock, url=url) as leonardo:
                last = LastExchange()
                with pytest.raises(LookAgainError) as caught:
                    await delete(leonardo, clock.monotonic() - 9.8, last)
                assert caught.value == LookAgainError()
                assert (last.acts, leonardo.calls["delete"]) == (0, 0)

    asyncio.run(ask())


@asynccontextmanager
async def in_front_of(raw: Raw, on_tcp: Callable[[], None], on_tls: Callable[[], None]) -> AsyncIterator[str]:
    """Where it is found as well: what is done when TCP stands, and when TLS has been asked for and not yet answered."""

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        on_tcp()
        hello = await reader.read(2**16)
        on_tls()
        answers, questions = await asyncio.open_connection("127.0.0.1", urlsplit(raw.url).port)
        questions.write(hello)
        await asyncio.gather(pass_on(reader, questions), pass_on(answers, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("tcp", "tls", "leaves"), [(4.5, 4.5, True), (5.5, 5.5, False), (0, 10.5, False), (10.5, 0, False)]
)
def test_tcp_and_tls_have_the_time_of_one_look_together(
    tmp_path: Path, *, tcp: float, tls: float, leaves: bool
) -> None:
    certificate = a_certificate(tmp_path / "leonardo.pem")
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=certificate)
    ours.load_cert_chain(certificate)

    async def ask() -> None:
        elapsing = Elapsing()
        clock, connect = a_clock(monotonic=elapsing), partial(httpx.AsyncHTTPTransport, verify=theirs)
        slow = partial(elapsing.push, tcp), partial(elapsing.push, tls)
        async with (
            saying(ACCEPTED, tls=ours) as raw,
            in_front_of(raw, *slow) as url,
            asking(raw, clock=clock, url=url, connect=connect) as leonardo,
        ):
            last = LastExchange()
            if leaves:
                await delete(leonardo, clock.monotonic(), last)
            else:
                with pytest.raises(LookAgainError):
                    await delete(leonardo, clock.monotonic(), last)
            assert (raw.requests, last.acts) == ([DELETE] * leaves, leaves)

    asyncio.run(ask())


def test_an_act_that_left_in_time_is_given_the_time_for_an_answer() -> None:
    async def ask() -> None:
        async def answer(writer: StreamWriter) -> None:
            await asyncio.sleep(0.5)  # the look is stale by now
            writer.write(ACCEPTED)

        clock = a_clock()
        async with saying(answer) as raw, asking(raw, clock=clock) as leonardo:
            await delete(leonardo, clock.monotonic() - 9.8)
            assert raw.requests == [DELETE]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (BUSY, LookAgainError(LeonardoError(ErrorKind.THROTTLED, "Too Many Requests", 429), asked_to_wait=True)),
        (said(401), LookAgainError(LeonardoError(ErrorKind.DENIED, "Unauthorized", 401))),
    ],
)
def test_an_act_that_is_to_come_again_needs_a_new_look_and_says_why(answer: Said, expected: LookAgainError) -> None:
    async def ask() -> None:
        clock = a_clock()
        async with saying(answer) as raw, asking(raw, clock=clock, credentials=Tokens("one", "two")) as leonardo:
            with pytest.raises(LookAgainError) as caught:
                await leonardo.stop_runtime(PROJECT, NAME, LastExchange(), looked_at=clock.monotonic())
            assert caught.value == expected
            assert raw.requests == [STOP]

    asyncio.run(ask())


# Kind to Leonardo


def test_whoever_waits_for_a_token_waits_for_leonardo_too() -> None:
    class Slow(Tokens):
        async def token(self, *, refused: str | None = None) -> str:
            token = await super().token(refused=refused)
            if not asked:
                asked.append(True)
                return token
            await told.wait()
            return token

    asked: list[bool] = []
    told = asyncio.Event()

    async def ask() -> None:
        async def answer(writer: StreamWriter) -> None:
            writer.write(said(429, headers={"Retry-After": "3600"}))
            told.set()

        async with saying(answer, FOUND) as raw, asking(raw, credentials=Slow("token")) as leonardo:
            ended = await asyncio.gather(look(leonardo), look(leonardo), return_exceptions=True)
            assert [type(end) for end in ended] == [OutOfTimeError, OutOfTimeError]
            assert raw.requests == [GET]

    asyncio.run(ask())


BROKEN = said(500)


@pytest.mark.parametrize(
    ("answers", "requests", "kind"),
    [
        ([BROKEN] * 4 + [FOUND], 5, None),
        ([BROKEN] * 6, 5, ErrorKind.UNAVAILABLE),
        ([BUSY, BROKEN, BROKEN, BUSY, BROKEN, BROKEN, FOUND], 7, None),
        ([said(401), *[BROKEN] * 6], 5, ErrorKind.UNAVAILABLE),
        ([*[BROKEN] * 4, said(401), FOUND], 5, ErrorKind.DENIED),
        ([said(401), said(401), FOUND], 2, ErrorKind.DENIED),
        ([BROKEN, said(401), BROKEN, said(401), FOUND], 4, ErrorKind.DENIED),
    ],
)
@pytest.mark.parametrize("call", ["get", "list"])
def test_a_read_is_tried_five_times_and_waits_that_were_asked_for_do_not_count(
    answers: list[bytes], requests: int, kind: ErrorKind | None, call: str
) -> None:
    async def ask() -> None:
        script = [LISTED if answer is FOUND and call == "list" else answer for answer in answers]
        async with saying(*script) as raw, asking(raw, credentials=Tokens(*"abcdefgh")) as leonardo:
            wanted = look(leonardo) if call == "get" else list_all(leonardo)
            (ended,) = await asyncio.gather(wanted, return_exceptions=True)
            assert not isinstance(ended, Exception) or isinstance(ended, LeonardoError)
            assert (ended.kind if isinstance(ended, LeonardoError) else None) is kind
            assert len(raw.requests) == requests == leonardo.calls[call]

    asyncio.run(ask())


@pytest.mark.parametrize(
    "token", ["to\u00e9ken", "token\n", "tok en", "token\r\nX-Evil: 1", "\U0001f511", "", "tok\x00en"]
)
def test_a_token_that_no_header_can_carry_is_neither_sent_nor_told(token: str) -> None:
    async def ask() -> None:
        async with saying(FOUND) as raw, asking(raw, credentials=Tokens(token)) as leonardo:
            last = LastExchange()
            with pytest.raises(LeonardoError) as caught:
                await leonardo.get_runtime(PROJECT, NAME, last)
            said = "the access token holds characters that no header can carry"
            assert caught.value == last.error == LeonardoError(ErrorKind.DENIED, said)
            assert raw.requests == []

    asyncio.run(ask())


# Disks


def a_disk(number: int = 1234, **changes: object) -> dict[str, Any]:
    """A disk as Leonardo lists it; a change to `...` leaves a field out."""
    item = {
        "id": number,
        "googleProject": "terra-1",
        "cloudContext": {"cloudProvider": "GCP", "cloudResource": "terra-1"},
        "zone": "us-central1-a",
        "name": f"all-of-us-pd-{number}",
        "status": "Ready",
        "auditInfo": {
            "creator": "ada@example.org",
            "createdDate": "2024-09-30T14:02:11.482913Z",
            "destroyedDate": None,
            "dateAccessed": "2024-10-21T15:29:22Z",
        },
        "size": 120,
        "diskType": "pd-standard",
        "blockSize": 4096,
        "labels": {},
        "workspaceId": None,
        **changes,
    }
    return {name: value for name, value in item.items() if value is not ...}


def as_disk(number: int = 1234, **changes: Any) -> PersistentDisk:
    """What `a_disk` says."""
    return PersistentDisk(
        str(number),
        "terra-1",
        f"all-of-us-pd-{number}",
        "Ready",
        120,
        "pd-standard",
        "ada@example.org",
        datetime(2024, 9, 30, 14, 2, 11, 482_913, tzinfo=UTC),
        datetime(2024, 10, 21, 15, 29, 22, tzinfo=UTC),
    )._replace(**changes)


def listed(*rows: object, project: str | None = None) -> tuple[list[PersistentDisk | MalformedDisk], list[str]]:
    """The disks of a list of these, and what was asked."""

    async def ask() -> tuple[list[PersistentDisk | MalformedDisk], list[str]]:
        async with saying(said(200, json.dumps(rows).encode())) as raw, asking(raw) as leonardo:
            disks = [disk async for disks in leonardo.list_disks(project) for disk in disks]
            assert leonardo.calls == {"list": 0, "disks": 1, "get": 0, "delete": 0, "stop": 0}
            return disks, raw.requests

    return asyncio.run(ask())


@pytest.mark.parametrize(("project", "path"), [(None, ""), ("terra-1", "/terra-1"), ("a/b?c", "/a%2Fb%3Fc")])
def test_disks_are_listed_of_all_projects_or_of_one(project: str | None, path: str) -> None:
    disks, asked = listed(*(a_disk(number) for number in range(1, 100)), project=project)
    assert disks == [as_disk(number) for number in range(1, 100)]
    assert asked == [f"GET /api/google/v1/disks{path}"]


def test_what_a_disk_does_not_tell_is_unknown() -> None:
    bare = {"id": 7, "name": "pd", "googleProject": "p"}
    nothing = PersistentDisk("7", "p", "pd")
    odd = {name: [7] for name in ("auditInfo", "cloudContext", "status", "size", "diskType")}
    assert listed(bare, bare | dict.fromkeys(odd), bare | odd)[0] == [nothing] * 3
    assert listed(a_disk(size="120"), a_disk(googleProject="other"))[0] == [as_disk(size_gb=None), as_disk()]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (7, MalformedDisk("the item is no object")),
        (a_disk(id=...), MalformedDisk("unreadable: id", None, "terra-1", "all-of-us-pd-1234")),
        (a_disk(name=None, id="1"), MalformedDisk("unreadable: id, name", None, "terra-1", None)),
    ],
)
def test_a_disk_that_cannot_be_read_costs_only_itself(row: object, expected: MalformedDisk) -> None:
    assert listed(a_disk(1), row, a_disk(2))[0] == [as_disk(1), expected, as_disk(2)]
