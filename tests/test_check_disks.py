"""Which disks are attached to no runtime, and what they come to."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.rules.disks import DiskPolicy, DiskReason
from core.runtime import PersistentDisk
from core.sandbox.disk import Disk, DiskStatus
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, calls, delete

Run = Callable[..., Ended]
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
HOUR, MS = timedelta(hours=1), timedelta(milliseconds=1)
DISK = PersistentDisk(id="1", project="terra-1", name="pd-1", status="Ready", date_accessed=NOW - 2 * HOUR)
ONE_LOG = ("--audit-file", "audit/all.jsonl")


def checking(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    return ("check-disks", "--leonardo-url", server.url, "--auth", "none", "--output", "json", *arguments)


def a_disk(number: int, *, project: str = "terra-1", days: float = 30, **fields: Any) -> Disk:
    now = datetime.now(UTC)
    created = now - timedelta(days=days)
    return Disk(id=number, project=project, name=f"pd-{number}", created=created, accessed=created, **fields)


def with_disks(fleet: list[Any], *disks: Disk, **how: Any) -> Leonardo:
    leonardo = Leonardo(fleet, **how)
    leonardo.disks.update({disk.id: disk for disk in disks})
    return leonardo


def found(ended: Ended) -> list[tuple[str, str, int | None]]:
    return sorted((r["name"], r["reason"], r["size_gb"]) for r in ended.events("disk_audited"))


def answered(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))


@pytest.mark.parametrize(
    ("disk", "attached", "expected"),
    [
        (DISK, True, DiskReason.ATTACHED),
        (DISK, False, DiskReason.UNATTACHED),
        (DISK._replace(status="Deleting"), False, DiskReason.STUCK),
        (DISK._replace(status="Creating"), True, DiskReason.STUCK),
        (DISK._replace(status="Restoring", date_accessed=NOW - 2 * HOUR + MS), True, DiskReason.ATTACHED),
        (DISK._replace(status="Deleting", date_accessed=None), False, DiskReason.UNATTACHED),
        (DISK._replace(status=None), False, DiskReason.UNATTACHED),
    ],
)
def test_a_disk_is_judged_by_what_runtimes_say_of_it(
    *, disk: PersistentDisk, attached: bool, expected: DiskReason
) -> None:
    assert DiskPolicy(stuck_after=2 * HOUR).judge(disk, NOW, attached=attached) is expected


def test_the_policy_of_disks_says_itself_in_a_sentence() -> None:
    assert str(DiskPolicy(stuck_after=2 * HOUR)) == (
        "a disk that no runtime names is unattached; one that is in transition for 2 h is stuck"
    )


def test_each_disk_is_recorded_once_by_one_list_each_of_disks_and_runtimes(run: Run) -> None:
    left = a_disk(70, days=30, size=500, creator="ada@example.org", disk_type="pd-ssd")
    stuck = a_disk(71, project="terra-2", status=DiskStatus.DELETING)
    with serving(with_disks([a_machine(1), a_machine(2)], left, stuck)) as server:
        attached = {disk.name for disk in server.leonardo.disks.values()} - {"pd-70", "pd-71"}
        ended = run(*checking(server))
        assert calls(server) == ["list", "disk_list"]
    assert (ended.code, {name for name, reason, _ in found(ended) if reason == "attached"}) == (0, attached)
    assert found(ended)[-2:] == [("pd-70", "unattached", 500), ("pd-71", "stuck", 120)]
    (record,) = [r for r in ended.events("disk_audited") if r["name"] == "pd-70"]
    assert record["unused_s"] == pytest.approx(timedelta(days=30).total_seconds(), abs=60)
    assert (record["disk_id"], record["disk_type"], record["creator"]) == ("70", "pd-ssd", "ada@example.org")
    assert record["message"].startswith("unattached terra-1/pd-70: 500 GB, Ready, for 30 d")
    assert ended.finished["reasons"] == {"attached": 2, "unattached": 1, "stuck": 1}
    assert ended.finished["calls"] == {"list": 1, "disks": 1, "get": 0, "delete": 0, "stop": 0}


def test_a_deletion_and_its_confirmation_and_the_check_agree_on_the_disk_that_was_kept(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, project="terra-1")], deletion_takes=timedelta(0))) as server:
        deleting = run(*delete(server, "--no-dry-run", *ONE_LOG))
        confirming = ("confirm-deletions", *checking(server)[1:], "--from", "audit", *ONE_LOG)
        server.leonardo.add(a_machine(9, project="terra-1", days=1))
        (kept, lost) = sorted(r["persistent_disk_id"] for r in deleting.events("runtime_audited"))
        server.leonardo.disks.pop(int(lost))
        told = {r["persistent_disk_id"]: r["disk_status"] for r in run(*confirming).events("deletion_confirmed")}
        checked = {r["disk_id"]: r for r in run(*checking(server, *ONE_LOG)).events("disk_audited")}
        assert told == {kept: "Ready", lost: "missing"}
        assert lost not in checked
        assert (checked[kept]["reason"], checked[kept]["status"]) == ("unattached", "Ready")
        assert checked[kept]["left_by_run"] == deleting.records[0]["run_id"]
        assert 0 <= checked[kept]["unused_s"] < 3600, "since it was left, though it was not accessed for days"
        others = [r["left_by_run"] for number, r in checked.items() if number != kept]
        assert others == [None]
    verified = run("review-audit-log", "verify", "--from", "audit", "--output", "json")
    assert verified.code == 0, verified.out


def test_what_cannot_be_read_or_belongs_elsewhere_makes_the_exit_code_1_and_hides_no_other(run: Run) -> None:
    row = b'{"id": 5, "runtimeName": "r", "cloudContext": {"cloudProvider": "GCP", "cloudResource": "terra-9"}}'
    with serving(with_disks([], a_disk(70), raw_rows=[("terra-1", b'{"id": 4}'), ("terra-1", row)])) as server:
        ended = run(*checking(server, "--project", "terra-1", "--audit-file", "audit/one.jsonl"))
    assert (ended.code, found(ended)) == (1, [("pd-70", "unattached", 120)])
    assert [r["error"]["message"] for r in ended.events("project_unreadable")] == [
        "an item is left out: unreadable: project, name",
        "an item is left out: terra-9/r was listed under another project",
    ]
    assert run("review-audit-log", "verify", "--from", "audit", "--output", "json").code == 0


def test_without_a_list_of_runtimes_no_disk_is_said_to_be_left(run: Run) -> None:
    with serving(with_disks([], a_disk(70), a_disk(71, project="terra-2"))) as server:
        server.faults.add(Fault(call="project_list", project="terra-1", status=403, times=None))
        ended = run(*checking(server, "--project", "terra-1", "--project", "terra-2"))
        assert (ended.code, found(ended), ended.finished["failed"]) == (
            1,
            [("pd-71", "unattached", 120)],
            ["terra-1"],
        )
        server.faults.add(Fault(call="list", status=403, times=None))
        assert run(*checking(server)).code == 4
        server.faults.clear()
        server.leonardo.roles.update({"terra-1": Role.NONE, "terra-2": Role.NONE})
        assert found(run(*checking(server))) == []


def test_a_log_that_cannot_be_read_is_said_and_leaves_no_disk_out(run: Run) -> None:
    Path("audit").mkdir()
    Path("audit/all.jsonl").write_text('{"schema": "leo-lifecycle/audit/v1", nonsense\n{}\n')
    with serving(with_disks([], a_disk(70))) as server:
        ended = run(*checking(server, *ONE_LOG))
    assert (ended.code, found(ended)) == (0, [("pd-70", "unattached", 120)])
    (warning,) = ended.finished["warnings"]
    assert warning.startswith("which disks deletions of ours have left is not known: ")


def test_the_review_adds_gigabytes_and_days_by_project_and_creator(run: Run) -> None:
    disks = [
        a_disk(70, days=10, size=500, creator="ada@example.org"),
        a_disk(71, days=40, size=100, creator="ada@example.org"),
        a_disk(72, days=20, size=500, project="terra-2", creator="grace@example.org"),
    ]
    with serving(with_disks([a_machine(1)], *disks)) as server:
        run(*checking(server, "--audit-file", "audit/old.jsonl"))
        server.leonardo.disks.pop(72)
        ended = run(*checking(server, "--audit-file", "audit/new.jsonl"))
    answer = answered(run("review-audit-log", "disks", "--from", "audit", "--output", "json"))
    assert answer["run"]["run_id"] == ended.records[0]["run_id"]
    assert answer["totals"] == [
        {"project": "terra-1", "creator": "ada@example.org", "disks": 2, "gb": 600, "gb_days": 9000}
    ]
    assert [(disk["name"], disk["size_gb"]) for disk in answer["disks"]] == [("pd-70", 500), ("pd-71", 100)]
    seen = " ".join(run("review-audit-log", "disks", "--from", "audit", "--output", "table").out.split())
    assert "2 disks of 600 GB attached to no runtime." in seen
    assert "9,000" in seen
    assert run("review-audit-log", "report", "--from", "audit", "--html", "report.html").code == 0
    assert "2 disks of 600 GB, as the latest check" in Path("report.html").read_text()
    rows = run("review-audit-log", "disks", "--from", "audit", "--output", "csv").out.splitlines()
    assert [row.split(",")[2:6] for row in rows] == [
        ["name", "creator", "status", "size_gb"],
        ["pd-70", "ada@example.org", "Ready", "500"],
        ["pd-71", "ada@example.org", "Ready", "100"],
    ]
    elsewhere = run("review-audit-log", "disks", "--from", "audit", "--project", "terra-9", "--output", "json")
    assert answered(elsewhere)["disks"] == []
    nothing = run("review-audit-log", "disks", "--from", "audit/none", "--output", "json")
    assert nothing.code == 2


def test_a_person_sees_the_largest_first_and_what_they_come_to(run: Run) -> None:
    with serving(with_disks([a_machine(1)], a_disk(70, size=50), a_disk(71, size=500))) as server:
        out = run(*(word if word != "json" else "table" for word in checking(server))).out
    assert out.index("pd-71") < out.index("pd-70") < out.index("By project and creator") < out.index("16,500")
    assert "3 disks: 1 attached, 2 unattached, 0 stuck." in out


def test_creators_are_left_out_where_records_do_not_name_them(run: Run) -> None:
    with serving(with_disks([], a_disk(70))) as server:
        (record,) = run(*checking(server, "--audit-creator", "omit")).events("disk_audited")
    assert record["creator"] is None
