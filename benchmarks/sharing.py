"""A million runtimes in a hundred thousand projects, shared out among tasks that list their projects one by one.

The largest share of 100 and of 10 tasks is run; what one task alone would take is reckoned from them.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import LEO, cost, stand_in
from benchmarks.stand_in import BLOCK, FIRST, OF_A_PROJECT
from benchmarks.table import Row
from core.run.task import Task

PROJECTS, LATENCY, CONCURRENCY = 100_000, 0.05, 8
RUN = (100, 10)


def rows() -> Iterator[Row]:
    first = FIRST * BLOCK // OF_A_PROJECT
    projects = [f"terra-{first + number}" for number in range(PROJECTS)]
    a_list = 0.0
    with TemporaryDirectory() as folder, stand_in(PROJECTS * OF_A_PROJECT, latency=LATENCY) as url:
        file = Path(folder) / "projects.txt"
        command = (LEO, "delete-old-runtimes", "--leonardo-url", url, "--auth", "none", "--output", "json")
        for count in RUN:
            largest = max((Task(index=n, count=count).share(projects) for n in range(count)), key=len)
            file.write_text("\n".join(largest))
            at_once = ("--read-concurrency", str(CONCURRENCY))
            wall = cost((*command, "--projects-file", str(file), *at_once)).wall
            a_list = wall / len(largest)
            yield _row(count, len(largest), wall, "")
    yield _row(1, PROJECTS, a_list * PROJECTS, ", reckoned")


def _row(count: int, lists: int, wall: float, how: str) -> Row:
    floor = lists * LATENCY / CONCURRENCY
    return Row(
        f"{PROJECTS:,} projects over {count} tasks, {1000 * LATENCY:g} ms a list, {CONCURRENCY} at a time: "
        f"the largest share is {lists * count / PROJECTS:.2f} of the mean",
        f"{floor:.1f} s for {lists:,} of {PROJECTS:,} lists",
        f"{wall:.1f} s{how}",
        f"{wall / floor:.2f}",
    )


if __name__ == "__main__":
    for row in rows():
        print(row)
