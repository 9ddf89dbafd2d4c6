"""Whether the promise of a maximum age is kept, by whom it is broken, and when a roll-out is through."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.records import events
from core.records.outcome import ENDED, Outcome
from core.records.reader import LateDetail, ListsDetail, OldestDetail, Record, ScopeDetail
from core.review.promise import (
    NOT_RUN,
    OTHERWISE,
    PATIENCE,
    STALE,
    WHAT_TO_DO,
    Day,
    KindOfBreak,
    Left,
    Promised,
    Spared,
    promise,
)
from core.review.upcoming import upcoming
from core.review.which import UnknownError
from core.rules.decision import Reason
from core.rules.exemptions import Exemption
from core.runtime import RuntimeStatus
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, delete
from tests.test_review_answers import closing, kept, opening, record

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
DAY, HOUR, MS = timedelta(days=1), timedelta(hours=1), timedelta(milliseconds=1)
MAX_AGE = 14 * DAY
LIVE: dict[str, Any] = {"dry_run": False}
WORKSHOP = events.exemption_detail(Exemption(until=NOW + 3 * DAY, reason="a workshop", project="terra-*"), NOW)
TYPO = events.exemption_detail(Exemption(until=NOW + 3 * DAY, reason="a typo", project="tera-*"), NOW)


def at_age(number: int, age: timedelta, **fields: Any) -> Record:
    made = {"created_date": NOW - age, "date_accessed": NOW - HOUR, "evidence": None}
    return kept("a", number, **LIVE | made | fields)


def asked(*told: Record, now: datetime = NOW, made_before: datetime | None = None, **first: Any) -> Promised:
    return promise([opening("a", **LIVE | first), closing("a", **LIVE), *told], now, made_before)


def test_the_promise_is_broken_once_two_runs_have_passed() -> None:
    """To the millisecond, and the first run may take what has just come of age."""
    condemned = {"action": "delete", "outcome": "failed", "reason": "max_age"}
    for beyond, status in ((timedelta(0), True), (MS, False)):
        answer = asked(at_age(1, MAX_AGE + MS + PATIENCE + beyond, **condemned))
        assert (answer.kept, len(answer.over_age)) == (status, 1)
    assert answer.broken_since == NOW - MS
    assert (
        asked(at_age(1, MAX_AGE), at_age(2, MAX_AGE + MS, outcome="deletion_accepted", action="delete")).over_age == []
    )
    assert asked(at_age(1, MAX_AGE + MS)).kept is True


def test_whoever_breaks_it_is_named_with_what_keeps_it_and_what_to_do() -> None:
    answer = asked(
        at_age(1, 20 * DAY, status="Error", reason="status_not_eligible"),
        at_age(2, 30 * DAY, status="Error", reason="status_not_eligible"),
        at_age(3, 16 * DAY, action="delete", outcome="withheld", reason="max_age"),
        at_age(4, 40 * DAY, reason="exempt", exemption=WORKSHOP),
        at_age(5, DAY, created_date=None, age_s=None, reason="undated"),
        at_age(6, 50 * DAY, reason="duplicate"),
        at_age(7, 50 * DAY, cloud_provider="AZURE", reason="cloud_not_supported"),
        at_age(8, 50 * DAY, action="delete", outcome="gone"),
        at_age(9, 10 * DAY),
    )
    days = [None, 40, 30, 20, 16]
    assert [row.age_s and row.age_s / 86_400 for row in answer.over_age] == days
    assert [row.runtime_id for row in answer.over_age if row.breaks] == ["5", "2", "1", "3"]
    assert answer.broken_since == NOW - 16 * DAY + MS + PATIENCE
    assert answer.kinds == [
        KindOfBreak(kept_by=what, count=count, breaking=breaking, oldest_s=oldest, what_to_do=WHAT_TO_DO[what])
        for what, count, breaking, oldest in (
            ("Error", 2, 2, 30 * 86_400.0),
            ("undated", 1, 1, None),
            ("withheld", 1, 1, 16 * 86_400.0),
            ("exempt", 1, 0, 40 * 86_400.0),
        )
    ]
    assert answer.in_words == (
        "The promise is broken since 2026-11-04 09:00Z, 6 h after the maximum age: 4 runtimes older than 14 d,"
        " or of unknown age: 2 Error, 1 undated, 1 withheld."
    )


def test_every_way_to_live_on_has_its_advice() -> None:
    """But those that are no older than the maximum age, or that another program's word names."""
    statuses = {*RuntimeStatus} - {"Running", "Stopped", "Unknown", "Deleted"}
    outcomes = {*Outcome} - ENDED - {"kept", "spared", "would_stop", "stop_accepted"}
    assert (statuses | outcomes) - set(WHAT_TO_DO) == set()
    assert set(WHAT_TO_DO) - statuses - {*Outcome} - {*Reason} == {NOT_RUN}
    (kind,) = asked(at_age(1, 20 * DAY, action="delete", outcome="of_a_later_version")).kinds
    assert kind.what_to_do == OTHERWISE


def test_where_no_run_has_come_since_that_is_what_keeps_them() -> None:
    later = NOW + 2 * DAY
    answer = asked(
        at_age(1, MAX_AGE - DAY),
        at_age(2, MAX_AGE - 2 * DAY + PATIENCE),
        at_age(3, 13 * DAY, reason="exempt", exemption=WORKSHOP),
        at_age(4, 12 * DAY),
        now=later,
    )
    assert [(row.runtime_id, row.kept_by, row.breaks) for row in answer.over_age] == [
        ("1", NOT_RUN, True),
        ("3", "exempt", False),
        ("2", NOT_RUN, False),
    ]
    assert answer.kept is False


def test_where_an_exemption_has_ended_two_runs_may_pass_before_the_promise_is_broken() -> None:
    ends = NOW + 3 * DAY
    for now, kept_by, breaks in (
        (ends, "exempt", False),
        (ends + MS, NOT_RUN, False),
        (ends + PATIENCE, NOT_RUN, False),
        (ends + PATIENCE + MS, NOT_RUN, True),
    ):
        answer = asked(at_age(3, 40 * DAY, reason="exempt", exemption=WORKSHOP), now=now)
        assert [(row.kept_by, row.breaks) for row in answer.over_age] == [(kept_by, breaks)]
        assert answer.broken_since == (ends + PATIENCE if breaks else None)
    ended = events.exemption_detail(Exemption(until=NOW - DAY, reason="a course", project="terra-*"), NOW)
    failed = at_age(1, 40 * DAY, action="delete", outcome="failed", reason="max_age", exemption=ended)
    assert asked(failed).broken_since == NOW - DAY + PATIENCE
    errored = at_age(1, 40 * DAY, status="Error", reason="status_not_eligible", exemption=WORKSHOP)
    for now in (NOW, ends + DAY):
        assert [(row.kept_by, row.breaks) for row in asked(errored, now=now).over_age] == [("Error", True)]


def test_what_was_not_announced_in_time_is_named_so_in_the_horizon_too() -> None:
    answer = asked(at_age(1, 16 * DAY, reason="not_noticed"), at_age(2, 13 * DAY), made_before=NOW)
    assert answer.horizon is not None
    assert [row.not_relied_on for row in answer.horizon.rows] == ["not_noticed", None]
    answer = asked(at_age(1, 13 * DAY), now=NOW + 2 * DAY, made_before=NOW)
    assert answer.horizon is not None
    assert [row.not_relied_on for row in answer.horizon.rows] == [NOT_RUN]


def test_what_is_made_after_the_run_and_before_the_instant_is_no_part_of_the_answer_and_that_is_said() -> None:
    seen = asked(at_age(1, DAY), made_before=NOW).horizon
    assert seen is not None
    assert (seen.seen_until, seen.unseen_final_at) == (None, None)
    assert seen.in_words.startswith("Of those made before 2026-11-20 03:00Z 1 is left: 0 cannot be relied on, the last")
    before = NOW + 2 * DAY
    unseen = asked(at_age(1, DAY), made_before=before).horizon
    assert unseen is not None
    assert (unseen.seen_until, unseen.unseen_final_at) == (NOW, before + MAX_AGE + MS)
    assert unseen.in_words.endswith(
        " Those made after 2026-11-20 03:00Z the run has not seen: they go from 2026-12-06 03:00Z, the exempt apart."
    )
    no_policy = asked(at_age(1, DAY), made_before=before, policy={}).horizon
    assert no_policy is not None
    assert no_policy.in_words.endswith("the run has not seen: it cannot be told when they go.")


def test_an_answer_that_is_older_than_the_silence_that_calls_on_call_says_so() -> None:
    assert asked(at_age(1, DAY), now=NOW + STALE).remarks == []
    assert asked(at_age(1, DAY), now=NOW + STALE + MS).remarks == [
        "the newest run over the whole fleet is 7 h 1 ms old: what changed since is not in the answer"
    ]


def test_what_was_not_read_or_is_not_on_record_leaves_it_open() -> None:
    unread = record("a", "project_unreadable", project="terra-9", runtime_id=None)
    answer = asked(at_age(1, DAY), unread)
    assert (answer.kept, answer.unread) == (None, ["terra-9"])
    assert answer.in_words == "Whether the promise is kept cannot be told: not everything is on record."
    assert asked(at_age(1, 50 * DAY), unread).kept is False
    assert (asked(at_age(1, 50 * DAY), policy={}).kept, asked(policy={}).max_age_s) == (None, None)
    with pytest.raises(UnknownError, match="no such run"):
        promise([], NOW)


def test_what_the_run_warned_of_is_said_as_of_an_exemption_that_spares_nobody() -> None:
    warning = "an exemption matches nothing that is listed: project tera-*"
    unused = record("a", "exemption_unused", runtime_id=None, message=warning)
    assert asked(at_age(1, DAY), unused, unused, exemptions=[TYPO]).remarks == [warning]


def test_a_live_run_over_the_fleet_is_asked_before_a_newer_rehearsal() -> None:
    rehearsal = [opening("b", NOW + HOUR), closing("b"), record("b", outcome="would_delete")]
    live = [opening("a", **LIVE), closing("a", **LIVE), at_age(1, DAY)]
    frames = [*live[:2], *rehearsal[:2]]
    answer = promise([*frames, live[2], rehearsal[2]], NOW)
    assert (answer.run.run_id, answer.kept) == ("a", True)
    assert [row.kept_by for row in promise(rehearsal, NOW).over_age] == ["would_delete"]


def test_one_environment_with_live_runs_and_another_with_rehearsals_are_two() -> None:
    elsewhere = {"environment": "test"}
    frames = [opening("b", NOW + HOUR, **elsewhere), closing("b", **elsewhere)]
    frames += [opening("a", **LIVE), closing("a", **LIVE)]
    with pytest.raises(UnknownError, match="several environments"):
        promise([*frames, at_age(1, DAY)], NOW)


A_ROLE_LOST: dict[str, Any] = {"refused_by": ["shrunken_inventory"], "lists": ListsDetail(read=1)}
AN_OUTAGE: dict[str, Any] = {"lists": ListsDetail(unread=1)}
SOME_PROJECTS = ScopeDetail(projects=["terra-7"], project_count=1)


@pytest.mark.parametrize(
    ("opened", "closed", "why"),
    [
        ({}, A_ROLE_LOST, "was refused by shrunken_inventory"),
        ({}, AN_OUTAGE, "could read no list"),
        ({"scope": SOME_PROJECTS}, {"lists": ListsDetail(read=1)}, "asked for some projects alone"),
    ],
)
def test_a_run_that_saw_less_than_the_fleet_says_nothing_of_it_and_that_is_said(
    opened: dict[str, Any], closed: dict[str, Any], why: str
) -> None:
    frames = [
        opening("a", **LIVE),
        closing("a", **LIVE, over_age={"Error": 1}, lists=ListsDetail(read=39, unread=1)),
        opening("b", NOW + HOUR, **LIVE | opened),
        closing("b", time=NOW + HOUR, over_age={}, **LIVE | closed),
    ]
    told = [at_age(1, 20 * DAY, status="Error", reason="status_not_eligible"), at_age(2, MAX_AGE - DAY)]
    remark = f"newer, but not taken: run b {why}"
    answer = promise([*frames, *told], NOW, NOW)
    assert (answer.run.run_id, answer.kept, answer.remarks) == ("a", False, [remark])
    assert answer.horizon is not None
    assert answer.horizon.left == 2
    assert [(day.runs, day.over_age) for day in answer.days] == [(2, 1)]
    due = upcoming([*frames, *told], 30 * DAY, NOW)
    assert (due.run.run_id, due.remarks) == ("a", [remark])
    again = [opening("c", NOW + 2 * HOUR, **LIVE | opened), closing("c", time=NOW + 2 * HOUR, **LIVE | closed)]
    remark = f"newer, but not taken: 2 runs, the last of them c, {why}"
    assert promise([*frames, *again, *told], NOW).remarks == [remark]


def test_where_no_run_saw_the_fleet_nobody_knows_whether_the_promise_is_kept() -> None:
    for closed, why in ((A_ROLE_LOST, "was refused by shrunken_inventory"), (AN_OUTAGE, "could read no list")):
        frames = [opening("a", **LIVE), closing("a", **LIVE, **closed)]
        answer = promise([*frames, at_age(1, DAY)], NOW)
        assert answer.kept is None
        assert answer.remarks == [f"no run on record tells of the whole fleet: this one {why}"]
        assert promise([*frames, at_age(1, 20 * DAY)], NOW).kept is False


def test_projects_by_name_are_the_whole_fleet_where_no_run_or_each_of_several_tasks_is_told_of_others() -> None:
    """As in an installation that names its projects, or comes to, so that tasks can share them."""

    def asked_by(first: Record, scope: ScopeDetail, **fields: Any) -> str:
        frames = [first, *(closing(first.run_id, **LIVE, task_index=task) for task in range(first.task_count))]
        named = opening("b", NOW + HOUR, scope=scope, **LIVE | fields)
        ends = [closing("b", **LIVE | fields, task_index=task) for task in range(named.task_count)]
        return promise([*frames, named, *ends], NOW).run.run_id

    many = ScopeDetail(projects=["terra-1", "terra-2"], project_count=2)
    assert asked_by(opening("a", **LIVE, scope=many), many) == "b"
    assert asked_by(opening("a", **LIVE), many) == "a"
    assert asked_by(opening("a", **LIVE), many, task_count=2) == "b"
    assert asked_by(opening("a", NOW - 7 * DAY, **LIVE), many) == "b"
    assert asked_by(opening("a", NOW + HOUR - 7 * DAY, **LIVE), many) == "a"
    assert asked_by(opening("a", **LIVE, environment="prod", scope=ScopeDetail(only=["terra-1/a"])), many) == "b"
    assert asked_by(opening("a"), many) == "b", "a live run yields to no rehearsal"
    assert asked_by(opening("a"), many, dry_run=True) == "a"
    for scope in (ScopeDetail(as_of=NOW), ScopeDetail(inventory="saved.json")):
        assert asked_by(opening("a", **LIVE, scope=scope), many) == "b"


def test_what_will_be_deleted_is_not_asked_of_a_rehearsal_of_another_policy_than_is_in_force() -> None:
    live = [opening("a", **LIVE), closing("a", **LIVE)]
    ours = at_age(1, DAY, due_at=NOW + 6 * DAY)

    def asked_by(*others: Record, **fields: Any) -> tuple[str, list[str]]:
        frames = [*live, *others, opening("b", NOW + HOUR, **fields), closing("b")]
        due = upcoming([*frames, ours, kept("b", due_at=NOW + DAY)], 30 * DAY, NOW)
        return due.run.run_id, due.remarks

    assert asked_by() == ("b", [])
    assert asked_by(policy_digest=None) == ("b", [])
    passed_over = ["newer, but not taken: run b rehearsed another policy than is in force"]
    assert asked_by(policy_digest="sha256:2") == ("a", passed_over)
    assert asked_by(opening("c", environment="prod", dry_run=False, policy_digest="sha256:2",
                            time=NOW + MS), closing("c", **LIVE), policy_digest="sha256:2")[0] == "b"  # fmt: skip
    pilot = ScopeDetail(projects=["terra-1"], project_count=1)
    assert asked_by(opening("c", dry_run=False, scope=pilot, policy_digest="sha256:2", time=NOW + MS),
                    closing("c", **LIVE))[0] == "b"  # fmt: skip
    ended = [opening("a", NOW + HOUR - 7 * DAY - MS, **LIVE), closing("a", **LIVE)]
    frames = [*ended, opening("b", NOW + HOUR, policy_digest="sha256:2"), closing("b")]
    assert upcoming([*frames, kept("b", due_at=NOW)], DAY, NOW).run.run_id == "b"
    rehearsed = [*live, opening("b", NOW + HOUR, policy_digest="sha256:2"), closing("b"), ours]
    assert promise(rehearsed, NOW).remarks == []


def test_day_by_day_the_closing_records_tell_the_oldest_and_the_latest_act() -> None:
    early, late = NOW - DAY, NOW - HOUR

    def closed(
        run_id: str, at: datetime, age: float | None, over_age: Any, late_s: float | None, **more: Any
    ) -> Record:
        oldest = None if age is None else OldestDetail(age_s=age)
        delay = None if late_s is None else LateDetail(max=late_s)
        return closing(run_id, **LIVE, time=at, oldest=oldest, over_age=over_age, late_s=delay, **more)

    frames = [
        opening("x", early - DAY, **LIVE),
        opening("a", early, **LIVE),
        opening("b", late, task_count=2, **LIVE),
        opening("c", late, job="check-autopause", **LIVE),
        closing("x", **LIVE, time=early - DAY),
        closed("a", early, 100.0, {"exempt": 5}, None),
        closed("b", late, 200.0, {"failed": 1, "exempt": 2}, 7.0, task_count=2),
        closed("b", late, 300.0, {"Error": 2}, 9.0, task_count=2, task_index=1),
        closed("c", late, 999.0, {"Error": 9}, None),
    ]
    assert promise([*frames, record("b", **LIVE)], NOW).days == [
        Day(day=date(2026, 11, 18), runs=1, oldest_s=None, over_age=None, late_max_s=None),
        Day(day=date(2026, 11, 19), runs=1, oldest_s=100.0, over_age=0, late_max_s=None),
        Day(day=date(2026, 11, 20), runs=1, oldest_s=300.0, over_age=3, late_max_s=9.0),
    ]


def test_the_horizon_says_when_the_last_is_gone_and_who_cannot_be_relied_on() -> None:
    made_before = NOW - 5 * DAY

    def left(number: int, age: timedelta | None, final_at: datetime | None, why: str | None = None) -> Left:
        created = None if age is None else NOW - age
        return Left(
            project=f"terra-{number}",
            name="a",
            creator="ada",
            created_date=created,
            final_at=final_at,
            exempt=number == 3,
            not_relied_on=why,
        )

    answer = asked(
        at_age(1, 5 * DAY),
        at_age(2, 5 * DAY + MS),
        at_age(3, 13 * DAY, reason="exempt", exemption=WORKSHOP),
        at_age(4, 6 * DAY, status="Error", reason="status_not_eligible"),
        at_age(5, DAY, created_date=None, reason="undated"),
        at_age(6, MAX_AGE + DAY, action="delete", outcome="failed", reason="max_age"),
        at_age(7, MAX_AGE + HOUR, action="delete", outcome="failed", reason="max_age"),
        at_age(8, 20 * DAY, action="delete", outcome="deletion_accepted"),
        made_before=made_before,
    )
    assert answer.horizon is not None
    assert (answer.horizon.left, answer.horizon.not_relied_on) == (6, 3)
    assert answer.horizon.final_at == answer.horizon.final_at_of_the_rest == NOW + 9 * DAY
    assert answer.horizon.exempt == 1
    assert answer.horizon.in_words == (
        "Of those made before 2026-11-15 03:00Z 6 are left: 3 cannot be relied on, 1 is exempt, until 2026-11-23 03:00Z"
        " at the latest, the last of the others goes from 2026-11-29 03:00Z."
    )
    assert answer.horizon.rows == [
        left(4, 6 * DAY, None, "Error"),
        left(5, None, None, "undated"),
        left(6, MAX_AGE + DAY, None, "failed"),
        left(2, 5 * DAY + MS, NOW + 9 * DAY),
        left(3, 13 * DAY, NOW + 3 * DAY),
        left(7, MAX_AGE + HOUR, NOW - HOUR + MS),
    ]


def test_which_exemption_spares_whom_and_from_what() -> None:
    told = [
        at_age(1, 20 * DAY, age_s=20 * 86_400.0, reason="exempt", exemption=WORKSHOP),
        at_age(2, DAY, age_s=86_400.0, reason="exempt", exemption=WORKSHOP),
        at_age(3, 20 * DAY, status="Error", reason="status_not_eligible", exemption=WORKSHOP),
    ]
    frames = [
        opening("a", task_count=2, exemptions=[TYPO, WORKSHOP], **LIVE),
        *(closing("a", task_count=2, task_index=task, exemptions_matched=[0, task + 1], **LIVE) for task in range(2)),
    ]
    typo, workshop = promise([*frames, *told], NOW).exemptions
    assert (typo.matches, typo.would_go, typo.spared) == (0, 0, [])
    assert (workshop.exemption, workshop.matches) == ("project terra-* until 2026-11-23 03:00: a workshop", 3)
    assert workshop.spared == [
        Spared(project=f"terra-{n}", name="a", creator="ada", age_s=age * 86_400.0, would_go=goes)
        for n, age, goes in ((1, 20, True), (2, 1, False))
    ]
    assert [line.matches for line in asked(exemptions=[TYPO]).exemptions] == [None]


# asked of the program


def test_promise_ends_with_8_where_it_is_broken_and_that_is_asked(run: Callable[..., Ended]) -> None:
    exemptions = json.dumps([{"match": {"project": "terra-3"}, "until": "2099-01-01", "reason": "a workshop"}])
    Path("exemptions.json").write_text(exemptions.replace("2099-01-01", f"{datetime.now(UTC) + 9 * DAY:%Y-%m-%d}"))
    log, ask = Path("audit/run.jsonl"), ("review-audit-log", "promise", "--from", "audit/run.jsonl")
    for fleet, code in (([a_machine(1), a_machine(2, days=3)], 0), ([a_machine(1, status=TrueStatus.ERROR)], 8)):
        log.unlink(missing_ok=True)
        with serving(Leonardo([*fleet, a_machine(3)])) as server:
            run(*delete(server, "--no-dry-run", "--audit-file", str(log), "--exemptions", "exemptions.json"))
        assert run(*ask).code == 0
        assert run(*ask, "--exit-code").code == code
    sheet = run(*ask, "--output", "csv").out.splitlines()
    assert len(sheet) == 3
    made_before = f"{datetime.now(UTC) - 10 * DAY:%Y-%m-%d}"
    table = run(*ask, "--output", "table", "--made-before", made_before).out
    rows = run(*ask, "--output", "csv", "--made-before", made_before).out.splitlines()
    assert (rows[0], len(rows)) == (",".join(Left.__struct_fields__), 3)
    assert table.index("What to do") < table.index("Of those made before") < table.index("The promise is broken")
    assert "Would be deleted now without their exemption" in table
    assert f"Of those made before {made_before} 00:00Z 2 are left: 1 cannot be relied on, 1 is exempt, until" in table
    assert "--delete-errored (--only" in table
    assert run(*ask, "--made-before", "soon").err.startswith("leo-lifecycle: --made-before: 'soon' is neither")
    said = run("review-audit-log", "runs", "--from", str(log), "--exit-code").err
    assert said == "leo-lifecycle: --exit-code goes with promise, and with nothing else\n"
