"""The program lives through other worlds at each commit; what makes these, and what must hold, is in `tests/lives`."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from tests.lives.breaks import BREAKS, Break, found
from tests.lives.explore import Small, explore
from tests.lives.history import Blow, life_of
from tests.lives.living import live, quietly
from tests.lives.story import shrunk, told

ROOT = Path(__file__).parents[1]
RUNS = 1000
"""Of each half, so that two workers share them."""
HALF_AN_HOUR = 1800.0
"""Seconds, likewise: together an hour's share."""
FAR_APART = 2**40


def seed_of_this_commit() -> int:
    """Each commit sees other lives."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return int(git.stdout[:10] or "1", 16)


@pytest.fixture
def folder() -> Iterator[Path]:
    with quietly() as folder:
        yield folder


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("part", "least", "seconds"),
    [
        (0, RUNS, 0.0),
        (1, RUNS, 0.0),
        pytest.param(2, 0, HALF_AN_HOUR, marks=pytest.mark.chaos),
        pytest.param(3, 0, HALF_AN_HOUR, marks=pytest.mark.chaos),
    ],
)
def test_nothing_goes_wrong_in_the_lives_of_this_commit(part: int, least: int, seconds: float, folder: Path) -> None:
    runs, began, seeds = 0, time.monotonic(), count(seed_of_this_commit() + part * FAR_APART)
    while runs < least or time.monotonic() - began < seconds:
        life = life_of(seed := next(seeds))
        lived = live(life, folder)
        assert lived.violation is None, "\n".join([f"make simulate SEED={seed}", *told(life, lived, folder)])
        runs += lived.runs


def test_the_same_seed_gives_the_same_log_byte_for_byte(folder: Path) -> None:
    logs = sha256()
    for seed in (1, 2, 3):
        log = live(life_of(seed), folder).log
        assert log == live(life_of(seed), folder).log
        logs.update(log)
    environment = {**os.environ, "SEED": "1", "RUNS": "20", "PYTHONHASHSEED": "1"}
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.lives"],
            env={**environment, "PYTHONHASHSEED": number},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.rpartition("logs ")[2]
        for number in ("1", "2")
    ]
    assert said[0] == said[1]


def test_a_life_that_goes_wrong_is_told_as_short_as_it_can_be() -> None:
    life = next(life for life in map(life_of, count()) if sum(isinstance(e, Blow) for e in life.history) > 1)
    short = shrunk(life, lambda other: any(isinstance(e, Blow) for e in other.history) and bool(other.fleet))
    assert (len(short.history), len(short.fleet)) == (1, 1)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "small",
    [
        Small(runtimes=1, crashes=0, lost=0),
        pytest.param(Small(), marks=pytest.mark.chaos),
    ],
    ids=str,
)
def test_in_every_order_of_what_may_come_nothing_goes_wrong(small: Small, folder: Path) -> None:
    explored = explore(small, folder)
    assert explored.ends > 1
    assert explored.states > explored.ends


def test_every_known_break_is_of_a_line_that_there_is() -> None:
    assert [b.name for b in BREAKS if (ROOT / b.path).read_text().count(b.was) != 1] == []
    assert len({b.name for b in BREAKS}) == len(BREAKS) >= 30


@pytest.mark.chaos
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_every_known_break_is_found(broken: Break) -> None:
    assert None not in found(broken)
