"""Leonardo's calls: list, get, delete and stop runtimes, list disks; how one is made kindly lives in `calling`."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from core.leonardo.calling import Call, Calling, LastExchange
from core.leonardo.errors import ErrorKind, LeonardoError, http_instant
from core.leonardo.exchange import Answer
from core.leonardo.wire import Batch, disks_from_list, runtime_from_get, runtimes_from_list
from core.rules.guards import clock_skew
from core.runtime import MalformedDisk, PersistentDisk, Runtime

Items = TypeVar("Items")


class Look(NamedTuple):
    """A runtime as Leonardo says that it is now."""

    runtime: Runtime
    sent: float
    """The clock's reading when the question was sent: what is older than this may be in the answer."""
    skew: timedelta | None
    """How far our clock is ahead of the one that dated the answer; None where it is not dated."""


class Leonardo(Calling):
    """A client for one run; use it as an async context manager."""

    clock_skew: timedelta | None = None
    """How far our clock is ahead of Leonardo's, by the list that shows the most or the look that stops the run.

    None where none was dated.
    """

    def list_runtimes(self, project: str | None = None) -> AsyncGenerator[Batch, None]:
        """Every runtime that the caller can see, of one project or of all, as they are received.

        Tried again only until the first items are decoded. Raises LeonardoError, OutOfTimeError.
        Unknown query parameters would filter by label and return an empty list, so there is none.
        """
        return self._list("list", _path("runtimes", project), runtimes_from_list)

    def list_disks(self, project: str | None = None) -> AsyncGenerator[list[PersistentDisk | MalformedDisk], None]:
        """Every persistent disk that the caller can see, as `list_runtimes`."""
        return self._list("disks", _path("disks", project), disks_from_list)

    async def get_runtime(self, project: str, name: str, last: LastExchange) -> Look:
        """One runtime by name, whichever incarnation holds it now. Raises LeonardoError, OutOfTimeError."""
        call = Call("get", "GET", runtime_path(project, name))
        async for attempt in self._tries(call):
            with attempt:
                async with self._answered(call, last) as answer:
                    runtime = runtime_from_get(answer.body)
                    if (runtime.project, runtime.name) != (project, name):
                        raise LeonardoError(ErrorKind.UNREADABLE, f"the answer is about {runtime.path} instead")
                    return Look(runtime, answer.sent, _skew(answer))
        raise AssertionError("tenacity returns or raises")  # pragma: no cover

    async def delete_runtime(self, project: str, name: str, last: LastExchange, *, looked_at: float) -> None:
        """Ask for a runtime's deletion, its disk kept; sent once.

        `looked_at` is `Look.sent` of the look that justifies it. Raises LookAgainError where that is too long ago when
        the first byte is about to leave, or Leonardo asked to come back; else LeonardoError or OutOfTimeError.
        """
        # `deleteDisk` is compared as text: only lower case `false` means the same to every version of the service.
        path = f"{runtime_path(project, name)}?deleteDisk=false"
        await self._act(Call("delete", "DELETE", path, looked_at), last)

    async def stop_runtime(self, project: str, name: str, last: LastExchange, *, looked_at: float) -> None:
        """Ask for a runtime to be stopped; sent once. `looked_at` and what is raised are as for a deletion."""
        await self._act(Call("stop", "POST", f"{runtime_path(project, name)}/stop", looked_at), last)

    async def _list(
        self,
        kind: str,
        path: str,
        decode: Callable[[AsyncIterator[bytes]], AsyncIterator[Items]],
    ) -> AsyncGenerator[Items, None]:
        call = Call(kind, "GET", path)
        begun = False
        async for attempt in self._tries(call):
            with attempt:
                try:
                    async with self._answered(call, LastExchange(), whole=False) as answer:
                        self._compare_clocks(answer)
                        async for items in decode(answer.chunks):
                            begun = True
                            yield items
                except LeonardoError as error:
                    if begun:  # its items are on record: a second list could not be told from the first
                        raise LeonardoError(ErrorKind.UNREADABLE, f"the list broke off: {error.message}") from None
                    raise

    async def _act(self, call: Call, last: LastExchange) -> None:
        async with self._answered(call, last) as answer:
            if answer.status != HTTPStatus.ACCEPTED:
                raise LeonardoError(ErrorKind.UNREADABLE, "an answer other than 202 Accepted", answer.status)

    def _compare_clocks(self, answer: Answer) -> None:
        skew = _skew(answer)
        if skew is not None:
            self.clock_skew = max(skew, self.clock_skew or skew, key=abs)


def _skew(answer: Answer) -> timedelta | None:
    try:
        date = http_instant(answer.headers.get("Date", ""))
    except ValueError:
        return None
    return clock_skew(date, sent=answer.received - answer.took, answered=answer.received)


def runtime_path(project: str, name: str) -> str:
    """Two segments behind the list's, whatever the two texts hold."""
    return f"{_path('runtimes', project)}/{_segment(name)}"


def _path(things: str, project: str | None) -> str:
    return f"/api/google/v1/{things}" + ("" if project is None else f"/{_segment(project)}")


@lru_cache  # most are asked for at least twice
def _segment(text: str) -> str:
    """One URL path segment whatever the text holds; dots alone would climb, so they are escaped too."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted.strip(".") == "" else quoted
