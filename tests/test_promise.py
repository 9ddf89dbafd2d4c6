"""The promise that every runtime has a maximum age, as it is measured and said."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records.outcome import ACCEPTED, ENDED, Outcome
from core.rules.decision import Action, Reason
from core.rules.promise import Promise, kept_by, promise_in_words
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import serving
from tests.conftest import Ended, TrueStatus, a_machine, delete

Run = Callable[..., Ended]
NOW = datetime(2026, 11, 20, tzinfo=UTC)
MAX_AGE = timedelta(days=14)
DAY = 86_400.0


def an_end(age_s: object = 20 * DAY, reason: str = Reason.WITHIN_POLICY, **fields: Any) -> Any:
    """As a record is: it has more fields than are asked for."""
    return SimpleNamespace(
        **{
            "project": "p",
            "name": "n",
            "status": "Running",
            "date_accessed": NOW,
            "judged_at": NOW,
            "due_at": None,
            "action": Action.KEEP,
            "outcome": Outcome.KEPT,
            **fields,
        },
        age_s=age_s,
        reason=reason,
    )


def measured(*living: Any) -> Promise:
    promise = Promise(MAX_AGE)
    for end in living:
        promise.lives_on(end)
    return promise


@pytest.mark.parametrize(("age", "counted"), [(14 * DAY, 0), (14 * DAY + 0.001, 1), (None, 1), ("unset", 1)])
def test_above_is_strictly_above_the_maximum_age_or_of_unknown_age(age: object, counted: int) -> None:
    assert measured(an_end(age)).over_age.total() == counted


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"reason": Reason.STATUS_NOT_ELIGIBLE, "status": "Deleting"}, "Deleting"),
        ({"reason": Reason.STATUS_NOT_ELIGIBLE, "status": "Error"}, "Error"),
        ({"reason": Reason.STATUS_UNKNOWN, "status": "Melting"}, "status_unknown"),
        ({"reason": Reason.EXEMPT}, "exempt"),
        ({"reason": Reason.UNDATED, "age_s": None}, "undated"),
        ({"reason": Reason.MALFORMED, "age_s": None}, "malformed"),
        ({"reason": Reason.FOREIGN_PROJECT, "age_s": None}, "foreign_project"),
        ({"reason": Reason.MAX_AGE, "action": Action.DELETE, "outcome": Outcome.WITHHELD}, "withheld"),
        ({"reason": Reason.MAX_AGE, "action": Action.DELETE, "outcome": Outcome.ALREADY_DELETING}, "already_deleting"),
        ({"reason": Reason.KERNEL_MAY_BE_BUSY, "outcome": Outcome.SPARED}, "kernel_may_be_busy"),
    ],
)
def test_what_keeps_a_runtime_is_an_outcome_a_status_or_a_reason(fields: dict[str, Any], word: str) -> None:
    assert measured(an_end(**fields)).over_age == {word: 1}


@pytest.mark.parametrize("reason", [Reason.DUPLICATE, Reason.CLOUD_NOT_SUPPORTED])
def test_what_was_counted_before_or_is_on_another_cloud_does_not_count(reason: Reason) -> None:
    promise = measured(an_end(reason=reason), an_end(None, reason))
    assert (promise.over_age, promise.oldest) == ({}, None)


def test_what_is_exempt_is_above_the_maximum_age_and_never_the_oldest() -> None:
    promise = measured(an_end(90 * DAY, Reason.EXEMPT, name="old"), an_end(1 * DAY, name="young"))
    assert promise.oldest is not None
    assert (promise.oldest.name, promise.oldest_age, promise.over_age) == ("young", DAY, {"exempt": 1})


def test_of_several_that_are_as_old_the_first_is_named() -> None:
    promise = measured(an_end(20 * DAY, name="first"), an_end(20 * DAY, name="second"))
    assert promise.oldest is not None
    assert promise.oldest.name == "first"


AGES = st.one_of(st.none(), st.integers(0, 20).map(lambda days: days * DAY))
REASONS = st.sampled_from([Reason.WITHIN_POLICY, Reason.EXEMPT, Reason.DUPLICATE, Reason.STATUS_NOT_ELIGIBLE])


@given(st.lists(st.tuples(AGES, REASONS), max_size=12))
def test_in_whatever_order_they_come_the_same_is_measured_as_over_all_of_them(fleet: list[tuple[Any, Reason]]) -> None:
    ends = [an_end(age, reason) for age, reason in fleet]
    promise = measured(*ends)
    counted = [end for end in ends if end.reason is not Reason.DUPLICATE]
    known = [end.age_s for end in counted if end.age_s is not None and end.reason is not Reason.EXEMPT]
    assert (promise.oldest and promise.oldest.age_s) == max(known, default=None)
    above = [kept_by(end) for end in counted if end.age_s is None or end.age_s > 14 * DAY]
    assert promise.over_age == Counter(above)


@given(st.lists(st.integers(0, 10_000_000), max_size=9))
def test_how_late_acts_came_is_told_by_the_worst_and_the_middle(milliseconds: list[int]) -> None:
    promise = Promise(MAX_AGE)
    for late in milliseconds:
        promise.accepted(an_end(due_at=NOW - timedelta(milliseconds=late), judged_at=NOW + timedelta(microseconds=999)))
    seconds = [late / 1000 for late in milliseconds]
    assert promise.late == ((max(seconds), round(median(seconds), 3)) if seconds else None)


def test_an_act_whose_day_is_not_on_record_is_not_called_late() -> None:
    promise = Promise(MAX_AGE)
    promise.accepted(an_end(due_at="unset"))
    assert promise.late is None


def test_of_outcomes_only_what_is_accepted_gone_or_replaced_lives_on_no_more() -> None:
    assert {Outcome.DELETION_ACCEPTED, Outcome.GONE, Outcome.REPLACED} == ENDED
    assert {Outcome.DELETION_ACCEPTED} == ENDED & ACCEPTED


@pytest.mark.parametrize(
    ("oldest", "over_age", "sentence"),
    [
        (
            {"age_s": 16 * DAY + 7200, "status": "Error"},
            {"exempt": 1, "Error": 2, "Deleting": 3, "Creating": 1},
            "The oldest is 16 d 2 h (p/n, Error since 2026-11-20 00:00): 7 runtimes are above the maximum age:"
            " 3 Deleting, 2 in Error, 1 Creating, 1 exempt.",
        ),
        ({"age_s": 3 * DAY}, {}, "The oldest is 3 d (p/n, Running): none is above the maximum age."),
        (
            {"age_s": DAY, "status": None},
            {},
            "The oldest is 1 d (p/n, without a status since 2026-11-20 00:00): none is above the maximum age.",
        ),
        (None, {"undated": 1}, "1 runtime is above the maximum age: 1 undated."),
        (None, {}, "None is above the maximum age."),
    ],
)
def test_the_promise_is_said_in_one_sentence(
    oldest: dict[str, Any] | None, over_age: dict[str, int], sentence: str
) -> None:
    assert promise_in_words(None if oldest is None else an_end(**oldest), over_age) == sentence


# by the program


EXEMPTIONS = json.dumps(
    [
        {"match": {"project": "terra-4"}, "until": "2027-01-01", "reason": "workshop"},
        {"match": {"name": "all-of-us-*"}, "until": "2020-01-01", "reason": "over"},
        {"match": {"project": "tera-workshop-*"}, "until": "2027-01-01", "reason": "a typo"},
    ]
)


def a_fleet() -> list[Machine]:
    return [
        a_machine(1, days=3, idle_hours=1),
        a_machine(2, days=16, status=TrueStatus.ERROR),
        a_machine(3, days=15, status=TrueStatus.DELETING),
        a_machine(4, days=90),
        a_machine(5, days=20),
        a_machine(6, days=10),
    ]


def test_the_closing_record_measures_the_promise(run: Run) -> None:
    with serving(Leonardo(a_fleet()), faults=[Fault(call="delete", project="terra-6", status=403)]) as server:
        ended = run(*delete(server, "--no-dry-run", "--exemptions", EXEMPTIONS))
    closing = ended.finished
    assert ended.code == 1
    assert closing["outcomes"] == {"kept": 4, "deletion_accepted": 1, "failed": 1}
    assert (closing["oldest"]["name"], closing["oldest"]["status"]) == ("all-of-us-2", "Error")
    assert closing["oldest"]["reason"] == "status_not_eligible"
    assert closing["over_age"] == {"Error": 1, "Deleting": 1, "exempt": 1}
    assert closing["late_s"]["max"] == closing["late_s"]["median"] == pytest.approx(6 * DAY, abs=DAY)
    assert closing["exemptions_matched"] == [1, 6, 0]


def test_other_jobs_promise_nothing_and_their_exemptions_are_counted_too(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        words = ["check-autopause", *delete(server, "--exemptions", EXEMPTIONS)[1:]]
        ended = run(*words)
    closing = ended.finished
    assert (ended.code, closing["oldest"], closing["over_age"], closing["late_s"]) == (0, None, None, None)
    assert closing["exemptions_matched"] == [1, 6, 0]


def unused(ended: Ended) -> list[str]:
    return [record["exemption"]["reason"] for record in ended.events("exemption_unused")]


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("arguments", "told"),
    [((), ["a typo"]), (("--project", "terra-4"), []), (("--only", "terra-4/all-of-us-4"), [])],
)
def test_an_exemption_is_called_unused_only_where_the_whole_fleet_was_seen(
    run: Run, arguments: tuple[str, ...], told: list[str]
) -> None:
    with serving(Leonardo(a_fleet())) as server:
        ended = run(*delete(server, "--exemptions", EXEMPTIONS, *arguments))
    assert unused(ended) == told


def test_of_a_list_that_could_not_be_read_no_exemption_is_called_unused(run: Run) -> None:
    with serving(Leonardo(a_fleet()), faults=[Fault(call="list", status=403)]) as server:
        ended = run(*delete(server, "--exemptions", EXEMPTIONS))
    assert (ended.code, unused(ended)) == (4, [])


@pytest.mark.parametrize(("status", "code", "said"), [(None, 0, True), (403, 4, False)])
def test_nothing_is_promised_of_a_fleet_that_was_not_seen(
    run: Run, status: int | None, code: int, *, said: bool
) -> None:
    faults = [Fault(call="list", status=status)] if status else []
    with serving(Leonardo([a_machine(1, days=1)]), faults=faults) as server:
        ended = run(*delete(server, "--output", "table"))
    assert (ended.code, "above the maximum age" in ended.out) == (code, said)


def test_an_exemption_that_matches_nothing_is_said_in_the_table_and_in_the_review(run: Run, tmp_path: Path) -> None:
    said = "an exemption matches nothing that is listed: project tera-workshop-* until 2027-01-01 00:00: a typo"
    log = tmp_path / "log.jsonl"
    with serving(Leonardo(a_fleet())) as server:
        words = delete(server, "--exemptions", EXEMPTIONS, "--audit-file", str(log), "--output", "table")
        ended = run(*words)
    assert (ended.code, said in " ".join(ended.out.split())) == (0, True)
    ended = run("review-audit-log", "run", "latest", "--from", str(log), "--output", "json")
    assert (ended.code, json.loads(ended.out)["remarks"]) == (0, [said])
