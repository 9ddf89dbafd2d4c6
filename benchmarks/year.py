"""A year in the life of a large fleet: how late its acts come, and what a run of it costs without a network.

`python -m benchmarks.year` lives the first days; `python -m benchmarks.year 365 10000 11` days, users and seed.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import chdir
from tempfile import TemporaryDirectory

from benchmarks.table import Row
from core.rules.words import duration
from tests.year import Year

DAYS, USERS, SEED = 14, 10_000, 11


def rows(days: int = DAYS, users: int = USERS, seed: int = SEED) -> Iterator[Row]:
    year = Year(days, users, seed)
    with TemporaryDirectory() as folder, chdir(folder):
        began = time.process_time()
        year.live()
        spent = time.process_time() - began
    after = {day + 1 for day in year.outages | year.pauses} | {year.role_lost}
    held_up = max((late for day, late in year.late.items() if day in after), default=0.0)
    late = max(late for day, late in year.late.items() if day not in after)
    yield Row(
        f"{days} of the 365 days of a year, {users:,} users, seed {seed}: {year.host.runs:,} runs,"
        f" {len(year.leonardo.ours):,} deletions, {len(year.leonardo.against_the_rule)} against the rule,"
        f" {len(year.unnamed)} runs that miscount what is above the maximum age",
        "",
        f"{1000 * spent / year.host.runs:.0f} ms a run",
        "",
        f"latest act {duration(round(late))}, target 6 h; {duration(round(held_up))} after a day without runs",
    )


if __name__ == "__main__":
    for row in rows(*map(int, sys.argv[1:])):
        print(row)
