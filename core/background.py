"""Runs what may hang in a daemon thread: the threads of asyncio itself are waited for when the program ends."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import Thread
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Background(Protocol):
    """How what may hang is done while the run goes on."""

    def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


async def in_background(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises; where whoever waits is cancelled, it is left to itself."""
    ended: Future[T] = Future()
    ended.set_running_or_notify_cancel()

    def run() -> None:
        try:
            ended.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            ended.set_exception(error)

    Thread(target=run, name="in background", daemon=True).start()
    return await asyncio.wrap_future(ended)
