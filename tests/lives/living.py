"""Lives a life: its history, then two undisturbed runs, and what the log says of it all."""

import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from tests.lives.history import HOUR, MINUTE, Life, Run, Turn, settings_of
from tests.lives.oracle import ViolationError
from tests.lives.remains import Remains
from tests.lives.rule import MILLISECOND
from tests.lives.world import World

UNDISTURBED: tuple[tuple[str, Any], ...] = (
    ("dry_run", False),
    ("allow_empty", True),
    ("allow_shrunken", True),
    ("max_act_share", 1.0),
)
ROUND = 20
"""Lives after which what they have left is swept away: looking for it all the time takes a seventh of theirs."""


@dataclass(kw_only=True)
class Lived:
    """What became of a life."""

    runs: int
    steps: int
    violation: ViolationError | None = None
    log: bytes = b""
    story: list[str] = field(default_factory=list)


@contextmanager
def quietly() -> Iterator[Path]:
    """Without diagnostics or complaints of killed coroutines; gives a place for logs, whose name some records hold."""
    folder = next(filter(_is_free, (Path(tempfile.gettempdir()) / f"lives-{number}" for number in count())))
    before, hook = structlog.get_config(), sys.unraisablehook
    told = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=told, cache_logger_on_first_use=False)
    sys.unraisablehook = lambda _: None
    environment = dict(os.environ)
    gc.disable()
    try:
        yield folder
    finally:
        gc.enable()
        os.environ.clear()
        os.environ.update(environment)
        sys.unraisablehook = hook
        structlog.configure(**before)
        shutil.rmtree(folder, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    """Nobody else lives there; now we do."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def live(life: Life, folder: Path, *, telling: bool = False) -> Lived:
    """From its beginning to its end, or to the first violation."""
    world = World(life, folder / "audit.jsonl", telling=telling)
    violation = None
    try:
        for event in life.history:
            event.come(world)
        _in_the_end(world, tells=life.tells)
    except ViolationError as error:
        violation = error
        world.tell(str(error))
    finally:
        world.close()
        if life.seed % ROUND == 0:
            gc.collect()
    return Lived(
        runs=len(world.processes),
        steps=world.steps,
        violation=violation,
        log=world.log.path.read_bytes(),
        story=world.story or [],
    )


def _in_the_end(world: World, *, tells: bool) -> None:
    """It calms down; a rehearsal, two undisturbed runs, between which owners may be told, and a confirmation."""
    Turn(after=2 * HOUR, what="calm").come(world)
    world.oracle.expect("time", "a run has not ended after hours", holds=not world.running)
    since = (world.instant() - world.at(0)) // MILLISECOND
    options = (*UNDISTURBED, ("notice_period", timedelta(hours=2) if tells else None))
    Run(options=(*options, ("dry_run", True))).come(world)
    Run(after=5 * MINUTE, options=options).come(world)
    rehearsed, lived = world.processes[-2:]
    if tells:
        Run(after=MINUTE, job="notify-owners", options=(("dry_run", False),)).come(world)
        world.pass_time(2 * HOUR)
    Run(after=HOUR, options=options).come(world)
    last, began = world.processes[-1], world.instant()
    world.pass_time(HOUR)
    remains = Remains(world)
    remains.nothing_due(since, settings_of(world.at(0)), began)
    remains.same_decisions(rehearsed, lived)
    if world.log.size:
        remains.promise_is_told(last)
        Run(job="confirm-deletions").come(world)
        world.pass_time(HOUR)
        remains.confirmed(world.processes[-1])
        remains.log_is_whole()
