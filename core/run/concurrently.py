"""Work on many things, some at a time; what the work is, the caller knows."""

from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def each(items: Iterable[T], workers: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Work on every item, in order, so many at a time."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    async with TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
