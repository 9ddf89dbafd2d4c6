"""The autopause check from its command line to Leonardo and back, over real HTTP."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, made_up, serving
from tests.conftest import Ended, a_machine, calls, delete, paths

Run = Callable[..., Ended]
STOP = ("--stop-overdue", "--no-dry-run")
FIRST = "terra-1/all-of-us-1"


def check(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    return ("check-autopause", *delete(server, *arguments)[1:])


def overdue(number: int = 1, *, idle_hours: float = 30, **fields: Any) -> Machine:
    return a_machine(number, days=5, idle_hours=idle_hours, **fields)


def reasons(ended: Ended) -> dict[str, str]:
    return {path: record["reason"] for path, record in ended.audited.items()}


def test_each_running_runtime_costs_one_get_and_the_others_none(run: Run) -> None:
    fleet = [
        overdue(1, idle_hours=0.1),
        overdue(2, idle_hours=3),
        overdue(3),
        overdue(4, autopause_threshold=0),
        overdue(5, autopause_threshold=14400 + 1),
        overdue(6, status=TrueStatus.STOPPED),
        overdue(7, status=TrueStatus.ERROR),
        overdue(8, status=TrueStatus.PRE_STOPPING),
        overdue(9, status=TrueStatus.UPDATING, idle_hours=1),
        overdue(10, status=TrueStatus.UNKNOWN),
    ]
    with serving(Leonardo(fleet)) as server:
        ended = run(*check(server))
        assert Counter(calls(server)) == Counter(["list", *(f"get {path}" for path in paths(1, 2, 3, 4, 5))])
    assert ended.code == 0
    assert reasons(ended) == dict(
        zip(
            paths(*range(1, 11)),
            [
                "in_use",
                "kernel_may_be_busy",
                "autopause_overdue",
                "autopause_off",
                "threshold_too_long",
                "paused",
                "errored",
                "stuck",
                "in_transition",
                "status_unknown",
            ],
            strict=True,
        )
    )
    assert ended.finished["outcomes"] == {"kept": 10}
    assert {p: r["autopause_threshold_min"] for p, r in ended.audited.items() if r["autopause_threshold_min"]} == dict(
        zip(paths(1, 2, 3, 5), [30, 30, 30, 14401], strict=True)
    )
    assert ended.audited[paths(3)[0]]["overdue_s"] == pytest.approx(30 * 3600 - 1800, abs=60)
    severities = {path for path, record in ended.audited.items() if record["severity"] == "WARNING"}
    assert severities == set(paths(3, 8))


def test_a_lost_owner_role_does_not_read_as_healthy(run: Run) -> None:
    with serving(Leonardo([overdue()], roles={"terra-1": Role.NONE})) as server:
        ended = run(*check(server))
    assert (ended.code, ended.finished["refused_by"]) == (3, ["empty_inventory"])


def test_findings_alone_are_no_failure_and_without_stop_overdue_even_a_live_run_changes_nothing(run: Run) -> None:
    with serving(Leonardo([overdue()])) as server:
        for how in ((), ("--no-dry-run",)):
            ended = run(*check(server, *how))
            assert (ended.code, ended.outcome(FIRST)) == (0, ("keep", "autopause_overdue", "kept"))
        assert {r.method for r in server.requests} == {"GET"}


def test_a_dry_run_says_what_it_would_stop(run: Run) -> None:
    with serving(Leonardo([overdue()])) as server:
        ended = run(*check(server, "--stop-overdue"))
        assert calls(server) == ["list", f"get {FIRST}", f"get {FIRST}"]
    assert (ended.code, ended.outcome(FIRST)) == (0, ("stop", "autopause_overdue", "would_stop"))


def test_only_what_is_overdue_is_stopped_with_its_intent_before_it(run: Run) -> None:
    fleet = [overdue(1), overdue(2, idle_hours=3), overdue(3, autopause_threshold=0)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*check(server, *STOP))
        assert [r.path for r in server.requests if r.method != "GET"] == [f"/api/google/v1/runtimes/{FIRST}/stop"]
        assert [m.status.shown for m in server.leonardo.everything()] == ["Stopping", "Running", "Running"]
    assert (ended.code, ended.outcome(FIRST)) == (0, ("stop", "autopause_overdue", "stop_accepted"))
    (intent,) = ended.events("stop_requested")
    assert (intent["name"], intent["action"], intent["attempt"]) == ("all-of-us-1", "stop", 1)
    assert intent["seq"] < ended.audited[FIRST]["seq"]
    assert ended.finished["calls"] == {"list": 1, "disks": 0, "get": 4, "delete": 0, "stop": 1}


@pytest.mark.parametrize(
    ("user", "expected"),
    [("touch", ("keep", "in_use", "spared")), ("reset", ("stop", "autopause_overdue", "replaced"))],
)
def test_the_second_look_decides(run: Run, user: Any, expected: tuple[str, str, str]) -> None:
    with serving(Leonardo([overdue()]), faults=[Fault(call="get", skip=1, user=user)]) as server:
        ended = run(*check(server, *STOP))
        assert {r.method for r in server.requests} == {"GET"}
    assert (ended.code, ended.outcome(FIRST)) == (0, expected)


def test_what_has_changed_since_the_list_is_judged_as_it_is_now(run: Run) -> None:
    faults = [
        Fault(call="get", name="all-of-us-1", user="stop"),
        Fault(call="get", name="all-of-us-2", user="reset"),
    ]
    with serving(Leonardo([overdue(1), overdue(2)]), faults=faults) as server:
        ended = run(*check(server))
    assert ended.outcome(FIRST) == ("keep", "in_transition", "kept")
    assert ended.outcome(paths(2)[0]) == ("keep", "threshold_unread", "replaced")


HINT = "stopping needs the action stop_start on the runtime"


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_stop_says_what_right_may_be_missing(run: Run, status: int) -> None:
    with serving(Leonardo([overdue()]), faults=[Fault(call="stop", status=status)]) as server:
        ended = run(*check(server, *STOP))
    assert (ended.code, ended.audited[FIRST]["outcome"]) == (1, "failed")
    assert HINT in ended.audited[FIRST]["message"]


def test_a_409_is_a_conflict(run: Run) -> None:
    body = json.dumps({"message": "cannot be stopped in Deleting status"})
    with serving(Leonardo([overdue()]), faults=[Fault(call="stop", status=409, body=body)]) as server:
        ended = run(*check(server, *STOP))
    assert (ended.code, ended.audited[FIRST]["outcome"]) == (0, "conflict")


def test_a_failed_stop_that_took_effect_is_accepted(run: Run) -> None:
    with serving(Leonardo([overdue()]), faults=[Fault(call="stop", status=500, act_first=True)]) as server:
        ended = run(*check(server, *STOP))
    assert (ended.code, ended.audited[FIRST]["outcome"]) == (0, "stop_accepted")


def test_the_caps_hold_for_stops_too(run: Run) -> None:
    fleet = [overdue(n) for n in range(1, 5)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*check(server, *STOP, "--max-acts", "3"))
        assert {r.method for r in server.requests} == {"GET"}
    assert (ended.code, ended.finished["refused_by"]) == (3, ["max_acts"])
    assert ended.finished["outcomes"] == {"withheld": 4}


def test_a_get_that_fails_leaves_the_threshold_unread(run: Run) -> None:
    faults = [Fault(call="get", name="all-of-us-1", status=400), Fault(call="get", name="all-of-us-2", status=404)]
    with serving(Leonardo([overdue(1), overdue(2), overdue(3, idle_hours=0.1)]), faults=faults) as server:
        ended = run(*check(server))
        assert "project_list terra-2" in calls(server)
    assert ended.code == 1
    assert [ended.outcome(path)[1:] for path in paths(1, 2, 3)] == [
        ("threshold_unread", "failed"),
        ("threshold_unread", "failed"),
        ("in_use", "kept"),
    ]
    assert ended.finished["failed"] == paths(1, 2)


def test_a_cap_in_a_dry_run_leaves_nothing_unaccounted(run: Run) -> None:
    faults = [Fault(call="get", name="all-of-us-1", status=404)]
    with serving(Leonardo([overdue(n) for n in range(1, 5)]), faults=faults) as server:
        ended = run(*check(server, "--stop-overdue", "--max-acts", "2"))
    assert (ended.code, ended.finished["would_be_refused_by"]) == (1, ["max_acts"])
    assert ended.finished["outcomes"] == {"would_stop": 3, "failed": 1}
    assert ended.finished["listed"] == ended.finished["audited"] == 4


def test_a_shrunken_inventory_is_refused_before_any_look(run: Run) -> None:
    with serving(Leonardo([overdue()])) as server:
        ended = run(*check(server, "--expect-at-least", "2"))
        assert calls(server) == ["list"]
    assert (ended.code, ended.outcome(FIRST)) == (3, ("keep", "threshold_unread", "withheld"))


def test_a_run_that_may_only_stop_has_no_way_to_send_anything_else(run: Run) -> None:
    """What a live run may send is narrowed to GET and its own act; no job has PATCH among them."""
    with serving(Leonardo([overdue(1), a_machine(2, status=TrueStatus.STOPPED)])) as server:
        run(*check(server, *STOP))
        assert {r.method for r in server.requests} == {"GET", "POST"}
        server.log.reset()
        run(*delete(server, "--no-dry-run"))
        assert {r.method for r in server.requests} == {"GET", "DELETE"}


def test_a_person_sees_the_findings_worst_first_and_a_verdict(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fleet = [overdue(1, idle_hours=0.1), overdue(2, autopause_threshold=0), overdue(3), overdue(4, idle_hours=40)]
    with serving(Leonardo(fleet)) as server:
        arguments = [word if word != "json" else "table" for word in check(server)]
        ended = run(*arguments)
    lines = [" ".join(line.split()) for line in ended.out.splitlines() if line.strip()]
    assert lines[1:3] == [
        "Findings, worst first",
        "runtime creator status threshold idle overdue reason outcome",
    ]
    assert [line.split()[0] for line in lines[4:7]] == paths(4, 3, 2)
    assert lines[4].endswith("Running 30 min 1 d 16 h 1 d 15 h autopause_overdue kept")
    assert " Running off " in lines[6]
    verdict = "autopause is healthy for 1 of 4 running runtimes; 2 overdue, 1 switched off."
    assert lines[7].startswith(verdict)


@pytest.mark.unmeasured
def test_each_reason_can_be_seen_in_the_sandbox(run: Run) -> None:
    ended = run("check-autopause", "--sandbox", "--output", "json")
    assert set(ended.finished["reasons"]) == {
        "cloud_not_supported",
        "duplicate",
        "status_unknown",
        "paused",
        "errored",
        "undated",
        "future_dated",
        "stuck",
        "in_transition",
        "threshold_unread",
        "autopause_off",
        "threshold_too_long",
        "in_use",
        "kernel_may_be_busy",
        "autopause_overdue",
    }
    assert ended.code == 1  # one runtime is hidden from GET
    assert 0 < ended.finished["reasons"]["autopause_overdue"] < 20


@pytest.mark.unmeasured
def test_a_broken_autopause_can_be_seen_in_the_sandbox(run: Run) -> None:
    with serving(made_up(400, autopause_broken=True)) as server:
        assert run(*check(server)).finished["reasons"]["autopause_overdue"] > 40


# what is left standing


def test_what_is_stuck_or_in_error_is_named_in_the_table_in_the_review_and_in_the_report(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fleet = [
        overdue(1, status=TrueStatus.PRE_STOPPING),
        overdue(2, status=TrueStatus.ERROR),
        overdue(3, idle_hours=0.1),
        overdue(4, status=TrueStatus.DELETING, idle_hours=1),
    ]
    with serving(Leonardo(fleet)) as server:
        asked = check(server, "--audit-file", "log.jsonl")
        shown = run(*(word if word != "json" else "table" for word in asked))
    found = {paths(1)[0]: "stuck", paths(2)[0]: "errored"}
    lines = [line.split() for line in shown.out.splitlines() if line.startswith("terra-")]
    assert {words[0]: words[-2] for words in lines} == found
    assert "autopause is healthy for 1 of 1 running runtimes; 1 stuck, 1 in error." in " ".join(shown.out.split())
    answer = json.loads(run("review-audit-log", "run", "latest", "--from", "log.jsonl", "--output", "json").out)
    assert {f"{row['project']}/{row['name']}": row["reason"] for row in answer["left_standing"]} == found
    table = run("review-audit-log", "run", "latest", "--from", "log.jsonl", "--output", "table").out
    assert {
        words[0]: words[-2] for words in map(str.split, table.splitlines()) if words[:1] in [[p] for p in found]
    } == found
    assert run("review-audit-log", "report", "--from", "log.jsonl", "--html", "report.html").code == 0
    _, _, standing = (tmp_path / "report.html").read_text().partition('<table id="person"')
    rows = standing.partition("</table>")[0].split("<tr>")[2:]
    assert {path for path in found if any(path in row and found[path] in row for row in rows)} == set(found)
    assert len(rows) == 2


@pytest.mark.unmeasured
def test_a_negative_threshold_is_a_finding_of_its_own(run: Run) -> None:
    """Leonardo pauses such a runtime at once, so that it is seldom seen."""
    with serving(Leonardo([overdue(autopause_threshold=-1)])) as server:
        ended = run(*check(server, *STOP))
        shown = run(*(word if word != "json" else "table" for word in check(server)))
        assert {request.method for request in server.requests} == {"GET"}
    assert (ended.code, ended.outcome(FIRST)) == (0, ("keep", "threshold_negative", "kept"))
    assert "autopause is healthy for 0 of 1 running runtimes; 1 with a negative threshold." in shown.out


def test_a_patch_in_progress_is_never_stuck(run: Run) -> None:
    fleet = [overdue(n, status=TrueStatus.UPDATING, patch_in_progress=n == 1) for n in (1, 2)]
    with serving(Leonardo(fleet)) as server:
        assert reasons(run(*check(server))) == dict(zip(paths(1, 2), ("in_transition", "stuck"), strict=True))


@pytest.mark.parametrize(("until", "expected"), [(1, ("keep", "kept")), (-1, ("stop", "stop_accepted"))])
def test_an_exemption_that_has_not_lapsed_spares_from_a_stop_too(
    run: Run, until: int, expected: tuple[str, str]
) -> None:
    then = (datetime.now(UTC) + timedelta(days=until)).isoformat()
    exemptions = json.dumps([{"match": {"project": "terra-1"}, "until": then, "reason": "workshop"}])
    with serving(Leonardo([overdue()])) as server:
        ended = run(*check(server, *STOP, "--exemptions", exemptions))
    action, reason, outcome = ended.outcome(FIRST)
    assert (reason, (action, outcome)) == ("autopause_overdue", expected)
    exemption = ended.audited[FIRST]["exemption"]
    assert (exemption["reason"], exemption["lapsed"]) == ("workshop", until < 0)


def test_impossible_dates_are_no_ground_for_a_stop(run: Run) -> None:
    then = datetime(1970, 1, 1, tzinfo=UTC)
    fleet = [overdue(1), overdue(2)]
    fleet[0].accessed = then
    fleet[1].accessed = fleet[1].created - timedelta(minutes=6)
    with serving(Leonardo(fleet)) as server:
        ended = run(*check(server, *STOP))
        assert calls(server) == ["list"]
    assert reasons(ended) == dict.fromkeys(paths(1, 2), "undated")
