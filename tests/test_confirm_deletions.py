"""What became of the deletions that earlier runs asked for."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.rules.confirmation import Confirmation, ConfirmationPolicy
from core.runtime import Runtime
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, aged, calls, delete, finish, rewritten, start, wait_until

Run = Callable[..., Ended]
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
LIVE_LOG, CONFIRMATIONS = Path("audit/live.jsonl"), Path("audit/confirm.jsonl")
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


@pytest.mark.unmeasured
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
        wait_until(lambda: "delete" in [r.call for r in list(server.requests)], process)
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
    assert (ended.code, [verdict["findings"] for verdict in json.loads(ended.out)["runs"]]) == (0, [[], []])


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
    assert "1 stuck. Exit code 1 (done, but something failed or is in doubt) after" in seen


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


# on what evidence


def told(ended: Ended) -> list[tuple[str, str | None, str | None, str | None]]:
    fields = ("outcome", "evidence", "persistent_disk_id", "disk_status")
    return [tuple(record[field] for field in fields) for record in ended.events("deletion_confirmed")]


def reset(server: SandboxServer) -> None:
    server.leonardo.add(a_machine(9, project="terra-1", name="all-of-us-1", days=0.1, creator=server.leonardo.caller))


def have_another(server: SandboxServer) -> None:
    server.leonardo.add(a_machine(9, project="terra-1", days=0.1, config_type="GceConfig"))


def lose_the_disk(server: SandboxServer) -> None:
    server.users.delete_disk(1001)


def have_another_and_lose_the_disk(server: SandboxServer) -> None:
    have_another(server)
    lose_the_disk(server)


RUNTIMES, DISKS = "project_list terra-1", "project_disk_list terra-1"


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("then", "evidence", "disk_status", "words"),
    [
        (reset, "name_taken", "Ready", "another runtime has its name; its disk 1001 is Ready"),
        (have_another, "project_seen", "Ready", "its project is seen without it; its disk 1001 is Ready"),
        (lambda _: None, "project_seen", "Ready", "its project is seen without it; its disk 1001 is Ready"),
        (
            have_another_and_lose_the_disk,
            "project_seen",
            "missing",
            "its disk 1001 is missing: its owner deleted it, or it is lost",
        ),
        (
            lose_the_disk,
            "unlisted",
            None,
            "nothing of its project is listed; whether its disk 1001 is there cannot be seen",
        ),
    ],
)
def test_what_is_gone_is_confirmed_by_what_proves_it_and_its_disk_is_looked_for(
    run: Run, then: Callable[[SandboxServer], None], evidence: str, disk_status: str | None, words: str
) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        server.leonardo.settle()
        then(server)
        server.log.reset()
        ended = run(*confirming(server))
        assert calls(server) == [RUNTIMES, DISKS]
    assert (ended.code, told(ended)) == (0, [("confirmed", evidence, "1001", disk_status)])
    assert words in ended.events("deletion_confirmed")[0]["message"]


@pytest.mark.unmeasured
@pytest.mark.parametrize(("others", "asked"), [(have_another, [RUNTIMES]), (lambda _: None, [RUNTIMES, DISKS])])
def test_without_a_kept_disk_the_disks_are_asked_for_only_where_nothing_else_proves_it(
    run: Run, others: Callable[[SandboxServer], None], asked: list[str]
) -> None:
    machine = a_machine(1, config_type="GceConfig")
    with serving(Leonardo([machine], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        server.leonardo.settle()
        others(server)
        server.log.reset()
        ended = run(*confirming(server))
        assert calls(server) == asked
    evidence = "project_seen" if asked == [RUNTIMES] else "unlisted"
    assert (ended.code, told(ended)) == (0, [("confirmed", evidence, None, None)])


def test_where_the_list_of_disks_cannot_be_read_the_deletion_stays_open(run: Run) -> None:
    fleet = [a_machine(1), a_machine(2), a_machine(3, config_type="GceConfig", project="terra-1")]
    with serving(Leonardo(fleet, deletion_takes=timedelta(0))) as server:
        run(*live(server))
        have_another(server)
        server.faults.add(Fault(call="project_disk_list", project="terra-1", status=403))
        ended = run(*confirming(server))
        assert (ended.code, ended.finished["failed"]) == (1, ["terra-1"])
        assert sorted(confirmed(ended)) == [("all-of-us-2", "confirmed", None), ("all-of-us-3", "confirmed", None)]
        (unreadable,) = ended.events("project_unreadable")
        assert (unreadable["project"], unreadable["http_status"]) == ("terra-1", 403)
        again = run(*confirming(server))
        assert (again.code, confirmed(again)) == (0, [("all-of-us-1", "confirmed", None)])
    assert run("review-audit-log", "verify", "--from", "audit").code == 0


ADVICE = (
    "errored terra-1/all-of-us-1: Leonardo failed to delete it, and its machine may still cost money; after idle-after,"
    " try delete-old-runtimes --delete-errored --only terra-1/all-of-us-1"
)


@pytest.mark.unmeasured
@pytest.mark.parametrize("status", [None, 500])
def test_a_deletion_that_ended_in_error_is_errored_with_what_to_do(run: Run, status: int | None) -> None:
    fleet = [a_machine(1, deletion_ends_in="error")]
    with serving(Leonardo(fleet, deletion_takes=timedelta(0))) as server:
        if status is not None:
            server.faults.add(Fault(call="delete", status=status, act_first=True))
        run(*live(server))
        ended = run(*confirming(server))
        assert (ended.code, confirmed(ended), ended.finished["failed"]) == (
            1,
            [("all-of-us-1", "errored", "Error")],
            [FIRST],
        )
        assert ended.events("deletion_confirmed")[0]["message"] == ADVICE
        assert run(*confirming(server)).code == 1
        shown = run(*(word if word != "json" else "table" for word in confirming(server)))
        assert ADVICE in " ".join(shown.out.split())
        for machine in server.leonardo.living():
            machine.deletion_ends_in, machine.accessed = "gone", machine.created
        run(*live(server, "--delete-errored", "--only", FIRST))
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "confirmed", None)]


def lost_role(server: SandboxServer, *numbers: int) -> None:
    server.leonardo.roles.update({f"terra-{number}": Role.NONE for number in numbers})


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("config", "accepted", "lost", "outcomes"),
    [
        ("GceWithPdConfig", 3, 2, {"confirmed": 3}),
        ("GceWithPdConfig", 3, 3, {"not_visible": 3}),
        ("GceWithPdConfig", 12, 3, {"confirmed": 12}),
        ("GceWithPdConfig", 11, 3, {"confirmed": 8, "not_visible": 3}),
        ("GceConfig", 10, 10, {"confirmed": 10}),
        ("GceConfig", 11, 11, {"not_visible": 11}),
    ],
)
def test_many_that_are_gone_without_evidence_are_not_visible(
    run: Run, config: str, accepted: int, lost: int, outcomes: dict[str, int]
) -> None:
    fleet = [a_machine(n, config_type=config) for n in range(1, accepted + 1)]
    with serving(Leonardo(fleet, deletion_takes=timedelta(0))) as server:
        run(*live(server, "--max-act-share", "1"))
        lost_role(server, *range(1, lost + 1))
        ended = run(*confirming(server))
    assert ended.finished["outcomes"] == outcomes
    doubted = "not_visible" in outcomes
    assert ended.code == int(doubted)
    assert ["has the caller lost its role" in text for text in ended.finished["warnings"]] == [True] * doubted
    gone = [told_one for told_one in told(ended) if told_one[0] == "not_visible"]
    assert {(evidence, disk_status) for _, evidence, _, disk_status in gone} <= {(None, None)}


@pytest.mark.unmeasured
def test_what_is_not_visible_stays_open_for_three_days_and_is_believed_then(run: Run) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 4)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        lost_role(server, 1, 2, 3)
        assert run(*confirming(server)).finished["outcomes"] == {"not_visible": 3}
        aged(CONFIRMATIONS, timedelta(days=2, hours=23))
        assert run(*confirming(server)).finished["outcomes"] == {"not_visible": 3}
        aged(CONFIRMATIONS, timedelta(hours=1))
        last = run(*confirming(server))
        assert (last.code, [one[:2] for one in told(last)]) == (0, [("confirmed", "unlisted")] * 3)
        assert confirmed(run(*confirming(server))) == []


def test_a_role_that_is_given_back_in_time_lets_all_be_confirmed_with_evidence(run: Run) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 4)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        lost_role(server, 1, 2, 3)
        run(*confirming(server))
        server.leonardo.roles.clear()
        last = run(*confirming(server))
    assert (last.code, sorted(told(last))) == (
        0,
        [("confirmed", "project_seen", f"100{n}", "Ready") for n in (1, 2, 3)],
    )


# which are asked about


def test_an_accepted_deletion_stays_open_though_a_later_run_finds_it_already_deleting(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        accepting = run(*live(server))
        server.faults.add(Fault(call="delete", status=409, body='{"message": "in PreDeleting status"}'))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.RUNNING
        again = run(*live(server))
        assert again.audited[FIRST]["outcome"] == "already_deleting"
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.DELETING
        ended = run(*confirming(server))
    assert confirmed(ended) == [("all-of-us-1", "pending", "Deleting")]
    assert ended.events("deletion_confirmed")[0]["accepted_run_id"] == accepting.records[0]["run_id"]


def test_the_deletion_of_a_killed_run_stays_open_though_a_later_run_finds_it_already_deleting(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        killed = run(*live(server))
        intent = next(n for n, r in enumerate(killed.records) if r["event"] == "deletion_requested")
        rewritten_lines = LIVE_LOG.read_text().splitlines(keepends=True)[: intent + 1]
        LIVE_LOG.write_text("".join(rewritten_lines))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.RUNNING
        server.faults.add(Fault(call="delete", status=409, body='{"message": "in PreDeleting status"}'))
        assert run(*live(server)).audited[FIRST]["outcome"] == "already_deleting"
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.DELETING
        ended = run(*confirming(server))
    assert confirmed(ended) == [("all-of-us-1", "pending", "Deleting")]
    assert ended.events("deletion_confirmed")[0]["accepted_run_id"] == killed.records[0]["run_id"]


def test_the_deletion_of_a_killed_run_stays_open_though_a_later_act_was_announced_and_never_left(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        killed = run(*live(server))
        intent = next(n for n, r in enumerate(killed.records) if r["event"] == "deletion_requested")
        LIVE_LOG.write_text("".join(LIVE_LOG.read_text().splitlines(keepends=True)[: intent + 1]))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.RUNNING
        again = run(*live(server))

        def as_if_it_never_left(record: dict[str, Any]) -> None:
            if record["run_id"] == again.records[0]["run_id"] and record["event"] == "runtime_audited":
                record.update(outcome="not_attempted", attempts=0)

        rewritten(LIVE_LOG, as_if_it_never_left)
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.RUNNING
        ended = run(*confirming(server))
    assert confirmed(ended) == [("all-of-us-1", "never_happened", "Running")]
    assert ended.events("deletion_confirmed")[0]["accepted_run_id"] == killed.records[0]["run_id"]


@pytest.mark.parametrize(
    ("outcome", "attempts", "asked"),
    [("spared", 1, True), ("spared", 0, False), ("already_deleting", 2, True), ("already_deleting", 1, False)],
)
def test_an_act_that_left_without_an_answer_is_asked_about_whatever_came_after_it(
    run: Run, outcome: str, attempts: int, *, asked: bool
) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))

        def as_if_it_ended_so(record: dict[str, Any]) -> None:
            if record["event"] == "runtime_audited":
                record.update(outcome=outcome, attempts=attempts)

        rewritten(LIVE_LOG, as_if_it_ended_so)
        assert confirmed(run(*confirming(server))) == ([("all-of-us-1", "pending", "Deleting")] if asked else [])


def test_what_survived_ends_once_a_later_run_keeps_this_incarnation(run: Run) -> None:
    with serving(Leonardo([a_machine(1, days=10)], deletion_takes=None)) as server:
        run(*live(server))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.STOPPED
        assert [run(*confirming(server)).finished["outcomes"] for _ in range(2)] == [{"survived": 1}] * 2
        run(*live(server, "--idle-after", "9d"))
        server.log.reset()
        ended = run(*confirming(server))
        assert (ended.code, confirmed(ended), calls(server)) == (0, [], [])


def test_what_survived_and_is_deleted_again_is_asked_about_again(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.STOPPED
        run(*confirming(server))
        again = run(*live(server))
        ended = run(*confirming(server))
    assert confirmed(ended) == [("all-of-us-1", "pending", "Deleting")]
    assert ended.events("deletion_confirmed")[0]["accepted_run_id"] == again.records[0]["run_id"]


def test_what_the_log_holds_beside_logs_is_named(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        Path("audit/logs.tar").write_bytes(b"hello")
        told = "passed over, since they are no logs: audit/logs.tar"
        for outcomes in ({"pending": 1}, {"pending": 1}):
            ended = run(*confirming(server))
            assert (ended.code, ended.finished["outcomes"], ended.finished["warnings"]) == (0, outcomes, [told])


def test_another_environments_deletions_are_not_asked_about(run: Run) -> None:
    """Ids are small numbers of one database: the same one means another runtime elsewhere."""
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server, "--environment", "prod"))
        server.log.reset()
        elsewhere = run(*confirming(server, "--environment", "test"))
        assert (elsewhere.code, elsewhere.out, calls(server)) == (2, "", [])
        assert "there is no audit record of environment test, only of prod" in elsewhere.err
        run(*delete(server, "--environment", "test", "--audit-file", "audit/test.jsonl"))
        server.log.reset()
        elsewhere = run(*confirming(server, "--environment", "test"))
        assert (elsewhere.code, calls(server)) == (0, [])
        assert confirmed(run(*confirming(server, "--environment", "prod"))) == [("all-of-us-1", "pending", "Deleting")]


@pytest.mark.unmeasured
@pytest.mark.parametrize("status", [None, 500])
def test_an_open_case_is_known_from_its_confirmation_where_the_intent_is_too_old_to_be_read(
    run: Run, status: int | None
) -> None:
    fleet = [a_machine(1)]
    with serving(Leonardo(fleet, deletion_takes=None)) as server:
        if status is not None:
            server.faults.add(Fault(call="delete", status=status, times=None))
        accepting = run(*live(server))
        outcome, state = ("pending", "Deleting") if status is None else ("never_happened", "Running")
        aged(LIVE_LOG, timedelta(days=40))
        assert run(*confirming(server)).finished["outcomes"] == {}
        assert confirmed(run(*confirming(server, "--since", "50d"))) == [("all-of-us-1", outcome, state)]
        ended = run(*confirming(server))
        assert (ended.code, confirmed(ended)) == (0, [("all-of-us-1", outcome, state)])
        (record,) = ended.events("deletion_confirmed")
        known = (record["accepted_run_id"], record["persistent_disk_id"])
        assert known == (accepting.records[0]["run_id"], "1001")


def test_an_open_case_whose_acceptance_is_too_old_stays_open_whatever_a_later_run_says(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        aged(LIVE_LOG, timedelta(days=40))
        run(*confirming(server, "--since", "50d"))
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.RUNNING
        server.faults.add(Fault(call="delete", status=409, body='{"message": "in PreDeleting status"}'))
        assert run(*live(server)).audited[FIRST]["outcome"] == "already_deleting"
        server.leonardo.machine("terra-1", "all-of-us-1").status = TrueStatus.DELETING
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "pending", "Deleting")]


# damaged logs


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "there is no audit record in audit"),
        ('{"event": "deletion_requested"}\n', "there is no audit record in audit"),
        ("no record\n", "live.jsonl:1: the line is not readable as a record"),
    ],
    ids=str.strip,
)
def test_a_log_without_one_readable_record_is_said_to_be_so(run: Run, content: str, wrong: str) -> None:
    Path("audit").mkdir()
    Path("audit/live.jsonl").write_text(content)
    with serving(Leonardo([])) as server:
        ended = run(*confirming(server))
        assert calls(server) == []
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("leo-lifecycle: --from: ")
    assert wrong in ended.err


def test_a_log_that_cannot_be_read_at_a_place_is_exit_2_where_nothing_is_known(run: Run) -> None:
    with serving(Leonardo([a_machine(1, days=1)])) as server:
        run(*live(server))
        log = Path("audit/live.jsonl")
        log.write_text(log.read_text().replace('"seq":1,', '"seq":one,'))
        ended = run(*confirming(server))
        assert calls(server) == ["list"]
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("leo-lifecycle: --from: ")
    assert "live.jsonl:2: the line is not readable as a record" in ended.err


def test_a_log_that_cannot_be_read_at_a_place_is_exit_1_where_some_is_known(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        with Path("audit/live.jsonl").open("a") as log:
            log.write('{"schema":"leo-lifecycle/audit/v1","event":"runtime_audited","seq":x}\n{}\n')
        ended = run(*confirming(server))
    assert (ended.code, ended.finished["outcomes"]) == (1, {"confirmed": 1})
    (warning,) = ended.finished["warnings"]
    assert "the log was not read whole" in warning
    assert "live.jsonl:5" in warning


def test_a_confirmation_of_a_later_version_is_no_bug(run: Run) -> None:
    def change(record: dict[str, Any]) -> None:
        if record["event"] == "deletion_confirmed":
            record["outcome"] = "postponed"

    with serving(Leonardo([a_machine(1)], deletion_takes=None)) as server:
        run(*live(server))
        run(*confirming(server))
        rewritten(CONFIRMATIONS, change)
        aged(LIVE_LOG, timedelta(days=40))
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "pending", "Deleting")]


def test_a_file_without_one_readable_record_beside_one_that_has_some_is_said(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        Path("empty.jsonl").touch()
        ended = run(*confirming(server, "--from", "empty.jsonl"))
    assert (ended.code, ended.finished["outcomes"]) == (1, {"confirmed": 1})
    assert ended.finished["warnings"] == ["the log was not read whole: there is no audit record in empty.jsonl"]


@pytest.mark.unmeasured
def test_what_was_confirmed_while_the_role_was_lost_is_asked_about_once_it_is_deleted_again(run: Run) -> None:
    machine = a_machine(1, deletion_ends_in="error")
    with serving(Leonardo([machine], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        server.leonardo.roles["terra-1"] = Role.NONE
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "confirmed", None)]
        server.leonardo.roles.clear()
        machine.deletion_ends_in = "never"
        for log in (LIVE_LOG, CONFIRMATIONS):
            aged(log, HOUR)
        assert run(*live(server, "--delete-errored", "--max-age-if-idle", "1d", "--idle-after", "PT0.001S")).code == 0
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "pending", "Deleting")]


def test_what_was_confirmed_while_the_role_was_lost_is_asked_about_once_a_run_lists_it(run: Run) -> None:
    with serving(Leonardo([a_machine(1, deletion_ends_in="error")], deletion_takes=timedelta(0))) as server:
        run(*live(server))
        server.leonardo.roles["terra-1"] = Role.NONE
        assert confirmed(run(*confirming(server))) == [("all-of-us-1", "confirmed", None)]
        assert confirmed(run(*confirming(server))) == []
        server.leonardo.roles.clear()
        for log in (LIVE_LOG, CONFIRMATIONS):
            aged(log, HOUR)
        assert confirmed(run(*confirming(server))) == []
        assert run(*live(server)).finished["reasons"] == {"status_not_eligible": 1}
        again = run(*confirming(server))
        assert (again.code, confirmed(again)) == (1, [("all-of-us-1", "errored", "Error")])
