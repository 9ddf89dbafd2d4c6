"""What another policy would have done: each record judged again, whatever the order, and no guess."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.history import write_history
from core.records import events
from core.records.outcome import ACCEPTED, Outcome
from core.records.reader import Record, ScopeDetail
from core.review.simulation import Taken, simulate
from core.review.which import UnknownError
from core.rules.decision import Action
from core.rules.deletion import DeletionPolicy
from core.rules.exemptions import Exemption
from core.runtime import Disk, Runtime, RuntimeStatus
from core.verify.rejudge import AUTOPAUSE_JOB
from tests.conftest import Ended
from tests.test_review_answers import POLICY, kept, opening

NOW = datetime(2026, 9, 1, 3, tzinfo=UTC)
DAY, HOUR, MINUTE, MS = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(milliseconds=1)
STRICTER = {"max_age": 10 * DAY, "max_age_if_idle": 5 * DAY}
LATER = Exemption(until=NOW + 2 * DAY, reason="a workshop", name="b*")
LABELLED = Exemption(until=NOW + 5 * DAY, reason="a label", label=("keep=yes",))

# random histories

spans = st.integers(0, 20 * 24 * 4).map(lambda quarters: quarters * HOUR / 4)
policies = st.builds(
    lambda max_age, idle_age, idle_after, exemptions, **flags: DeletionPolicy(
        max_age=max_age, max_age_if_idle=min(max_age, idle_age), idle_after=idle_after, exemptions=exemptions, **flags
    ),
    max_age=spans,
    idle_age=spans,
    idle_after=st.sampled_from([HOUR, 4 * HOUR, 30 * HOUR]),
    exemptions=st.sampled_from([(), (LATER,), (LABELLED,), (LATER, LABELLED)]),
    spare_possibly_busy=st.booleans(),
    delete_errored=st.booleans(),
)
runtimes = st.builds(
    lambda number, labels, created, accessed, **fields: Runtime(
        id=str(number),
        project="terra-1",
        name=f"{'ab'[number % 2]}-{number}",
        labels=labels,
        created_date=NOW - created,
        date_accessed=NOW - min(created, accessed),
        **fields,
    ),
    number=st.integers(1, 3),
    labels=st.sampled_from([{}, {"keep": "yes"}]),
    created=spans,
    accessed=spans,
    status=st.sampled_from([*RuntimeStatus]),
    autopause_threshold=st.sampled_from([None, 0 * HOUR, HOUR, 48 * HOUR]),
    disk=st.sampled_from(Disk),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Runs of the real rule and records, live and dry, that look again or are refused before they do."""
    records: list[Record] = []
    now = NOW - 3 * DAY
    for number in range(draw(st.integers(1, 6))):
        now += draw(st.sampled_from([HOUR, 3 * HOUR, DAY]))
        policy = draw(policies)
        live = draw(st.booleans())
        run: dict[str, Any] = {
            "run_id": f"run-{number}",
            "job": DeletionPolicy.job,
            "environment": "prod",
            "dry_run": not live,
        }
        details = [events.exemption_detail(exemption, now) for exemption in policy.exemptions]
        records.append(opening(run["run_id"], now, dry_run=not live, policy=policy.written(), exemptions=details))
        for runtime in draw(st.lists(runtimes, unique_by=lambda runtime: runtime.id)):
            event = _one(policy, runtime, now, live=live, looks=draw(st.booleans()), fails=draw(st.booleans()))
            records.append(msgspec.convert(msgspec.to_builtins(event) | run | {"event": "runtime_audited"}, Record))
    return records


def _one(
    policy: DeletionPolicy, runtime: Runtime, now: datetime, *, live: bool, looks: bool, fails: bool
) -> events.RuntimeAudited:
    listed = runtime._replace(autopause_threshold=None)
    decision, outcome = policy.judge(listed, now), Outcome.KEPT
    if decision.action is Action.DELETE:
        outcome = Outcome.WITHHELD if live else Outcome.WOULD_DELETE
    if decision.action is Action.DELETE and looks:
        listed, decision = runtime, policy.judge(runtime, now + 3 * MINUTE, second_look=True)
        outcome = Outcome.SPARED
        if decision.action is Action.DELETE:
            outcome = (Outcome.FAILED if fails else Outcome.DELETION_ACCEPTED) if live else Outcome.WOULD_DELETE
    return events.runtime_audited(listed, decision, outcome, "", name_creator=True)


@pytest.mark.unmeasured
@given(history=histories())
def test_the_policy_in_force_reproduces_itself_exactly(history: list[Record]) -> None:
    condemned: dict[str, datetime] = {}
    for told in sorted((r for r in history if r.action == Action.DELETE), key=lambda r: str(r.judged_at)):
        condemned.setdefault(str(told.runtime_id), told.judged_at or NOW)
    answer = simulate(history, {})
    assert {row.runtime_id: (row.kind, row.simulated_at, row.in_force_at) for row in answer.rows} == {
        runtime_id: ("both", at, at) for runtime_id, at in condemned.items()
    }
    assert answer.incarnations == answer.both + answer.neither
    assert answer.policy == answer.in_force


@pytest.mark.unmeasured
@given(history=histories(), policy=policies, seed=st.randoms())
def test_records_in_any_order_and_twice_give_the_same_answer(
    history: list[Record], policy: DeletionPolicy, seed: Any
) -> None:
    limits = {"max_age": policy.max_age, "max_age_if_idle": policy.max_age_if_idle}
    openings = [told for told in history if told.event == "run_started"]
    others = [told for told in history * 2 if told.event != "run_started"]
    seed.shuffle(others)
    assert simulate([*openings, *others], limits) == simulate(history, limits)


@given(history=histories(), policy=policies)
def test_each_is_taken_at_the_first_run_at_which_the_other_rule_condemns_it(
    history: list[Record], policy: DeletionPolicy
) -> None:
    """Beside judging each record afresh, for limits that a list alone settles."""
    limits = {name: getattr(policy, name) for name in ("max_age", "max_age_if_idle", "idle_after", "delete_errored")}
    limits["spare_possibly_busy"] = False
    asked = simulate(history, limits, ())
    first: dict[str, datetime] = {}
    for told in history:
        if told.event == "runtime_audited" and told.judged_at is not None and told.runtime_id is not None:
            runtime = Runtime(
                id="", project="", name="", labels={}, status=told.status, created_date=told.created_date,
                date_accessed=told.date_accessed,
            )  # fmt: skip
            if replace(DeletionPolicy(**limits)).judge(runtime, told.judged_at).action is Action.DELETE:
                first[told.runtime_id] = min(told.judged_at, first.get(told.runtime_id, told.judged_at))
    accepted = {str(told.runtime_id): told.judged_at for told in reversed(history) if told.outcome in ACCEPTED}
    expected = {i: at for i, at in first.items() if i not in accepted or at <= (accepted[i] or NOW)}
    assert {row.runtime_id: row.simulated_at for row in asked.rows if row.simulated_at} == expected


# each kind, by example


def at_age(run_id: str, number: int, days: float, at: datetime, **fields: Any) -> Record:
    """A kept Running runtime of this age, never used since it was made, unless told."""
    made = at - days * DAY
    told: dict[str, Any] = {"created_date": made, "date_accessed": made, "judged_at": at, "disk": "kept"}
    return kept(run_id, number, **(told | fields))


def accepted(run_id: str, number: int, days: float, at: datetime, **fields: Any) -> Record:
    told = {"action": "delete", "reason": "max_age", "outcome": "deletion_accepted", "dry_run": False}
    return at_age(run_id, number, days, at, **(told | fields))


def taken(kind: str, number: int, **fields: Any) -> Taken:
    told: dict[str, Any] = dict.fromkeys(Taken.__struct_fields__) | {
        "project": f"terra-{number}",
        "name": "a",
        "creator": "ada",
    }
    return Taken(**(told | {"kind": kind, "runtime_id": str(number)} | fields))


def asked(records: Sequence[Record], limits: Any = STRICTER, exemptions: Any = None) -> list[Taken]:
    """The same where the newest file is read first, as rotated ones are."""
    answer = simulate(records, limits, exemptions)
    openings = [told for told in records if told.event == "run_started"]
    assert (
        simulate([*openings, *(told for told in reversed(records) if told not in openings)], limits, exemptions)
        == answer
    )
    assert [getattr(answer, kind) for kind in ("both", "only_simulated", "cut_off", "only_in_force", "unknown")] == [
        sum(row.kind == kind for row in answer.rows)
        for kind in ("both", "only_simulated", "cut_off", "only_in_force", "unknown")
    ]
    return answer.rows


def test_each_incarnation_is_told_by_who_takes_it_and_when() -> None:
    a, b, c = NOW, NOW + 3 * HOUR, NOW + 6 * HOUR
    history = [
        *(opening(run, at, dry_run=False) for run, at in (("a", a), ("b", b), ("c", c))),
        at_age("a", 1, 11, a),
        accepted("b", 1, 11.125, b),
        at_age("a", 2, 10, a, date_accessed=a),  # exactly the limit stays
        at_age("b", 2, 10.125, b, date_accessed=b, disk="lost"),
        at_age("a", 3, 4, a),
        accepted("b", 4, 9, b),
        at_age("c", 5, 9, c, date_accessed=c - HOUR, action="delete", outcome="failed", reason="max_age_if_idle"),
    ]
    assert asked(history) == [
        taken("both", 1, simulated_at=a, in_force_at=b, earlier_s=3 * 3600, reason="max_age", disk="kept"),
        taken("only_simulated", 2, simulated_at=b, reason="max_age", disk="lost"),
        taken("both", 4, simulated_at=b, in_force_at=b, earlier_s=0, reason="max_age_if_idle", disk="kept"),
        taken("only_in_force", 5, in_force_at=c),
    ]
    answer = simulate(history, STRICTER)
    assert (answer.incarnations, answer.neither, answer.disks_lost, answer.runs, answer.earlier_s) == (
        5,
        1,
        1,
        3,
        10800,
    )
    assert (answer.policy["max_age_s"], answer.in_force["max_age_s"]) == (864_000.0, 1_209_600.0)
    laxer = {"max_age": 90 * DAY, "max_age_if_idle": 60 * DAY}
    assert [(row.kind, row.runtime_id) for row in asked(history, laxer)] == [
        ("cut_off", "1"),
        ("cut_off", "4"),
        ("only_in_force", "5"),
    ]


def test_the_incarnations_of_one_name_are_told_in_the_order_of_time() -> None:
    runs = [NOW + number * 11 * DAY for number in range(3)]
    history = [opening(f"run-{number}", at, dry_run=False) for number, at in enumerate(runs)]
    history += [
        at_age(f"run-{number}", runtime_id, 10.5, at, project="terra-1", name="a")
        for (number, at), runtime_id in zip(enumerate(runs), (90, 100, 1), strict=True)
    ]
    assert [row.simulated_at for row in asked(history)] == runs


def test_what_survives_the_policy_in_force_is_cut_off_and_a_rehearsal_goes_on() -> None:
    later = NOW + 30 * DAY
    laxer = {"max_age": 30 * DAY}
    for dry_run, kind in ((False, "cut_off"), (True, "both")):
        outcome = "would_delete" if dry_run else "deletion_accepted"
        history = [
            opening("a", NOW),
            opening("b", later),
            accepted("a", 1, 20, NOW, outcome=outcome, dry_run=dry_run, date_accessed=NOW),
            at_age("b", 1, 50, later, date_accessed=later),
        ]
        assert [(row.kind, row.earlier_s) for row in asked(history, laxer)] == [
            (kind, None if kind == "cut_off" else -30 * 86_400)
        ]


@pytest.mark.parametrize(
    ("used", "status", "was", "is_regret"),
    [
        (24 * HOUR, "Running", "Stopped", True),
        (24 * HOUR + MS, "Running", "Stopped", False),
        (timedelta(0), "Running", "Stopped", False),
        (MS, "Running", "Running", True),
        (HOUR, "Stopped", "Stopped", True),
        (HOUR, "Stopped", "Running", False),
        (HOUR, "Deleting", "Stopped", False),
        (HOUR, "Error", "Running", False),
    ],
)
def test_a_user_who_comes_back_within_a_day_is_regret_and_a_pause_is_nobody(
    used: timedelta, status: str, was: str, *, is_regret: bool
) -> None:
    later = NOW + 2 * DAY
    history = [
        opening("a", NOW),
        opening("b", later),
        at_age("a", 1, 6, NOW, status=was),
        at_age("b", 1, 8, later, status=status, date_accessed=NOW + used),
    ]
    (row,) = asked(history)
    assert row.simulated_at == NOW
    assert row.back_at == (NOW + used if is_regret else None)
    assert simulate(history, STRICTER).regret == is_regret


def test_what_the_log_does_not_tell_is_unknown() -> None:
    sparing = {"spare_possibly_busy": True}
    busy = {"status": "Running", "created_date": NOW - 6 * DAY}
    history = [
        opening("a", NOW, policy=opening("x").policy | sparing),  # type: ignore[operator]
        opening("b", NOW, policy={}),
        at_age(
            "a", 1, 6, NOW, **busy, date_accessed=NOW - 24 * HOUR - 15 * MINUTE + MS
        ),  # busy, whatever the threshold
        at_age("a", 2, 6, NOW, **busy, date_accessed=NOW - 24 * HOUR - 15 * MINUTE),
        at_age("a", 3, 6, NOW, **busy | {"status": "Stopped"}),
        at_age("a", 4, 11, NOW),
        at_age("b", 5, 3, NOW),
        kept("a", 6, "malformed", judged_at=NOW, created_date=None),
        at_age("a", 7, 11, NOW, outcome="gone"),
        kept("c", 8, judged_at=NOW),  # its run's first record is lost
    ]
    assert [(row.kind, row.runtime_id) for row in asked(history)] == [
        ("unknown", "2"),
        ("only_simulated", "3"),
        ("only_simulated", "4"),
        ("unknown", "5"),
        ("unknown", "8"),
    ]


def test_other_exemptions_take_the_place_of_those_on_record_and_labels_are_not_known() -> None:
    exempt = events.exemption_detail(Exemption(until=NOW + DAY, reason="a label", label=("keep=yes",)), NOW)
    history = [
        opening("a", NOW, exemptions=[exempt]),
        at_age("a", 1, 20, NOW, reason="exempt", exemption=exempt, evidence=None),
        at_age("a", 2, 20, NOW, evidence=None),
    ]
    by_name = Exemption(until=NOW + MS, reason="", project="terra-2")
    by_label = Exemption(until=NOW + MS, reason="", project="terra-1", label=("keep=no",))
    for other, expected in (
        (None, [("only_simulated", "2")]),
        ((), [("only_simulated", "1"), ("only_simulated", "2")]),
        ((by_name,), [("only_simulated", "1")]),
        ((by_label,), [("unknown", "1"), ("only_simulated", "2")]),
        (
            (replace(by_name, until=NOW), replace(by_label, until=NOW)),
            [("only_simulated", "1"), ("only_simulated", "2")],
        ),
    ):
        assert [(row.kind, row.runtime_id) for row in asked(history, {}, other)] == expected


def test_a_rehearsal_of_another_policy_while_live_runs_went_on_was_in_force_for_nobody() -> None:
    other: dict[str, Any] = {
        "policy_digest": "sha256:2",
        "policy": POLICY | {"max_age_s": 1.0, "max_age_if_idle_s": 1.0},
    }
    rehearsed = at_age("b", 1, 9, NOW + HOUR, action="delete", reason="max_age", outcome="would_delete")
    seen = at_age("a", 1, 9, NOW, date_accessed=NOW)

    def asked_of(*begun: Record) -> tuple[int, int, int]:
        answer = simulate([*begun, seen, rehearsed], {})
        assert answer.in_force == answer.policy
        return answer.runs, answer.both, int(answer.policy["max_age_s"])

    live, fortnight = opening("a", NOW, dry_run=False), int(POLICY["max_age_s"])
    assert asked_of(live, opening("b", NOW + HOUR, **other)) == (1, 0, fortnight)
    assert asked_of(opening("b", NOW + HOUR, **other), live) == (1, 0, fortnight)
    assert asked_of(opening("a", NOW), opening("b", NOW + HOUR, **other)) == (2, 1, 1)  # no live run has begun
    assert asked_of(live, opening("b", NOW + HOUR, policy=other["policy"])) == (2, 1, 1)
    assert asked_of(live, opening("b", NOW + 8 * DAY, **other)) == (2, 1, 1)


def test_runs_as_of_another_instant_of_a_saved_list_or_of_another_job_are_no_history() -> None:
    others = [
        opening("a", scope=ScopeDetail(as_of=NOW)),
        opening("b", scope=ScopeDetail(inventory="list.json")),
        opening("c", job=AUTOPAUSE_JOB),
    ]
    with pytest.raises(UnknownError, match="no deletion run"):
        simulate([*others, *(at_age(run, 1, 20, NOW) for run in "abc")], STRICTER)
    with pytest.raises(UnknownError, match="several environments"):
        simulate([opening("a"), opening("b", environment="test")], STRICTER)


# asked of the program


def test_simulate_tells_people_machines_and_spreadsheets(run: Callable[..., Ended]) -> None:
    Path("log").mkdir()
    assert write_history(Path("log"), days=4, runtimes=40) == 4 * 8 * 40
    ask = ("review-audit-log", "simulate", "--from", "log", "--max-age", "10d", "--max-age-if-idle", "5d", "--output")
    answer = json.loads(run(*ask, "json").out)
    assert answer["policy"] | {"max_age_s": 1_209_600, "max_age_if_idle_s": 604_800} == answer["in_force"]
    assert answer["runs"] == 32
    assert answer["only_simulated"] > 0
    sheet = run(*ask, "csv").out.splitlines()
    assert sheet[0] == ",".join(Taken.__struct_fields__)
    assert len(sheet) == len(answer["rows"]) + 1
    table = run(*ask, "table").out
    assert "the simulated policy alone takes it" in table
    taken = answer["both"] + answer["only_simulated"]
    assert (
        f"It would have deleted {taken} of {answer['incarnations']} runtimes: {answer['only_simulated']} alone" in table
    )


def test_a_limit_that_is_none_or_goes_with_another_question_is_told(run: Callable[..., Ended]) -> None:
    Path("log").mkdir()
    for words, said in (
        (("simulate", "--max-age", "10"), "--max-age: '10' is no duration"),
        (("simulate", "--exemptions", "missing.yaml"), "--exemptions: "),
        (("simulate", "--max-age", "5d", "--max-age-if-idle", "6d"), "--max-age-if-idle is above --max-age"),
        (("runs", "--max-age", "10d"), "--max-age goes with simulate and report, and with nothing else"),
        (("why", "a/b", "--output", "csv"), "--output csv goes with runs, run, diff"),
    ):
        ended = run("review-audit-log", *words, "--from", "log")
        assert (ended.code, said in ended.err) == (2, True), ended.err
