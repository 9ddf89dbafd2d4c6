"""Which runs tell of the whole fleet, by their first and last records; whatever else a question is about: `which`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from core.records.reader import Record
from core.review.which import NOT_TAKEN, IsMeant, finished_runs, in_time
from core.rules.guards import INVENTORY_GUARDS
from core.rules.words import counted
from core.verify.rejudge import AUTOPAUSE_JOB, DELETION_JOB

NEAR = timedelta(days=7)
"""As near in time, a run over all that there is makes one of some projects, or a rehearsal of another policy, none."""


def of_the_fleet(started: Record) -> bool:
    """Whether it is a deletion run that looked at all runtimes, or at all of some projects."""
    return started.job == DELETION_JOB and _is_of_no_single_runtimes(started)


def checks_the_fleet(started: Record) -> bool:
    """The same of an autopause check."""
    return started.job == AUTOPAUSE_JOB and _is_of_no_single_runtimes(started)


def _is_of_no_single_runtimes(started: Record) -> bool:
    return started.scope is None or started.scope.only is None


class Fleet(NamedTuple):
    """Which runs tell of all runtimes."""

    is_meant: IsMeant
    """Where none does, whatever looked at the fleet."""
    passed_over: Mapping[str, str]
    """Of the finished runs over the fleet those that do not, by their ids, and why."""
    openings: Sequence[Record]
    """The first record of each finished run over the fleet, in the order of time."""

    def remarks_on(self, taken: Record, *, live_alone: bool = False) -> Iterator[str]:
        """A sentence for each reason for which a newer run was not taken, and one where this one tells little."""
        newer: defaultdict[str, list[str]] = defaultdict(list)
        for opening in self.openings:
            is_newer = opening.run_id in self.passed_over and in_time(opening) > in_time(taken)
            if is_newer and not (live_alone and opening.dry_run):
                newer[self.passed_over[opening.run_id]].append(opening.run_id)
        for why, ids in newer.items():
            which = f"run {ids[0]}" if len(ids) == 1 else f"{counted(len(ids), 'run')}, the last of them {ids[-1]},"
            yield f"{NOT_TAKEN}{which} {why}"
        if taken.run_id in self.passed_over:
            yield f"no run on record tells of the whole fleet: this one {self.passed_over[taken.run_id]}"


def fleet_of(frames: Sequence[Record]) -> Fleet:
    """Which runs tell of the fleet and of what becomes of it.

    Not what was refused over its inventory, read no list, asked for some projects alone or rehearsed another policy.
    """
    closings: defaultdict[str, list[Record]] = defaultdict(list)
    for frame in frames:
        if frame.event == "run_finished":
            closings[frame.run_id].append(frame)
    openings = finished_runs(frames, of_the_fleet)
    passed_over = {opening.run_id: why for opening in openings if (why := _saw_nothing(closings[opening.run_id]))}
    for run_id in runs_of_some_projects([opening for opening in openings if opening.run_id not in passed_over]):
        passed_over[run_id] = "asked for some projects alone"
    for run_id in rehearsals_of_another_policy([opening for opening in openings if opening.run_id not in passed_over]):
        passed_over[run_id] = "rehearsed another policy than is in force"
    if len(passed_over) == len(openings):
        return Fleet(of_the_fleet, passed_over, openings)
    return Fleet(lambda opening: of_the_fleet(opening) and opening.run_id not in passed_over, passed_over, openings)


def runs_of_some_projects(openings: Sequence[Record]) -> Iterator[str]:
    """Those that were told some projects by hand: near them another run was told none, and a live one if they are."""
    of_all = [opening for opening in openings if _is_of_all(opening)]
    live = [opening for opening in of_all if not opening.dry_run]
    for opening in openings:
        told = opening.scope is not None and opening.scope.projects is not None and opening.task_count == 1
        if told and _is_near(of_all if opening.dry_run else live, opening):
            yield opening.run_id


def rehearsals_of_another_policy(openings: Sequence[Record]) -> Iterator[str]:
    """The dry runs that judged by another policy than the live ones over the fleet that went on when they began."""
    in_force: dict[str, Record] = {}
    of_some = set(runs_of_some_projects(openings))
    for opening in sorted(openings, key=in_time):
        live = in_force.get(opening.environment)
        if not opening.dry_run:
            if of_the_fleet(opening) and opening.run_id not in of_some:
                in_force[opening.environment] = opening
        elif live and in_time(opening)[0] - in_time(live)[0] <= NEAR and not _has_policy_of(live, opening):
            yield opening.run_id


def _is_of_all(opening: Record) -> bool:
    """Whether it asked for all that there is now."""
    scope = opening.scope
    return scope is None or (scope.projects is None and scope.is_of_now)


def _has_policy_of(live: Record, opening: Record) -> bool:
    """Also where one does not tell."""
    return None in (live.policy_digest, opening.policy_digest) or live.policy_digest == opening.policy_digest


def _saw_nothing(closings: Sequence[Record]) -> str | None:
    """Why a run does not know what there is."""
    refused = {guard for closing in closings for guard in closing.refused_by or ()} & INVENTORY_GUARDS
    if refused:
        return f"was refused by {', '.join(sorted(refused))}"
    lists = [closing.lists for closing in closings if closing.lists is not None]
    return "could read no list" if lists and not any(read.read for read in lists) else None


def _is_near(others: Sequence[Record], opening: Record) -> bool:
    """Whether one of these is, of its environment."""
    at, environment = in_time(opening)[0], opening.environment
    return any(other.environment == environment and abs(in_time(other)[0] - at) <= NEAR for other in others)
