"""The HTTP library and what stands between it and the rest: URLs, the first byte, and its failures in our words."""

import asyncio
from asyncio import StreamWriter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from core.clock import OutOfTimeError, RunClock
from core.leonardo.errors import ErrorKind, LeonardoError
from core.leonardo.exchange import LARGEST_BODY, Answer, Connections, MethodRefusedError, Question
from tests.conftest import Ended
from tests.raw_server import Raw, Said, said, saying


async def at_once() -> None:
    pass


def question(method: str = "GET", leaving: Callable[[], Awaitable[None]] = at_once) -> Question:
    return Question(method, "/x", {"Authorization": "Bearer sesame"}, leaving)


def connections(url: str, count: int = 1, timeout: float = 5) -> Connections:
    clock = RunClock(deadline=timedelta(minutes=10), request_timeout=timedelta(seconds=5))
    return Connections(url, clock=clock, timeout=timeout, count=count, methods={"GET"})


async def asked(raw: Raw, *questions: Question, whole: bool = True) -> list[Answer | BaseException]:
    """What comes of these, one after another over one connection."""
    to = connections(raw.url)
    ended: list[Answer | BaseException] = []
    for each in questions:
        try:
            async with to.exchange(each, whole=whole) as answer:
                ended.append(answer)
        except Exception as error:  # noqa: BLE001 - it is looked at
            ended.append(error)
    await to.aclose()
    return ended


def test_the_last_moment_comes_when_the_connection_stands_and_nothing_was_sent() -> None:
    async def ask() -> None:
        async def leave() -> None:
            while not raw.connections:  # noqa: ASYNC110 - the other end of the same loop
                await asyncio.sleep(0)
            assert raw.requests == []
            raise KeyError("not yet")

        async with saying(said(200, b"here")) as raw:
            kept_back, answer = await asked(raw, question(leaving=leave), question())
            assert isinstance(kept_back, KeyError)
            assert isinstance(answer, Answer)
            assert (answer.status, answer.body, raw.requests) == (200, b"here", ["GET /x"])

    asyncio.run(ask())


def test_an_answer_tells_when_its_question_left_and_not_when_a_connection_was_sought() -> None:
    async def ask() -> None:
        passed = 0.0

        async def leave() -> None:
            nonlocal passed
            passed = 7.0

        clock = RunClock(deadline=timedelta(1), request_timeout=timedelta(seconds=5), monotonic=lambda: passed)
        async with saying(said(200)) as raw:
            to = Connections(raw.url, clock=clock, timeout=5, count=1, methods={"GET"})
            async with to.exchange(question(leaving=leave), whole=True) as answer:
                assert (answer.sent, answer.took) == (7.0, timedelta(0))
            await to.aclose()

    asyncio.run(ask())


@pytest.mark.parametrize(("scheme", "left"), [("https", False), ("http", True)])
def test_an_act_that_a_stop_cuts_is_an_act_only_where_it_has_left(*, scheme: str, left: bool) -> None:
    async def ask() -> None:
        over = asyncio.Event()

        async def say_nothing(_: StreamWriter) -> None:
            await over.wait()

        clock = RunClock(deadline=timedelta(1), request_timeout=timedelta(seconds=5))
        async with saying(say_nothing) as raw, asyncio.timeout(20):
            to = Connections(raw.url.replace("http", scheme), clock=clock, timeout=10, count=1, methods={"DELETE"})

            async def act() -> None:
                async with to.exchange(question("DELETE"), whole=True):
                    pass

            task = asyncio.create_task(act())
            while not (raw.requests if left else raw.connections):  # noqa: ASYNC110 - the other end of the same loop
                await asyncio.sleep(0)
            assert clock.waits_for == ("the answer to 1 act" if left else None)
            clock.stop_now()
            with pytest.raises(LeonardoError if left else OutOfTimeError):
                await task
            over.set()
            await to.aclose()

    asyncio.run(ask())


def test_a_method_that_is_not_the_runs_never_leaves() -> None:
    async def ask() -> None:
        async with saying(said(200)) as raw:
            (refused,) = await asked(raw, question("DELETE"))
            assert isinstance(refused, MethodRefusedError)
            assert (raw.requests, raw.connections) == ([], 0)

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 sesame\r\n\r\n", "RemoteProtocolError: illegal status line"),
        (b"HTTP/1.1 200 OK\r\nsesame\r\n\r\n", "RemoteProtocolError: illegal header line"),
        (b"sesame" * 30_000, "RemoteProtocolError: "),
        (said(200, b"x")[:-1], "RemoteProtocolError: peer closed connection"),
        (b"", "RemoteProtocolError: Server disconnected without sending a response."),
    ],
)
def test_what_is_no_http_is_not_quoted(answer: bytes, expected: str) -> None:
    async def ask() -> None:
        async def close(writer: StreamWriter) -> None:
            writer.write(answer)
            writer.close()

        async with saying(close) as raw:
            (error,) = await asked(raw, question())
            assert isinstance(error, LeonardoError)
            assert error.kind is ErrorKind.UNAVAILABLE
            assert error.message.startswith(expected)
            assert "sesame" not in error.message

    asyncio.run(ask())


@pytest.mark.parametrize(("length", "read"), [(LARGEST_BODY, True), (LARGEST_BODY + 1, False)])
def test_an_answer_is_read_up_to_a_length_and_the_next_one_too(*, length: int, read: bool) -> None:
    async def ask() -> None:
        async with saying(said(200, b"x" * length), said(200, b"next")) as raw:
            long, following = await asked(raw, question(), question())
            too_long = LeonardoError(ErrorKind.UNREADABLE, f"an answer of more than {LARGEST_BODY} bytes", 200)
            assert (len(long.body) == length) if isinstance(long, Answer) else long == too_long
            assert isinstance(long, Answer) is read
            assert isinstance(following, Answer)
            assert following.body == b"next"

    asyncio.run(ask())


@pytest.mark.parametrize("answers", [[said(500, b"no")], [said(200, b"yes")]])
def test_an_answer_that_says_no_comes_whole_even_where_a_stream_was_wanted(answers: list[Said]) -> None:
    async def ask() -> None:
        async with saying(*answers) as raw:
            (answer,) = await asked(raw, question(), whole=False)
            assert isinstance(answer, Answer)
            assert answer.body == (b"" if answer.is_success else b"no")

    asyncio.run(ask())


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1]evil.com",
        "http://[::1",
        "http://[v1.a]",
        "https://xn--a.example",
        "https://example.org/".ljust(40_001, "x"),
        "https://example.org/" + "x" * 70_000,
    ],
)
def test_a_url_that_nothing_can_be_asked_of_is_a_usage_error(url: str, run: Callable[..., Ended]) -> None:
    with pytest.raises(ValueError, match="cannot be asked"):
        connections(url)
    ended = run("delete-old-runtimes", "--leonardo-url", url, "--auth", "none", "--output", "json")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("leo-lifecycle: ")
    if url.startswith("https"):
        assert run("delete-old-runtimes", "--leonardo-url", url, "--output", "json").code == 2


def test_a_url_may_be_as_long_as_leaves_room_for_any_path() -> None:
    connections("https://example.org/".ljust(40_000, "x"))
