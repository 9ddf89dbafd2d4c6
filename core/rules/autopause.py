"""The autopause check: does Leonardo pause what is idle? Nothing here pauses anything."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from core.rules.decision import (
    Action,
    Decision,
    Reason,
    explain_listing,
    fault_of_dates,
    fault_of_listing,
    since,
)
from core.rules.exemptions import longest, matching
from core.rules.policy import RuntimePolicy
from core.rules.words import NO_TIME, in_words
from core.runtime import Runtime, RuntimeStatus

IN_TRANSITION = frozenset(
    {
        RuntimeStatus.CREATING,
        RuntimeStatus.STARTING,
        RuntimeStatus.STOPPING,
        RuntimeStatus.UPDATING,
        RuntimeStatus.DELETING,
    }
)
OFF = timedelta(0)
KERNEL_BUSY_LIMIT = timedelta(hours=24)
"""Leonardo lets a busy kernel hold off the pause this long (its `maxKernelBusyLimit`)."""
AUTOPAUSE_MARGIN = timedelta(minutes=15)
"""Added for Leonardo's sweep delay, its rounding to minutes and late activity."""

SENTENCES = {
    Reason.PAUSED: "it is paused",
    Reason.ERRORED: "in error since {accessed}",
    Reason.STUCK: "stuck in {status} since {accessed}, {idle} ago",
    Reason.IN_TRANSITION: "in {status} for {idle}",
    Reason.THRESHOLD_UNREAD: "its autopause threshold was not read",
    Reason.THRESHOLD_NEGATIVE: "its threshold {threshold} is negative, so that it is paused at once; idle for {idle}",
    Reason.AUTOPAUSE_OFF: "autopause is switched off; idle for {idle}",
    Reason.THRESHOLD_TOO_LONG: "threshold {threshold} is too long to be of use; idle for {idle}",
    Reason.IN_USE: "in use: idle for {idle}, threshold {threshold}",
    Reason.KERNEL_MAY_BE_BUSY: "idle for {idle}, threshold {threshold}, but a kernel may be busy",
    Reason.AUTOPAUSE_OVERDUE: "autopause is overdue: idle for {idle}, threshold {threshold}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AutopausePolicy(RuntimePolicy):
    """What counts as a finding."""

    job: ClassVar[str] = "check-autopause"
    autopause_max_threshold: timedelta
    """A longer threshold is as good as none."""
    autopause_margin: timedelta = AUTOPAUSE_MARGIN
    kernel_busy_limit: timedelta = KERNEL_BUSY_LIMIT
    stuck_after: timedelta
    """In transition for this long or longer is stuck."""
    stop_overdue: bool = False

    def __str__(self) -> str:
        act = ", and stop it" if self.stop_overdue else ""
        return (
            f"a Running runtime is paused within {in_words(self.autopause_margin)} of its threshold, or of"
            f" {in_words(self.kernel_busy_limit)} if a kernel may be busy; say where it is not{act}"
        )

    def judge(
        self,
        runtime: Runtime,
        instant: datetime,
        *,
        repeated: bool = False,
        second_look: bool = False,  # noqa: ARG002 - each look is judged alike
    ) -> Decision:
        """What can be said of one runtime's autopause at an instant; total. The first match wins.

        * not on GCP (`cloud_not_supported`); its `id` a second time in a list (`duplicate`);
          status Unknown, null or a word we do not know (`status_unknown`);
        * Stopped (`paused`); Error (`errored`);
        * a date missing, unreadable or implausible (`undated`), or more than 5 minutes after the instant
          (`future_dated`);
        * Creating, Starting, Stopping, Updating or Deleting, for stuck_after or longer and with no patch in progress
          (`stuck`), else `in_transition`; every change of status sets `dateAccessed`, so that tells since when;
        * any other than Running (`status_not_eligible`);
        * the threshold is not known (`threshold_unread`), below 0 (`threshold_negative`: it is paused at once),
          0 (`autopause_off`), or above autopause_max_threshold (`threshold_too_long`);
        * idle < threshold + margin (`in_use`);
        * idle < max(threshold, kernel busy limit) + margin (`kernel_may_be_busy`);
        * otherwise `autopause_overdue`, the only reason to stop a runtime, where stop_overdue says so and no exemption
          spares it.
        """
        age, idle = since(runtime.created_date, instant), since(runtime.date_accessed, instant)
        reason = self._reason(runtime, age, idle, repeated=repeated)
        places = matching(self.exemptions, runtime)
        exemption = longest(self.exemptions, places)
        spared = exemption is not None and not exemption.lapsed(instant)
        late = reason in (Reason.KERNEL_MAY_BE_BUSY, Reason.AUTOPAUSE_OVERDUE)
        threshold = runtime.autopause_threshold
        return Decision(
            action=Action.STOP
            if reason is Reason.AUTOPAUSE_OVERDUE and self.stop_overdue and not spared
            else Action.KEEP,
            reason=reason,
            judged_at=instant,
            age=age,
            idle=idle,
            exemption=exemption,
            overdue=idle - threshold if late and idle is not None and threshold is not None else None,
            matching=places,
        )

    def explain(self, runtime: Runtime, decision: Decision) -> str:
        if decision.reason not in SENTENCES:
            return explain_listing(runtime, decision)
        sentence = SENTENCES[decision.reason].format(
            status=runtime.status,
            accessed="an unknown time" if runtime.date_accessed is None else f"{runtime.date_accessed:%Y-%m-%d %H:%M}Z",
            idle="an unknown time" if decision.idle is None else in_words(decision.idle),
            threshold="unread" if runtime.autopause_threshold is None else in_words(runtime.autopause_threshold),
        )
        exemption = decision.exemption
        if decision.reason is Reason.AUTOPAUSE_OVERDUE and exemption and not exemption.lapsed(decision.judged_at):
            return f"{sentence}; {exemption.in_words}"
        return sentence

    def needs_look(self, decision: Decision) -> bool:
        """Lists do not carry the threshold."""
        return decision.reason is Reason.THRESHOLD_UNREAD

    def _reason(self, runtime: Runtime, age: timedelta | None, idle: timedelta | None, *, repeated: bool) -> Reason:
        if fault := fault_of_listing(runtime, repeated=repeated):
            return fault
        if runtime.status == RuntimeStatus.STOPPED:
            return Reason.PAUSED
        if runtime.status == RuntimeStatus.ERROR:
            return Reason.ERRORED
        if fault := fault_of_dates(runtime.created_date, runtime.date_accessed, age, idle):
            return fault
        idle = idle or NO_TIME
        if runtime.status in IN_TRANSITION:
            stuck = idle >= self.stuck_after and not runtime.patch_in_progress
            return Reason.STUCK if stuck else Reason.IN_TRANSITION
        if runtime.status != RuntimeStatus.RUNNING:
            return Reason.STATUS_NOT_ELIGIBLE
        return self._of_running(idle, runtime.autopause_threshold)

    def _of_running(self, idle: timedelta, threshold: timedelta | None) -> Reason:
        if threshold is None:
            return Reason.THRESHOLD_UNREAD
        if threshold < OFF:
            return Reason.THRESHOLD_NEGATIVE
        if threshold == OFF:
            return Reason.AUTOPAUSE_OFF
        if threshold > self.autopause_max_threshold:
            return Reason.THRESHOLD_TOO_LONG
        if idle < threshold + self.autopause_margin:
            return Reason.IN_USE
        if kernel_may_be_busy(idle, threshold, busy_limit=self.kernel_busy_limit, margin=self.autopause_margin):
            return Reason.KERNEL_MAY_BE_BUSY
        return Reason.AUTOPAUSE_OVERDUE


def kernel_may_be_busy(
    idle: timedelta, threshold: timedelta | None, *, busy_limit: timedelta, margin: timedelta
) -> bool:
    """Whether a Running runtime this idle may be held up by a busy kernel: the API cannot tell.

    True below max(threshold, busy limit) + margin. An unread threshold could be of any length, so it is always True.
    """
    return threshold is None or idle < max(threshold, busy_limit) + margin
