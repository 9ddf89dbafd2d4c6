"""Exhaustive in the small: every order in which requests, answers and records of two overlapping runs may come.

`python -m tests.lives.explore` explores two due runtimes, two live runs, one crash and one lost answer. A state that
was met before, whatever led to it, is not entered again; each log is held to what must hold when a life ends.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from tests.lives.history import DAY, HOUR, Life, Run
from tests.lives.living import quietly
from tests.lives.process import Process
from tests.lives.remains import Remains
from tests.lives.wire import Exchange
from tests.lives.world import World

TICK = 0.001
"""Seconds that each event takes."""
OLD = ("age", 15 * DAY), ("idle", DAY), ("project", "terra-1")


class Pending(NamedTuple):
    """What may come next of one process."""

    process: Process
    what: str
    happen: Callable[[], None]
    may_be_lost: bool = False


@dataclass(frozen=True)
class Small:
    """How much is explored."""

    runtimes: int = 2
    runs: int = 2
    crashes: int = 1
    lost: int = 1
    actors: int = 1
    """Runtimes that a run acts on at a time."""

    @property
    def life(self) -> Life:
        fleet = tuple((*OLD, ("name", f"all-of-us-{number}")) for number in range(self.runtimes))
        return Life(0, fleet, (), pauses_idle=False)


class Orderly(World):
    """A world in which nothing happens by itself: whoever explores says what comes next."""

    def __init__(self, small: Small, log: Path) -> None:
        super().__init__(small.life, log)
        self.leonardo.deletion_takes = timedelta(hours=1)
        self.left = [small.crashes, small.lost]
        self.over = False
        """Whether things happen by themselves again."""
        self.pending: list[Pending] = []
        self.past: dict[Process, list[str]] = {}
        options = (("dry_run", False), ("write_concurrency", small.actors), ("read_concurrency", small.actors))
        for _ in range(small.runs):
            Run(options=options).come(self)
        self.settle()

    def on_the_way(self, exchange: Exchange, seconds: float, what: Callable[[], None]) -> None:
        if self.over:
            super().on_the_way(exchange, seconds, what)
            return
        answered = exchange.served_at is not None
        word = f"{'answer' if answered else 'request'} {exchange.target.kind} {exchange.path}"
        self.pending.append(Pending(exchange.process, word, what, may_be_lost=answered))

    def disk_works(self, process: Process, seconds: float, what: Callable[[], None]) -> None:
        if self.over:
            super().disk_works(process, seconds, what)
            return
        self.pending.append(Pending(process, "record is kept", what))

    def settle(self) -> None:
        """Until every process waits; where it can only be for time, time passes."""
        while self.running:
            while self._step():
                pass
            self.pending = [event for event in self.pending if event.process.is_running]
            if self.pending or not self._next(self.now + DAY):
                return

    def options(self) -> list[tuple[str, Pending]]:
        if not self.running:
            return []
        crashes, lost = self.left
        ways = [("", event) for event in self.pending]
        ways += [("lost ", event) for event in self.pending if event.may_be_lost and lost]
        ways += [("killed", Pending(process, "", process.kill)) for process in self.running if crashes]
        return ways

    def take(self, number: int) -> None:
        """The next event is this of the options."""
        how, event = self.options()[number]
        self.now += TICK
        shown = ""
        if how == "killed":
            self.left[0] -= 1
        else:
            self.pending.remove(event)
        if how == "lost ":
            self.left[1] -= 1
        else:
            event.happen()
            shown = str([(m.id, m.status, m.persistent_disk_id) for m in self.leonardo.everything()])
        self.past.setdefault(event.process, []).append(f"{how}{event.what}{shown if 'request' in event.what else ''}")
        self.settle()

    @property
    def met(self) -> tuple[object, ...]:
        """All that what comes next depends on."""
        machines = tuple((m.id, m.status, m.persistent_disk_id) for m in self.leonardo.everything())
        pasts = tuple((p.code, p.dead, tuple(self.past.get(p, ()))) for p in self.processes)
        waiting = tuple(sorted(f"{event.process.number} {event.what}" for event in self.pending))
        return tuple(self.left), machines, pasts, waiting

    def end(self) -> None:
        """What must hold at the end, whatever came before."""
        self.pass_time(2 * HOUR)
        self.over = True
        if self.log.size:
            Run(job="confirm-deletions").come(self)
            self.pass_time(HOUR)
            remains = Remains(self)
            remains.confirmed(self.processes[-1])
            remains.log_is_whole()


class Explored(NamedTuple):
    """What was met."""

    states: int
    ends: int
    replays: int


def explore(small: Small, folder: Path) -> Explored:
    """Every state there is. Raises ViolationError."""
    met: set[tuple[object, ...]] = set()
    left: list[list[int]] = [[]]
    ends = replays = 0
    while left:
        choices = left.pop()
        world = Orderly(small, folder / "audit.jsonl")
        replays += 1
        try:
            for choice in choices:
                world.take(choice)
            while world.met not in met:
                met.add(world.met)
                ways = len(world.options())
                if not ways:
                    ends += 1
                    world.end()
                    break
                left += [[*choices, way] for way in range(1, ways)]
                choices = [*choices, 0]
                world.take(0)
        finally:
            world.close()
    return Explored(len(met), ends, replays)


def main() -> int:
    small = Small()
    began = time.process_time()
    with quietly() as folder:
        found = explore(small, folder)
    sys.stdout.write(
        f"{small}: {found.states:,} states, {found.ends:,} of them ends, nothing went wrong:"
        f" {time.process_time() - began:.0f} s of processor time\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
