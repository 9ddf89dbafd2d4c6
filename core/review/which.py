"""Which runs a question is about, by the frames of runs: their first and last records. What they answer lives beside.

Every question takes records that begin with the frames of all runs, as `core.records.reader` gives them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import chain

from core.records.reader import FRAMES, LONG_AGO, Record
from core.verify.verdict import State, state_of

LATEST = "latest"
MISSPELT = 0.9
"""How like a run's id must be to one that is not known: two executions of one job share all but their last letters."""
NOT_FINISHED = {"open": "is still going", "cut_off": "was cut off: it has no closing record"}

NOT_TAKEN = "newer, but not taken: "
"""How a remark begins on a run that an answer is not by."""

IsMeant = Callable[[Record], bool]
"""Whether a run may be the latest, by its first record."""


class UnknownError(Exception):
    """The records hold nothing of what was asked for, or leave open which of several is meant."""


class NotThereError(UnknownError):
    """The records that were read hold nothing of it; others may."""


def framed(records: Iterable[Record]) -> tuple[list[Record], Iterator[Record]]:
    """The frames of runs, and all records from the first on."""
    rest = iter(records)
    frames: list[Record] = []
    behind: list[Record] = []
    for record in rest:
        if record.event not in FRAMES:
            behind.append(record)
            break
        frames.append(record)
    return frames, chain(frames, behind, rest)


def of_runs(
    records: Iterable[Record],
    wanted: Iterable[str],
    *,
    is_meant: IsMeant = lambda _: True,
    also: Callable[[Record], bool] = lambda _: False,
) -> tuple[list[str], Iterator[Record]]:
    """The ids of the wanted runs, `latest` resolved, and an iterator over their records and those wanted `also`.

    Raises UnknownError where no run is the latest, or, once the records have come to their end, where a wanted run has
    none.
    """
    frames, all_of_them = framed(records)
    ids = run_ids(frames, wanted, is_meant=is_meant)

    def chosen() -> Iterator[Record]:
        known: set[str] = set()
        for record in all_of_them:
            known.add(record.run_id)
            if record.run_id in ids or also(record):
                yield record
        for run_id in ids:
            if run_id not in known:
                close = get_close_matches(run_id, known, cutoff=MISSPELT)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise NotThereError(f"there is no record of run {run_id!r}{hint}")

    return ids, chosen()


def run_ids(frames: Sequence[Record], wanted: Iterable[str], *, is_meant: IsMeant = lambda _: True) -> list[str]:
    """The ids of the wanted runs, `latest` resolved: beside a run that is named, the latest of its kind.

    Raises UnknownError where no run is the latest.
    """
    wanted = list(wanted)
    if LATEST not in wanted:
        return wanted
    kinds = {_kind(frame) for frame in frames if frame.run_id in wanted}
    newest = latest(frames, lambda opening: is_meant(opening) and (not kinds or _kind(opening) in kinds)).run_id
    return [newest if run_id == LATEST else run_id for run_id in wanted]


def _kind(record: Record) -> tuple[str, str]:
    return record.job, record.environment


def latest(frames: Sequence[Record], is_meant: IsMeant) -> Record:
    """The first record of the newest run that has finished. Raises UnknownError."""
    meant = [frame for frame in frames if frame.event == "run_started" and is_meant(frame)]
    if not meant:
        raise NotThereError("there is no such run in the records")
    only_environment(opening.environment for opening in meant)
    finished = finished_runs(frames, is_meant)
    if not finished:
        raise UnknownError(f"no such run has finished: {max(meant, key=in_time).run_id} has no closing record")
    return finished[-1]


def finished_runs(frames: Sequence[Record], is_meant: IsMeant) -> list[Record]:
    """The first record of each, in the order of time."""
    done = _finished(frames)
    openings = {
        frame.run_id: frame
        for frame in frames
        if frame.event == "run_started" and frame.run_id in done and is_meant(frame)
    }
    return sorted(openings.values(), key=in_time)


def only_environment(names: Iterable[str]) -> None:
    """Raises UnknownError where there are several: runtimes of two Leonardos may bear the same names and ids."""
    environments = sorted(set(names))
    if len(environments) > 1:
        raise UnknownError(f"there are records of several environments ({', '.join(environments)}): name one by --env")


def _finished(frames: Iterable[Record]) -> set[str]:
    """The runs of which every task has a closing record."""
    closed: dict[str, set[int]] = {}
    tasks: dict[str, int] = {}
    for frame in frames:
        tasks[frame.run_id] = max(frame.task_count, tasks.get(frame.run_id, 1))
        if frame.event == "run_finished":
            closed.setdefault(frame.run_id, set()).add(frame.task_index)
    return {run_id for run_id, closings in closed.items() if len(closings) >= tasks[run_id]}


def still_going(frames: Sequence[Record], now: datetime) -> list[str]:
    """A sentence for each run that is: its records are not all there."""
    return [sentence for _, state, sentence in _unfinished(frames, now) if state == "open"]


def newer_unfinished(frames: Sequence[Record], latest: Record, is_meant: IsMeant, now: datetime) -> list[str]:
    """A sentence for each run that would be the latest, had it finished."""
    return [
        f"{NOT_TAKEN}{sentence}"
        for opening, _, sentence in _unfinished(frames, now)
        if is_meant(opening) and in_time(opening) > in_time(latest)
    ]


def _unfinished(frames: Sequence[Record], now: datetime) -> Iterator[tuple[Record, State, str]]:
    done = _finished(frames)
    openings = {frame.run_id: frame for frame in frames if frame.event == "run_started" and frame.run_id not in done}
    for opening in sorted(openings.values(), key=in_time):
        state = state_of(opening, finished=False, now=now)
        yield opening, state, f"run {opening.run_id} ({opening.job}, {opening.environment}) {NOT_FINISHED[state]}"


def in_time(first: Record) -> tuple[datetime, str]:
    """What runs are sorted by, of the first record of each; one without a time comes before all others."""
    return first.time or LONG_AGO, first.run_id


def of_job(name: str) -> IsMeant:
    return lambda opening: opening.job == name
