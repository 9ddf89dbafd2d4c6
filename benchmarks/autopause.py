"""check-autopause over many Running runtimes, as a whole process, beside a bare asyncio client.

The bare client opens as many connections, sends the same GETs and reads the answers, and does nothing with them.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import LEO, cost, server
from benchmarks.table import Row
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import serve_forever, serving

RUNTIMES, LATENCY, CONCURRENCY = 10_000, 0.02, 16


def serve(runtimes: int, latency: float) -> None:
    """A sandbox of Running runtimes only, as a process of its own."""
    now = datetime.now(UTC)
    fleet = [
        Machine(
            id=number,
            project=f"terra-{number}",
            name=f"all-of-us-{number}",
            created=now - timedelta(days=2),
            accessed=now - timedelta(minutes=number % 60),
        )
        for number in range(1, runtimes + 1)
    ]
    serve_forever(serving(Leonardo(fleet), latency=latency), lambda url: print(url, flush=True))


async def bare(url: str, runtimes: int, concurrency: int) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    numbers = iter(range(1, runtimes + 1))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            path = f"/api/google/v1/runtimes/terra-{number}/all-of-us-{number}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(connection())


def rows() -> Iterator[Row]:
    fleet = ("--runtimes", str(RUNTIMES), "--latency", str(LATENCY))
    with TemporaryDirectory() as folder, server(sys.executable, "-m", "benchmarks.autopause", *fleet) as url:
        began = time.perf_counter()
        asyncio.run(bare(url, RUNTIMES, CONCURRENCY))
        floor = time.perf_counter() - began
        out = Path(folder) / "records.jsonl"
        command = (LEO, "check-autopause", "--leonardo-url", url, "--auth", "none", "--output", "json")
        ours = cost((*command, "--read-concurrency", str(CONCURRENCY)), out).wall
        finished = json.loads(out.read_bytes().splitlines()[-1])
    assert finished["calls"]["get"] == RUNTIMES
    yield Row(
        f"check-autopause, {RUNTIMES:,} Running runtimes, {1000 * LATENCY:g} ms a request, {CONCURRENCY} at a time",
        f"{floor:.1f} s for a bare asyncio client",
        f"{ours:.1f} s",
        f"{ours / floor:.2f}",
        "1.25",
    )


def main() -> None:
    """The server process of this measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtimes", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True)
    arguments = parser.parse_args()
    serve(arguments.runtimes, arguments.latency)


if __name__ == "__main__":
    main()
