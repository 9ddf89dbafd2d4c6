"""Confirm what became of the deletions that earlier runs asked for, by their audit records: 202 is not gone.

For each intent to delete that has no confirmed end yet, matched by id in its project's list, deleted ones included:

* Deleted: confirmed, and not asked again;
* Deleting for less than stuck-after (2 h): pending; for longer: stuck, and a person must see to it;
* any other status: survived where the deletion had been accepted, else never_happened;
* not listed at all: not_visible.

Nothing is changed in Leonardo. Anything stuck, survived or not_visible makes the exit code 1. Nothing is confirmed by a
clock that is more than 5 minutes ahead of Leonardo's or behind: the exit code is 3.
"""

import argparse

from core.clock import utc_now
from core.records.events import RunFinished
from core.records.reader import AuditRecords
from core.review.sources import cannot_be_read, open_places
from core.review.unconfirmed import TOLD, Unconfirmed, unconfirmed
from core.run.confirmation import Confirming
from core.run.opening import Job, Rooms, run, run_started, task_of_environment
from core.screen.columns import View
from core.settings.durations import parse_duration
from core.settings.faults import UsageError
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, REPORT_FLAGS, add_places

NAME = "confirm-deletions"
FLAGS = ("leonardo_url", "sandbox", "stuck_after", *CONNECTION_FLAGS, *REPORT_FLAGS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_places(parser)
    parser.add_argument(
        "--since", default="48h", metavar="DURATION", help="how far back deletions are asked about (duration) [48h]"
    )


def main(settings: Settings, arguments: argparse.Namespace) -> int:
    deletions = _unconfirmed(settings, arguments.places, arguments.since)
    job = Job(
        name=NAME,
        in_a_sentence="a deletion that was asked for has happened when Leonardo lists the runtime as deleted",
        policy={"stuck_after_s": settings.stuck_after.total_seconds()},
        method=None,
        view=VIEW,
    )

    async def work(rooms: Rooms) -> int:
        confirming = Confirming(rooms, stuck_after=settings.stuck_after)
        return await confirming.run(run_started(job, rooms), deletions)

    return run(job, settings, task_of_environment(), work)


def _unconfirmed(settings: Settings, places: list[str], since: str) -> list[Unconfirmed]:
    try:
        begin = utc_now() - parse_duration(since)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
    try:
        return unconfirmed(AuditRecords(open_places(places, begin, settings), lambda _: TOLD), begin)
    except OSError as error:
        raise UsageError(f"--from: {cannot_be_read(error)}") from None


def _verdict(finished: RunFinished) -> str:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(finished.outcomes.items()))
    return f"{counts or 'Nothing confirmed'}."


VIEW = View(
    title="",
    is_row=lambda _: False,
    order=lambda _: 0,
    columns=(),
    verdict=_verdict,
)
