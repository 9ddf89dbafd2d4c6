"""Asking the audit log about a million records: time and memory, beside reading and decoding the lines."""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import urlretrieve

from benchmarks.processes import LEO, Cost, cost, stand_in
from benchmarks.stand_in import LIST
from benchmarks.table import Row, times

RUNTIMES = 1_000_000
DUE = 100
ROUNDS = 3
STRICTER = ("--max-age", "3d", "--max-age-if-idle", "1d")
"""Condemns three in four of the made-up fleet."""
DRY_RUN = (LEO, "delete-old-runtimes", "--auth", "none", "--output", "json")
FLOOR = """\
import sys, msgspec
from core.records.reader import Record
decode = msgspec.json.Decoder(Record, strict=False).decode
for line in open(sys.argv[1], "rb"):
    decode(line)
"""

SHUFFLING = """\
import random, sys
with open(sys.argv[1], "rb") as log, open(sys.argv[2], "wb") as shuffled:
    lines = log.readlines()
    random.Random(7).shuffle(lines)
    shuffled.writelines(lines)
"""


def rows() -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        log, two = folder / "records.jsonl", folder / "two"
        report = ("report", "--html", str(folder / "report.html"))
        with stand_in(RUNTIMES, due=DUE) as url:
            cost((*DRY_RUN, "--leonardo-url", url), log)
        yield from _verified(log, "in order")
        yield from _verified(_shuffled(log), "in any order")
        floor = _floor(log)
        yield _row(f"review-audit-log report over {RUNTIMES:,} records", floor, _asked(report, log))
        _rehearse_twice(two, RUNTIMES // 2)
        yield _row(f"the same, two dry runs of {RUNTIMES // 2:,} side by side", floor, _asked(report, two))


def _verified(log: Path, order: str) -> Iterator[Row]:
    """By processor time, each beside its floor in turn."""
    pairs = [(_floor(log), _asked(("verify",), log)) for _ in range(ROUNDS)]
    floors, ours = ([c.cpu for c in costs] for costs in zip(*pairs, strict=True))
    yield Row(
        f"review-audit-log verify over {RUNTIMES:,} records, {order}: processor time",
        f"{median(floors):.1f} s to decode the lines",
        f"{median(ours):.1f} s, {max(c.peak for _, c in pairs):.0f} MiB",
        f"{times(ours, floors):.2f}",
        "4, and 256 MiB",
    )


def _shuffled(log: Path) -> Path:
    """By a process of its own: a child's largest size is at least that of its parent as it was started."""
    shuffled = log.with_suffix(".shuffled.jsonl")
    cost((sys.executable, "-c", SHUFFLING, str(log), str(shuffled)))
    return shuffled


def _floor(log: Path) -> Cost:
    return cost((sys.executable, "-c", FLOOR, str(log)))


def _rehearse_twice(folder: Path, runtimes: int) -> None:
    """Two dry runs over one saved list, under different policies."""
    folder.mkdir()
    saved = folder.with_suffix(".json")
    with stand_in(runtimes, due=DUE) as url:
        urlretrieve(f"{url}{LIST}", saved)  # noqa: S310 - a server of ours
    for number, policy in enumerate(((), STRICTER)):
        cost((*DRY_RUN, "--inventory", str(saved), *policy), folder / f"{number}.jsonl")


def _asked(words: tuple[str, ...], log: Path) -> Cost:
    return cost((LEO, "review-audit-log", *words, "--from", str(log)))


def _row(what: str, floor: Cost, ours: Cost) -> Row:
    return Row(
        what,
        f"{floor.wall:.1f} s to decode the lines",
        f"{ours.wall:.1f} s, {ours.peak:.0f} MiB",
        f"{ours.wall / floor.wall:.2f}",
        "40 s, 1 GiB",
    )


if __name__ == "__main__":
    for row in rows():
        print(row)
