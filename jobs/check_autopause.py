"""Check whether Leonardo's autopause does its work, runtime by runtime; stop what it missed only if told to.

The findings, first match wins (idle: since last access):

* Stopped: paused, as it should be; Error: errored;
* in transition (Creating, Starting, Stopping, Updating, Deleting) for stuck-after (2 h) or longer: stuck;
* Running, its threshold 0: autopause_off; above autopause-max-threshold (10 d): threshold_too_long;
* Running, idle for less than its threshold and autopause-margin (15 min): in_use;
* Running, idle for less than kernel-busy-limit (24 h, or its threshold) and the margin: kernel_may_be_busy;
* Running, idle for longer: autopause_overdue; with --stop-overdue and --no-dry-run it is stopped.

Findings alone are no failure: the exit code is 0.
"""

import argparse
from datetime import datetime

from core.leonardo.client import Leonardo
from core.records.events import Outcome, RunFinished, RuntimeAudited, StopRequested
from core.rules.autopause import check, explain
from core.rules.decision import Decision, Reason
from core.run.prepare import SweepingJob, sweep
from core.run.sweep import Act
from core.runtime import Runtime, RuntimeStatus
from core.screen.columns import IDLE, OUTCOME, OVERDUE, REASON, STATUS, THRESHOLD, WHOSE, View
from core.settings.fields import Settings
from core.settings.flags import CONNECTION_FLAGS, GUARD_FLAGS, REPORT_FLAGS, SCOPE_FLAGS

NAME = "check-autopause"
FLAGS = (
    *SCOPE_FLAGS,
    "stop_overdue",
    "autopause_max_threshold",
    "autopause_margin",
    "kernel_busy_limit",
    "stuck_after",
    "plan",
    "plan_max_age",
    *GUARD_FLAGS,
    *CONNECTION_FLAGS,
    *REPORT_FLAGS,
)
WORST_FIRST = (
    Reason.AUTOPAUSE_OVERDUE,
    Reason.STUCK,
    Reason.THRESHOLD_UNREAD,
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
}
"""The findings of Running runtimes, beside those in use."""


def main(settings: Settings, _: argparse.Namespace) -> int:
    policy = settings.autopause_policy

    def judge(runtime: Runtime, instant: datetime, *, repeated: bool, second_look: bool) -> Decision:  # noqa: ARG001 - each look is judged alike
        return check(runtime, runtime.autopause_threshold, policy, instant, repeated=repeated)

    job = SweepingJob(
        name=NAME,
        in_a_sentence=str(policy),
        judge=judge,
        explain=explain,
        act=stop,
        method="POST" if policy.stop_overdue else None,
        look_first=lambda decision: decision.reason is Reason.THRESHOLD_UNREAD,
        policy=policy.fields,
        plan=settings.plan,
        view=VIEW,
    )
    return sweep(job, settings)


def stop(leonardo: Leonardo) -> Act:
    return Act(
        intent=StopRequested,
        send=leonardo.stop_runtime,
        would=Outcome.WOULD_STOP,
        accepted=Outcome.STOP_ACCEPTED,
        done=frozenset({RuntimeStatus.STOPPING, RuntimeStatus.STOPPED}),
        conflict=lambda _: Outcome.CONFLICT,
        hint="stopping may need the runtime's creator or the project action stop_start_notebook_cluster",
    )


def _verdict(finished: RunFinished) -> str:
    others = {words: finished.reasons.get(reason, 0) for reason, words in IN_WORDS.items()}
    healthy = finished.reasons.get(Reason.IN_USE, 0)
    running = healthy + sum(others.values())
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
