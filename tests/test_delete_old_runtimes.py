"""The deletion job from its command line to Leonardo and back, over real HTTP."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from core.rules.decision import to_millisecond
from core.sandbox.faults import Fault
from core.sandbox.fleet import make_fleet
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, calls, delete, paths

Run = Callable[..., Ended]
LIVE = "--no-dry-run"
ACCEPTED, WOULD = "deletion_accepted", "would_delete"


def statuses(server: SandboxServer) -> dict[str, str]:
    return {f"{m.project}/{m.name}": m.status.shown for m in server.leonardo.everything()}


def a_fleet() -> list[Machine]:
    """One past the maximum age, one idle past the smaller age, and those that must be spared."""
    return [
        a_machine(1, days=20, idle_hours=1),
        a_machine(2, days=10, idle_hours=5, status=TrueStatus.STOPPED),
        a_machine(3, days=10, idle_hours=3),
        a_machine(4, days=1),
        a_machine(5, status=TrueStatus.ERROR),
        a_machine(6, status=TrueStatus.UNKNOWN),
    ]


DECISIONS = {
    "terra-1/all-of-us-1": ("delete", "max_age"),
    "terra-2/all-of-us-2": ("delete", "max_age_if_idle"),
    "terra-3/all-of-us-3": ("keep", "within_policy"),
    "terra-4/all-of-us-4": ("keep", "within_policy"),
    "terra-5/all-of-us-5": ("keep", "status_not_eligible"),
    "terra-6/all-of-us-6": ("keep", "status_unknown"),
}


def decisions(ended: Ended) -> dict[str, tuple[str, str]]:
    return {path: (record["action"], record["reason"]) for path, record in ended.audited.items()}


def test_a_dry_run_says_what_it_would_delete_and_sends_nothing_but_get(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        ended = run(*delete(server))
        assert ended.code == 0
        assert decisions(ended) == DECISIONS
        assert ended.finished["outcomes"] == {"would_delete": 2, "kept": 4}
        assert {request.method for request in server.requests} == {"GET"}
        assert set(statuses(server).values()) == {"Running", "Stopped", "Error", "Unknown"}


def test_a_live_run_deletes_what_is_due_and_keeps_the_disk(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        ended = run(*delete(server, LIVE))
        assert ended.code == 0
        assert decisions(ended) == DECISIONS
        assert ended.finished["outcomes"] == {ACCEPTED: 2, "kept": 4}
        assert [path for path, status in statuses(server).items() if status == "Deleting"] == paths(1, 2)
        assert {request.query for request in server.requests if request.method == "DELETE"} == {"deleteDisk=false"}
        assert server.leonardo.deleted_disks == set()


@pytest.mark.unmeasured
def test_dry_and_live_runs_take_the_same_decisions_by_the_same_calls_but_the_last(run: Run) -> None:
    def fleet() -> Leonardo:
        return Leonardo(make_fleet(300, seed=11, now=datetime.now(UTC), due=40))

    with serving(fleet()) as server:
        dry = run(*delete(server))
        rehearsed = Counter((request.method, request.path) for request in server.requests)
    with serving(fleet()) as server:
        live = run(*delete(server, LIVE))
        done = Counter((request.method, request.path) for request in server.requests)
    assert decisions(dry) == decisions(live)
    assert Counter(dry.finished["reasons"]) == Counter(live.finished["reasons"])
    assert {path for method, path in done if method == "DELETE"} == {
        path for method, path in rehearsed if method == "GET" and path.count("/") > 4
    }
    assert {call: n for call, n in done.items() if call[0] == "GET"} == rehearsed


def test_the_records_of_a_run_tell_it_from_first_to_last(run: Run) -> None:
    machine = a_machine(1, days=20, idle_hours=1)
    with serving(Leonardo([machine])) as server:
        ended = run(*delete(server, LIVE, "--environment", "test", "--started-by", "ada", "--approved-by", "grace"))
    started, requested, audited, finished = ended.records
    assert [r["event"] for r in ended.records] == [
        "run_started",
        "deletion_requested",
        "runtime_audited",
        "run_finished",
    ]
    assert {r["run_id"] for r in ended.records} == {started["run_id"]}
    assert started["logging.googleapis.com/labels"] == {
        "job": "delete-old-runtimes",
        "run_id": started["run_id"],
        "environment": "test",
    }
    assert audited["logging.googleapis.com/insertId"] == f"{started['run_id']}-0-2"
    assert (started["started_by"], started["approved_by"], started["dry_run"]) == ("ada", "grace", False)
    assert started["policy"] == {
        "max_age_s": 1209600,
        "max_age_if_idle_s": 604800,
        "idle_after_s": 14400,
        "spare_possibly_busy": False,
        "kernel_busy_limit_s": 86400,
        "autopause_margin_s": 900,
        "delete_errored": False,
    }
    assert requested["attempt"] == 1
    assert (requested["runtime_id"], requested["action"], requested["reason"]) == ("1", "delete", "max_age")
    created = machine.created.replace(microsecond=machine.created.microsecond // 1000 * 1000)
    judged_at = datetime.fromisoformat(audited["judged_at"])
    assert audited["age_s"] == pytest.approx((judged_at - created).total_seconds(), abs=0.002)
    assert datetime.fromisoformat(audited["due_at"]) == created + timedelta(days=14, milliseconds=1)
    assert (audited["disk"], audited["persistent_disk_id"], audited["attempts"]) == ("kept", "1001", 1)
    assert (audited["http_status"], audited["error"], audited["severity"]) == (202, None, "NOTICE")
    assert re.fullmatch(r"[0-9a-f]{32}", audited["trace_id"])
    assert audited["message"].startswith("Leonardo accepted to delete terra-1/all-of-us-1: 20 d")
    assert finished["calls"] == {"list": 1, "disks": 0, "get": 1, "delete": 1, "stop": 0}
    assert (finished["listed"], finished["audited"], finished["exit_code"]) == (1, 1, 0)


@pytest.mark.parametrize("config", ["GceConfig", "Dataproc"])
def test_a_runtime_without_a_persistent_disk_is_said_to_lose_its_data(run: Run, config: str) -> None:
    with serving(Leonardo([a_machine(1, config_type=config)])) as server:
        record = run(*delete(server, LIVE)).audited["terra-1/all-of-us-1"]
    assert (record["disk"], record["persistent_disk_id"], record["outcome"]) == ("lost", None, ACCEPTED)


@pytest.mark.unmeasured
def test_a_thousand_runtimes_cost_one_list_and_two_calls_for_each_that_is_due(run: Run) -> None:
    fleet = make_fleet(1000, seed=3, now=datetime.now(UTC), due=500)
    with serving(Leonardo(fleet), latency=0.02) as server:
        ended = run(*delete(server, LIVE, "--max-act-share", "0.6", "--write-concurrency", "16"))
        assert ended.code == 0
        assert Counter(request.call for request in server.requests) == {"list": 1, "get": 500, "delete": 500}
        deleted = {request.path for request in server.requests if request.method == "DELETE"}
        assert deleted == {request.path for request in server.requests if request.call == "get"}
        assert server.max_in_flight <= 16
    assert ended.finished["calls"] == {"list": 1, "disks": 0, "get": 500, "delete": 500, "stop": 0}


@pytest.mark.unmeasured
@pytest.mark.parametrize(("readers", "writers"), [(1, 4), (3, 2)])
def test_never_more_is_in_flight_than_configured(run: Run, readers: int, writers: int) -> None:
    fleet = make_fleet(60, seed=3, now=datetime.now(UTC), due=30)
    arguments = ("--read-concurrency", str(readers), "--write-concurrency", str(writers), "--max-act-share", "1")
    with serving(Leonardo(fleet), latency=0.01) as server:
        assert run(*delete(server, LIVE, *arguments)).code == 0
        assert server.max_in_flight <= max(readers, writers)
        server.log.reset()
        assert run(*delete(server, *arguments)).code in (0, 3)
        assert server.max_in_flight <= readers


def test_the_most_overdue_goes_first(run: Run) -> None:
    fleet = [a_machine(1, days=16), a_machine(2, days=30), a_machine(3, days=8), a_machine(4, days=21)]
    with serving(Leonardo(fleet)) as server:
        run(*delete(server, LIVE, "--write-concurrency", "1"))
        order = [request.path.rpartition("/")[2] for request in server.requests if request.method == "DELETE"]
    assert order == ["all-of-us-2", "all-of-us-4", "all-of-us-1", "all-of-us-3"]


# enumeration


def test_projects_are_listed_one_by_one_and_each_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("terra-2\nterra-3\n\nterra-2\n")
    fleet = [a_machine(n, days=1) for n in range(1, 5)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*delete(server, "--project", "terra-1", "--project", "terra-2", "--projects-file", "projects"))
        assert sorted(calls(server)) == ["project_list terra-1", "project_list terra-2", "project_list terra-3"]
        assert {request.query for request in server.requests} == {""}
    assert (ended.code, sorted(ended.audited)) == (0, paths(1, 2, 3))


def test_a_project_that_cannot_be_listed_does_not_keep_the_others(run: Run) -> None:
    faults = [Fault(call="project_list", project="terra-1", status=403)]
    with serving(Leonardo([a_machine(1), a_machine(2)]), faults=faults) as server:
        ended = run(*delete(server, LIVE, "--project", "terra-1", "--project", "terra-2"))
    assert ended.code == 1
    (unreadable,) = ended.events("project_unreadable")
    assert (unreadable["project"], unreadable["http_status"], unreadable["error"]["kind"]) == ("terra-1", 403, "denied")
    assert ended.audited["terra-2/all-of-us-2"]["outcome"] == ACCEPTED
    assert ended.finished["failed"] == ["terra-1"]


def test_when_no_project_can_be_listed_the_inventory_is_unread(run: Run) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="project_list", status=403)]) as server:
        assert run(*delete(server, LIVE, "--project", "terra-1")).code == 4


def test_a_project_without_a_role_is_an_empty_list_and_an_empty_inventory_is_refused(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], roles={"terra-1": Role.NONE})) as server:
        ended = run(*delete(server, LIVE, "--project", "terra-1"))
    assert (ended.code, ended.finished["refused_by"]) == (3, ["empty_inventory"])
    assert ended.finished["lists"] == {"read": 1, "unread": 0}


def test_an_unreadable_list_touches_nothing(run: Run) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", status=401, times=None)]) as server:
        ended = run(*delete(server, LIVE))
        assert ended.code == 4
        assert calls(server) == ["list"]
    assert [r["event"] for r in ended.records] == ["run_started", "project_unreadable", "run_finished"]


def test_a_list_that_breaks_off_after_its_first_row_is_not_asked_for_again_and_touches_nothing(run: Run) -> None:
    fleet = make_fleet(400, seed=5, now=datetime.now(UTC), due=50)
    with serving(Leonardo(fleet), faults=[Fault(call="list", truncate=0.5)]) as server:
        ended = run(*delete(server, LIVE))
        assert (ended.code, calls(server)) == (4, ["list"])
    assert 0 < ended.finished["listed"] == ended.finished["audited"] < 400
    assert set(ended.finished["outcomes"]) == {"kept", "withheld"}
    (unreadable,) = ended.events("project_unreadable")
    assert unreadable["error"]["kind"] == "unreadable"


def test_a_list_that_breaks_off_before_its_first_row_is_asked_for_again(run: Run) -> None:
    with serving(Leonardo([a_machine(1, days=1)]), faults=[Fault(call="list", truncate=0.0)]) as server:
        ended = run(*delete(server))
        assert (ended.code, calls(server)) == (0, ["list", "list"])


def test_a_broken_project_list_releases_its_own_condemned_only(run: Run) -> None:
    fleet = [a_machine(n, project="terra-big", days=20 + n) for n in range(1, 90)] + [a_machine(100)]
    faults = [Fault(call="project_list", project="terra-big", truncate=0.7, times=None)]
    with serving(Leonardo(fleet), faults=faults) as server:
        ended = run(*delete(server, LIVE, "--project", "terra-big", "--project", "terra-100"))
        deleted = [request.project for request in server.requests if request.method == "DELETE"]
    assert (ended.code, deleted) == (1, ["terra-100"])
    assert ended.finished["outcomes"][ACCEPTED] == 1
    assert ended.finished["outcomes"]["withheld"] == ended.finished["listed"] - 1


def test_only_the_named_runtimes_are_judged_and_a_missing_one_is_told(run: Run) -> None:
    fleet = [a_machine(1), a_machine(2, project="terra-1"), a_machine(3)]
    only = ("--only", "terra-1/all-of-us-2", "--only", "terra-1/nobody", "--expect-at-least", "50")
    with serving(Leonardo(fleet)) as server:
        ended = run(*delete(server, LIVE, *only))
        assert calls(server)[0] == "project_list terra-1"
    assert (ended.code, list(ended.audited)) == (1, ["terra-1/all-of-us-2"])
    (missing,) = ended.events("runtime_missing")
    assert (missing["project"], missing["name"]) == ("terra-1", "nobody")
    assert ended.finished["failed"] == ["terra-1/nobody"]


def test_a_row_that_cannot_be_read_costs_only_itself(run: Run) -> None:
    rows = [(None, b'{"id": 7, "googleProject": "terra-7"}'), (None, b"42")]
    with serving(Leonardo([a_machine(1)], raw_rows=rows)) as server:
        ended = run(*delete(server, LIVE))
    assert ended.code == 1
    assert ended.finished["reasons"] == {"malformed": 2, "max_age": 1}
    malformed = [r for r in ended.events("runtime_audited") if r["reason"] == "malformed"]
    assert [(r["runtime_id"], r["project"], r["name"], r["outcome"]) for r in malformed] == [
        ("7", "terra-7", None, "kept"),
        (None, None, None, "kept"),
    ]
    assert ended.audited["terra-1/all-of-us-1"]["outcome"] == ACCEPTED


def test_an_id_that_is_listed_twice_is_judged_once(run: Run) -> None:
    machine = a_machine(1)
    rows = [(None, json.dumps(machine.list_item(), default=lambda d: d.isoformat()).encode())]
    with serving(Leonardo([machine], raw_rows=rows)) as server:
        ended = run(*delete(server, LIVE))
        assert Counter(calls(server))["delete terra-1/all-of-us-1"] == 1
    assert ended.finished["reasons"] == {"max_age": 1, "duplicate": 1}


# guards


def test_an_empty_inventory_is_refused_even_in_a_dry_run(run: Run) -> None:
    with serving(Leonardo([])) as server:
        for how in ((), (LIVE,)):
            ended = run(*delete(server, *how))
            assert (ended.code, ended.finished["refused_by"]) == (3, ["empty_inventory"])
        assert run(*delete(server, "--allow-empty")).code == 0


def test_a_shrunken_inventory_is_refused_even_in_a_dry_run(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        ended = run(*delete(server, "--expect-at-least", "3"))
        assert (ended.code, ended.finished["refused_by"]) == (3, ["expect_at_least"])
        assert ended.finished["outcomes"] == {"withheld": 2}
        assert calls(server) == ["list"]
        assert run(*delete(server, "--expect-at-least", "2")).code == 0


def test_a_cap_refuses_the_whole_live_run_and_shows_every_candidate(run: Run) -> None:
    fleet = [a_machine(n) for n in range(1, 6)] + [a_machine(9, days=1)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*delete(server, LIVE, "--max-acts", "4"))
        assert calls(server) == ["list"]
    assert (ended.code, ended.finished["refused_by"]) == (3, ["max_acts"])
    (refused,) = ended.events("run_refused")
    assert (refused["guard"], refused["candidates"], refused["listed"]) == ("max_acts", 5, 6)
    assert {p: r["outcome"] for p, r in ended.audited.items() if r["action"] == "delete"} == dict.fromkeys(
        paths(1, 2, 3, 4, 5), "withheld"
    )


def test_a_cap_is_inert_in_a_dry_run_which_says_that_a_live_run_would_be_refused(run: Run) -> None:
    fleet = [a_machine(n) for n in range(1, 13)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*delete(server))
        assert calls(server) == ["list"]
    assert (ended.code, ended.finished["refused_by"]) == (0, [])
    assert ended.finished["would_be_refused_by"] == ["max_act_share"]
    assert ended.finished["outcomes"] == {WOULD: 12}


def test_ten_failed_acts_in_a_row_stop_the_run(run: Run) -> None:
    fleet = [a_machine(n, days=60 - n) for n in range(1, 16)]
    with serving(Leonardo(fleet), faults=[Fault(call="delete", status=403, times=None)]) as server:
        ended = run(*delete(server, LIVE, "--max-act-share", "1", "--write-concurrency", "1"))
        assert Counter(request.call for request in server.requests)["delete"] == 10
    assert (ended.code, ended.finished["refused_by"]) == (3, ["failing"])
    assert ended.finished["outcomes"] == {"failed": 10, "withheld": 5}
    assert ended.finished["failed"] == paths(*range(1, 11))


@pytest.mark.unmeasured
def test_a_conflict_between_failures_starts_the_count_anew(run: Run) -> None:
    fleet = [a_machine(n, days=60 - n) for n in range(1, 16)]
    faults = [
        Fault(call="delete", name="all-of-us-9", status=409, body='{"message": "not just now"}'),
        Fault(call="delete", status=403, times=None),
    ]
    with serving(Leonardo(fleet), faults=faults) as server:
        ended = run(*delete(server, LIVE, "--max-act-share", "1", "--write-concurrency", "1"))
    assert (ended.code, ended.finished["outcomes"]) == (1, {"failed": 14, "conflict": 1})


@pytest.mark.parametrize("mode", [(), (LIVE,)])
@pytest.mark.parametrize(("minutes", "skew", "ahead"), [(-6, 359, "ahead of"), (6, -359, "behind")])
def test_a_clock_that_differs_from_leonardos_is_refused_in_a_dry_run_too(
    run: Run, mode: tuple[str, ...], minutes: int, skew: int, ahead: str
) -> None:
    shifted = Leonardo([a_machine(1)], now=lambda: datetime.now(UTC) + timedelta(minutes=minutes))
    with serving(shifted) as server:
        ended = run(*delete(server, *mode))
        assert calls(server) == ["list"]
    (refused,) = ended.events("run_refused")
    assert (ended.code, ended.finished["refused_by"]) == (3, ["clock_skew"])
    assert re.search(rf"clock is [56] min .*{ahead} Leonardo's", refused["detail"])
    assert abs(ended.finished["clock_skew_s"]) >= abs(skew)
    assert ended.finished["clock_skew_s"] * skew > 0
    assert ended.audited["terra-1/all-of-us-1"]["outcome"] == "withheld"


def test_looks_that_show_a_wrong_clock_refuse_the_run_once_and_its_log_is_whole(run: Run) -> None:
    late = f"{datetime.now(UTC) + timedelta(minutes=10):%a, %d %b %Y %H:%M:%S GMT}"
    faults = [Fault(call="get", times=None, headers={"Date": late})]
    with serving(Leonardo([a_machine(n) for n in range(1, 4)]), faults=faults) as server:
        ended = run(*delete(server, LIVE, "--audit-file", "audit/live.jsonl"))
    assert (ended.code, [refused["guard"] for refused in ended.events("run_refused")]) == (3, ["clock_skew"])
    assert ended.finished["clock_skew_s"] == pytest.approx(-600, abs=60)
    assert run("review-audit-log", "verify", "--from", "audit").code == 0


def test_a_smaller_skew_is_recorded_by_the_list_that_shows_the_most(run: Run) -> None:
    dated = {
        minutes: f"{datetime.now(UTC) + timedelta(minutes=minutes):%a, %d %b %Y %H:%M:%S GMT}" for minutes in (1, 3)
    }
    faults = [
        Fault(call="project_list", project="terra-1", headers={"Date": dated[1]}),
        Fault(call="project_list", project="terra-2", headers={"Date": dated[3]}),
    ]
    with serving(Leonardo([a_machine(n) for n in (1, 2, 3)]), faults=faults) as server:
        ended = run(*delete(server, LIVE, *(f"--project=terra-{n}" for n in (1, 2, 3))))
    assert (ended.code, ended.finished["outcomes"]) == (0, {ACCEPTED: 3})
    assert ended.finished["clock_skew_s"] == pytest.approx(-180, abs=60)


@pytest.mark.unmeasured
@pytest.mark.parametrize("date", ["", "soon", "Tue, 24 Nov 2026 99999999999999999999:00:00 GMT"])
def test_a_list_without_a_readable_date_shows_no_skew(run: Run, date: str) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", headers={"Date": date})]) as server:
        ended = run(*delete(server, LIVE))
    assert (ended.code, ended.finished["clock_skew_s"]) == (0, None)


# look, act, outcome


@pytest.mark.parametrize("call", ["get", "delete"])
def test_another_incarnation_under_the_name_is_left_alone(run: Run, call: Any) -> None:
    """A reset just before the look is seen; one between look and DELETE is the residue that Leonardo leaves."""
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call=call, user="reset")]) as server:
        ended = run(*delete(server, LIVE))
        survivors = [m for m in server.leonardo.everything() if m.status is TrueStatus.RUNNING]
    if call == "get":
        assert (ended.code, ended.outcome("terra-1/all-of-us-1")) == (0, ("delete", "max_age", "replaced"))
        assert len(survivors) == 1
        assert ended.finished["calls"]["delete"] == 0
    else:
        assert ended.audited["terra-1/all-of-us-1"]["outcome"] == ACCEPTED


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("user", "reason"), [("touch", "within_policy"), ("delete", "status_not_eligible"), ("stop", "status_not_eligible")]
)
def test_what_the_second_look_keeps_is_spared(run: Run, user: Any, reason: str) -> None:
    with serving(Leonardo([a_machine(1, days=10)]), faults=[Fault(call="get", user=user)]) as server:
        ended = run(*delete(server, LIVE))
        assert Counter(request.method for request in server.requests) == {"GET": 2}
    assert (ended.code, ended.outcome("terra-1/all-of-us-1")) == (0, ("keep", reason, "spared"))


def test_a_possibly_busy_kernel_is_spared_by_the_threshold_that_only_the_look_knows(run: Run) -> None:
    fleet = [a_machine(1, days=10, idle_hours=20), a_machine(2, days=10, idle_hours=20, autopause_threshold=0)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*delete(server, LIVE, "--spare-possibly-busy"))
    assert {ended.outcome(path) for path in paths(1, 2)} == {("keep", "kernel_may_be_busy", "spared")}


def settled(run: Run, faults: list[Fault], *arguments: str, machine: Machine | None = None) -> tuple[Ended, list[str]]:
    with serving(Leonardo([machine or a_machine(1)], deletion_takes=None), faults=faults) as server:
        ended = run(*delete(server, LIVE, *arguments))
        return ended, [call.partition(" ")[0] for call in calls(server)]


NOT_FOUND = json.dumps({"message": "Runtime not found", "statusCode": 404, "exceptionClass": "class x.RuntimeNotFound"})
SAM_FAULT = json.dumps({"message": "AuthProvider error: x", "exceptionClass": "class x.AuthProviderException"})


@pytest.mark.unmeasured
@pytest.mark.parametrize("call", ["get", "delete"])
@pytest.mark.parametrize(("body", "kind"), [(NOT_FOUND, "not_visible"), (SAM_FAULT, "denied")])
def test_a_404_is_not_believed_where_the_list_still_shows_the_runtime(
    run: Run, call: Any, body: str, kind: str
) -> None:
    ended, made = settled(run, [Fault(call=call, status=404, body=body)])
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (1, "failed")
    assert ended.audited["terra-1/all-of-us-1"]["error"]["kind"] == kind
    looked = ["list", "get"] if call == "get" else ["list", "get", "delete"]
    assert made == (looked if kind == "denied" else [*looked, "project_list"])  # Sam's fault says nothing to settle


@pytest.mark.parametrize(
    ("others", "disks", "evidence", "made"),
    [
        ([a_machine(2, project="terra-1", days=1)], False, "project_seen", ["project_list"]),
        ([], True, "project_seen", ["project_list", "project_disk_list"]),
        ([], False, "unlisted", ["project_list", "project_disk_list"]),
    ],
)
def test_a_404_is_gone_where_the_list_does_not_show_this_id_with_what_proves_it(
    run: Run, others: list[Machine], evidence: str, made: list[str], *, disks: bool
) -> None:
    machine = a_machine(1)
    faults = [Fault(call="get", user="delete", status=404, body=NOT_FOUND)]
    with serving(Leonardo([machine, *others], deletion_takes=timedelta(0)), faults=faults) as server:
        if not disks:
            server.leonardo.disks.clear()
        ended = run(*delete(server, LIVE))
        asked = [request.call for request in server.requests]
    assert (ended.code, ended.outcome("terra-1/all-of-us-1")) == (0, ("delete", "max_age", "gone"))
    assert ended.audited["terra-1/all-of-us-1"]["evidence"] == evidence
    assert asked == ["list", "get", *made]
    assert ended.finished["calls"]["disks"] == made.count("project_disk_list")


def test_a_404_is_not_believed_where_a_row_of_the_projects_list_cannot_be_read(run: Run) -> None:
    """It may be this very runtime."""
    faults = [Fault(call="get", user="delete", status=404, body=NOT_FOUND)]
    fleet = [a_machine(1), a_machine(2, project="terra-1", days=1)]
    with serving(
        Leonardo(fleet, raw_rows=[("terra-1", b"null")], deletion_takes=timedelta(0)), faults=faults
    ) as server:
        ended = run(*delete(server, LIVE))
    record = ended.audited["terra-1/all-of-us-1"]
    assert (ended.code, record["outcome"], record["evidence"]) == (1, "failed", None)


def test_a_404_that_comes_while_the_name_is_another_runtimes_is_gone_by_its_name(run: Run) -> None:
    faults = [Fault(call="get", user="reset", status=404, body=NOT_FOUND)]
    with serving(Leonardo([a_machine(1)]), faults=faults) as server:
        ended = run(*delete(server, LIVE))
        assert calls(server)[2:] == ["project_list terra-1"]
    assert ended.outcome("terra-1/all-of-us-1") == ("delete", "max_age", "gone")
    assert ended.audited["terra-1/all-of-us-1"]["evidence"] == "name_taken"


def test_a_404_that_no_list_can_settle_has_failed(run: Run) -> None:
    faults = [Fault(call="get", status=404), Fault(call="project_list", status=403)]
    ended, _ = settled(run, faults)
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["error"]["kind"]) == (1, "not_visible")


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("status", "outcome"),
    [("Deleting", "already_deleting"), ("PreDeleting", "already_deleting"), ("PreStarting", "conflict")],
)
def test_a_409_is_read_by_the_true_status_in_its_message(run: Run, status: str, outcome: str) -> None:
    body = json.dumps(
        {"message": f"Runtime Gcp/terra-1/all-of-us-1 cannot be deleted in {status} status", "statusCode": 409}
    )
    ended, made = settled(run, [Fault(call="delete", status=409, body=body)])
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (0, outcome)
    assert made == ["list", "get", "delete"]


MAYBE = [Fault(call="delete", status=500), Fault(call="delete", status=503), Fault(call="delete", reset=True)]


@pytest.mark.unmeasured
@pytest.mark.parametrize("fault", MAYBE)
def test_a_failed_delete_that_took_effect_is_accepted(run: Run, fault: Fault) -> None:
    ended, made = settled(run, [replace(fault, act_first=True)])
    assert (ended.code, ended.outcome("terra-1/all-of-us-1")) == (0, ("delete", "max_age", ACCEPTED))
    assert made == ["list", "get", "delete", "project_list"]
    record = ended.audited["terra-1/all-of-us-1"]
    assert (record["disk"], record["persistent_disk_id"]) == ("kept", "1001")


@pytest.mark.unmeasured
@pytest.mark.parametrize("fault", MAYBE)
def test_a_failed_delete_that_changed_nothing_gets_a_new_look_and_one_second_try(run: Run, fault: Fault) -> None:
    ended, made = settled(run, [fault])
    assert (ended.code, ended.outcome("terra-1/all-of-us-1")) == (0, ("delete", "max_age", ACCEPTED))
    assert made == ["list", "get", "delete", "project_list", "get", "delete"]
    assert [r["attempt"] for r in ended.events("deletion_requested")] == [1, 2]
    assert ended.audited["terra-1/all-of-us-1"]["attempts"] == 2


def test_a_second_try_that_changes_nothing_either_has_failed(run: Run) -> None:
    ended, made = settled(run, [Fault(call="delete", status=500, body="<title>Bad\nGateway</title>", times=None)])
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (1, "failed")
    assert made == ["list", "get", "delete", "project_list", "get", "delete", "project_list"]
    assert ended.audited["terra-1/all-of-us-1"]["error"] == {
        "kind": "unavailable",
        "message": "Bad Gateway",
        "exception_class": None,
    }
    assert ended.finished["failed"] == ["terra-1/all-of-us-1"]


def test_a_failed_delete_whose_state_cannot_be_read_is_in_doubt(run: Run) -> None:
    ended, _ = settled(run, [Fault(call="delete", status=500), Fault(call="project_list", status=403)])
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (1, "in_doubt")
    assert ended.audited["terra-1/all-of-us-1"]["severity"] == "ERROR"


def test_a_failed_delete_that_was_reset_by_its_user_meanwhile_is_not_tried_again(run: Run) -> None:
    faults = [Fault(call="delete", status=500), Fault(call="get", skip=1, user="reset")]
    ended, made = settled(run, faults)
    assert made == ["list", "get", "delete", "project_list", "get"]
    assert ended.audited["terra-1/all-of-us-1"]["outcome"] == ACCEPTED  # the old one had to go for the new one to come


@pytest.mark.unmeasured
def test_an_answer_other_than_202_is_not_taken_for_a_promise(run: Run) -> None:
    ended, made = settled(run, [Fault(call="delete", status=200, body="<html>sign in</html>", times=None)])
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (1, "failed")
    assert made[3] == "project_list"


@pytest.mark.parametrize("status", [400, 403, 412, 418])
def test_another_refusal_of_an_act_has_failed_at_once(run: Run, status: int) -> None:
    ended, made = settled(run, [Fault(call="delete", status=status, body='"no"')])
    record = ended.audited["terra-1/all-of-us-1"]
    assert (ended.code, record["outcome"], record["http_status"], record["error"]["message"]) == (
        1,
        "failed",
        status,
        "no",
    )
    assert made == ["list", "get", "delete"]


def test_a_look_is_tried_five_times_on_5xx_and_never_on_4xx(run: Run) -> None:
    ended, made = settled(run, [Fault(call="get", status=502, times=2)])
    assert (ended.code, made) == (0, ["list", "get", "get", "get", "delete"])
    ended, made = settled(run, [Fault(call="get", status=429, times=2)])
    assert (ended.code, made) == (1, ["list", "get"])
    assert ended.audited["terra-1/all-of-us-1"]["error"]["kind"] == "throttled"


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_on_a_delete_is_waited_for_and_ends_in_a_new_look(run: Run, status: int) -> None:
    ended, made = settled(run, [Fault(call="delete", status=status, headers={"Retry-After": "0"}, times=2)])
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (0, ACCEPTED)
    assert made == ["list", "get", "delete", "get", "delete", "get", "delete"]


def test_a_delete_that_took_effect_though_told_to_come_back_is_accepted(run: Run) -> None:
    ended, made = settled(run, [Fault(call="delete", status=503, headers={"Retry-After": "1"}, act_first=True)])
    assert (ended.code, ended.outcome("terra-1/all-of-us-1")) == (0, ("delete", "max_age", ACCEPTED))
    assert made == ["list", "get", "delete", "get"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("call", ["get", "delete"])
def test_a_retry_after_that_does_not_fit_ends_the_run_early(run: Run, call: Any, status: int) -> None:
    later = (datetime.now(UTC) + timedelta(hours=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    ended, made = settled(run, [Fault(call=call, status=status, headers={"Retry-After": later})])
    maybe_done = (call, status) == ("delete", 503)
    outcome = "in_doubt" if maybe_done else "not_attempted"
    assert (ended.code, ended.audited["terra-1/all-of-us-1"]["outcome"]) == (5, outcome)
    assert made == (["list", "get"] if call == "get" else ["list", "get", "delete"])


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "later",
    [
        "Tue, 24 Nov 2026 00:00:00 -0000",
        "Tue, 24 Nov 9999 00:00:00 GMT",
        "Tue, 24 Nov 2026 99999999999999999999:00:00 GMT",
        "Tue, 24 Nov 2026 00:00:00 +99999999999999999999",
        "9" * 400,
        "\xb2",
    ],
)
def test_no_retry_after_is_a_bug(run: Run, later: str) -> None:
    ended, _ = settled(run, [Fault(call="get", status=429, headers={"Retry-After": later})])
    assert ended.code in (0, 1, 5)


def test_a_retry_after_on_the_list_is_waited_for(run: Run) -> None:
    ended, made = settled(run, [Fault(call="list", status=503, headers={"Retry-After": "1"})])
    assert (ended.code, made) == (0, ["list", "list", "get", "delete"])


def test_one_failure_stays_one(run: Run) -> None:
    fleet = [a_machine(n) for n in range(1, 8)]
    faults = [
        Fault(call="get", name="all-of-us-1", status=400),
        Fault(call="get", name="all-of-us-2", status=200, body="not json"),
        Fault(call="delete", name="all-of-us-3", status=403),
    ]
    with serving(Leonardo(fleet), faults=faults) as server:
        ended = run(*delete(server, LIVE))
    assert (ended.code, ended.finished["outcomes"]) == (1, {"failed": 3, ACCEPTED: 4})
    assert sorted(ended.finished["failed"]) == paths(1, 2, 3)
    assert ended.audited["terra-2/all-of-us-2"]["error"]["kind"] == "unreadable"


# manners


def test_every_call_names_the_program_and_carries_a_trace_and_nothing_that_it_was_not_given(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        ended = run(*delete(server, LIVE))
        requests = list(server.requests)
    assert all(re.fullmatch(r"leo-lifecycle/\S+ \(delete-old-runtimes\)", r.user_agent or "") for r in requests)
    traces = [r.trace or "" for r in requests]
    assert len(set(traces)) == len(traces)
    assert all(re.fullmatch(r"[0-9a-f]{32}/1", trace) for trace in traces)
    deleted = {r["trace_id"] for r in ended.events("runtime_audited") if r["action"] == "delete"}
    assert deleted == {r.trace[:32] for r in requests if r.method == "DELETE" and r.trace}
    assert not any(r.cookie or r.authorization for r in requests)


def test_a_cookie_is_neither_kept_nor_sent_back(run: Run) -> None:
    faults = [Fault(call="get", status=500, headers={"Set-Cookie": "LeoToken=ya29.secret; Path=/"})]
    with serving(Leonardo([a_machine(1)]), faults=faults) as server:
        ended = run(*delete(server, LIVE, "--read-concurrency", "1", "--log-level", "DEBUG"))
        assert [r.cookie for r in server.requests] == [False] * 4
    assert "ya29.secret" not in ended.out + ended.err


def test_proxies_of_the_environment_are_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(Leonardo(a_fleet())) as server:
        assert run(*delete(server)).code == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", ["..", ".", "a/b", "%2e%2e", "a?b", "a b#c", "\u202eü\n\x1b[31m", "a\\b;c&d=e"])
def test_a_hostile_name_stays_one_segment_of_the_url(run: Run, name: str) -> None:
    with serving(Leonardo([a_machine(1, name=name), a_machine(2, days=1)])) as server:
        ended = run(*delete(server, LIVE))
        _, look, *_ = server.requests
        assert (look.path, look.query) == (f"/api/google/v1/runtimes/terra-1/{name}", "")
        assert look.raw_path.count("/") == "/api/google/v1/runtimes/terra-1/name".count("/")
        assert look.raw_path.rpartition("/")[2] not in (".", "..")
    assert len(ended.audited) == 2
    assert "\x1b" not in ended.out


def test_the_creator_can_be_left_out_of_the_records(run: Run) -> None:
    with serving(Leonardo([a_machine(1, creator="ada@example.org")])) as server:
        named, omitted = run(*delete(server)), run(*delete(server, "--audit-creator", "omit"))
    assert named.audited["terra-1/all-of-us-1"]["creator"] == "ada@example.org"
    assert omitted.audited["terra-1/all-of-us-1"]["creator"] is None


def test_exemptions_keep_and_a_lapsed_one_is_told(run: Run) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    exemptions = json.dumps(
        [
            {"match": {"project": "terra-1", "label": "all-of-us=tr*"}, "until": tomorrow, "reason": "workshop"},
            {"match": {"project": "terra-2"}, "until": "2026-01-01", "reason": "over"},
        ]
    )
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        ended = run(*delete(server, "--exemptions", exemptions))
    assert ended.outcome("terra-1/all-of-us-1") == ("keep", "exempt", "kept")
    exemption = ended.audited["terra-1/all-of-us-1"]["exemption"]
    assert (exemption["reason"], exemption["lapsed"]) == ("workshop", False)
    assert ended.outcome("terra-2/all-of-us-2") == ("delete", "max_age", WOULD)
    assert [e["lapsed"] for e in ended.events("run_started")[0]["exemptions"]] == [False, True]
    assert "exemption has lapsed" in ended.err


def test_as_of_judges_both_looks_by_that_instant(run: Run) -> None:
    as_of = datetime.now(UTC) + timedelta(days=10)
    with serving(Leonardo([a_machine(1, days=5, idle_hours=1)])) as server:
        assert run(*delete(server)).audited["terra-1/all-of-us-1"]["action"] == "keep"
        ended = run(*delete(server, "--as-of", as_of.isoformat()))
    record = ended.audited["terra-1/all-of-us-1"]
    assert (record["reason"], record["outcome"]) == ("max_age", WOULD)
    assert datetime.fromisoformat(record["judged_at"]) == to_millisecond(as_of)
