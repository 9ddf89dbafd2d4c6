"""A list response of Leonardo's that somebody saved: runtimes are read as from the service, and nobody is asked."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from core.leonardo.wire import Batch, runtimes_from_list

CHUNK = 64 * 1024


class SavedList:
    """The runtimes in one file, which holds what `GET /api/google/v1/runtimes` had answered."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be read."""
        self._path = path
        with path.open("rb"):
            pass

    async def list_runtimes(self, project: str | None = None) -> AsyncGenerator[Batch, None]:
        """As `Leonardo.list_runtimes`. Raises LeonardoError (unreadable)."""
        async with aclosing(runtimes_from_list(self._chunks())) as batches:
            async for items in batches:
                yield items if project is None else [item for item in items if item.project == project]

    async def _chunks(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
