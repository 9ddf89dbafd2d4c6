"""Commands as whole processes: how long they take, how much of the machine, and servers beside them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

LEO = str(Path(sys.executable).with_name("leo-lifecycle"))
FOREIGN = ("LIFECYCLE_", "CLOUD_RUN_", "PYTHONDONTWRITEBYTECODE")
"""Settings that are not the measurement's; and the program is compiled, as it is in the image."""
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    wall: float
    cpu: float
    """Seconds of the processor, its own and the kernel's on its behalf."""
    peak: float
    """Largest resident size, in MiB."""
    code: int


def cost(command: Sequence[str], out: Path | None = None, **environment: str) -> Cost:
    """Run a command to its end, its output into a file, or nowhere."""
    with (out or Path(os.devnull)).open("wb") as stdout:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=CLEAN | environment)
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        print(said.decode(errors="replace")[-2000:], file=sys.stderr)
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, code)


@contextmanager
def server(*command: str, **environment: str) -> Iterator[str]:
    """A server process that prints its URL; it ends with the block."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=CLEAN | environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def stand_in(
    runtimes: int, *, due: int = 0, latency: float = 0.0, running: bool = False
) -> AbstractContextManager[str]:
    """A Leonardo of so many runtimes, so many of them due, or all of them Running and in use."""
    arguments = {"--runtimes": runtimes, "--due": due, "--latency": latency}
    words = [str(word) for pair in arguments.items() for word in pair] + ["--running"] * running
    return server(sys.executable, "-m", "benchmarks.stand_in", *words)
