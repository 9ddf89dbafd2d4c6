"""A dry run over a long list: its memory, and its processor time beside the least that such a run costs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.processes import LEO, Cost, cost, stand_in
from benchmarks.stand_in import LIST
from benchmarks.table import Row, times

DUE = 100
ROUNDS = 3


def dry_run(url: str, out: Path) -> Cost:
    command = (LEO, "delete-old-runtimes", "--leonardo-url", url, "--auth", "none", "--output", "json")
    return cost(command, out)


def floor(url: str, model: Path, out: Path) -> Cost:
    return cost((sys.executable, "-m", "benchmarks.list_floor", url + LIST, str(model)), out)


HASHING = """\
import sys
from hashlib import sha256
whole = sha256()
for line in open(sys.argv[1], "rb"):
    if len(sys.argv) == 2:
        whole.update(sha256(line[:-1]).digest())
"""
"""What `records_digest` costs; with another argument the lines are only read."""


def hashing(log: Path) -> float:
    """Seconds of the processor that the digests of a run's records take."""
    with_it, without = (cost((sys.executable, "-c", HASHING, str(log), *more)).cpu for more in ((), ("-",)))
    return with_it - without


def rows(runtimes: int = 1_000_000, rounds: int = ROUNDS) -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        out, model = Path(folder) / "records.jsonl", Path(folder) / "model.json"
        with stand_in(runtimes // 10, due=DUE) as url:
            small = dry_run(url, out)
            with out.open("rb") as records:
                model.write_bytes(next(line for line in records if b'"within_policy"' in line))
        ours, floors, hashed = [], [], []
        with stand_in(runtimes, due=DUE) as url:
            for _ in range(rounds):
                floors.append(floor(url, model, out))
                ours.append(dry_run(url, out))
                hashed.append(hashing(out))
            length = out.stat().st_size
    cpu, least = ([c.cpu for c in costs] for costs in (ours, floors))
    peak = max(c.peak for c in ours)
    yield Row(
        f"dry run over {runtimes:,} runtimes, {length / 1e9:.1f} GB of records: processor time",
        f"{median(least):.1f} s",
        f"{median(cpu):.1f} s",
        f"{times(cpu, least):.2f}",
        "3",
    )
    yield Row(
        "the same: of it the digests of the records",
        "",
        f"{median(hashed):.1f} s",
        f"{times(hashed, least):.2f}",
    )
    yield Row(
        "the same: time on the clock",
        f"{median(c.wall for c in floors):.1f} s",
        f"{median(c.wall for c in ours):.1f} s",
        f"{times([c.wall for c in ours], [c.wall for c in floors]):.2f}",
    )
    yield Row(
        f"the same: peak memory, beside {runtimes // 10:,} runtimes",
        f"{small.peak:.0f} MiB",
        f"{peak:.0f} MiB",
        f"{peak / small.peak:.2f}",
        "1.2, and 150 MiB",
    )


if __name__ == "__main__":
    for row in rows():
        print(row)
