"""Asking the audit log about a million records: time and memory, beside reading and decoding the lines."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlretrieve

from benchmarks.processes import LEO, Cost, cost, stand_in
from benchmarks.stand_in import LIST
from benchmarks.table import Row

RUNTIMES = 1_000_000
DUE = 100
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


def rows() -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        log, two = folder / "records.jsonl", folder / "two"
        report = ("report", "--html", str(folder / "report.html"))
        with stand_in(RUNTIMES, due=DUE) as url:
            cost((*DRY_RUN, "--leonardo-url", url), log)
        floor = cost((sys.executable, "-c", FLOOR, str(log)))
        for question, words in (("verify", ("verify",)), ("report", report)):
            yield _row(f"review-audit-log {question} over {RUNTIMES:,} records", floor, _asked(words, log))
        _rehearse_twice(two, RUNTIMES // 2)
        yield _row(f"the same, two dry runs of {RUNTIMES // 2:,} side by side", floor, _asked(report, two))


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
