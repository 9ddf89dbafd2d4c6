"""The autopause check, at its boundaries and as a whole."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.autopause import IN_TRANSITION, AutopausePolicy, kernel_may_be_busy
from core.rules.decision import Action, Decision, Reason
from core.rules.exemptions import Exemption
from core.runtime import Runtime, RuntimeStatus

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
DAY, HOUR, MINUTE, MS = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(milliseconds=1)
OFF = timedelta(0)
POLICY = AutopausePolicy(
    kernel_busy_limit=24 * HOUR,
    autopause_margin=15 * MINUTE,
    autopause_max_threshold=10 * DAY,
    stuck_after=2 * HOUR,
    stop_overdue=False,
)
STOPPING = replace(POLICY, stop_overdue=True)


def with_threshold(runtime: Runtime, threshold: timedelta | None) -> Runtime:
    return runtime._replace(autopause_threshold=threshold)


def a_runtime(status: str | None = "Running", *, idle: timedelta = OFF, cloud: str | None = "GCP") -> Runtime:
    return Runtime(
        id="1",
        project="terra-1",
        name="n",
        cloud_provider=cloud,
        status=status,
        created_date=NOW - 30 * DAY,
        date_accessed=NOW - idle,
        labels={},
    )


def reason(runtime: Runtime, threshold: timedelta | None = None, **how: bool) -> Reason:
    return POLICY.judge(runtime._replace(autopause_threshold=threshold), NOW, **how).reason


def test_what_is_not_on_google_cloud_or_was_listed_before_or_has_no_known_status_is_said_first() -> None:
    assert reason(a_runtime("Stopped", cloud="AZURE"), repeated=True) is Reason.CLOUD_NOT_SUPPORTED
    assert reason(a_runtime(None), repeated=True) is Reason.DUPLICATE
    for status in (None, "Unknown", "Odd"):
        assert reason(a_runtime(status)._replace(created_date=None)) is Reason.STATUS_UNKNOWN


def test_paused_and_errored_need_no_dates_and_the_others_do() -> None:
    for status, expected in (("Stopped", Reason.PAUSED), ("Error", Reason.ERRORED), ("Deleted", Reason.UNDATED)):
        assert reason(a_runtime(status)._replace(created_date=None, date_accessed=None)) is expected
    assert reason(a_runtime()._replace(date_accessed=None), 30 * MINUTE) is Reason.UNDATED
    assert reason(a_runtime()._replace(created_date=None), 30 * MINUTE) is Reason.UNDATED
    assert reason(a_runtime(idle=-5 * MINUTE), 30 * MINUTE) is Reason.IN_USE
    assert reason(a_runtime(idle=-5 * MINUTE - MS), 30 * MINUTE) is Reason.FUTURE_DATED


@pytest.mark.parametrize("status", sorted(IN_TRANSITION))
def test_two_hours_in_transition_are_stuck_and_a_millisecond_less_is_not(status: str) -> None:
    assert reason(a_runtime(status, idle=2 * HOUR)) is Reason.STUCK
    assert reason(a_runtime(status, idle=2 * HOUR - MS)) is Reason.IN_TRANSITION


def test_deleted_is_not_eligible() -> None:
    assert reason(a_runtime("Deleted", idle=DAY)) is Reason.STATUS_NOT_ELIGIBLE


@pytest.mark.parametrize(
    ("threshold", "idle", "expected"),
    [
        (None, 30 * DAY, Reason.THRESHOLD_UNREAD),
        (OFF, OFF, Reason.AUTOPAUSE_OFF),
        (OFF, 30 * DAY, Reason.AUTOPAUSE_OFF),
        (10 * DAY, OFF, Reason.IN_USE),
        (10 * DAY + MINUTE, OFF, Reason.THRESHOLD_TOO_LONG),
        (30 * MINUTE, 45 * MINUTE - MS, Reason.IN_USE),
        (30 * MINUTE, 45 * MINUTE, Reason.KERNEL_MAY_BE_BUSY),
        (30 * MINUTE, 24 * HOUR + 15 * MINUTE - MS, Reason.KERNEL_MAY_BE_BUSY),
        (30 * MINUTE, 24 * HOUR + 15 * MINUTE, Reason.AUTOPAUSE_OVERDUE),
        (5 * DAY, 5 * DAY + 15 * MINUTE - MS, Reason.IN_USE),
        (5 * DAY, 5 * DAY + 15 * MINUTE, Reason.AUTOPAUSE_OVERDUE),
    ],
)
def test_a_running_runtime_is_judged_by_its_threshold(
    threshold: timedelta | None, idle: timedelta, expected: Reason
) -> None:
    decision = POLICY.judge(with_threshold(a_runtime(idle=idle), threshold), NOW)
    assert (decision.reason, decision.action) == (expected, Action.KEEP)
    assert (decision.age, decision.idle, decision.judged_at) == (30 * DAY, idle, NOW)
    assert (decision.due_at, decision.exemption) == (None, None)
    late = expected in (Reason.KERNEL_MAY_BE_BUSY, Reason.AUTOPAUSE_OVERDUE)
    assert decision.overdue == (idle - threshold if late and threshold is not None else None)


def test_only_what_is_overdue_is_stopped_and_only_when_told() -> None:
    overdue = a_runtime(idle=25 * HOUR)
    assert STOPPING.judge(with_threshold(overdue, 30 * MINUTE), NOW).action is Action.STOP
    assert POLICY.judge(with_threshold(overdue, 30 * MINUTE), NOW).action is Action.KEEP
    assert STOPPING.judge(with_threshold(overdue, OFF), NOW).action is Action.KEEP


durations = st.timedeltas(min_value=OFF, max_value=40 * DAY)
dates = st.none() | st.timedeltas(min_value=-DAY, max_value=40 * DAY).map(lambda idle: NOW - idle)
runtimes = st.builds(
    Runtime,
    id=st.just("1"),
    project=st.just("p"),
    name=st.just("n"),
    cloud_provider=st.sampled_from(["GCP", "AZURE", None]),
    status=st.sampled_from([*RuntimeStatus, None, "Odd"]),
    created_date=dates,
    date_accessed=dates,
    labels=st.just({}),
    patch_in_progress=st.booleans(),
)
policies = st.builds(
    AutopausePolicy,
    kernel_busy_limit=durations,
    autopause_margin=durations,
    autopause_max_threshold=durations,
    stuck_after=durations,
    stop_overdue=st.booleans(),
)


@pytest.mark.unmeasured
@given(runtime=runtimes, threshold=st.none() | durations | st.just(-MINUTE), policy=policies, repeated=st.booleans())
def test_exactly_one_reason_holds_for_every_runtime(
    runtime: Runtime, threshold: timedelta | None, policy: AutopausePolicy, *, repeated: bool
) -> None:
    """Each reason's condition written out whole, without an order: one of them holds, and it is the one given."""
    decision = policy.judge(with_threshold(runtime, threshold), NOW, repeated=repeated)
    known = runtime.cloud_provider == "GCP" and not repeated and runtime.status in {*RuntimeStatus} - {"Unknown"}
    age = None if runtime.created_date is None else NOW - runtime.created_date
    idle = None if runtime.date_accessed is None else NOW - runtime.date_accessed
    dated = known and runtime.status not in ("Stopped", "Error") and age is not None and idle is not None
    dates = [date for date in (runtime.created_date, runtime.date_accessed) if date is not None]
    dated = dated and min(dates) >= datetime(2015, 1, 1, tzinfo=UTC)
    dated = dated and floor(idle) - floor(age) <= 5 * MINUTE
    sound = dated and min(floor(age), floor(idle)) >= -5 * MINUTE
    lasting = floor(idle)
    moving = sound and runtime.status in IN_TRANSITION
    read = sound and runtime.status == "Running" and threshold is not None
    thr = threshold or OFF
    of_use = read and OFF < thr <= policy.autopause_max_threshold
    idle_at = thr + policy.autopause_margin
    busy_until = max(thr, policy.kernel_busy_limit) + policy.autopause_margin
    holds = {
        Reason.CLOUD_NOT_SUPPORTED: runtime.cloud_provider != "GCP",
        Reason.DUPLICATE: runtime.cloud_provider == "GCP" and repeated,
        Reason.STATUS_UNKNOWN: runtime.cloud_provider == "GCP" and not repeated and not known,
        Reason.PAUSED: known and runtime.status == "Stopped",
        Reason.ERRORED: known and runtime.status == "Error",
        Reason.UNDATED: known and runtime.status not in ("Stopped", "Error") and not dated,
        Reason.FUTURE_DATED: dated and not sound,
        Reason.STUCK: moving and lasting >= policy.stuck_after and not runtime.patch_in_progress,
        Reason.IN_TRANSITION: moving and (lasting < policy.stuck_after or runtime.patch_in_progress),
        Reason.STATUS_NOT_ELIGIBLE: sound and runtime.status == "Deleted",
        Reason.THRESHOLD_UNREAD: sound and runtime.status == "Running" and threshold is None,
        Reason.THRESHOLD_NEGATIVE: read and thr < OFF,
        Reason.AUTOPAUSE_OFF: read and thr == OFF,
        Reason.THRESHOLD_TOO_LONG: read and thr > OFF and thr > policy.autopause_max_threshold,
        Reason.IN_USE: of_use and lasting < idle_at,
        Reason.KERNEL_MAY_BE_BUSY: of_use and idle_at <= lasting < busy_until,
        Reason.AUTOPAUSE_OVERDUE: of_use and lasting >= busy_until,
    }
    assert [which for which, true in holds.items() if true] == [decision.reason]
    assert (decision.action is Action.STOP) == (holds[Reason.AUTOPAUSE_OVERDUE] and policy.stop_overdue)
    assert POLICY.explain(runtime, decision)


def floor(since: timedelta | None) -> timedelta:
    """What is left of a difference to NOW when the earlier instant is floored to the millisecond."""
    return OFF if since is None else -(-since // MS) * MS


def test_deletion_and_this_check_share_one_definition_of_a_possibly_busy_kernel() -> None:
    for idle in (24 * HOUR + 15 * MINUTE - MS, 24 * HOUR + 15 * MINUTE):
        busy = reason(a_runtime(idle=idle), 30 * MINUTE) is Reason.KERNEL_MAY_BE_BUSY
        assert kernel_may_be_busy(idle, 30 * MINUTE, busy_limit=24 * HOUR, margin=15 * MINUTE) == busy


def test_findings_say_themselves_with_their_numbers() -> None:
    half = 30 * MINUTE

    def said(status: str, idle: timedelta, threshold: timedelta | None = None) -> str:
        runtime = a_runtime(status, idle=idle)._replace(autopause_threshold=threshold)
        return POLICY.explain(runtime, POLICY.judge(with_threshold(runtime, threshold), NOW))

    assert [
        said("Stopped", HOUR),
        said("Error", 3 * HOUR),
        said("Stopping", 3 * HOUR),
        said("Starting", HOUR),
        said("Running", HOUR),
        said("Running", HOUR, OFF),
        said("Running", HOUR, 20 * DAY),
        said("Running", 10 * MINUTE, half),
        said("Running", HOUR, half),
        said("Running", 2 * DAY, half),
        said("Deleted", HOUR),
    ] == [
        "it is paused",
        "in error since 2026-11-20 00:00Z",
        "stuck in Stopping since 2026-11-20 00:00Z, 3 h ago",
        "in Starting for 1 h",
        "its autopause threshold was not read",
        "autopause is switched off; idle for 1 h",
        "threshold 20 d is too long to be of use; idle for 1 h",
        "in use: idle for 10 min, threshold 30 min",
        "idle for 1 h, threshold 30 min, but a kernel may be busy",
        "autopause is overdue: idle for 2 d, threshold 30 min",
        "its status is Deleted",
    ]


@pytest.mark.parametrize(
    ("idle", "ends_in", "sentence"),
    [
        (2 * DAY, MS, "autopause is overdue: idle for 2 d, threshold 30 min; exempt until 2026-11-20 03:00Z: workshop"),
        (2 * DAY, OFF, "autopause is overdue: idle for 2 d, threshold 30 min"),
        (10 * MINUTE, MS, "in use: idle for 10 min, threshold 30 min"),
    ],
    ids=str,
)
def test_an_exemption_is_told_where_it_alone_spares(idle: timedelta, ends_in: timedelta, sentence: str) -> None:
    exempting = replace(STOPPING, exemptions=(Exemption(until=NOW + ends_in, reason="workshop"),))
    runtime = with_threshold(a_runtime(idle=idle), 30 * MINUTE)
    assert exempting.explain(runtime, exempting.judge(runtime, NOW)) == sentence


def test_a_decision_of_a_record_that_lacks_its_numbers_is_explained_too() -> None:
    undated = a_runtime("Error")._replace(created_date=None, date_accessed=None)
    assert POLICY.explain(undated, POLICY.judge(with_threshold(undated, None), NOW)) == "in error since an unknown time"
    in_use = Decision(Action.KEEP, Reason.IN_USE, NOW)
    assert POLICY.explain(undated, in_use) == "in use: idle for an unknown time, threshold unread"


def test_the_policy_says_itself_in_a_sentence() -> None:
    sentence = (
        "a Running runtime is paused within 15 min of its threshold, or of 1 d if a kernel may be busy;"
        " say where it is not"
    )
    assert (str(POLICY), str(STOPPING)) == (sentence, f"{sentence}, and stop it")


def test_the_policy_stands_on_run_started_under_names_that_never_change() -> None:
    assert POLICY.written() == {
        "autopause_max_threshold_s": 864_000,
        "autopause_margin_s": 900,
        "kernel_busy_limit_s": 86_400,
        "stuck_after_s": 7200,
        "stop_overdue": False,
    }


def test_what_is_in_transition_is_the_designs() -> None:
    assert set(IN_TRANSITION) == {"Creating", "Starting", "Stopping", "Updating", "Deleting"}
