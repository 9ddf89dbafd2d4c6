"""A Leonardo that costs next to nothing, whatever the size of its fleet: rows are made of templates as they are sent.

Runtime `n` is `terra-<n // 10>/all-of-us-<n>`. The first ones are due, as many as asked for; none of the others is, or
all are Running and in use.
"""

import argparse
import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from benchmarks.http_server import Answer, serve, whole
from core.clock import utc_now
from core.sandbox.fleet import make_fleet
from core.sandbox.machine import TrueStatus

BLOCK = 1000
OF_A_PROJECT = 10
FIRST = 10_000
"""Blocks are numbered from here, so that every number has five digits."""
NUMBER = b"@@@@@"
"""Stands in a template for the number of its block: all rows of a block differ, and so do all blocks."""
LIST = "/api/google/v1/runtimes"


class Fleet:
    """So many runtimes, as bytes."""

    def __init__(self, runtimes: int, due: int, *, running: bool) -> None:
        """`runtimes` is a multiple of a block."""
        self.runtimes = runtimes
        self._first, self._others = _templates(due, running=running), _templates(0, running=running)

    def all(self) -> Answer:
        """As many whole blocks as it takes, none of them in memory before it is sent."""
        blocks = range(self.runtimes // BLOCK)
        first, others = (b",".join(rows) for rows, _ in (self._first, self._others))

        def parts() -> Iterator[bytes]:
            for block in blocks:
                yield (b"," if block else b"[") + _numbered(others if block else first, block)
            yield b"]" if blocks else b"[]"

        length = 1 + len(first) + (len(blocks) - 1) * (1 + len(others)) + 1 if blocks else 2
        return 200, parts(), length

    def of_project(self, project: str) -> Answer:
        block, within = divmod(int(project.removeprefix("terra-")), BLOCK // OF_A_PROJECT)
        rows = self._templates(block - FIRST)[0][within * OF_A_PROJECT : (within + 1) * OF_A_PROJECT]
        return whole(b"[%b]" % _numbered(b",".join(rows), block - FIRST))

    def one(self, name: str) -> Answer:
        block, within = divmod(int(name.removeprefix("all-of-us-")), BLOCK)
        return whole(_numbered(self._templates(block - FIRST)[1][within], block - FIRST))

    def _templates(self, block: int) -> tuple[list[bytes], list[bytes]]:
        return self._others if block else self._first


def _templates(due: int, *, running: bool) -> tuple[list[bytes], list[bytes]]:
    """One block's list rows and GET rows."""
    number, now = NUMBER.decode(), utc_now()
    in_use: dict[str, Any] = {"status": TrueStatus.RUNNING, "accessed": now} if running else {}
    fleet = [
        replace(
            machine,
            id=within,
            project=f"terra-{number}{within // OF_A_PROJECT:02}",
            name=f"all-of-us-{number}{within:03}",
            **in_use,
        )
        for within, machine in enumerate(make_fleet(BLOCK, 7, now, due=due))
    ]
    return (
        [_with_long_id(machine.id, machine.list_item()) for machine in fleet],
        [_with_long_id(machine.id, machine.get_item()) for machine in fleet],
    )


def _with_long_id(within: int, item: dict[str, object]) -> bytes:
    return msgspec.json.encode(item).replace(b'"id":%d,' % within, b'"id":%b%03d,' % (NUMBER, within), 1)


def _numbered(rows: bytes, block: int) -> bytes:
    return rows.replace(NUMBER, b"%d" % (FIRST + block))


def answer(fleet: Fleet, method: str, path: str) -> Answer:
    if method == "DELETE":
        return whole(b'"accepted"', 202)
    match path.removeprefix(LIST).strip("/").split("/"):
        case [""]:
            return fleet.all()
        case [project]:
            return fleet.of_project(project)
        case [_, name]:
            return fleet.one(name)
    return whole(b'"no such path"', 404)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtimes", type=int, required=True)
    parser.add_argument("--due", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--running", action="store_true")
    arguments = parser.parse_args()
    fleet = Fleet(arguments.runtimes, arguments.due, running=arguments.running)
    asyncio.run(serve(partial(answer, fleet), latency=arguments.latency))


if __name__ == "__main__":
    main()
