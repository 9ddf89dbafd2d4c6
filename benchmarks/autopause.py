"""check-autopause over many Running runtimes, as a whole process, beside a bare asyncio client.

The bare client opens as many connections, sends the same GETs and reads the answers, and does nothing with them.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import serve_forever

LEO = str(Path(sys.executable).with_name("leo-lifecycle"))


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
    serve_forever(lambda url: print(url, flush=True), Leonardo(fleet), latency=latency)


@contextmanager
def sandbox(runtimes: int, latency: float) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", "--runtimes", str(runtimes), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--runtimes", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--concurrency", type=int, default=16)
    arguments = parser.parse_args()
    runtimes, concurrency = arguments.runtimes, arguments.concurrency
    if arguments.serve:
        serve(runtimes, arguments.latency)
        return
    with sandbox(runtimes, arguments.latency) as url:
        began = time.perf_counter()
        asyncio.run(bare(url, runtimes, concurrency))
        floor = time.perf_counter() - began
        command = [LEO, "check-autopause", "--leonardo-url", url, "--auth", "none", "--output", "json"]
        began = time.perf_counter()
        ended = subprocess.run(
            [*command, "--read-concurrency", str(concurrency)], capture_output=True, text=True, check=True
        )
        ours = time.perf_counter() - began
    finished = json.loads(ended.stdout.splitlines()[-1])
    assert finished["calls"]["get"] == runtimes
    limit = runtimes * arguments.latency / concurrency
    print(f"{runtimes} Running runtimes, {1000 * arguments.latency:g} ms latency, {concurrency} in flight")
    print(f"  latency alone        {limit:6.1f} s")
    print(f"  bare asyncio client  {floor:6.1f} s")
    print(f"  check-autopause      {ours:6.1f} s   {ours / floor:.2f} times the bare client")


if __name__ == "__main__":
    main()
