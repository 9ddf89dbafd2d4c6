"""What another policy would have done over months of a large fleet: time and memory, beside decoding the lines.

`python -m benchmarks.simulating` takes 9 days; `python -m benchmarks.simulating 90` the 7.2 million judgements of a
quarter of a year, of which most of the time goes into writing them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.history import RUNS_A_DAY, write_history
from benchmarks.processes import LEO, cost
from benchmarks.table import Row

RUNTIMES = 10_000
DAYS = 9
FLOOR = """\
import gzip, sys, msgspec
from pathlib import Path
from core.records.reader import Record
decode = msgspec.json.Decoder(Record, strict=False).decode
for file in sorted(Path(sys.argv[1]).iterdir()):
    for line in gzip.open(file):
        decode(line)
"""
QUESTION = ("review-audit-log", "simulate", "--max-age", "10d", "--max-age-if-idle", "5d", "--output", "json")


def rows(days: int = DAYS) -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        judged = write_history(Path(folder), days=days, runtimes=RUNTIMES)
        floor = cost((sys.executable, "-c", FLOOR, folder))
        ours = cost((LEO, *QUESTION, "--from", folder))
    yield Row(
        f"review-audit-log simulate over {days} days, {RUNS_A_DAY} runs a day, {judged:,} judgements in .gz files:"
        " processor time",
        f"{floor.cpu:.1f} s to decode the lines",
        f"{ours.cpu:.1f} s, {ours.peak:.0f} MiB",
        f"{ours.cpu / floor.cpu:.2f}",
        "3, and 150 MiB for 90 days",
    )


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        print(row)
