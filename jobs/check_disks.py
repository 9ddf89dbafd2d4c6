"""Check which disks are attached to no runtime, and what they come to.

Deletions keep the disk of a runtime, for ever: the list of disks is held against the list of runtimes, and each disk is
recorded with its size, its creator, since when it is unused and, where a deletion of ours has left it, the run. The
findings, of which the first match wins:

* Creating, Restoring or Deleting for stuck-after (2 h) or longer: stuck;
* a runtime names it: attached;
* else: unattached. The disk of an app is, too: only runtimes say which disk they have.

Nothing is changed in Leonardo, and findings alone are no failure: the exit code is 0. Which deletion has left a disk is
told by the log to which this run's own records go (audit-cloud-log, audit-file, or the folder audit/).
"""

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta

from core.clock import utc_now
from core.records.events import RunFinished
from core.review.disks import is_left, largest_first, totals
from core.rules.disks import DiskPolicy, DiskReason
from core.run.account import Account, opening_record
from core.run.disks import ABOUT_KEPT_DISKS, CheckingDisks, left_by_runs
from core.run.opening import run, task_of_environment
from core.run.prepare import on_record, runs_on_record, scope_of
from core.run.previous import predecessor
from core.run.running import Host, Job, Running
from core.screen.columns import DISKS, DISKS_LEFT, View
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, REPORT_FLAGS

NAME = DiskPolicy.job
EXAMPLES = (
    "leo-lifecycle check-disks --sandbox   # on a made-up fleet",
    "leo-lifecycle check-disks --leonardo-url URL --project terra-12   # the disks of one project",
    "leo-lifecycle check-disks --leonardo-url URL --audit-file audit.jsonl   # and which run has left each",
)
FLAGS = (
    *("leonardo_url", "sandbox", "projects", "projects_file"),
    *DiskPolicy.limits(),
    *CONNECTION_FLAGS,
    *REPORT_FLAGS,
)
REACH = timedelta(days=400)
"""How far back the log is asked for deletions: as long as the example environments keep it."""
READING = 300.0
"""Seconds for that: a page of 1000 records takes Cloud Logging about one."""


def main(settings: Settings, _: argparse.Namespace, *, wall: Callable[[], datetime] = utc_now, host: Host = run) -> int:
    policy = settings.policy(DiskPolicy)
    job = Job(name=NAME, policy=policy, method=None, view=VIEW, wall=wall)
    task = task_of_environment()
    projects = scope_of(settings, task).projects

    async def work(running: Running) -> int:
        account = Account(running)
        earlier, unread = await runs_on_record(running)
        deletions, also = await on_record(running, REACH, ABOUT_KEPT_DISKS, within=READING)
        if unread or also:
            account.warnings.append(f"which disks deletions of ours have left is not known: {unread or also}")
        started = opening_record(job, running, follows=predecessor(earlier, running.task.execution))
        checking = CheckingDisks(running, account, policy, left_by_runs(deletions))
        return await checking.run(started, projects)

    return host(job, settings, task, work)


def _verdict(finished: RunFinished) -> str:
    counts = ", ".join(f"{finished.reasons.get(reason, 0):,} {reason}" for reason in DiskReason)
    return f"{sum(finished.reasons.values()):,} disks: {counts}."


VIEW = View(
    title=DISKS_LEFT,
    is_row=is_left,
    order=largest_first,
    columns=DISKS,
    verdict=_verdict,
    totals=totals,
)
