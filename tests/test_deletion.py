"""The rule for deletion, at its boundaries and as a whole."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.rules.autopause import kernel_may_be_busy
from core.rules.decision import Action, Decision, Reason, to_millisecond
from core.rules.deletion import DELETES, RULED_OUT, DeletionPolicy
from core.rules.exemptions import Exemption, longest, matching
from core.rules.words import in_words
from core.runtime import Runtime, RuntimeStatus

NOW = datetime(2026, 11, 20, 3, 0, 0, 500_000, tzinfo=UTC)
DAY, HOUR, MINUTE, MS = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(milliseconds=1)
POLICY = DeletionPolicy(
    max_age=14 * DAY,
    max_age_if_idle=7 * DAY,
    idle_after=4 * HOUR,
    spare_possibly_busy=False,
    kernel_busy_limit=24 * HOUR,
    autopause_margin=15 * MINUTE,
)
SPARING = replace(POLICY, spare_possibly_busy=True)


def a_runtime(
    *,
    age: timedelta = DAY,
    idle: timedelta = timedelta(0),
    status: str | None = "Running",
    cloud: str | None = "GCP",
    threshold: timedelta | None = None,
    labels: Mapping[str, str] | None = None,
) -> Runtime:
    return Runtime(
        id="1",
        project="terra-1",
        name="all-of-us-1",
        cloud_provider=cloud,
        status=status,
        creator="ada@example.org",
        created_date=NOW - age,
        date_accessed=NOW - idle,
        labels=labels or {},
        autopause_threshold=threshold,
    )


def reason(runtime: Runtime, policy: DeletionPolicy = POLICY, **how: bool) -> Reason:
    return policy.judge(runtime, NOW, **how).reason


@pytest.mark.parametrize(
    ("age", "idle", "expected"),
    [
        (14 * DAY, 0 * HOUR, Reason.WITHIN_POLICY),
        (14 * DAY + MS, 0 * HOUR, Reason.MAX_AGE),
        (7 * DAY, 4 * HOUR, Reason.WITHIN_POLICY),
        (7 * DAY + MS, 4 * HOUR, Reason.MAX_AGE_IF_IDLE),
        (7 * DAY + MS, 4 * HOUR - MS, Reason.WITHIN_POLICY),
        (14 * DAY, 4 * HOUR, Reason.MAX_AGE_IF_IDLE),
        (14 * DAY + MS, 4 * HOUR, Reason.MAX_AGE),
    ],
)
@pytest.mark.parametrize("status", ["Running", "Stopped"])
def test_the_limits_hold_to_the_millisecond(age: timedelta, idle: timedelta, expected: Reason, status: str) -> None:
    decision = POLICY.judge(a_runtime(age=age, idle=idle, status=status), NOW)
    assert decision.reason is expected
    assert decision.action is (Action.DELETE if expected in DELETES else Action.KEEP)
    assert (decision.age, decision.idle, decision.judged_at, decision.overdue) == (age, idle, NOW, None)


def test_each_instant_is_floored_to_the_millisecond_before_it_is_compared() -> None:
    microsecond = timedelta(microseconds=1)
    created = NOW - 14 * DAY
    runtime = a_runtime()._replace(created_date=created - microsecond)
    assert POLICY.judge(runtime, NOW).age == 14 * DAY + MS
    runtime = a_runtime()._replace(created_date=created + 999 * microsecond)
    assert POLICY.judge(runtime, NOW).age == 14 * DAY
    assert POLICY.judge(a_runtime()._replace(created_date=created), NOW + 999 * microsecond).age == 14 * DAY


def test_an_instant_of_any_zone_is_brought_to_utc_as_it_is_floored() -> None:
    elsewhere = datetime(2026, 11, 20, 8, 30, 0, 500_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    floored = to_millisecond(elsewhere)
    assert floored == NOW
    assert floored.tzinfo is UTC


def test_an_instant_that_is_beside_the_calendar_in_utc_keeps_its_own_date_and_time() -> None:
    for beyond in (datetime.min.replace(tzinfo=timezone(14 * HOUR)), datetime.max.replace(tzinfo=timezone(-14 * HOUR))):
        floored = to_millisecond(beyond)
        assert floored == beyond.replace(microsecond=floored.microsecond, tzinfo=UTC)
        assert floored.tzinfo is UTC


@pytest.mark.parametrize("status", [s for s in RuntimeStatus if s not in ("Running", "Stopped", "Unknown")])
def test_only_running_and_stopped_runtimes_are_eligible(status: str) -> None:
    assert reason(a_runtime(age=90 * DAY, status=status)) is Reason.STATUS_NOT_ELIGIBLE


@pytest.mark.parametrize("status", ["Unknown", None, "Hibernating", "running", ""])
def test_a_status_that_we_do_not_know_keeps(status: str | None) -> None:
    assert reason(a_runtime(age=90 * DAY, status=status)) is Reason.STATUS_UNKNOWN


@pytest.mark.parametrize("cloud", ["AZURE", None, "gcp", "AWS"])
def test_another_cloud_keeps_whatever_else_is_true(cloud: str | None) -> None:
    assert reason(a_runtime(age=90 * DAY, cloud=cloud, status=None), repeated=True) is Reason.CLOUD_NOT_SUPPORTED


def test_an_id_that_was_listed_before_is_not_judged_again() -> None:
    assert reason(a_runtime(age=90 * DAY, status="Error"), repeated=True) is Reason.DUPLICATE


def test_a_missing_date_keeps() -> None:
    old = a_runtime(age=90 * DAY)
    for undated in (old._replace(created_date=None), old._replace(date_accessed=None)):
        decision = POLICY.judge(undated, NOW)
        assert (decision.reason, decision.due_at) == (Reason.UNDATED, None)


def test_a_date_more_than_five_minutes_ahead_keeps() -> None:
    old = a_runtime(age=90 * DAY, idle=90 * DAY)
    at_the_limit, beyond = NOW + 5 * MINUTE, NOW + 5 * MINUTE + MS
    made = old._replace(date_accessed=NOW)
    assert reason(made._replace(created_date=at_the_limit)) is Reason.WITHIN_POLICY
    assert reason(made._replace(created_date=beyond, date_accessed=NOW + MS)) is Reason.FUTURE_DATED
    assert reason(old._replace(date_accessed=at_the_limit)) is Reason.MAX_AGE
    assert reason(old._replace(date_accessed=beyond)) is Reason.FUTURE_DATED


def test_a_missing_or_impossible_date_is_told_before_a_future_one() -> None:
    assert reason(a_runtime()._replace(created_date=None, date_accessed=NOW + DAY)) is Reason.UNDATED
    assert reason(a_runtime()._replace(created_date=NOW + DAY, date_accessed=NOW)) is Reason.UNDATED


def test_a_date_before_there_was_a_leonardo_keeps() -> None:
    first = datetime(2015, 1, 1, tzinfo=UTC)
    for created, accessed, expected in (
        (first, NOW, Reason.MAX_AGE),
        (first - MS, NOW, Reason.UNDATED),
        (first, first, Reason.MAX_AGE),
        (first, first - MS, Reason.UNDATED),
        (datetime(1970, 1, 1, tzinfo=UTC), NOW - MINUTE, Reason.UNDATED),
    ):
        decision = POLICY.judge(a_runtime()._replace(created_date=created, date_accessed=accessed), NOW)
        assert (decision.reason, decision.due_at is None) == (expected, expected is Reason.UNDATED)


def test_an_access_more_than_five_minutes_before_the_creation_keeps() -> None:
    created = NOW - 90 * DAY
    for before, expected in ((5 * MINUTE, Reason.MAX_AGE), (5 * MINUTE + MS, Reason.UNDATED)):
        assert reason(a_runtime()._replace(created_date=created, date_accessed=created - before)) is expected


def test_a_runtime_in_error_is_eligible_where_the_policy_says_so_and_by_the_same_rule() -> None:
    policy = replace(POLICY, delete_errored=True)
    for age, idle, expected in (
        (90 * DAY, HOUR, Reason.MAX_AGE),
        (8 * DAY, 4 * HOUR, Reason.MAX_AGE_IF_IDLE),
        (8 * DAY, 4 * HOUR - MS, Reason.WITHIN_POLICY),
    ):
        errored = a_runtime(age=age, idle=idle, status="Error")
        assert (reason(errored), reason(errored, policy)) == (Reason.STATUS_NOT_ELIGIBLE, expected)
    assert reason(a_runtime(age=90 * DAY, status="Deleting"), policy) is Reason.STATUS_NOT_ELIGIBLE


def test_an_exemption_keeps_until_its_end_and_not_a_millisecond_longer() -> None:
    def exempt(until: datetime) -> DeletionPolicy:
        return replace(POLICY, exemptions=(Exemption(until=until, reason="workshop", project="terra-*"),))

    old = a_runtime(age=90 * DAY)
    kept = exempt(NOW + MS).judge(old, NOW)
    assert (kept.reason, kept.exemption) == (Reason.EXEMPT, exempt(NOW + MS).exemptions[0])
    assert kept.due_at == NOW + MS
    lapsed = exempt(NOW).judge(old, NOW)
    assert (lapsed.reason, lapsed.exemption) == (Reason.MAX_AGE, exempt(NOW).exemptions[0])


def test_an_exempt_runtime_with_unreadable_dates_is_told_to_be_undated() -> None:
    policy = replace(POLICY, exemptions=(Exemption(until=NOW + DAY, reason="workshop", project="*"),))
    assert reason(a_runtime()._replace(created_date=None), policy) is Reason.UNDATED


@pytest.mark.parametrize(
    ("idle", "threshold", "expected"),
    [
        (24 * HOUR + 15 * MINUTE - MS, 30 * MINUTE, Reason.KERNEL_MAY_BE_BUSY),
        (24 * HOUR + 15 * MINUTE, 30 * MINUTE, Reason.MAX_AGE_IF_IDLE),
        (24 * HOUR + 15 * MINUTE - MS, 0 * MINUTE, Reason.KERNEL_MAY_BE_BUSY),
        (24 * HOUR + 15 * MINUTE, 0 * MINUTE, Reason.MAX_AGE_IF_IDLE),
        (5 * DAY + 15 * MINUTE - MS, 5 * DAY, Reason.KERNEL_MAY_BE_BUSY),
        (5 * DAY + 15 * MINUTE, 5 * DAY, Reason.MAX_AGE_IF_IDLE),
        (9 * DAY, None, Reason.KERNEL_MAY_BE_BUSY),
    ],
)
def test_a_possibly_busy_kernel_spares_at_the_second_look(
    idle: timedelta, threshold: timedelta | None, expected: Reason
) -> None:
    runtime = a_runtime(age=10 * DAY, idle=idle, threshold=threshold)
    assert reason(runtime, SPARING, second_look=True) is expected
    assert reason(runtime, SPARING) is Reason.MAX_AGE_IF_IDLE
    assert reason(runtime, POLICY, second_look=True) is Reason.MAX_AGE_IF_IDLE


@pytest.mark.parametrize("idle", [timedelta(0), 4 * HOUR])
def test_what_is_due_stays_until_its_owner_was_told_of_it_for_long_enough(idle: timedelta) -> None:
    due, due_at = a_runtime(age=15 * DAY, idle=idle), POLICY.judge(a_runtime(age=15 * DAY, idle=idle), NOW).due_at
    for notices, expected in (
        ({}, Reason.NOT_NOTICED),
        ({"2": NOW - DAY}, Reason.NOT_NOTICED),
        ({"1": NOW + MS}, Reason.NOT_NOTICED),
        ({"1": NOW}, Reason.MAX_AGE),
        (None, Reason.MAX_AGE),
    ):
        policy = replace(POLICY, notice_period=DAY, notices=notices)
        decision = policy.judge(due, NOW)
        assert (decision.reason, decision.due_at) == (expected, due_at)
        assert (decision.action is Action.KEEP) == (expected is Reason.NOT_NOTICED)
        assert policy.judge(a_runtime(age=DAY), NOW).reason is Reason.WITHIN_POLICY
    assert replace(POLICY, notices={}).judge(due, NOW).reason is Reason.MAX_AGE, "nobody need be told"


def test_a_possibly_busy_kernel_spares_neither_a_stopped_runtime_nor_one_past_the_maximum_age() -> None:
    busy = a_runtime(age=10 * DAY, idle=5 * HOUR, threshold=30 * MINUTE)
    assert reason(busy._replace(status="Stopped"), SPARING, second_look=True) is Reason.MAX_AGE_IF_IDLE
    old = a_runtime(age=15 * DAY, idle=5 * HOUR, threshold=30 * MINUTE)
    assert reason(old, SPARING, second_look=True) is Reason.MAX_AGE


instants = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
durations = st.timedeltas(min_value=MS, max_value=timedelta(days=999_999))
near = st.timedeltas(min_value=-30 * DAY, max_value=30 * DAY)
exemptions = st.builds(
    Exemption,
    until=instants,
    reason=st.just("r"),
    project=st.sampled_from([None, "terra-*", "other"]),
    name=st.just("*"),
)


@st.composite
def policies(draw: st.DrawFn) -> DeletionPolicy:
    idle_age, max_age = sorted((draw(durations), draw(durations)))
    return DeletionPolicy(
        max_age=max_age,
        max_age_if_idle=idle_age,
        idle_after=draw(durations),
        spare_possibly_busy=draw(st.booleans()),
        kernel_busy_limit=draw(durations),
        autopause_margin=draw(durations),
        exemptions=tuple(draw(st.lists(exemptions, max_size=3))),
    )


runtimes = st.builds(
    Runtime,
    id=st.just("1"),
    project=st.sampled_from(["terra-1", "p"]),
    name=st.just("n"),
    cloud_provider=st.sampled_from(["GCP", "AZURE", None]),
    status=st.sampled_from([*RuntimeStatus, None, "Odd"]),
    created_date=st.none() | instants,
    date_accessed=st.none() | instants,
    labels=st.just({}),
    autopause_threshold=st.none() | durations,
)
dated = st.builds(
    a_runtime,
    age=st.timedeltas(min_value=timedelta(0), max_value=30 * DAY),
    idle=st.timedeltas(min_value=timedelta(0), max_value=30 * DAY),
    status=st.sampled_from(["Running", "Stopped"]),
    threshold=st.none() | st.timedeltas(min_value=timedelta(0), max_value=20 * DAY),
).filter(lambda runtime: (runtime.date_accessed or NOW) >= (runtime.created_date or NOW) - 5 * MINUTE)


@pytest.mark.unmeasured
@given(runtime=runtimes, policy=policies(), instant=instants, repeated=st.booleans(), second_look=st.booleans())
def test_every_runtime_gets_one_decision_and_a_sentence(
    runtime: Runtime, policy: DeletionPolicy, instant: datetime, *, repeated: bool, second_look: bool
) -> None:
    decision = policy.judge(runtime, instant, repeated=repeated, second_look=second_look)
    assert (decision.action is Action.DELETE) == (decision.reason in DELETES)
    assert (decision.due_at is None) == (decision.reason in RULED_OUT)
    assert decision.matching == matching(policy.exemptions, runtime)
    assert decision.exemption == longest(policy.exemptions, decision.matching)
    assert (decision.reason is Reason.EXEMPT) <= (decision.exemption is not None)
    assert policy.explain(runtime, decision)
    if repeated or runtime.cloud_provider != "GCP" or runtime.created_date is None:
        assert decision.action is Action.KEEP


@pytest.mark.unmeasured
@given(runtime=dated, later=st.timedeltas(min_value=timedelta(0), max_value=60 * DAY), second_look=st.booleans())
def test_later_never_uncondemns_a_runtime_that_nobody_touches(
    runtime: Runtime, later: timedelta, *, second_look: bool
) -> None:
    exempting = replace(SPARING, exemptions=(Exemption(until=NOW + 3 * DAY, reason="r", project="terra-*"),))
    for policy in (POLICY, SPARING, exempting):
        if policy.judge(runtime, NOW, second_look=second_look).action is Action.DELETE:
            assert policy.judge(runtime, NOW + later, second_look=second_look).action is Action.DELETE


@given(dated, near, st.none() | near)
@example(a_runtime(age=15 * DAY), timedelta(0), None)
def test_due_at_is_the_first_millisecond_at_which_the_rule_condemns(
    runtime: Runtime, offset: timedelta, exempt_for: timedelta | None
) -> None:
    exemption = () if exempt_for is None else (Exemption(until=NOW + exempt_for, reason="r", name="*"),)
    policy = replace(POLICY, exemptions=exemption)
    due_at = policy.judge(runtime, NOW).due_at
    assert due_at is not None
    assert runtime.created_date is not None
    assert runtime.date_accessed is not None
    since = max(runtime.created_date, runtime.date_accessed)  # before, the rule would not believe the dates
    for instant in (due_at - MS, due_at, NOW + offset):
        if instant >= since:
            condemned = policy.judge(runtime, instant).action is Action.DELETE
            assert condemned == (instant >= due_at)


@pytest.mark.unmeasured
@given(runtime=runtimes, policy=policies(), instant=instants)
def test_nothing_is_condemned_before_the_first_millisecond_at_which_the_most_idle_would_be(
    runtime: Runtime, policy: DeletionPolicy, instant: datetime
) -> None:
    created = runtime.created_date
    if created is not None and instant < policy.never_before(created):
        assert policy.judge(runtime, instant).action is Action.KEEP


def test_the_most_idle_is_condemned_at_that_millisecond() -> None:
    policy = DeletionPolicy(max_age=14 * DAY, max_age_if_idle=7 * DAY, idle_after=4 * HOUR)
    created = NOW - 7 * DAY
    never_used = Runtime(id="1", project="p", name="n", labels={}, created_date=created, date_accessed=created)
    first = policy.never_before(created)
    assert [policy.judge(never_used, at).action for at in (first - MS, first)] == [Action.KEEP, Action.DELETE]


def test_due_at_is_the_first_whole_millisecond_beyond_limits_of_any_length() -> None:
    runtime = a_runtime(age=DAY, idle=DAY)
    for tenths in range(300):  # more than are kept in mind
        limit = DAY + tenths * MS / 10
        too_old, idle = DAY + (tenths // 10 + 1) * MS, DAY + -(-tenths // 10) * MS
        assert replace(POLICY, max_age=limit).judge(runtime, NOW).due_at == NOW - DAY + too_old
        sooner = replace(POLICY, max_age=99 * DAY, max_age_if_idle=HOUR, idle_after=limit)
        assert sooner.judge(runtime, NOW).due_at == NOW - DAY + idle


def test_due_at_is_out_of_reach_rather_than_an_error_where_a_limit_is_absurd() -> None:
    policy = replace(POLICY, max_age=timedelta.max, max_age_if_idle=timedelta.max)
    decision = policy.judge(a_runtime(), NOW)
    assert decision.due_at == datetime.max.replace(tzinfo=UTC)


def test_a_kernel_may_be_busy_below_the_longer_of_threshold_and_limit_plus_margin() -> None:
    assert kernel_may_be_busy(24 * HOUR + 15 * MINUTE - MS, timedelta(0), busy_limit=24 * HOUR, margin=15 * MINUTE)
    assert not kernel_may_be_busy(24 * HOUR + 15 * MINUTE, timedelta(0), busy_limit=24 * HOUR, margin=15 * MINUTE)
    assert kernel_may_be_busy(999 * DAY, None, busy_limit=24 * HOUR, margin=15 * MINUTE)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (13 * DAY + 2 * HOUR + 5 * MINUTE, "13 d 2 h"),
        (14 * DAY + 5 * MINUTE, "14 d 5 min"),
        (14 * DAY, "14 d"),
        (14 * DAY + MS, "14 d 1 ms"),
        (14 * DAY + HOUR - MS, "14 d 59 min"),
        (14 * DAY + HOUR, "14 d 1 h"),
        (HOUR + 61 * timedelta(seconds=1), "1 h 1 min"),
        (61 * timedelta(seconds=1), "1 min 1 s"),
        (999 * MS, "999 ms"),
        (timedelta(0), "0 s"),
        (-HOUR, "minus 1 h"),
    ],
)
def test_durations_read_as_people_say_them(duration: timedelta, words: str) -> None:
    assert in_words(duration) == words


def test_each_reason_is_explained_with_the_numbers_that_decided() -> None:
    exempting = replace(SPARING, exemptions=(Exemption(until=NOW + DAY, reason="workshop", label=("purpose=work*",)),))
    cases = [
        (a_runtime(cloud="AZURE"), {}, "it runs on AZURE"),
        (a_runtime(cloud=None), {}, "it runs on an unknown cloud"),
        (a_runtime(), {"repeated": True}, "listed before"),
        (a_runtime(status=None), {}, "its status is missing"),
        (a_runtime(status="Error"), {}, "its status is Error"),
        (a_runtime()._replace(created_date=None), {}, "a date is missing or unreadable"),
        (a_runtime(age=-DAY, idle=-DAY), {}, "a date lies in the future"),
        (
            a_runtime(age=-DAY, idle=0 * DAY),
            {},
            "its dates make no sense: created 2026-11-21 03:00Z, accessed 2026-11-20 03:00Z",
        ),
        (a_runtime(labels={"purpose": "workshop"}), {}, "exempt until 2026-11-21 03:00Z: workshop"),
        (a_runtime(age=15 * DAY), {}, "15 d old, limit 14 d"),
        (a_runtime(age=8 * DAY, idle=5 * HOUR), {}, "8 d old, limit 7 d when idle, and idle for 5 h"),
        (
            a_runtime(age=8 * DAY, idle=5 * HOUR),
            {"second_look": True},
            "8 d old and idle for 5 h, but a kernel may be busy",
        ),
        (a_runtime(age=13 * DAY + 2 * HOUR), {}, "13 d 2 h old, limit 14 d"),
    ]
    said = [exempting.explain(runtime, exempting.judge(runtime, NOW, **how)) for runtime, how, _ in cases]
    assert said == [words for _, _, words in cases]


def test_a_decision_of_a_record_that_lacks_its_numbers_is_explained_too() -> None:
    reasons = (Reason.MAX_AGE, Reason.MAX_AGE_IF_IDLE, Reason.KERNEL_MAY_BE_BUSY)
    assert [POLICY.explain(a_runtime(), Decision(Action.DELETE, reason, NOW)) for reason in reasons] == [
        "of unknown age, limit 14 d",
        "of unknown age, limit 7 d when idle, and idle for an unknown time",
        "of unknown age and idle for an unknown time, but a kernel may be busy",
    ]


def test_what_no_rule_has_judged_is_explained_too() -> None:
    foreign = Decision(Action.KEEP, Reason.FOREIGN_PROJECT, NOW)
    assert POLICY.explain(a_runtime(), foreign) == "it was listed under another project"


def test_the_policy_says_itself_in_a_sentence() -> None:
    sentence = "delete what is older than 14 d, or older than 7 d and not accessed for 4 h"
    telling = replace(POLICY, notice_period=DAY)
    assert [str(policy) for policy in (POLICY, SPARING, telling)] == [
        sentence,
        f"{sentence}, unless a kernel may be busy",
        f"{sentence}, once its owner was told of it for 1 d",
    ]


def test_the_policy_stands_on_run_started_under_names_that_never_change() -> None:
    assert POLICY.written() == {
        "max_age_s": 1_209_600,
        "max_age_if_idle_s": 604_800,
        "idle_after_s": 14_400,
        "spare_possibly_busy": False,
        "kernel_busy_limit_s": 86_400,
        "autopause_margin_s": 900,
        "delete_errored": False,
    }
