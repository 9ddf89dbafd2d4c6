"""What it costs to begin: the processor time of help and of an empty fleet, beside a process that imports libraries.

Both without rich and click, which httpx and structlog import where they find them: the production image has neither.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.processes import LEO, cost, stand_in
from benchmarks.table import Row, times

ROUNDS = 11
FLOOR = (sys.executable, "-c", "import httpx, structlog, pydantic_settings, msgspec")
ABSENT = ("rich", "click")


def rows() -> Iterator[Row]:
    with TemporaryDirectory() as folder, stand_in(0) as url:
        for name in ABSENT:
            (Path(folder) / f"{name}.py").write_text("raise ImportError")
        empty = (LEO, "delete-old-runtimes", "--leonardo-url", url, "--auth", "none", "--output", "json")
        commands = {"floor": FLOOR, "`--help`": (LEO, "--help"), "an empty fleet": (*empty, "--allow-empty")}
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                taken[name].append(cost(command, PYTHONPATH=folder).cpu)
    floors = taken.pop("floor")
    for name, ours in taken.items():
        yield Row(
            f"start-up: {name}",
            f"{1000 * median(floors):.0f} ms to import httpx, structlog, pydantic-settings, msgspec",
            f"{1000 * median(ours):.0f} ms",
            f"{times(ours, floors):.2f}",
            "1.3",
        )


if __name__ == "__main__":
    for row in rows():
        print(row)
