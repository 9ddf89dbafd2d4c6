"""The autopause check: does Leonardo pause what is idle? Nothing here pauses anything."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from core.rules.decision import Action, Decision, Reason, explain_listing, fault_of_listing, future_dated, since
from core.rules.words import in_words
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AutopauseLimits:
    """How long a pause may take to come."""

    kernel_busy_limit: timedelta
    """Leonardo lets a busy kernel hold off the pause this long (its `maxKernelBusyLimit`)."""
    margin: timedelta
    """Added for Leonardo's sweep delay, its rounding to minutes and late activity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutopausePolicy:
    """What counts as a finding."""

    limits: AutopauseLimits
    max_threshold: timedelta
    """A longer threshold is as good as none."""
    stuck_after: timedelta
    """In transition for this long or longer is stuck."""
    stop_overdue: bool

    def __str__(self) -> str:
        act = ", and stop it" if self.stop_overdue else ""
        return (
            f"a Running runtime is paused within {in_words(self.limits.margin)} of its threshold, or of"
            f" {in_words(self.limits.kernel_busy_limit)} if a kernel may be busy; say where it is not{act}"
        )

    @property
    def fields(self) -> dict[str, float | bool]:
        """The limits by name, durations in seconds."""
        return {
            "autopause_max_threshold_s": self.max_threshold.total_seconds(),
            "autopause_margin_s": self.limits.margin.total_seconds(),
            "kernel_busy_limit_s": self.limits.kernel_busy_limit.total_seconds(),
            "stuck_after_s": self.stuck_after.total_seconds(),
            "stop_overdue": self.stop_overdue,
        }


def kernel_may_be_busy(idle: timedelta, threshold: timedelta | None, limits: AutopauseLimits) -> bool:
    """Whether a Running runtime this idle may be held up by a busy kernel: the API cannot tell.

    True below max(threshold, busy limit) + margin. An unread threshold could be of any length, so it is always True.
    """
    if threshold is None:
        return True
    return idle < max(threshold, limits.kernel_busy_limit) + limits.margin


def check(
    runtime: Runtime,
    threshold: timedelta | None,
    policy: AutopausePolicy,
    instant: datetime,
    *,
    repeated: bool = False,
) -> Decision:
    """What can be said of one runtime's autopause at an instant; total. The first match wins.

    * not on GCP (`cloud_not_supported`); its `id` a second time in a list (`duplicate`);
      status Unknown, null or a word we do not know (`status_unknown`);
    * Stopped (`paused`); Error (`errored`);
    * a date missing or unreadable (`undated`), or more than 5 minutes after the instant (`future_dated`);
    * Creating, Starting, Stopping, Updating or Deleting, for stuck_after or longer (`stuck`), or less
      (`in_transition`); every change of status sets `dateAccessed`, so that tells since when;
    * any other than Running (`status_not_eligible`);
    * the threshold is not known (`threshold_unread`), is 0 (`autopause_off`), or above max_threshold
      (`threshold_too_long`);
    * idle < threshold + margin (`in_use`);
    * idle < max(threshold, kernel busy limit) + margin (`kernel_may_be_busy`);
    * otherwise `autopause_overdue`, the only reason to stop a runtime, where stop_overdue says so.
    """
    age, idle = since(runtime.created_date, instant), since(runtime.date_accessed, instant)
    reason = _first_match(runtime, threshold, policy, age=age, idle=idle, repeated=repeated)
    late = reason in (Reason.KERNEL_MAY_BE_BUSY, Reason.AUTOPAUSE_OVERDUE)
    return Decision(
        action=Action.STOP if reason is Reason.AUTOPAUSE_OVERDUE and policy.stop_overdue else Action.KEEP,
        reason=reason,
        judged_at=instant,
        age=age,
        idle=idle,
        overdue=idle - threshold if late and idle is not None and threshold is not None else None,
    )


def _first_match(
    runtime: Runtime,
    threshold: timedelta | None,
    policy: AutopausePolicy,
    *,
    age: timedelta | None,
    idle: timedelta | None,
    repeated: bool,
) -> Reason:
    if fault := fault_of_listing(runtime, repeated=repeated):
        return fault
    if runtime.status == RuntimeStatus.STOPPED:
        return Reason.PAUSED
    if runtime.status == RuntimeStatus.ERROR:
        return Reason.ERRORED
    if age is None or idle is None:
        return Reason.UNDATED
    if future_dated(age, idle):
        return Reason.FUTURE_DATED
    if runtime.status in IN_TRANSITION:
        return Reason.STUCK if idle >= policy.stuck_after else Reason.IN_TRANSITION
    if runtime.status != RuntimeStatus.RUNNING:
        return Reason.STATUS_NOT_ELIGIBLE
    return _of_running(idle, threshold, policy)


def _of_running(idle: timedelta, threshold: timedelta | None, policy: AutopausePolicy) -> Reason:
    if threshold is None or threshold < OFF:
        return Reason.THRESHOLD_UNREAD
    if threshold == OFF:
        return Reason.AUTOPAUSE_OFF
    if threshold > policy.max_threshold:
        return Reason.THRESHOLD_TOO_LONG
    if idle < threshold + policy.limits.margin:
        return Reason.IN_USE
    if kernel_may_be_busy(idle, threshold, policy.limits):
        return Reason.KERNEL_MAY_BE_BUSY
    return Reason.AUTOPAUSE_OVERDUE


SENTENCES = {
    Reason.PAUSED: "it is paused",
    Reason.ERRORED: "in error since {accessed}",
    Reason.STUCK: "stuck in {status} since {accessed}, {idle} ago",
    Reason.IN_TRANSITION: "in {status} for {idle}",
    Reason.THRESHOLD_UNREAD: "its autopause threshold was not read",
    Reason.AUTOPAUSE_OFF: "autopause is switched off; idle for {idle}",
    Reason.THRESHOLD_TOO_LONG: "threshold {threshold} is too long to be of use; idle for {idle}",
    Reason.IN_USE: "in use: idle for {idle}, threshold {threshold}",
    Reason.KERNEL_MAY_BE_BUSY: "idle for {idle}, threshold {threshold}, but a kernel may be busy",
    Reason.AUTOPAUSE_OVERDUE: "autopause is overdue: idle for {idle}, threshold {threshold}",
}


def explain(runtime: Runtime, decision: Decision) -> str:
    """Why, in words and with the numbers that decided."""
    if decision.reason not in SENTENCES:
        return explain_listing(runtime, decision)
    return SENTENCES[decision.reason].format(
        status=runtime.status,
        accessed="an unknown time" if runtime.date_accessed is None else f"{runtime.date_accessed:%Y-%m-%d %H:%M}Z",
        idle="an unknown time" if decision.idle is None else in_words(decision.idle),
        threshold="unread" if runtime.autopause_threshold is None else in_words(runtime.autopause_threshold),
    )
