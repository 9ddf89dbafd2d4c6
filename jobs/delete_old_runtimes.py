"""Delete runtimes that are too old, or old and idle.

It only says what it would do unless told --no-dry-run. The rule, of which the first match wins (age: since creation;
idle: since last access; both at one instant, to the millisecond):

* not on Google Cloud, or listed before: kept;
* any status but Running and Stopped (and Error, with delete-errored): kept;
* a date that is missing, unreadable, impossible or in the future: kept;
* an exemption that has not lapsed: kept;
* older than max-age (14 d): deleted;
* idle for idle-after (4 h) or longer, and older than max-age-if-idle (7 d): deleted,
  unless spare-possibly-busy is on and a kernel may be busy;
* either, but with notice-period its owner was not told of it that long before: kept;
* everything else: kept.

The disk is always kept; a runtime without a persistent disk loses its local data.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from core.clock import utc_now
from core.exit_code import ExitCode
from core.leonardo.client import Leonardo
from core.leonardo.errors import LeonardoError
from core.records.events import DeletionRequested, RunFinished, RuntimeAudited
from core.records.outcome import Outcome
from core.rules.deletion import DeletionPolicy
from core.run.opening import run
from core.run.prepare import SweepingJob, sweep
from core.run.running import Host
from core.run.treatment import Act
from core.runtime import RuntimeStatus
from core.screen.columns import AGE, DISK, IDLE, OUTCOME, REASON, STATUS, WHOSE, View, outcomes_counted
from core.screen.standard_output import say
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, GUARD_FLAGS, REPORT_FLAGS, SCOPE_FLAGS, add_words_of_acting
from core.settings.reading import load_settings

NAME = DeletionPolicy.job
EXAMPLES = (
    "leo-lifecycle delete-old-runtimes --sandbox   # on a made-up fleet",
    "leo-lifecycle delete-old-runtimes --leonardo-url URL --audit-file plan.jsonl   # a dry run: the plan",
    "leo-lifecycle delete-old-runtimes --leonardo-url URL --no-dry-run --plan plan.jsonl   # what was planned, done",
)
FLAGS = (
    *SCOPE_FLAGS,
    "inventory",
    *DeletionPolicy.limits(),
    "exemptions",
    *GUARD_FLAGS,
    *CONNECTION_FLAGS,
    *REPORT_FLAGS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_words_of_acting(parser)
    parser.add_argument(
        "--cases",
        type=Path,
        metavar="FILE",
        help="ask nobody: judge the runtimes of this file, and end in 1 where one is not decided as it expects; by the"
        " policy of ENV.yaml and ENV.exemptions.yaml where they stand beside ENV.cases.yaml, flags above them",
    )


def _verdict(finished: RunFinished) -> str:
    return f"{finished.listed:,} listed: {outcomes_counted(finished) or 'none'}."


def _most_overdue(row: RuntimeAudited) -> tuple[datetime, str, str]:
    return row.due_at or row.judged_at, row.project or "", row.name or ""


VIEW = View(
    title="Due, most overdue first",
    is_row=lambda row: row.outcome is not Outcome.KEPT,
    order=_most_overdue,
    columns=(WHOSE, (STATUS, DISK), (AGE, IDLE), (REASON, OUTCOME)),
    verdict=_verdict,
)


def main(
    settings: Settings, arguments: argparse.Namespace, *, wall: Callable[[], datetime] = utc_now, host: Host = run
) -> int:
    policy = settings.policy(DeletionPolicy)
    return sweep(
        SweepingJob(
            name=NAME, policy=policy, act=deletion, method="DELETE", view=VIEW, typed=arguments.typed, wall=wall
        ),
        settings,
        host,
    )


def judge_cases(flags: Mapping[str, object], arguments: argparse.Namespace) -> int:
    """What the policy says otherwise than the file of cases. Raises UsageError."""
    from core.settings import cases  # noqa: PLC0415 - a run has none

    path, now = arguments.cases, utc_now()
    settings = load_settings(
        flags, arguments.config, now, deployed=cases.environment_beside(path), pins=arguments.pins, shown=True
    )
    verdict = cases.judge(path, settings.policy(DeletionPolicy), settings.as_of or now)
    say("".join(f"{line}\n" for line in verdict.lines).encode())
    return ExitCode.DONE if verdict.as_expected else ExitCode.FAILED


def deletion(leonardo: Leonardo) -> Act:
    return Act(
        intent=DeletionRequested,
        send=leonardo.delete_runtime,
        would=Outcome.WOULD_DELETE,
        accepted=Outcome.DELETION_ACCEPTED,
        done=frozenset({RuntimeStatus.DELETING, RuntimeStatus.DELETED}),
        gone=Outcome.DELETION_ACCEPTED,
        conflict=_meaning_of_conflict,
    )


def _meaning_of_conflict(error: LeonardoError) -> Outcome:
    """Only the message shows the true status; a `Pre*` one is masked everywhere else."""
    deleting = re.search(r"\b(Pre)?Deleting\b", error.message)
    return Outcome.ALREADY_DELETING if deleting else Outcome.CONFLICT
