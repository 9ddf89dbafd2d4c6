"""A corpus of doctored logs: whatever a field refutes is found, whatever a later run or a kept digest refutes too."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.records.files import AuditFiles
from core.records.reader import AuditRecords, Record
from core.verify import verify
from core.verify.chain import expected_digest_findings
from core.verify.finding import AGREEMENTS, Kind
from tests.doctoring import (
    ALL,
    BASES,
    Doctoring,
    Line,
    Lines,
    as_bytes,
    doctored,
    edited,
    forged_counts,
    sealed,
    write_bases,
    write_plan,
)
from tests.moving import DAMAGES, MOVINGS, Moving, Parts, write_tasks

pytestmark = pytest.mark.unmeasured
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Lines]]:
    return write_bases(tmp_path_factory.mktemp("bases"))


def found(folder: Path, *runs: Lines, expected: str | None = None) -> list[str]:
    """What is off, each cause by its kind."""
    log = folder / "doctored.jsonl"
    log.write_bytes(b"".join(map(as_bytes, runs)))
    records = AuditRecords(AuditFiles([log]))
    kinds = [finding.kind.value for verdict in verify(records, LATER) for finding in verdict.findings]
    if expected is not None:
        kinds += [finding.kind.value for finding in expected_digest_findings(records.frames, expected)]
    return kinds + [fault.what for fault in records.faults]


@pytest.mark.parametrize("name", BASES)
def test_what_is_not_doctored_is_honest(bases: dict[str, list[Lines]], name: str, tmp_path: Path) -> None:
    assert found(tmp_path, *bases[name]) == []
    assert found(tmp_path, bases[name][0], sealed(copy.deepcopy(bases[name][1])), bases[name][2]) == []


@pytest.mark.parametrize("doctoring", ALL, ids=lambda doctoring: doctoring.name)
@pytest.mark.parametrize("digest", ["left", "removed", "made anew", "followed"])
def test_a_doctoring_shows_once_and_as_what_it_is(
    bases: dict[str, list[Lines]], doctoring: Doctoring, digest: str, tmp_path: Path
) -> None:
    first, middle, last = bases[doctoring.base]
    lines = doctored(bases[doctoring.base], doctoring)
    kind = doctoring.kind and doctoring.kind.value
    if digest == "left":
        expected = kind or (Kind.DIGEST.value if lines[-1]["event"] == "run_finished" else None)
        assert found(tmp_path, first, lines) == [expected]
        return
    sealed(lines, digest=digest != "removed")
    if digest == "followed":
        assert found(tmp_path, first, lines, last) == [kind or Kind.PREDECESSOR.value]
        return
    assert found(tmp_path, first, lines) == ([kind] if kind else [])
    if kind is None:
        kept = middle[-1]["records_digest"]
        assert found(tmp_path, first, lines, expected=kept) == [Kind.EXPECTED_DIGEST.value]
        assert doctoring.why


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.mark.parametrize("moving", MOVINGS, ids=lambda moving: moving.name)
@pytest.mark.parametrize(
    ("digest", "besides"),
    [("left", Kind.DIGEST), ("removed", Kind.PREDECESSOR), ("made anew", Kind.PREDECESSOR)],
    ids=["left", "removed", "made anew"],
)
def test_what_was_moved_between_runs_or_tasks_shows_in_each(
    bases: dict[str, list[Lines]], tasks: Parts, moving: Moving, digest: str, besides: Kind, tmp_path: Path
) -> None:
    parts = copy.deepcopy(tasks if moving.tasks else bases["live"])
    moving.edit(parts)
    for part in filter(None, parts):
        if digest != "left":
            sealed(part, digest=digest != "removed")
    kinds = found(tmp_path, *parts)
    assert sorted(kinds) in (sorted(moving.kinds), sorted([*moving.kinds, besides]))


def test_a_run_that_never_was_shows_by_nothing(bases: dict[str, list[Lines]], tmp_path: Path) -> None:
    """As the README says; no run needs to be one that another follows."""
    first, middle, last = bases["live"]
    assert found(tmp_path, first, bases["dry"][0], middle, last) == []


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_to_a_file_shows_and_what_is_no_damage_does_not(
    bases: dict[str, list[Lines]], name: str, tmp_path: Path
) -> None:
    damage, expected = DAMAGES[name]
    log = tmp_path / "damaged.jsonl"
    log.write_bytes(damage(b"".join(map(as_bytes, bases["live"]))))
    records = AuditRecords(AuditFiles([log]), None)
    verdicts = verify(records, LATER, lambda: records.frames)
    told = [finding.kind.value for verdict in verdicts for finding in verdict.findings]
    told += [fault.what for fault in (*records.faults, *records.torn)]
    assert len(told) == len(expected)
    assert all(any(words in text for text in told) for words in expected)


def test_there_are_enough_of_them() -> None:
    assert len(ALL) > 200


def test_the_table_of_what_is_proved_is_that_of_the_code() -> None:
    readme = (Path(__file__).parents[1] / "core/verify/README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `")][: len(AGREEMENTS)]
    assert rows == [f"| `{kind}` | {pair.of} | {pair.with_} |" for kind, pair in AGREEMENTS.items()]
    assert set(AGREEMENTS) == set(Kind)


def test_each_kind_of_finding_is_held_by_a_doctoring_or_by_a_test_of_its_own() -> None:
    held = {doctoring.kind for doctoring in ALL} | {kind for moving in MOVINGS for kind in moving.kinds}
    elsewhere = {Kind.EXPECTED_DIGEST, Kind.DIGEST, Kind.SEQ, Kind.CONFIRMATION, Kind.NOTICE, Kind.PLAN}
    assert set(Kind) - held == elsewhere


AT = datetime(2026, 11, 20, 3, tzinfo=UTC)


def a_record(run_id: str, seq: int, event: str, **fields: Any) -> Record:
    same = {"job": "confirm-deletions", "environment": "test", "task_count": 1, "time": AT + timedelta(seconds=seq)}
    return Record(**{"run_id": run_id, "seq": seq, "event": event, **same, **fields})


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"outcome": "confirmed", "evidence": "project_seen"}, None),
        ({"outcome": "confirmed", "evidence": "unlisted", "persistent_disk_id": "7"}, None),
        ({"outcome": "confirmed", "status": "Running", "evidence": None}, Kind.CONFIRMATION),
        ({"outcome": "confirmed", "status": "Running", "evidence": "project_seen"}, Kind.CONFIRMATION),
        ({"outcome": "confirmed", "evidence": None}, Kind.EVIDENCE),
        ({"outcome": "confirmed", "evidence": "unlisted", "persistent_disk_id": "7", "disk_status": "missing"},
         Kind.EVIDENCE),
        ({"outcome": "confirmed", "evidence": "project_seen", "disk_status": "Ready"}, Kind.DISK),
        ({"outcome": "confirmed", "evidence": "project_seen", "severity": "WARNING"}, Kind.SEVERITY),
        ({"outcome": "pending", "status": "Deleting", "evidence": None}, None),
        ({"outcome": "pending", "status": "Stopped", "evidence": None}, Kind.CONFIRMATION),
        ({"outcome": "stuck", "status": "Error", "evidence": None, "severity": "WARNING"}, Kind.CONFIRMATION),
        ({"outcome": "errored", "status": "Running", "evidence": None, "severity": "WARNING"}, Kind.CONFIRMATION),
        ({"outcome": "survived", "status": "Running", "evidence": None, "severity": "WARNING"}, None),
        ({"outcome": "survived", "status": None, "evidence": None, "severity": "WARNING"}, Kind.CONFIRMATION),
        ({"outcome": "never_happened", "status": "Deleting", "evidence": None}, Kind.CONFIRMATION),
        ({"outcome": "not_visible", "evidence": None, "severity": "WARNING"}, None),
        ({"outcome": "not_visible", "status": "Running", "severity": "WARNING"}, Kind.CONFIRMATION),
        ({"outcome": "confirmed", "status": "Running"}, Kind.CONFIRMATION),
    ],
    ids=str,
)  # fmt: skip
def test_what_became_of_a_deletion_is_what_was_seen_of_it(told: dict[str, Any], kind: Kind | None) -> None:
    records = [
        a_record("c", 0, "run_started"),
        a_record("c", 1, "deletion_confirmed", project="p", name="n", runtime_id="1", accepted_run_id="d", **told),
    ]
    (verdict,) = verify(records, AT + timedelta(seconds=2))
    assert [finding.kind for finding in verdict.findings] == ([kind] if kind else [])


def test_a_confirmation_is_held_to_the_run_that_announced_the_act() -> None:
    act: dict[str, Any] = {"job": "delete-old-runtimes", "runtime_id": "1", "project": "p", "name": "n"}
    ended = {"outcome": "deletion_accepted", "action": "delete", "attempts": 1, "dry_run": False}
    deletion = [a_record("d", 0, "runtime_audited", **act, **ended), a_record("d", 1, "run_finished", job=act["job"])]
    for runtime_id, outcome, began, kinds in (
        ("1", "survived", 302, []),
        ("2", "survived", 302, ["confirmation"]),
        ("1", "never_happened", 302, ["confirmation"]),
        ("1", "never_happened", 301, []),  # clocks may differ, and it may have acted after it was asked about
    ):
        about = {"project": "p", "name": "n", "runtime_id": runtime_id, "accepted_run_id": "d", "status": "Running"}
        told = a_record("c", 1, "deletion_confirmed", **about, outcome=outcome, time=AT + timedelta(seconds=303))
        opening = a_record("c", 0, "run_started", time=AT + timedelta(seconds=began))
        verdicts = verify([opening, *deletion, told], AT + timedelta(seconds=303))
        (confirming,) = (verdict for verdict in verdicts if verdict.run_id == "c")
        assert [finding.kind.value for finding in confirming.findings] == kinds
    about = {"project": "p", "name": "m", "runtime_id": "1", "accepted_run_id": "d", "status": "Running"}
    told = a_record("c", 1, "deletion_confirmed", **about, outcome="survived")
    verdicts = verify([a_record("c", 0, "run_started"), *deletion, told], AT + timedelta(seconds=2))
    (confirming,) = (verdict for verdict in verdicts if verdict.run_id == "c")
    assert [finding.message for finding in confirming.findings] == ["seq 1 (p/m) is about p/n, as run d calls it"]


@pytest.mark.parametrize("changed", [{}, {"name": "m"}, {"project": "q"}, {"creator": "x@y"}, {"notice_id": "test-2"}])
def test_a_notice_that_was_sent_is_the_one_that_was_announced(changed: dict[str, Any]) -> None:
    about = {"job": "notify-owners", "dry_run": False}
    notice = {"runtime_id": "1", "project": "p", "name": "n", "creator": "a@b", "notice_id": "test-1"}
    records = [
        a_record("n", 0, "run_started", **about),
        a_record("n", 1, "notice_requested", **about, **notice),
        a_record("n", 2, "notice_sent", **about, **notice | changed),
    ]
    (verdict,) = verify(records, AT + timedelta(seconds=3))
    assert [finding.kind for finding in verdict.findings] == [Kind.NOTICE] * bool(changed)


@pytest.mark.parametrize(
    ("told", "kinds"),
    [
        ({"reason": "attached"}, []),
        ({"reason": "attached", "unused_s": 86400.0}, [Kind.DISK]),
        ({"reason": "unattached", "unused_s": 86400.0}, []),
        ({"reason": "unattached", "unused_s": 85000.0}, [Kind.DISK]),
        ({"reason": "unattached", "unused_s": 85000.0, "left_by_run": "d"}, []),
        ({"reason": "unattached", "unused_s": 88000.0, "left_by_run": "d"}, [Kind.DISK]),
        ({"reason": "unattached", "unused_s": 86400.0, "date_accessed": None}, [Kind.DISK]),
        ({"reason": "unattached", "status": "Deleting"}, [Kind.DISK]),
        ({"reason": "attached", "status": "Creating", "date_accessed": AT - timedelta(hours=1)}, []),
        ({"reason": "stuck", "status": "Deleting", "unused_s": 86400.0}, []),
        ({"reason": "stuck", "status": "Ready", "unused_s": 86400.0}, [Kind.DISK]),
        ({"reason": "stuck", "status": "Creating", "date_accessed": AT - timedelta(hours=1)}, [Kind.DISK]),
    ],
    ids=str,
)
def test_what_is_said_of_a_disk_agrees_with_its_dates_and_status(told: dict[str, Any], kinds: list[Kind]) -> None:
    opening = a_record("k", 0, "run_started", job="check-disks", policy={"stuck_after_s": 7200})
    about = {"job": "check-disks", "disk_id": "1", "status": "Ready", "date_accessed": AT - timedelta(days=1)}
    (verdict,) = verify([opening, a_record("k", 1, "disk_audited", **about | told)], AT + timedelta(seconds=2))
    assert [finding.kind for finding in verdict.findings] == kinds


@pytest.mark.parametrize(
    ("event", "right", "of"),
    [
        ("run_skipped", "NOTICE", {}),
        ("run_refused", "WARNING", {}),
        ("runtime_missing", "WARNING", {}),
        ("exemption_unused", "WARNING", {}),
        ("project_unreadable", "ERROR", {}),
        ("disk_audited", "INFO", {"reason": "unattached"}),
        ("disk_audited", "WARNING", {"reason": "stuck"}),
    ],
)
def test_a_severity_is_that_of_its_event(event: str, right: str, of: dict[str, Any]) -> None:
    for severity in ("INFO", "NOTICE", "WARNING", "ERROR"):
        records = [a_record("s", 0, "run_started"), a_record("s", 1, event, severity=severity, **of)]
        (verdict,) = verify(records, AT + timedelta(seconds=2))
        assert [finding.kind for finding in verdict.findings] == [Kind.SEVERITY] * (severity != right)


def test_an_act_that_was_not_planned_is_held_against_the_plan() -> None:
    job = {"job": "delete-old-runtimes", "project": "p", "name": "n"}
    planned = a_record("plan", 1, "runtime_audited", **job, runtime_id="1", outcome="would_delete", action="delete")
    for runtime_id, kinds in (("1", []), ("2", ["plan"])):
        opening = a_record("live", 0, "run_started", job=job["job"], dry_run=False, plan={"run_id": "plan"})
        ended = {"outcome": "deletion_accepted", "action": "delete", "attempts": 1, "dry_run": False}
        act = a_record("live", 1, "runtime_audited", **job, runtime_id=runtime_id, **ended)
        verdicts = verify([planned, opening, act], AT + timedelta(seconds=3))
        (live,) = (verdict for verdict in verdicts if verdict.run_id == "live")
        consequences = (under for finding in live.findings for under in finding.consequences)
        assert [finding.kind.value for finding in consequences if finding.kind is Kind.PLAN] == kinds


def test_a_plan_is_what_its_run_planned(tmp_path: Path) -> None:
    plan, refused, live = write_plan(tmp_path)
    assert found(tmp_path, plan, refused, live) == []
    of_another = edited("run_started", None, plan=lambda of: of | {"digest": "sha256:" + "0" * 64})
    one_more = forged_counts(edited("runtime_audited", 1, name="another"))
    for number, edit in ((2, of_another), (0, one_more)):
        runs = copy.deepcopy([plan, refused, live])
        edit(runs[number])
        for lines in runs:
            sealed(lines, digest=False)
        assert found(tmp_path, *runs) == [Kind.PLAN.value]


def test_the_digest_of_a_task_that_did_not_end_last_is_said_to_be_one(tasks: Parts, tmp_path: Path) -> None:
    log = tmp_path / "tasks.jsonl"
    log.write_bytes(b"".join(map(as_bytes, tasks)))
    records = AuditRecords(AuditFiles([log]))
    list(records)
    first, last = (part[-1]["records_digest"] for part in tasks)
    assert not list(expected_digest_findings(records.frames, last))
    (told,) = expected_digest_findings(records.frames, first)
    assert told.message.endswith("; it is that of task 0 of that run, of which another task ended later")


def test_what_does_not_follow_from_a_cause_is_one_of_its_own(bases: dict[str, list[Lines]], tmp_path: Path) -> None:
    """Several things done to one run: each shows, with under it what follows from it and nothing else."""
    days: Line = {"duration_s": 86400}
    cases: list[tuple[list[tuple[str, int | None, Line]], dict[str, list[str]]]] = [
        ([("run_finished", None, days), ("run_finished", None, {"listed": 6})], {"counts": [], "duration": []}),
        ([("run_finished", None, days), ("runtime_audited", 4, {"age_s": 1})], {"judgement": [], "duration": []}),
        ([("runtime_audited", 4, {"age_s": 1}), ("runtime_audited", 6, {"age_s": 1})], {"judgement": []}),
        ([("runtime_audited", 4, {"reason": "undated"}), ("run_finished", None, days)],
         {"judgement": ["counts"], "duration": []}),
        ([("run_finished", None, {"lists": {"read": 1, "unread": 1}}), ("run_finished", None, {"living": 0})],
         {"lists": ["lists"], "counts": []}),
    ]  # fmt: skip
    for edits, expected in cases:
        lines = copy.deepcopy(bases["live"][1])
        for event, number, fields in edits:
            edited(event, number, **fields)(lines)
        log = tmp_path / "doctored.jsonl"
        log.write_bytes(as_bytes(sealed(lines)))
        (verdict,) = verify(AuditRecords(AuditFiles([log])), LATER)
        told = {finding.kind.value: [of.kind.value for of in finding.consequences] for finding in verdict.findings}
        assert told == expected
