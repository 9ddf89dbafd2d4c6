"""check-autopause over many Running runtimes, as a whole process, and beside it a bare asyncio client.

The floor is arithmetic: each runtime is fetched, so many at a time. The bare client opens as many connections, sends
the same GETs, reads the answers and does nothing with them.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.processes import LEO, cost, stand_in
from benchmarks.stand_in import LIST
from benchmarks.table import Row

RUNTIMES, LATENCY, CONCURRENCY = 10_000, 0.05, 16


async def bare(url: str, paths: Iterable[str], concurrency: int) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    left = iter(paths)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for path in left:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(connection())


def rows() -> Iterator[Row]:
    floor = RUNTIMES * LATENCY / CONCURRENCY
    with TemporaryDirectory() as folder, stand_in(RUNTIMES, latency=LATENCY, running=True) as url:
        listed = httpx.get(url + LIST).json()
        paths = [f"{LIST}/{item['googleProject']}/{item['runtimeName']}" for item in listed]
        began = time.perf_counter()
        asyncio.run(bare(url, paths, CONCURRENCY))
        least = time.perf_counter() - began
        out = Path(folder) / "records.jsonl"
        command = (LEO, "check-autopause", "--leonardo-url", url, "--auth", "none", "--output", "json")
        ours = cost((*command, "--read-concurrency", str(CONCURRENCY)), out).wall
        finished = json.loads(out.read_bytes().splitlines()[-1])
    assert finished["calls"]["get"] == RUNTIMES
    what = f"check-autopause, {RUNTIMES:,} Running runtimes, {1000 * LATENCY:g} ms a request, {CONCURRENCY} at a time"
    yield Row(
        what, f"{floor:.1f} s for {RUNTIMES:,} requests", f"{ours:.1f} s with start-up", f"{ours / floor:.2f}", "1.25"
    )
    yield Row("the same: a bare asyncio client", "", f"{least:.1f} s", f"{least / floor:.2f}")
