"""Confirm what became of the deletions that earlier runs asked for.

Leonardo's answer to a DELETE only promises one. So for each deletion on record of this environment that has no
confirmed end yet, it asks for the project's lists:

* not listed any more: confirmed, with the evidence (its name is taken, its project is seen without it, or nothing of
  its project is listed) and with the status of the disk that was kept;
* Deleting for less than stuck-after (2 h): pending; for longer: stuck, and a person must see to it;
* Error: errored, Leonardo failed to delete it and its machine may still cost money;
* any other status: survived where the deletion had been accepted, else never_happened;
* many gone without any evidence: not_visible, the caller may have lost its role; asked about for 3 days;
* one that was confirmed without any, and that a later run has listed: asked about again.

Nothing is changed in Leonardo. Anything stuck, errored, survived or not_visible makes the exit code 1. Nothing is
confirmed by a clock that is more than 5 minutes ahead of Leonardo's or behind: the exit code is 3.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from core.clock import utc_now
from core.records.events import RunFinished
from core.records.reader import AuditRecords
from core.records.selection import Match
from core.review.sources import cannot_be_read, not_read, open_places, passed_over
from core.review.unconfirmed import ABOUT_DELETIONS, Unconfirmed, settled_since, unconfirmed
from core.rules.confirmation import ConfirmationPolicy
from core.run.account import Account, opening_record
from core.run.confirmation import Confirming
from core.run.opening import run, task_of_environment
from core.run.prepare import runs_on_record
from core.run.previous import REACH, predecessor
from core.run.running import Host, Job, Running
from core.screen.columns import View, outcomes_counted
from core.settings.durations import parse_duration
from core.settings.faults import UsageError
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, REPORT_FLAGS, add_places

NAME = ConfirmationPolicy.job
SINCE = "30d"
EXAMPLES = (
    "leo-lifecycle confirm-deletions --leonardo-url URL --from audit/   # by the records of a folder",
    "leo-lifecycle confirm-deletions --leonardo-url URL --from audit/ --since 2d   # of the last two days only",
    "leo-lifecycle confirm-deletions --leonardo-url URL --from cloud-logging --audit-cloud-log projects/P/logs/NAME",
)
FLAGS = ("leonardo_url", "sandbox", *ConfirmationPolicy.limits(), *CONNECTION_FLAGS, *REPORT_FLAGS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_places(parser)
    parser.add_argument(
        "--since", default=SINCE, metavar="DURATION", help=f"how far back the log is read (duration) [{SINCE}]"
    )


@dataclass(slots=True)
class _Read:
    """What the log told of deletions, and where it could not be read."""

    deletions: list[Unconfirmed] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    """What is no log, in a sentence if anything."""


def main(
    settings: Settings, arguments: argparse.Namespace, *, wall: Callable[[], datetime] = utc_now, host: Host = run
) -> int:
    told = _read(settings, arguments.places, arguments.since, wall())
    policy = settings.policy(ConfirmationPolicy)
    job = Job(name=NAME, policy=policy, method=None, view=VIEW, wall=wall)

    async def work(running: Running) -> int:
        account = Account(running)
        for damage in told.damage:
            account.log_unread(damage)
        account.warnings += told.passed_over
        earlier, unread = await runs_on_record(running)
        if unread:
            account.warnings.append(f"the run before this one is not known: {unread}")
        started = opening_record(job, running, follows=predecessor(earlier, running.task.execution))
        confirming = Confirming(running, account, policy)
        return await confirming.run(started, told.deletions)

    return host(job, settings, task_of_environment(), work)


def _read(settings: Settings, places: list[str], since: str, now: datetime) -> _Read:
    """Raises UsageError where nothing is known of any deletion because the log could not be read."""
    try:
        begin = now - parse_duration(since)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
    try:
        source = open_places(places, begin, settings)
        records = AuditRecords(source, lambda _: ABOUT_DELETIONS, environment=settings.environment)
        cases = unconfirmed(records, begin)
        again = tuple(Match(path=case.path) for case in cases if _is_read_again(case, now))
        later = AuditRecords(source, lambda _: again, environment=settings.environment) if again else ()
        ended = settled_since(cases, later)
        open_cases = [case for case in cases if case.runtime_id not in ended]
        damage = not_read(records)
        if not damage:
            damage = [f"there is no audit record in {place}" for place in places if _is_empty(place, begin, settings)]
        if not (damage or records.records) and records.elsewhere:
            others = " and ".join(sorted(records.elsewhere))
            damage = [f"there is no audit record of environment {settings.environment}, only of {others}"]
        if damage and not open_cases:
            raise UsageError(*(f"--from: {what}" for what in (*damage, *passed_over(records))))
    except OSError as error:
        raise UsageError(f"--from: {cannot_be_read(error)}") from None
    return _Read(open_cases, damage, passed_over(records))


def _is_read_again(case: Unconfirmed, now: datetime) -> bool:
    """Whether what runs have recorded of it since may end it, or open it again."""
    return case.survived_at is not None or (case.gone_at is not None and now - case.gone_at <= REACH)


def _is_empty(place: str, begin: datetime, settings: Settings) -> bool:
    return next(iter(AuditRecords(open_places([place], begin, settings))), None) is None


def _verdict(finished: RunFinished) -> str:
    return f"{outcomes_counted(finished) or 'Nothing to confirm'}."


VIEW = View(verdict=_verdict)
