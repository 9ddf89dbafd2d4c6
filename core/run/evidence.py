"""Asks for what is seen of a project, by its lists of runtimes and disks; what they prove lives in `core.rules`."""

from collections.abc import Iterable
from contextlib import aclosing

from core.leonardo.client import Leonardo
from core.leonardo.errors import ErrorKind, LeonardoError
from core.rules.evidence import Evidence, Incarnation, Sighting
from core.runtime import MalformedRuntime


async def see_runtimes(leonardo: Leonardo, project: str) -> Sighting:
    """What the caller sees of a project by its list of runtimes.

    Raises LeonardoError, OutOfTimeError; the first also where a row cannot be read, which may be any runtime.
    """
    seen = Sighting(project, leonardo.actor)
    async with aclosing(leonardo.list_runtimes(project)) as batches:
        async for runtimes in batches:
            if any(isinstance(runtime, MalformedRuntime) for runtime in runtimes):
                raise LeonardoError(ErrorKind.UNREADABLE, "a row of the list cannot be read, and may be any runtime")
            seen.see_runtimes(runtimes)
    return seen


async def see_disks(leonardo: Leonardo, seen: Sighting) -> None:
    """Add the project's list of disks to what is seen of it. Raises LeonardoError, OutOfTimeError."""
    async with aclosing(leonardo.list_disks(seen.project)) as batches:
        seen.see_disks([disk async for disks in batches for disk in disks])


def needs_disks(seen: Sighting, asked: Iterable[Incarnation]) -> bool:
    """Whether the list of runtimes does not settle for each of these whether it is gone."""
    return any(seen.evidence(incarnation) is Evidence.UNLISTED for incarnation in asked)
