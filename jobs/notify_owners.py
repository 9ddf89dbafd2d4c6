"""Tell owners what will be deleted of theirs, and when.

Of the newest deletion run over the whole fleet, under this policy and at most 6 h old, each runtime that is due within
notice-ahead (48 h) and whose owner was not told yet: one POST to notice-url for each owner, a CloudEvents 1.0 batch. It
says before when no run deletes the runtime (not_before: due_at, or notice-period from now if that is later), when it is
due if nobody uses it (due_at), when it goes whatever anybody does (final_at), and what becomes of its disk. What
delivers it to a person is behind that URL. Each incarnation has one notice, with one notice_id however often sent.

It only says whom it would tell unless told --no-dry-run. The runs, and who was told, are read where this run's own
records go (audit-cloud-log, audit-file, or the folder audit/). An owner who could not be told makes the exit code 1,
and is told by the next run. To an https URL goes an identity token of the caller's own Google account.
"""

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

from core.background import in_background
from core.clock import utc_now
from core.leonardo.errors import CredentialsError
from core.records.events import RunFinished, policy_digest
from core.records.selection import Match
from core.review.notices import OLDEST, SENT, is_told_of, newest_run, untold
from core.rules.deletion import DeletionPolicy
from core.rules.guards import Guard, Refusal
from core.rules.notices import NoticePolicy
from core.rules.words import in_words
from core.run.account import Account, opening_record
from core.run.notices import Notifying
from core.run.opening import run, task_of_environment
from core.run.prepare import on_record, runs_on_record
from core.run.previous import REACH, predecessor
from core.run.receiver import Receiver
from core.run.running import Host, Job, Running
from core.screen.columns import View
from core.settings.faults import UsageError
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, REPORT_FLAGS

NAME = NoticePolicy.job
EXAMPLES = (
    "leo-lifecycle notify-owners --leonardo-url URL --audit-file audit.jsonl   # whom it would tell",
    "leo-lifecycle notify-owners --leonardo-url URL --notice-url URL --no-dry-run --audit-file audit.jsonl",
    "leo-lifecycle notify-owners --leonardo-url URL --audit-file audit.jsonl --notice-ahead 5d   # of five days",
)
NO_RUN = f"no deletion run of the last {in_words(OLDEST)} has read the whole fleet under this policy"
FLAGS = (
    *("dry_run", "leonardo_url", "sandbox"),
    *NoticePolicy.limits(),
    *(name for name in DeletionPolicy.limits() if name not in NoticePolicy.limits()),
    *("exemptions", "notice_url"),
    *CONNECTION_FLAGS,
    *REPORT_FLAGS,
)


def main(settings: Settings, _: argparse.Namespace, *, wall: Callable[[], datetime] = utc_now, host: Host = run) -> int:
    if settings.audit_creator == "omit":
        raise UsageError("audit-creator: omit: nobody can be told of what has no owner on record")
    if settings.notice_url is None and not settings.dry_run:
        raise UsageError("notice-url is missing: where are notices posted?")
    policy, deletion = settings.policy(NoticePolicy), settings.policy(DeletionPolicy)
    digest = policy_digest(deletion.written(), deletion.exemptions)
    job = Job(name=NAME, policy=policy, method=None, view=VIEW, wall=wall)

    async def work(running: Running) -> int:
        async with _receiver(running) as receiver:
            account, now = Account(running), running.clock.now()
            earlier, unread = await runs_on_record(running)
            await account.open(opening_record(job, running, follows=predecessor(earlier, running.task.execution)))
            newest = newest_run(earlier, digest, now)
            if newest is None:
                what = unread or NO_RUN
                account.refuse([Refusal(Guard.NOTICES, f"who is to be told is not known: {what}")], candidates=0)
                return await account.close()
            wanted = (*SENT, Match(events=("runtime_audited",), run_ids=(newest.run_id,)))
            asked_for = partial(is_told_of, run_id=newest.run_id, until=now + policy.notice_ahead)
            records, unread = await on_record(running, max(REACH, deletion.max_age), wanted, asked_for)
            if unread:
                account.warnings.append(f"who was told before is not known for certain: {unread}")
            await Notifying(running, account, policy, receiver).run(untold(records, deletion))
            return await account.close()

    return host(job, settings, task_of_environment(), work)


@asynccontextmanager
async def _receiver(running: Running) -> AsyncIterator[Receiver | None]:
    """None where nobody is told. Raises UsageError."""
    settings = running.settings
    if settings.dry_run or settings.notice_url is None:
        yield None
        return
    address, credentials = urlsplit(settings.notice_url), None
    if address.scheme.lower() == "https" and settings.auth == "google":
        from core.leonardo.credentials import google_identity  # noqa: PLC0415 - 200 ms that other runs do without

        try:
            credentials = await in_background(google_identity, f"https://{address.netloc}")
        except CredentialsError as error:
            raise UsageError(f"notice-url: {error}") from None
    receiver = Receiver(
        settings.notice_url,
        clock=running.clock,
        credentials=credentials,
        timeout=settings.request_timeout.total_seconds(),
        count=settings.write_concurrency,
        connect=running.connect,
    )
    try:
        yield receiver
    finally:
        await receiver.aclose()


def _verdict(finished: RunFinished) -> str:
    told, failed = (finished.outcomes.get(f"notice_{word}", 0) for word in ("sent", "failed"))
    return f"{finished.outcomes.get('notice_requested', 0):,} to be told of: {told:,} told, {failed:,} not."


VIEW = View(verdict=_verdict)
