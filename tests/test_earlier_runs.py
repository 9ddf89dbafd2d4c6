"""What a run makes of those before it, over real runs and wherever their records are kept: a lost role is noticed."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.run.task import Task
from core.sandbox.faults import Fault
from core.sandbox.google_cloud import Google, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, aged, calls, delete, payloads

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
LIVE = "--no-dry-run"
LOG = Path("audit/log.jsonl")
IN_FILE = ("--audit-file", str(LOG))
DAY = timedelta(days=1)
FULL = 100
"""Runtimes of a whole fleet, each in a project of its own."""
ALL_MAY_GO = ("--max-act-share", "1")


@pytest.fixture
def google() -> Iterator[Google]:
    with serving_google(Google()) as google:
        yield google


def fleet(living: int = FULL, **fields: Any) -> list[Machine]:
    """None of them due."""
    return [a_machine(number, days=1, **fields) for number in range(1, living + 1)]


def lose(server: SandboxServer, *numbers: int) -> None:
    """The caller's role on their projects."""
    server.leonardo.roles.update({f"terra-{number}": Role.NONE for number in numbers})


def remove(server: SandboxServer, *numbers: int) -> None:
    """As their users do, at once."""
    for number in numbers:
        machine = server.leonardo.machine(f"terra-{number}", f"all-of-us-{number}")
        server.leonardo.bury(machine, server.leonardo.now())


def refused(ended: Ended) -> tuple[int, list[str]]:
    return ended.code, ended.finished["refused_by"]


SHRUNKEN = (3, ["shrunken_inventory"])
FINE: tuple[int, list[str]] = (0, [])


# where their records are


def test_half_a_fleet_gone_at_once_is_refused_by_the_runs_in_one_file(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        first = run(*delete(server, LIVE, *IN_FILE))
        assert first.records[0]["previous"] is None
        lose(server, *range(51, 101))
        server.leonardo.add(a_machine(101))
        server.log.reset()
        for mode in ((LIVE,), ()):
            ended = run(*delete(server, *mode, *IN_FILE))
            assert refused(ended) == SHRUNKEN
            previous = {"run_id": first.records[0]["run_id"], "living": FULL, "lists": 1}
            assert ended.records[0]["previous"] == previous
            assert ended.audited["terra-101/all-of-us-101"]["outcome"] == "withheld"
        assert calls(server) == ["list", "list"]
        (said,) = ended.events("run_refused")
        assert "51 runtimes live" in said["detail"]
        assert "allow-shrunken accepts this" in said["detail"]
    assert run("review-audit-log", "verify", "--from", "audit").code == 0


def test_half_a_fleet_gone_at_once_is_refused_by_the_runs_in_the_folder_of_tables(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        table = [word if word != "json" else "table" for word in delete(server, LIVE)]
        assert run(*table).code == 0
        lose(server, *range(51, 101))
        ended = run(*table)
    assert ended.code == 3
    assert "has the caller lost its role on some projects?" in " ".join(ended.out.split())


def test_half_a_fleet_gone_at_once_is_refused_by_the_runs_in_cloud_logging(run: Run, google: Google) -> None:
    in_cloud = ("--audit-cloud-log", "projects/p/logs/audit", "--google-emulator", google.address)
    with serving(Leonardo(fleet())) as server:
        assert refused(run(*delete(server, LIVE, *in_cloud))) == FINE
        lose(server, *range(51, 101))
        ended = run(*delete(server, LIVE, *in_cloud))
    assert refused(ended) == SHRUNKEN
    assert payloads(google)[-1]["refused_by"] == ["shrunken_inventory"]


def test_without_a_log_of_its_own_a_run_knows_of_none_before_it(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        run(*delete(server, LIVE, *IN_FILE))
        lose(server, *range(51, 101))
        assert refused(run(*delete(server, LIVE))) == FINE


def test_the_runs_of_another_environment_are_not_its_own(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        run(*delete(server, LIVE, *IN_FILE, "--environment", "prod"))
        lose(server, *range(51, 101))
        assert refused(run(*delete(server, LIVE, *IN_FILE, "--environment", "test"))) == FINE
        assert refused(run(*delete(server, LIVE, *IN_FILE, "--environment", "prod"))) == SHRUNKEN


def test_earlier_runs_that_cannot_be_read_are_said_and_the_run_goes_on(run: Run) -> None:
    LOG.parent.mkdir()
    LOG.write_text('{"schema": "leo-lifecycle/audit/v1", "event": "run_started", "seq": x}\n')
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, LIVE, *IN_FILE))
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1})
    (warning,) = ended.finished["warnings"]
    assert warning.startswith("what earlier runs listed and failed at is not known: ")
    assert "log.jsonl:1" in warning


# what is no lost role


@pytest.mark.parametrize("takes", [None, timedelta(0)])
def test_its_own_deletions_are_no_loss_whether_they_have_ended_or_not(run: Run, takes: timedelta | None) -> None:
    machines = fleet(60) + [a_machine(number) for number in range(61, 101)]
    with serving(Leonardo(machines, deletion_takes=takes)) as server:
        later = ("--max-age", "30d", "--max-age-if-idle", "30d")
        assert run(*delete(server, LIVE, *IN_FILE, *later)).finished["living"] == FULL
        assert refused(run(*delete(server, LIVE, *ALL_MAY_GO, *IN_FILE))) == FINE
        for _ in range(2):
            ended = run(*delete(server, LIVE, *IN_FILE))
            assert refused(ended) == FINE
            assert ended.records[0]["previous"]["living"] == 60
            aged(LOG, DAY)


def test_deletions_that_end_in_error_are_no_loss(run: Run) -> None:
    machines = fleet(60) + [a_machine(number, deletion_ends_in="error") for number in range(61, 101)]
    with serving(Leonardo(machines, deletion_takes=timedelta(0))) as server:
        run(*delete(server, LIVE, *ALL_MAY_GO, *IN_FILE))
        assert [refused(run(*delete(server, LIVE, *IN_FILE))) for _ in range(2)] == [FINE] * 2


def test_fewer_projects_are_no_loss(run: Run) -> None:
    every, some = ([f"--project=terra-{number}" for number in range(1, last)] for last in (101, 61))
    with serving(Leonardo(fleet())) as server:
        assert refused(run(*delete(server, LIVE, *IN_FILE, *every))) == FINE
        assert refused(run(*delete(server, LIVE, *IN_FILE, *some))) == FINE
        lose(server, *range(51, 101))
        assert refused(run(*delete(server, LIVE, *IN_FILE, *every))) == SHRUNKEN


def test_lists_that_fail_are_no_loss(run: Run) -> None:
    every = [f"--project=terra-{number}" for number in range(1, 101)]
    with serving(Leonardo(fleet())) as server:
        assert refused(run(*delete(server, LIVE, *IN_FILE, *every))) == FINE
        for failing in (25, 26, 60):
            server.faults.add(
                *(Fault(call="project_list", project=f"terra-{n}", status=403) for n in range(1, failing + 1))
            )
            assert refused(run(*delete(server, LIVE, *IN_FILE, *every))) == (1, [])
        assert refused(run(*delete(server, LIVE, *IN_FILE, *every))) == FINE


def test_a_fleet_that_its_users_shrink_by_less_than_a_quarter_a_week_is_no_loss(run: Run) -> None:
    """One in thirty a day, twenty days long: half of it is gone in the end."""
    left = list(range(1, FULL + 1))
    with serving(Leonardo(fleet())) as server:
        for _ in range(20):
            assert refused(run(*delete(server, LIVE, *IN_FILE))) == FINE
            aged(LOG, DAY)
            leaving, left = left[: round(len(left) / 30)], left[round(len(left) / 30) :]
            remove(server, *leaving)
    assert len(left) < FULL * 0.55


# what is


def test_a_fifth_that_is_lost_every_day_is_refused(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        for lost, expected in ((0, FINE), (20, FINE), (36, SHRUNKEN), (49, SHRUNKEN)):
            lose(server, *range(1, lost + 1))
            assert refused(run(*delete(server, LIVE, *IN_FILE))) == expected
            aged(LOG, DAY)


@pytest.mark.parametrize(("lost", "expected"), [(25, FINE), (26, SHRUNKEN)])
def test_more_than_a_quarter_and_more_than_ten_is_refused(run: Run, lost: int, expected: tuple[int, list[str]]) -> None:
    with serving(Leonardo(fleet())) as server:
        run(*delete(server, LIVE, *IN_FILE))
        lose(server, *range(1, lost + 1))
        assert refused(run(*delete(server, LIVE, *IN_FILE))) == expected


def test_what_was_refused_stays_so_until_it_is_accepted_and_holds_later_runs_to_the_new_size(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        run(*delete(server, LIVE, *IN_FILE))
        lose(server, *range(51, 101))
        for _ in range(3):
            assert refused(run(*delete(server, LIVE, *IN_FILE))) == SHRUNKEN
            aged(LOG, DAY)
        assert refused(run(*delete(server, LIVE, *IN_FILE, "--allow-shrunken"))) == FINE
        assert refused(run(*delete(server, LIVE, *IN_FILE))) == FINE
        lose(server, *range(38, 51))
        ended = run(*delete(server, LIVE, *IN_FILE))
        assert refused(ended) == SHRUNKEN
        assert ended.records[0]["previous"]["living"] == 50


def test_after_a_week_nobody_knows_the_old_size(run: Run) -> None:
    with serving(Leonardo(fleet())) as server:
        run(*delete(server, LIVE, *IN_FILE))
        lose(server, *range(51, 101))
        for _ in range(7):
            aged(LOG, DAY)
        assert refused(run(*delete(server, LIVE, *IN_FILE))) == FINE


def test_the_autopause_check_notices_a_lost_role_too_and_is_held_to_its_own_runs(run: Run) -> None:
    with serving(Leonardo(fleet(status=TrueStatus.STOPPED))) as server:
        check = ("check-autopause", *delete(server, *IN_FILE)[1:])
        run(*delete(server, LIVE, *IN_FILE))
        assert refused(run(*check)) == FINE
        lose(server, *range(51, 101))
        assert refused(run(*check)) == SHRUNKEN


@pytest.mark.parametrize("narrow", [("--only", "terra-1/all-of-us-1"), ("--as-of", "2026-11-20T00:00:00Z")])
def test_a_narrowed_run_is_held_to_nothing(run: Run, narrow: tuple[str, str]) -> None:
    with serving(Leonardo(fleet())) as server:
        run(*delete(server, LIVE, *IN_FILE))
        lose(server, *range(51, 101))
        ended = run(*delete(server, *IN_FILE, *narrow))
    assert (ended.finished["refused_by"], ended.records[0]["previous"]) == ([], None)


# several tasks, several projects


def as_task(monkeypatch: pytest.MonkeyPatch, index: int, count: int) -> None:
    for name, value in (("INDEX", index), ("COUNT", count)):
        monkeypatch.setenv(f"CLOUD_RUN_TASK_{name}", str(value))


def shares(tasks: int, each: int) -> list[tuple[str, ...]]:
    """Names of projects by the task that they fall to."""
    names = [f"terra-{number}" for number in range(1000)]
    return [Task(index=index, count=tasks).share(names)[:each] for index in range(tasks)]


def test_of_sixteen_tasks_none_deletes_all_that_it_lists(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task that is asked for the same 80 of 80 refuses: the caps are divided, not multiplied."""
    projects = [name for share in shares(16, 5) for name in share]
    machines = [a_machine(number, project=project) for number, project in enumerate(projects, 1)]
    with serving(Leonardo(machines)) as server:
        asked = delete(server, LIVE, *(f"--project={name}" for name in projects))
        assert refused(run(*asked)) == (3, ["max_act_share"])
        for index in range(16):
            as_task(monkeypatch, index, 16)
            assert refused(run(*asked)) == (3, ["max_act_share"])
        assert {request.method for request in server.requests} == {"GET"}


@pytest.mark.parametrize(("due", "expected"), [(1, FINE), (2, (3, ["max_act_share"]))])
def test_the_floor_of_the_share_is_divided_among_the_tasks(
    run: Run, monkeypatch: pytest.MonkeyPatch, due: int, expected: tuple[int, list[str]]
) -> None:
    """Ten acts in all never trip it: one of sixteen tasks may do one."""
    projects = shares(16, 3)[0]
    machines = [a_machine(n, project=name, days=20 if n <= due else 1) for n, name in enumerate(projects, 1)]
    as_task(monkeypatch, 0, 16)
    with serving(Leonardo(machines)) as server:
        assert refused(run(*delete(server, LIVE, *(f"--project={name}" for name in projects)))) == expected


def test_a_task_that_lists_nothing_is_refused_unless_its_previous_one_did_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, others = shares(2, 10)
    machines = [a_machine(n, project=name, days=1) for n, name in enumerate([*mine, *others], 1)]
    with serving(Leonardo(machines)) as server:
        asked = delete(server, LIVE, *IN_FILE, *(f"--project={name}" for name in (*mine, *others)))
        server.leonardo.roles.update(dict.fromkeys(mine, Role.NONE))
        as_task(monkeypatch, 0, 2)
        assert [refused(run(*asked)) for _ in range(2)] == [(3, ["empty_inventory"])] * 2
        assert refused(run(*asked, "--allow-empty")) == FINE
        assert refused(run(*asked)) == FINE
        as_task(monkeypatch, 1, 2)
        assert refused(run(*asked)) == FINE


def test_a_task_that_no_project_falls_to_has_nothing_to_refuse(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine,), _ = shares(2, 1)
    as_task(monkeypatch, 1, 2)
    with serving(Leonardo([a_machine(1, project=mine)])) as server:
        assert refused(run(*delete(server, LIVE, "--project", mine))) == FINE
        assert calls(server) == []


def test_a_runtime_of_another_project_in_the_list_of_one_is_not_touched(run: Run) -> None:
    other = json.dumps(a_machine(9, project="terra-9").list_item()).encode()
    with serving(Leonardo([a_machine(1), a_machine(9)], raw_rows=[("terra-1", other)])) as server:
        ended = run(*delete(server, LIVE, "--project", "terra-1"))
        assert calls(server) == ["project_list terra-1", *(f"{c} terra-1/all-of-us-1" for c in ("get", "delete"))]
    assert ended.code == 1
    assert ended.outcome("terra-9/all-of-us-9") == ("keep", "foreign_project", "kept")
    assert ended.outcome("terra-1/all-of-us-1") == ("delete", "max_age", "deletion_accepted")
    assert ended.finished["failed"] == ["terra-9/all-of-us-9"]


def test_a_runtime_that_another_projects_list_holds_too_is_decided_once_for_verify(run: Run) -> None:
    machine = a_machine(9, project="terra-9")
    other = json.dumps(machine.list_item()).encode()
    with serving(Leonardo([machine], raw_rows=[("terra-1", other)])) as server:
        projects = ("--project", "terra-1", "--project", "terra-9")
        ended = run(*delete(server, LIVE, *projects, "--audit-file", "audit.jsonl"))
    assert ended.finished["reasons"] == {"foreign_project": 1, "max_age": 1}
    assert run("review-audit-log", "verify", "--from", "audit.jsonl").code == 0
