"""Check whether Leonardo pauses what is idle, runtime by runtime.

It stops what autopause missed only if told to. The findings, of which the first match wins (idle: since last access):

* Stopped: paused, as it should be; Error: errored;
* in transition (Creating, Starting, Stopping, Updating, Deleting) for stuck-after (2 h) or longer: stuck;
* Running, its threshold below 0: threshold_negative (paused at once); 0: autopause_off; above autopause-max-threshold
  (10 d): threshold_too_long;
* Running, idle for less than its threshold and autopause-margin (15 min): in_use;
* Running, idle for less than kernel-busy-limit (24 h, or its threshold) and the margin: kernel_may_be_busy;
* Running, idle for longer: autopause_overdue; with --stop-overdue and --no-dry-run it is stopped.

Findings alone are no failure: the exit code is 0.
"""

import argparse
from collections.abc import Callable
from datetime import datetime

from core.clock import utc_now
from core.leonardo.client import Leonardo
from core.records.events import RunFinished, RuntimeAudited, StopRequested
from core.records.outcome import Outcome
from core.rules.autopause import AutopausePolicy
from core.rules.decision import Reason
from core.run.opening import run
from core.run.prepare import SweepingJob, sweep
from core.run.running import Host
from core.run.treatment import Act
from core.runtime import RuntimeStatus
from core.screen.columns import IDLE, OUTCOME, OVERDUE, REASON, STATUS, THRESHOLD, WHOSE, View
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, GUARD_FLAGS, REPORT_FLAGS, SCOPE_FLAGS, add_words_of_acting

NAME = AutopausePolicy.job
EXAMPLES = (
    "leo-lifecycle check-autopause --sandbox   # on a made-up fleet",
    "leo-lifecycle check-autopause --leonardo-url URL --project terra-12   # the findings of one project",
    "leo-lifecycle check-autopause --leonardo-url URL --stop-overdue --no-dry-run   # stops what autopause missed",
)
FLAGS = (
    *SCOPE_FLAGS,
    *AutopausePolicy.limits(),
    "exemptions",
    *GUARD_FLAGS,
    *CONNECTION_FLAGS,
    *REPORT_FLAGS,
)
WORST_FIRST = (
    Reason.AUTOPAUSE_OVERDUE,
    Reason.STUCK,
    Reason.THRESHOLD_UNREAD,
    Reason.THRESHOLD_NEGATIVE,
    Reason.ERRORED,
    Reason.AUTOPAUSE_OFF,
    Reason.THRESHOLD_TOO_LONG,
    Reason.STATUS_UNKNOWN,
    Reason.UNDATED,
    Reason.FUTURE_DATED,
    Reason.KERNEL_MAY_BE_BUSY,
    Reason.DUPLICATE,
    Reason.CLOUD_NOT_SUPPORTED,
)
"""What a person should look at; the others are as they should be."""
IN_WORDS = {
    Reason.AUTOPAUSE_OVERDUE: "overdue",
    Reason.AUTOPAUSE_OFF: "switched off",
    Reason.THRESHOLD_TOO_LONG: "with too long a threshold",
    Reason.KERNEL_MAY_BE_BUSY: "possibly busy",
    Reason.THRESHOLD_UNREAD: "unread",
    Reason.THRESHOLD_NEGATIVE: "with a negative threshold",
}
"""The findings of Running runtimes, beside those in use."""
LEFT_STANDING = {Reason.STUCK: "stuck", Reason.ERRORED: "in error"}
"""Findings of others, which somebody must see to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_words_of_acting(parser)


def main(
    settings: Settings, arguments: argparse.Namespace, *, wall: Callable[[], datetime] = utc_now, host: Host = run
) -> int:
    policy = settings.policy(AutopausePolicy)
    method = "POST" if policy.stop_overdue else None
    return sweep(
        SweepingJob(name=NAME, policy=policy, act=stop, method=method, view=VIEW, typed=arguments.typed, wall=wall),
        settings,
        host,
    )


def stop(leonardo: Leonardo) -> Act:
    return Act(
        intent=StopRequested,
        send=leonardo.stop_runtime,
        would=Outcome.WOULD_STOP,
        accepted=Outcome.STOP_ACCEPTED,
        done=frozenset({RuntimeStatus.STOPPING, RuntimeStatus.STOPPED}),
        gone=Outcome.GONE,
        conflict=lambda _: Outcome.CONFLICT,
        hint="stopping needs the action stop_start on the runtime, which owners of its billing project have since 2025",
    )


def _verdict(finished: RunFinished) -> str:
    others = {words: finished.reasons.get(reason, 0) for reason, words in IN_WORDS.items()}
    healthy = finished.reasons.get(Reason.IN_USE, 0)
    running = healthy + sum(others.values())
    others |= {words: finished.reasons.get(reason, 0) for reason, words in LEFT_STANDING.items()}
    beside = ", ".join(f"{count:,} {words}" for words, count in others.items() if count)
    healthy_for = f"autopause is healthy for {healthy:,} of {running:,} running runtimes"
    return f"{healthy_for}; {beside}." if beside else f"{healthy_for}."


def _worst(row: RuntimeAudited) -> tuple[int, float, str, str]:
    return WORST_FIRST.index(row.reason), -(row.overdue_s or row.idle_s or 0), row.project or "", row.name or ""


VIEW = View(
    title="Findings, worst first",
    is_row=lambda row: row.reason in WORST_FIRST,
    order=_worst,
    columns=(WHOSE, (STATUS, THRESHOLD), (IDLE, OVERDUE), (REASON, OUTCOME)),
    verdict=_verdict,
)
