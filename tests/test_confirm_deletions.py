"""What became of the deletions that earlier runs asked for."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.rules.confirmation import Confirmation, ConfirmationPolicy
from core.runtime import Runtime
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, calls, delete, finish, start

Run = Callable[..., Ended]
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
HOUR, MS = timedelta(hours=1), timedelta(milliseconds=1)
FIRST = "terra-1/all-of-us-1"
STATE = Runtime(id="1", project="terra-1", name="n", status="Deleting", date_accessed=NOW - 2 * HOUR, labels={})


def confirming(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    connection = ("--leonardo-url", server.url, "--auth", "none", "--output", "json", "--from", "audit")
    return ("confirm-deletions", *connection, "--audit-file", "audit/confirm.jsonl", *arguments)


def live(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    return delete(server, "--no-dry-run", "--audit-file", "audit/live.jsonl", *arguments)


def confirmed(ended: Ended) -> list[tuple[str, str, str | None]]:
    return [(r["name"], r["outcome"], r["status"]) for r in ended.events("deletion_confirmed")]


@pytest.mark.parametrize(
    ("state", "accepted", "expected"),
    [
        (None, True, Confirmation.CONFIRMED),
        (None, False, Confirmation.CONFIRMED),
        (STATE._replace(status="Deleted"), False, Confirmation.CONFIRMED),
        (STATE, True, Confirmation.STUCK),
        (STATE._replace(date_accessed=NOW - 2 * HOUR + MS), True, Confirmation.PENDING),
        (STATE._replace(date_accessed=None), True, Confirmation.PENDING),
        (STATE._replace(status="Stopped"), True, Confirmation.SURVIVED),
        (STATE._replace(status="Error"), True, Confirmation.ERRORED),
        (STATE._replace(status="Error"), False, Confirmation.ERRORED),
        (STATE._replace(status="Running"), False, Confirmation.NEVER_HAPPENED),
        (STATE._replace(status=None), False, Confirmation.NEVER_HAPPENED),
    ],
)
def test_a_deletion_is_judged_by_what_its_project_lists(
    *, state: Runtime | None, accepted: bool, expected: Confirmation
) -> None:
    assert ConfirmationPolicy(stuck_after=2 * HOUR).judge(state, accepted=accepted, instant=NOW) is expected


def test_an_accepted_deletion_is_pending_then_confirmed_and_not_asked_again(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, project="terra-1")], deletion_takes=None)) as server:
        accepting = run(*live(server))
        server.log.reset()
        pending = run(*confirming(server))
        assert calls(server) == ["project_list terra-1"]
        assert (pending.code, sorted(confirmed(pending))) == (
            0,
            [("all-of-us-1", "pending", "Deleting"), ("all-of-us-2", "pending", "Deleting")],
        )
        server.leonardo.deletion_takes = timedelta(0)
        done = run(*confirming(server))
        assert (done.code, done.finished["outcomes"]) == (0, {"confirmed": 2})
        assert {r["accepted_run_id"] for r in done.events("deletion_confirmed")} == {accepting.records[0]["run_id"]}
        server.log.reset()
        again = run(*confirming(server))
        assert (again.code, calls(server)) == (0, [])


def test_a_new_incarnation_does_not_hide_that_the_old_one_is_gone(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        server.leonardo.settle()
        server.leonardo.add(a_machine(9, project="terra-1", name="all-of-us-1", days=0.1, idle_hours=0))
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "confirmed", None)]


def test_an_accepted_deletion_that_was_lost_has_survived(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.STOPPED
        ended = run(*confirming(server))
    assert (ended.code, confirmed(ended)) == (1, [("all-of-us-1", "survived", "Stopped")])
    assert ended.finished["failed"] == [FIRST]


def test_a_deletion_that_never_ends_is_stuck(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        machine = server.leonardo.machine("terra-1", "all-of-us-1")
        machine.accessed -= 3 * HOUR
        ended = run(*confirming(server))
        assert (ended.code, confirmed(ended)) == (1, [("all-of-us-1", "stuck", "Deleting")])
        assert run(*confirming(server, "--stuck-after", "4h")).code == 0


def test_a_failed_deletion_that_still_stands_never_happened(run: Run) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="delete", status=500, times=None)]) as server:
        assert run(*live(server)).code == 1
        ended = run(*confirming(server))
    assert (ended.code, confirmed(ended)) == (0, [("all-of-us-1", "never_happened", "Running")])


def test_what_is_settled_is_not_asked_about(run: Run) -> None:
    fleet = [a_machine(n) for n in range(1, 4)]
    faults = [
        Fault(call="delete", name="all-of-us-1", status=409, body='{"message": "in Deleting status"}'),
        Fault(call="delete", name="all-of-us-2", status=409, body='{"message": "in PreStarting status"}'),
        Fault(call="get", name="all-of-us-3", user="reset"),
    ]
    with serving(Leonardo(fleet), faults=faults) as server:
        run(*live(server))
        server.log.reset()
        assert run(*confirming(server)).finished["outcomes"] == {}
        assert calls(server) == []


def test_a_run_killed_between_intent_and_outcome_is_settled(run: Run, tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        server.faults.add(Fault(call="delete", act_first=True, hang=True))
        process = start(*live(server), cwd=tmp_path)
        while "delete" not in [r.call for r in list(server.requests)]:
            assert process.poll() is None
        process.kill()
        finish(process)
        verified = run("review-audit-log", "verify", "--from", "audit", "--output", "json")
        (killed,) = json.loads(verified.out)["runs"]
        assert (killed["state"], killed["in_doubt"]) == ("open", ["terra-1/all-of-us-1 (1)"])
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "confirmed", None)]


def test_deletions_of_long_ago_are_not_asked_about(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*live(server))
        ended = run(*confirming(server, "--since", "PT0.001S"))
    assert (ended.code, ended.finished["outcomes"]) == (0, {})


def test_a_project_that_cannot_be_listed_does_not_keep_the_others(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        server.faults.add(Fault(call="project_list", project="terra-1", status=403, times=None))
        ended = run(*confirming(server))
        assert (ended.code, ended.finished["outcomes"], ended.finished["failed"]) == (1, {"confirmed": 1}, ["terra-1"])
        assert run(*confirming(server)).code == 4


def test_the_records_of_a_confirmation_are_whole(run: Run) -> None:
    fleet = [a_machine(1), a_machine(2), a_machine(3)]
    with serving(Leonardo(fleet, deletion_takes=None)) as server:
        run(*live(server))
        server.leonardo.machine("terra-2", "all-of-us-2").status = TrueStatus.STOPPED
        server.faults.add(Fault(call="project_list", project="terra-3", status=403))
        assert run(*confirming(server)).code == 1
    ended = run("review-audit-log", "verify", "--from", "audit", "--output", "json")
    assert (ended.code, [verdict["faults"] for verdict in json.loads(ended.out)["runs"]]) == (0, [[], []])


@pytest.mark.parametrize(("minutes", "ahead"), [(-6, "ahead of"), (6, "behind")])
def test_by_a_clock_that_differs_from_leonardos_nothing_is_confirmed(run: Run, minutes: int, ahead: str) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        then = f"{datetime.now(UTC) + timedelta(minutes=minutes):%a, %d %b %Y %H:%M:%S GMT}"
        server.faults.add(Fault(call="project_list", project="terra-2", headers={"Date": then}))
        refused = run(*confirming(server))
        assert (refused.code, confirmed(refused), refused.finished["refused_by"]) == (3, [], ["clock_skew"])
        (record,) = refused.events("run_refused")
        assert (f"{ahead} Leonardo's" in record["detail"], record["candidates"]) == (True, 2)
        assert run(*confirming(server)).finished["outcomes"] == {"confirmed": 2}
    assert run("review-audit-log", "verify", "--from", "audit", "--output", "json").code == 0


def test_a_smaller_skew_is_recorded_and_keeps_nothing_from_being_confirmed(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        then = f"{datetime.now(UTC) + timedelta(minutes=4):%a, %d %b %Y %H:%M:%S GMT}"
        server.faults.add(Fault(call="project_list", headers={"Date": then}))
        ended = run(*confirming(server))
    assert (ended.code, ended.finished["outcomes"]) == (0, {"confirmed": 1})
    assert ended.finished["clock_skew_s"] == pytest.approx(-240, abs=60)


def test_a_wait_that_does_not_fit_ends_the_run_early(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*live(server))
        server.faults.add(Fault(call="project_list", status=503, headers={"Retry-After": "7200"}))
        ended = run(*confirming(server))
    assert (ended.code, ended.finished["failed"], confirmed(ended)) == (4, ["terra-1"], [])
    (unreadable,) = ended.events("project_unreadable")
    assert unreadable["error"]["message"] == "the deadline came before the list had ended"


def test_a_record_that_cannot_be_kept_is_told_by_the_exit_code(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        ended = run(*confirming(server)[:-2], "--audit-file", "/dev/full")
    assert (ended.code, ended.finished["exit_code"]) == (6, 6)


def test_a_person_sees_what_needs_one(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        server.leonardo.machine("terra-1", "all-of-us-1").accessed -= 3 * HOUR
        ended = run(*(word if word != "json" else "table" for word in confirming(server)))
    seen = " ".join(ended.out.split())
    assert "Leonardo will neither end that nor take another deletion: have Leonardo's operators end it" in seen
    assert "1 stuck. Exit code 1 after" in seen


def test_a_wrong_place_or_reach_is_a_usage_error(run: Run) -> None:
    with serving(Leonardo([])) as server:
        missing = run(*confirming(server))
        assert (missing.code, missing.err) == (
            2,
            "leo-lifecycle: --from: audit cannot be read: No such file or directory\n",
        )
        assert run(*confirming(server, "--since", "48")).err == (
            "leo-lifecycle: --since: '48' is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D\n"
        )
