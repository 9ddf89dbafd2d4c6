"""A live run held to its plan, and plans that must not be used."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.rules.guards import Guard
from core.rules.plan import Plan
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, calls, delete, paths

Run = Callable[..., Ended]
LIVE = ("--no-dry-run", "--plan", "plan.jsonl")
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
DAY, MS = timedelta(days=1), timedelta(milliseconds=1)
PLAN = Plan(
    run_id="r1",
    job="delete-old-runtimes",
    environment="test",
    policy_digest="sha256:1",
    made_at=NOW - timedelta(hours=1),
    dry_run=True,
    as_of=False,
    saved=False,
    faults=(),
    runtimes=frozenset({("1", "terra-1/all-of-us-1")}),
    disks_lost=0,
    made_by="grace@example.org",
    rule="delete what is older than 14 d",
    terms={"max_age": "14 d"},
)


def refusals(plan: Plan, **changes: Any) -> list[str]:
    fits: dict[str, Any] = {
        "job": "delete-old-runtimes",
        "environment": "test",
        "policy_digest": "sha256:1",
        "terms": {"max_age": "14 d"},
        "now": NOW,
        "max_age": DAY,
    }
    found = list(plan.refusals(**{**fits, **changes}))
    assert {refusal.guard for refusal in found} <= {Guard.PLAN}
    return [refusal.detail.removeprefix("plan r1 cannot be used: ") for refusal in found]


def test_a_plan_that_fits_is_not_refused() -> None:
    assert refusals(PLAN) == []


def test_a_plan_is_used_up_to_its_age_and_not_a_millisecond_longer() -> None:
    assert refusals(replace(PLAN, made_at=NOW - DAY)) == []
    assert refusals(replace(PLAN, made_at=NOW - DAY - MS)) == ["it is 1 d 1 ms old, plan-max-age is 1 d"]
    assert refusals(replace(PLAN, made_at=NOW)) == []
    assert refusals(replace(PLAN, made_at=NOW + MS)) == ["it was made in the future"]


def test_each_reason_against_a_plan_is_told() -> None:
    assert refusals(replace(PLAN, dry_run=False)) == ["it was a live run"]
    for job in ("check-autopause", "start"):
        assert refusals(PLAN, job=job) == ["it was made by delete-old-runtimes"]
    assert refusals(PLAN, environment="prod") == ["it was made for test, this is prod"]
    other = {"max_age": "10 d", "exemptions": "project terra-1 until 2026-12-01 00:00: a course"}
    for digest in ("sha256:0", "sha256:2"):
        assert refusals(PLAN, policy_digest=digest, terms=other) == [
            "it was made under another policy: max_age: 14 d there, 10 d here;"
            " exemptions: none there, project terra-1 until 2026-12-01 00:00: a course here"
        ]
    assert refusals(replace(PLAN, terms=other), policy_digest="sha256:0") == [
        "it was made under another policy: max_age: 10 d there, 14 d here;"
        " exemptions: project terra-1 until 2026-12-01 00:00: a course there, none here"
    ]
    assert refusals(replace(PLAN, as_of=True)) == ["it was made as of another instant"]
    assert refusals(replace(PLAN, saved=True)) == ["it was made of a saved list, without a second look"]
    assert refusals(replace(PLAN, faults=("a", "b"))) == ["its records are not whole: a; b"]
    assert refusals(replace(PLAN, faults=("a", "b", "c", "d"))) == ["its records are not whole: a; b; c"]
    assert len(refusals(replace(PLAN, dry_run=False, as_of=True), environment="prod")) == 3


def test_what_a_person_approves_is_told_in_one_sentence() -> None:
    said = "plan r1 for test, made by grace@example.org 1 h ago: delete what is older than 14 d; 1 runtime"
    assert PLAN.in_words(NOW) == said
    assert replace(PLAN, disks_lost=1).in_words(NOW) == f"{said} (disk lost: 1)"
    assert replace(PLAN, made_by=None).in_words(NOW) == said.replace("grace@example.org", "unknown")


def test_the_digest_tells_plans_apart_by_what_they_would_do() -> None:
    assert replace(PLAN, made_at=NOW, faults=("x",)).digest == PLAN.digest
    other = frozenset({("2", "terra-1/all-of-us-1")})
    changed = [replace(PLAN, runtimes=other), replace(PLAN, policy_digest="2"), replace(PLAN, run_id="r2")]
    assert len({PLAN.digest, *(plan.digest for plan in changed)}) == 4


def test_the_digest_of_a_plan_is_the_same_in_every_version() -> None:
    """It stands on run_started."""
    lines = b"r1\nsha256:1\n1 terra-1/all-of-us-1"
    assert PLAN.digest == "sha256:" + hashlib.sha256(lines).hexdigest()


# through the program


def planned(run: Run, *arguments: str, fleet: Leonardo) -> Ended:
    """A dry run of this fleet, whose audit file is the plan."""
    with serving(fleet) as server:
        ended = run(*delete(server, "--audit-file", "plan.jsonl", *arguments))
    assert ended.code == 0
    return ended


def test_a_live_run_acts_only_on_what_was_planned_and_still_qualifies(run: Run) -> None:
    """Of three planned ones the second is in use now and the third was reset; the fourth has become due since."""
    first, third = a_machine(1), a_machine(3)
    plan = planned(run, fleet=Leonardo([first, a_machine(2), third, a_machine(4, days=1)]))
    used, reset = a_machine(2, days=10, idle_hours=1), a_machine(30, project="terra-3", name="all-of-us-3")
    with serving(Leonardo([first, used, reset, a_machine(4)])) as server:
        ended = run(*delete(server, *LIVE, "--approved-by", "grace"))
        assert [call for call in calls(server) if call.startswith("delete")] == ["delete terra-1/all-of-us-1"]
    assert ended.code == 0
    assert [ended.outcome(path) for path in paths(1, 2, 3, 4)] == [
        ("delete", "max_age", "deletion_accepted"),
        ("keep", "within_policy", "kept"),
        ("delete", "max_age", "not_in_plan"),
        ("delete", "max_age", "not_in_plan"),
    ]
    started = ended.records[0]
    assert (started["plan"]["run_id"], started["approved_by"]) == (plan.records[0]["run_id"], "grace")
    assert started["plan"]["digest"].startswith("sha256:")


def test_caps_count_what_is_left_after_the_plan(run: Run) -> None:
    planned(run, fleet=Leonardo([a_machine(1), *(a_machine(n, days=1) for n in range(2, 30))]))
    with serving(Leonardo([a_machine(n) for n in range(1, 30)])) as server:
        ended = run(*delete(server, *LIVE, "--max-acts", "1"))
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1, "not_in_plan": 28})


@pytest.mark.unmeasured
def test_a_plan_that_does_not_fit_refuses_the_whole_run_and_shows_it(run: Run) -> None:
    fleet = Leonardo([a_machine(1)])
    planned(run, fleet=fleet)
    with serving(fleet) as server:
        for changed in (("--max-age", "10d"), ("--environment", "prod"), ("--plan-max-age", "PT0.001S")):
            ended = run(*delete(server, *LIVE, *changed))
            assert (ended.code, ended.finished["refused_by"]) == (3, ["plan"])
            assert ended.audited["terra-1/all-of-us-1"]["outcome"] == "withheld"
        assert {request.method for request in server.requests} == {"GET"}
        live = run(*delete(server, *LIVE, "--audit-file", "live.jsonl"))
        assert live.code == 0
        again = run(*delete(server, "--no-dry-run", "--plan", "live.jsonl"))
    assert (again.code, again.finished["refused_by"]) == (3, ["plan"])


def test_a_plan_made_as_of_another_instant_is_refused(run: Run) -> None:
    fleet = Leonardo([a_machine(1)])
    planned(run, "--as-of", (datetime.now(UTC) + DAY).isoformat(), fleet=fleet)
    with serving(fleet) as server:
        assert run(*delete(server, *LIVE)).finished["refused_by"] == ["plan"]
        both = run(*delete(server, "--plan", "plan.jsonl", "--as-of", "2026-11-20"))
    assert (both.code, both.err) == (2, "leo-lifecycle: as-of: a plan is held to by the clock only\n")


@pytest.mark.parametrize("damage", ["cut", "torn", "added"])
def test_a_plan_whose_records_are_not_whole_is_refused(run: Run, tmp_path: Path, damage: str) -> None:
    fleet = Leonardo([a_machine(1), a_machine(2, days=1)])
    planned(run, fleet=fleet)
    path = tmp_path / "plan.jsonl"
    lines = path.read_text().splitlines()
    if damage == "cut":
        lines.pop()
    elif damage == "torn":
        lines[-1] = lines[-1][:-20]
    else:
        young = next(n for n, line in enumerate(lines) if "all-of-us-2" in line)
        record = json.loads(lines[young])
        record.update(action="delete", reason="max_age", outcome="would_delete")
        lines[young] = json.dumps(record)
    path.write_text("\n".join(lines) + ("" if damage == "torn" else "\n"))
    with serving(fleet) as server:
        ended = run(*delete(server, *LIVE))
        assert {request.method for request in server.requests} == {"GET"}
    assert (ended.code, ended.finished["refused_by"]) == (3, ["plan"])


def test_a_file_that_is_no_plan_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    fleet = Leonardo([a_machine(1)])
    with serving(fleet) as server:
        missing = run(*delete(server, *LIVE))
        assert (missing.code, missing.err) == (
            2,
            "leo-lifecycle: plan: plan.jsonl cannot be read: No such file or directory\n",
        )
        (tmp_path / "plan.jsonl").write_text("{}\n")
        empty = run(*delete(server, *LIVE))
        assert (empty.code, empty.err) == (
            2,
            "leo-lifecycle: plan: plan.jsonl: it holds 0 runs; a plan is the record of one dry run\n",
        )
        assert calls(server) == []
    planned(run, fleet=fleet)
    planned(run, fleet=fleet)
    with serving(fleet) as server:
        several = run(*delete(server, *LIVE))
    assert (several.code, several.err) == (
        2,
        "leo-lifecycle: plan: plan.jsonl: it holds 2 runs; a plan is the record of one dry run: which of them was meant"
        " cannot be told, so give each dry run a file of its own\n",
    )


def test_a_script_is_told_by_the_exit_code_whether_there_is_something_to_do(run: Run) -> None:
    def code(fleet: Leonardo, *words: str) -> int:
        with serving(fleet) as server:
            return run(*delete(server, *words)).code

    due, not_due = Leonardo([a_machine(1)]), Leonardo([a_machine(2, days=1)])
    assert [code(due), code(due, "--exit-code"), code(not_due, "--exit-code")] == [0, 8, 0]
    assert code(due, "--exit-code", "--only", "terra-9/none") == 1, "what failed counts more"
    assert code(due, "--exit-code", "--no-dry-run") == 0
