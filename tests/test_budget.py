"""What a run is told to leave for later (AT_MOST) or to leave alone (EXCEPT), from the command line to Leonardo."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, aged, calls, delete, paths

Run = Callable[..., Ended]
LIVE = ("--no-dry-run", "--max-act-share", "1")


def a_backlog(count: int = 12) -> Leonardo:
    """The first is the most overdue."""
    return Leonardo([a_machine(n, days=60 - n) for n in range(1, count + 1)])


def outcomes(ended: Ended) -> dict[str, str]:
    return {path: record["outcome"] for path, record in ended.audited.items()}


def acted_on(*numbers: int, of: int) -> dict[str, str]:
    return {
        f"terra-{n}/all-of-us-{n}": "deletion_accepted" if n in numbers else "over_budget" for n in range(1, of + 1)
    }


@pytest.mark.unmeasured
@pytest.mark.parametrize("at_most", [1, 3, 4, 5])
def test_the_most_overdue_are_acted_on_and_the_rest_waits(run: Run, at_most: int) -> None:
    with serving(a_backlog(4)) as server:
        ended = run(*delete(server, *LIVE, "--at-most", str(at_most)))
        acts = Counter(call.partition(" ")[0] for call in calls(server))
    assert (ended.code, outcomes(ended)) == (0, acted_on(*range(1, at_most + 1), of=4))
    assert acts["get"] == acts["delete"] == min(at_most, 4)
    assert ended.events("run_started")[0]["limits"]["at_most"] == at_most


def test_what_failed_in_earlier_runs_comes_last_and_is_over_budget_first(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with serving(a_backlog(2), faults=[Fault(call="delete", project="terra-1", status=403)]) as server:
        assert run(*delete(server, *LIVE, "--only", paths(1)[0], "--audit-file", str(log))).code == 1
        aged(log, timedelta(hours=3))
        ended = run(*delete(server, *LIVE, "--at-most", "1", "--audit-file", str(log)))
    assert outcomes(ended) == {paths(1)[0]: "over_budget", paths(2)[0]: "deletion_accepted"}


def test_what_a_list_that_broke_off_had_shown_is_within_no_budget(run: Run) -> None:
    fleet = [a_machine(n, project="terra-1" if n > 3 else "terra-2", days=20) for n in range(1, 304)]
    with serving(Leonardo(fleet), faults=[Fault(call="project_list", project="terra-1", truncate=0.9)]) as server:
        both = ("--project", "terra-1", "--project", "terra-2", "--audit-file", "live.jsonl")
        ended = run(*delete(server, *LIVE, *both, "--at-most", "1"))
    counts = Counter(outcomes(ended).values())
    assert counts.pop("withheld") > 100
    assert counts == {"deletion_accepted": 1, "over_budget": 2}
    assert run("review-audit-log", "verify", "--from", "live.jsonl").code == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize(("at_most", "code", "acts"), [(5, 0, 5), (6, 3, 0)])
def test_a_backlog_above_a_cap_drains_by_a_plan_and_a_budget_within_it(
    run: Run, at_most: int, code: int, acts: int
) -> None:
    with serving(a_backlog()) as server:
        rehearsed = run(*delete(server, "--max-acts", "5", "--audit-file", "plan.jsonl"))
        assert (rehearsed.code, rehearsed.finished["would_be_refused_by"]) == (0, ["max_acts", "max_act_share"])
        budget = ("--max-acts", "5", "--at-most", str(at_most), "--max-act-share", "0.25")
        ended = run(*delete(server, "--no-dry-run", "--plan", "plan.jsonl", *budget))
    assert (ended.code, len([r for r in outcomes(ended).values() if r == "deletion_accepted"])) == (code, acts)
    assert ended.finished["outcomes"]["over_budget"] == 12 - at_most


def test_a_rehearsal_by_a_plan_says_what_its_live_run_would_be_told(run: Run) -> None:
    with serving(a_backlog()) as server:
        run(*delete(server, "--audit-file", "plan.jsonl"))
        words = ("--plan", "plan.jsonl", "--max-acts", "5", "--audit-file", "log.jsonl")
        for at_most, told in (("5", []), ("6", ["max_acts"])):
            ended = run(*delete(server, *words, "--at-most", at_most))
            assert (ended.code, ended.finished["would_be_refused_by"]) == (0, told)
    assert run("review-audit-log", "verify", "--from", "log.jsonl").code == 0


def test_without_a_plan_the_caps_look_at_all_that_is_due(run: Run) -> None:
    with serving(a_backlog()) as server:
        rehearsed = run(*delete(server, "--max-acts", "11", "--at-most", "1"))
        refused = run(*delete(server, *LIVE, "--max-acts", "11", "--at-most", "1"))
        ended = run(*delete(server, *LIVE, "--max-acts", "12", "--at-most", "1"))
    assert (rehearsed.code, rehearsed.finished["would_be_refused_by"]) == (0, ["max_acts", "max_act_share"])
    assert rehearsed.finished["outcomes"] == {"would_delete": 1, "over_budget": 11}
    assert (refused.code, refused.finished["outcomes"]) == (3, {"withheld": 1, "over_budget": 11})
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1, "over_budget": 11})


def test_what_a_plan_left_over_its_budget_is_not_in_it(run: Run) -> None:
    with serving(a_backlog(3)) as server:
        run(*delete(server, "--at-most", "2", "--audit-file", "plan.jsonl"))
        ended = run(*delete(server, *LIVE, "--plan", "plan.jsonl"))
    assert ended.finished["outcomes"] == {"deletion_accepted": 2, "not_in_plan": 1}


def test_what_is_excepted_stays_and_the_plan_stays_valid(run: Run) -> None:
    with serving(a_backlog(3)) as server:
        run(*delete(server, "--audit-file", "plan.jsonl"))
        narrow = ("--except", paths(2)[0], "--at-most", "1", "--audit-file", "log.jsonl")
        ended = run(*delete(server, *LIVE, "--plan", "plan.jsonl", *narrow))
        assert not [call for call in calls(server) if call == "delete terra-2/all-of-us-2"]
    assert ended.code == 0
    assert outcomes(ended) == dict(zip(paths(1, 2, 3), ["deletion_accepted", "excepted", "over_budget"], strict=True))
    assert ended.events("run_started")[0]["scope"]["except"] == paths(2)
    assert run("review-audit-log", "verify", "--from", "log.jsonl").code == 0


def test_caps_and_budget_do_not_count_what_is_excepted(run: Run) -> None:
    with serving(a_backlog(3)) as server:
        ended = run(*delete(server, *LIVE, "--max-acts", "2", "--at-most", "2", "--except", paths(1)[0]))
    assert outcomes(ended) == dict(
        zip(paths(1, 2, 3), ["excepted", "deletion_accepted", "deletion_accepted"], strict=True)
    )


def test_an_exception_that_meets_nothing_due_is_a_warning(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, days=1)])) as server:
        ended = run(*delete(server, *LIVE, "--except", "terra-1/all-of-us-2", "--except", "terra-2/all-of-us-2"))
    assert ended.code == 0
    assert ended.finished["warnings"] == [
        "except terra-1/all-of-us-2: it is not due, is the name right?",
        "except terra-2/all-of-us-2: it is not due, is the name right?",
    ]


def test_stops_are_budgeted_and_excepted_as_deletions_are(run: Run) -> None:
    fleet = [a_machine(n, days=1 + n, idle_hours=24 + 24 * n) for n in (1, 2, 3)]
    with serving(Leonardo(fleet)) as server:
        words = delete(server, *LIVE, "--stop-overdue", "--at-most", "1", "--except", paths(3)[0])
        ended = run("check-autopause", *words[1:])
    assert (ended.code, outcomes(ended)) == (
        0,
        dict(zip(paths(1, 2, 3), ["over_budget", "stop_accepted", "excepted"], strict=True)),
    )


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--at-most", "0"), "--at-most: input should be greater than or equal to 1, not '0'"),
        (("--at-most", ""), "--at-most: it is empty, which never means all: say which, or leave it out"),
        (("--except", ","), "--except: the list is empty"),
        (("--except", "terra-1"), "--except: 'terra-1' is not PROJECT/NAME"),
    ],
)
def test_a_budget_and_an_exception_that_make_no_sense_are_usage_errors(
    run: Run, arguments: tuple[str, ...], fault: str
) -> None:
    ended = run("delete-old-runtimes", "--sandbox", *arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"leo-lifecycle: {fault}\n")
