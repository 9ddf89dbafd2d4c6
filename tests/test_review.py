"""What the audit log answers, on logs that the real program wrote: honest ones, doctored ones, and cut off ones."""

import json
import os
import re
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records import events
from core.records.files import AuditFiles
from core.records.outcome import Outcome, Severity
from core.records.reader import AuditRecords, Record
from core.records.writer import AuditLog, RunIdentity
from core.review.schema import schema
from core.rules.decision import Action
from core.rules.deletion import DeletionPolicy
from core.rules.exemptions import Exemption
from core.runtime import Runtime, RuntimeStatus
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.server import serving
from core.verify import verify
from core.verify.finding import messages
from core.verify.rejudge import rules_of
from core.verify.verdict import Verdict
from tests.conftest import Ended, a_machine, delete, finish, paths, rewritten, start
from tests.test_check_autopause import check, overdue
from tests.test_writer import Memory

Run = Callable[..., Ended]
Line = dict[str, Any]
LATER = datetime.now(UTC) + timedelta(days=1)
LIVE = ("--no-dry-run",)
ANSWERS = jsonschema.Draft202012Validator(schema())
INSERT_ID = "logging.googleapis.com/insertId"


def written(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def verdicts(path: Path, now: datetime = LATER) -> list[Verdict]:
    files = AuditRecords(AuditFiles([path]))
    found = verify(files, now)
    assert files.faults == []
    return found


def faults(lines: list[Line], tmp_path: Path, now: datetime = LATER) -> list[str]:
    (verdict,) = verdicts(written(tmp_path / "doctored.jsonl", lines), now)
    return list(messages(verdict.findings))


def ask(run: Run, *words: str) -> Any:
    """An answer as a machine gets it."""
    ended = run("review-audit-log", *words, "--output", "json")
    assert ended.code in (0, 1), ended.err
    answer = json.loads(ended.out)
    ANSWERS.validate(answer)
    assert answer["schema"] == f"leo-lifecycle/answers/{words[0]}/v1"
    return answer


@pytest.fixture
def live(run: Run, once: list[Line]) -> list[Line]:
    """A live run: two too old, one idle and old, one young, one exempt, one in error, one that fails."""
    if not once:
        once += record_live(run)
    return deepcopy(once)


@pytest.fixture(scope="module")
def once() -> list[Line]:
    """What the first of the tests recorded that want a live run."""
    return []


def record_live(run: Run) -> list[Line]:
    fleet = [
        a_machine(1),
        a_machine(2, days=30),
        a_machine(3, days=8),
        a_machine(4, days=2),
        a_machine(5, days=40, project="terra-workshop"),
        a_machine(6, status=TrueStatus.ERROR),
        a_machine(7),
    ]
    exemptions = json.dumps(
        [{"match": {"project": "terra-work*"}, "until": str((LATER + timedelta(days=9)).date()), "reason": "workshop"}]
    )
    with serving(Leonardo(fleet), faults=[Fault(call="delete", name="all-of-us-7", status=400)]) as server:
        ended = run(*delete(server, *LIVE, "--exemptions", exemptions))
    assert ended.finished["outcomes"] == {"kept": 3, "deletion_accepted": 3, "failed": 1}
    return ended.records


def of(lines: list[Line], number: int, event: str = "runtime_audited") -> Line:
    return next(line for line in lines if line["event"] == event and line.get("name") == f"all-of-us-{number}")


# what is honest passes


@pytest.mark.unmeasured
def test_what_the_program_writes_is_whole_and_honest(run: Run, tmp_path: Path) -> None:
    log = ("--output", "json", "--audit-file", str(tmp_path / "log.jsonl"))
    run("delete-old-runtimes", "--sandbox", *log)
    run("delete-old-runtimes", "--sandbox", *log, "--no-dry-run", "--spare-possibly-busy", "--max-act-share", "1")
    run("delete-old-runtimes", "--sandbox", *log, "--no-dry-run", "--max-acts", "1")
    run("delete-old-runtimes", "--sandbox", *log, "--as-of", "2027-01-01", "--audit-creator", "omit")
    run("check-autopause", "--sandbox", *log, "--stop-overdue", "--no-dry-run")
    found = verdicts(tmp_path / "log.jsonl")
    assert [(v.state, v.findings, v.in_doubt) for v in found] == [("finished", [], [])] * 5
    assert [v.listed for v in found] == [400] * 5
    assert (found[0].acts, found[1].acts > 10, found[4].acts > 0) == (0, True, True)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "faulty",
    [
        [Fault(call="delete", status=500)],
        [Fault(call="delete", status=500, act_first=True)],
        [Fault(call="delete", status=409, body=json.dumps({"message": "cannot be deleted in PreDeleting status"}))],
        [Fault(call="delete", status=404)],
        [Fault(call="get", user="touch")],
        [Fault(call="get", user="reset")],
        [Fault(call="get", status=404)],
        [Fault(call="get", status=400)],
        [Fault(call="list", status=400)],
        [Fault(call="delete", status=429, headers={"Retry-After": "0"}, times=1)],
    ],
    ids=str,
)
def test_a_run_that_met_trouble_is_honest_too(run: Run, faulty: list[Fault], tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2), a_machine(3, days=8)]), faults=faulty) as server:
        ended = run(*delete(server, *LIVE))
    assert faults(ended.records, tmp_path) == []


def test_a_sweep_of_named_projects_or_runtimes_is_held_to_its_scope(run: Run, tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        for scope in (("--project", "terra-1"), ("--only", "terra-1/all-of-us-1", "--only", "terra-2/nothing")):
            lines = run(*delete(server, *scope)).records
            assert faults(lines, tmp_path) == []
            for line in lines:
                if line["event"] == "runtime_audited":
                    line["project"] = "terra-9"
            assert any("outside the scope" in fault for fault in faults(lines, tmp_path))


def test_labels_and_omitted_creators_are_on_no_record_and_so_not_held_against_it(run: Run, tmp_path: Path) -> None:
    soon, past = str((LATER + timedelta(days=9)).date()), str((LATER - timedelta(days=9)).date())
    exemptions = json.dumps(
        [
            {"match": {"label": "purpose=teaching"}, "until": soon, "reason": "teaching"},
            {"match": {"creator": "*@e*"}, "until": past, "reason": "lapsed"},
        ]
    )
    fleet = [a_machine(1, labels={"purpose": "teaching"}), a_machine(2), a_machine(3, days=1)]
    with serving(Leonardo(fleet)) as server:
        for creator in ("omit", "plain"):
            ended = run(*delete(server, *LIVE, "--exemptions", exemptions, "--audit-creator", creator))
            assert ended.audited[paths(1)[0]]["reason"] == "exempt"
            assert faults(ended.records, tmp_path) == []


def test_logs_of_an_older_minor_version_are_verified_by_what_they_have(live: list[Line], tmp_path: Path) -> None:
    for line in live:
        for name in ("plan", "trace_id", "disk", "due_at", "overdue_s", "limits", "scope", "calls", "policy_digest"):
            line.pop(name, None)
        for name in ("follows", "records_digest"):
            line.pop(name, None)
        line.get("policy", {}).pop("spare_possibly_busy", None)
        line.get("policy", {}).pop("kernel_busy_limit_s", None)
    assert faults(live, tmp_path) == []


# what is doctored is caught


def test_each_record_that_is_removed_is_missed(live: list[Line], tmp_path: Path) -> None:
    for number, line in enumerate(live):
        found = faults(live[:number] + live[number + 1 :], tmp_path)
        assert found, line["event"]


def test_a_removed_record_is_missed_even_where_the_rest_is_numbered_anew(live: list[Line], tmp_path: Path) -> None:
    for number in range(len(live)):
        rest = [dict(line) for line in live[:number] + live[number + 1 :]]
        for seq, line in enumerate(rest):
            line["seq"] = seq
            line["logging.googleapis.com/insertId"] = f"{line['run_id']}-0-{seq}"
        assert faults(rest, tmp_path), live[number]["event"]


EDITS: list[tuple[str, int, dict[str, Any], str]] = [
    ("runtime_audited", 1, {"status": "Creating"}, "its numbers give keep (status_not_eligible)"),
    ("runtime_audited", 1, {"age_s": 9e6}, "says age_s"),
    ("runtime_audited", 1, {"age_s": None}, "says age_s None"),
    ("runtime_audited", 1, {"idle_s": 1.0}, "says idle_s"),
    ("runtime_audited", 1, {"reason": "max_age_if_idle"}, "its numbers give delete (max_age)"),
    ("runtime_audited", 1, {"outcome": "kept"}, "cannot end in kept"),
    ("runtime_audited", 1, {"outcome": "would_delete"}, "in a live run cannot end in would_delete"),
    ("runtime_audited", 1, {"outcome": "a_later_word"}, "run_finished counts outcomes"),
    ("runtime_audited", 1, {"action": "keep"}, "says keep (max_age)"),
    ("runtime_audited", 1, {"created_date": "2999-01-01T00:00:00Z"}, "its numbers give keep (undated)"),
    ("runtime_audited", 1, {"created_date": None}, "its numbers give keep (undated)"),
    ("runtime_audited", 1, {"judged_at": None}, "lacks judged_at"),
    ("runtime_audited", 1, {"judged_at": "2999-01-01T00:00:00Z"}, "was judged after it was written"),
    ("runtime_audited", 1, {"due_at": None}, "says due_at None"),
    ("runtime_audited", 1, {"runtime_id": "99"}, "an act that no record announced before it"),
    ("runtime_audited", 1, {"name": "another"}, "another name than the act"),
    ("runtime_audited", 1, {"attempts": 2}, "an act that no record announced before it"),
    ("runtime_audited", 1, {"reason": "duplicate", "action": "keep", "outcome": "kept"}, "a duplicate of no other"),
    ("runtime_audited", 1, {"reason": "malformed"}, "is malformed, but was judged"),
    ("runtime_audited", 1, {"dry_run": True}, "differs from the others"),
    ("runtime_audited", 1, {"autopause_threshold_min": 10**15, "status": "Unknown"}, "keep (status_unknown)"),
    ("runtime_audited", 4, {"runtime_id": "1"}, "a second decision about id 1"),
    ("runtime_audited", 4, {"judged_at": "2026-01-01T00:00:00Z"}, "not judged at the instant of the list"),
    ("runtime_audited", 5, {"exemption": None}, "is exempt by no exemption"),
    ("runtime_audited", 5, {"project": "terra-5"}, "by an exemption that does not match it"),
    (
        "runtime_audited",
        5,
        {"reason": "within_policy", "exemption": None},
        "names no exemption, and one",
    ),
    ("runtime_audited", 7, {"outcome": "deletion_accepted"}, "run_finished names as failed"),
    ("deletion_requested", 1, {"age_s": 1.0}, "its numbers give keep (undated)"),
    ("deletion_requested", 1, {"age_s": None}, "lacks its numbers"),
    ("deletion_requested", 1, {"reason": "max_age_if_idle"}, "its numbers give delete (max_age)"),
    ("deletion_requested", 1, {"action": "stop"}, "announces a stop as deletion_requested"),
    ("deletion_requested", 1, {"runtime_id": "99"}, "an act was announced and has no outcome"),
]


@pytest.mark.unmeasured
@pytest.mark.parametrize(("event", "number", "edit", "expected"), EDITS, ids=str)
def test_an_edited_record_is_caught(
    live: list[Line], tmp_path: Path, event: str, number: int, edit: dict[str, Any], expected: str
) -> None:
    of(live, number, event).update(edit)
    found = faults(live, tmp_path)
    assert any(expected in fault for fault in found), found


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"listed": 6}, "run_finished says 6 listed"),
        ({"audited": 8}, "run_finished says 7 listed and 8 audited"),
        ({"outcomes": {"kept": 7}}, "run_finished counts outcomes"),
        ({"reasons": {}}, "run_finished counts reasons"),
        ({"actions": {"keep": 7}}, "run_finished counts actions"),
        ({"failed": []}, "run_finished names as failed none"),
        ({"calls": {"delete": 9}}, "run_finished says 9 acts sent"),
        ({"exit_code": 0}, "says exit code 0"),
        ({"exit_code": 3}, "says exit code 3"),
        ({"exit_code": 4}, "says exit code 4"),
        ({"clock_skew_s": 300.001}, "says a clock skew of 300.001 s"),
        ({"clock_skew_s": -1e300}, "says a clock skew of -1e+300 s"),
        ({"refused_by": ["max_acts"]}, "says it was refused by ['max_acts']"),
        ({"seq": 999, "logging.googleapis.com/insertId": None}, "records missing: seq"),
        ({"seq": 10**12, "logging.googleapis.com/insertId": None}, "has a seq that no record can have"),
    ],
    ids=str,
)
def test_an_edited_closing_record_is_caught(live: list[Line], tmp_path: Path, edit: Line, expected: str) -> None:
    live[-1].update(edit)
    found = faults(live, tmp_path)
    assert any(expected in fault for fault in found), found


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda line: line["policy"].update(max_age_s=1.0), "a policy or exemptions that its digest does not"),
        (lambda line: line["exemptions"].clear(), "a policy or exemptions that its digest does not belong to"),
        (lambda line: line["policy"].pop("max_age_s"), "no decision can be judged again: the policy lacks max_age_s"),
        (lambda line: line["policy"].update(idle_after_s=1e300), "the policy's idle_after_s is no duration"),
    ],
)
def test_an_edited_policy_is_caught(
    live: list[Line], tmp_path: Path, edit: Callable[[Line], object], expected: str
) -> None:
    edit(live[0])
    found = faults(live, tmp_path)
    assert any(expected in fault for fault in found), found


def test_an_exemption_that_the_run_did_not_have_is_caught(live: list[Line], tmp_path: Path) -> None:
    of(live, 5)["exemption"]["reason"] = "made up"
    assert any("by an exemption that its run did not have (made up)" in fault for fault in faults(live, tmp_path))


@pytest.mark.parametrize("an_id", ["7", "none", "9" * 5000])
def test_an_id_is_decided_about_once_whether_it_is_a_number_or_not(
    live: list[Line], tmp_path: Path, an_id: str
) -> None:
    of(live, 4)["runtime_id"] = of(live, 6)["runtime_id"] = an_id
    of(live, 2).update(runtime_id=an_id, reason="duplicate", action="keep", outcome="kept")
    found = faults(live, tmp_path)
    assert any(f"a second decision about id {an_id}" in fault for fault in found)
    assert not any("a duplicate of no other" in fault for fault in found)
    of(live, 2)["runtime_id"] = f"{an_id}1"
    assert any("a duplicate of no other" in fault for fault in faults(live, tmp_path))


def test_a_repeated_record_with_a_change_is_caught(live: list[Line], tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [*live, {**of(live, 4), "status": "Running", "creator": "x"}])
    files = AuditRecords(AuditFiles([tmp_path / "a.jsonl"]))
    (verdict,) = verify(files, LATER)
    assert verdict.ok
    assert [fault.what for fault in files.faults] == [
        f"record {live[0]['run_id']}-0-{of(live, 4)['seq']} is here with other content than before"
    ]


def test_an_act_in_a_dry_run_is_caught(live: list[Line], tmp_path: Path) -> None:
    found = faults([{**line, "dry_run": True} for line in live], tmp_path)
    assert any("announces an act in a dry run" in fault for fault in found)
    assert any("in a dry run cannot end in deletion_accepted" in fault for fault in found)


def test_an_intent_behind_its_outcome_is_caught(live: list[Line], tmp_path: Path) -> None:
    intent, outcome = of(live, 1, "deletion_requested"), of(live, 1)
    for name in ("seq", "logging.googleapis.com/insertId"):
        intent[name], outcome[name] = outcome[name], intent[name]
    assert any("announces an act behind its outcome" in fault for fault in faults(live, tmp_path))


def test_a_doctored_stop_is_caught(run: Run, tmp_path: Path) -> None:
    with serving(Leonardo([overdue(1), overdue(2, idle_hours=1)])) as server:
        lines = run(*check(server, "--stop-overdue", *LIVE)).records
    assert faults(lines, tmp_path) == []
    of(lines, 1, "stop_requested")["idle_s"] = 60.0
    of(lines, 1)["overdue_s"] = 1.0
    of(lines, 2)["autopause_threshold_min"] = 10**15
    found = faults(lines, tmp_path)
    assert any("which its run's policy does not give" in fault for fault in found)
    assert any("says overdue_s 1.0" in fault for fault in found)
    assert any("its numbers give keep (threshold_too_long)" in fault for fault in found)


# runs that were cut off, are still going, or have several tasks


def cut_behind(lines: list[Line], event: str) -> list[Line]:
    last = next(n for n, line in enumerate(lines) if line["event"] == event)
    return lines[: last + 1]


def test_a_killed_run_tells_whom_it_left_in_doubt(live: list[Line], tmp_path: Path) -> None:
    cut = cut_behind(live, "deletion_requested")
    (verdict,) = verdicts(written(tmp_path / "a.jsonl", cut))
    assert (verdict.state, verdict.ok) == ("cut_off", False)
    assert verdict.in_doubt == [f"{cut[-1]['project']}/{cut[-1]['name']} ({cut[-1]['runtime_id']})"]


def test_a_run_that_may_still_be_going_is_open_and_not_wrong(live: list[Line], tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", cut_behind(live, "deletion_requested"))
    begun = datetime.fromisoformat(live[0]["time"])
    for minutes, state in ((0, "open"), (54, "open"), (56, "cut_off")):
        (verdict,) = verdicts(path, begun + timedelta(minutes=minutes))
        assert (verdict.state, verdict.ok, len(verdict.in_doubt)) == (state, state == "open", 1)


def as_tasks(run: Run, monkeypatch: pytest.MonkeyPatch, count: int, *how: str) -> list[Line]:
    """One run of several tasks, as Cloud Run starts them: each sweeps its share, and keeps some of it."""
    fleet = [a_machine(n, project=f"terra-{n % 9}", days=20 if n % 2 else 2) for n in range(1, 19)]
    projects = [word for n in range(9) for word in ("--project", f"terra-{n}")]
    monkeypatch.setenv("CLOUD_RUN_EXECUTION", "execution-1")
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", str(count))
    lines = []
    with serving(Leonardo(fleet)) as server:
        for task in range(count):
            monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", str(task))
            lines += run(*delete(server, *how, *projects, "--max-act-share", "1")).records
    for name in ("EXECUTION", "TASK_COUNT", "TASK_INDEX"):
        monkeypatch.delenv(f"CLOUD_RUN_{name}")
    return lines


@pytest.mark.unmeasured
def test_a_rehearsal_of_several_tasks_is_honest_and_a_plan(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = as_tasks(run, monkeypatch, 2)
    assert len({line["now"] for line in lines if line["event"] == "run_started"}) == 2
    assert {line["outcome"] for line in lines if line["event"] == "runtime_audited"} == {"kept", "would_delete"}
    log = written(tmp_path / "a.jsonl", lines)
    assert faults(lines, tmp_path) == []
    assert run("review-audit-log", "verify", "--from", str(log)).code == 0
    with serving(Leonardo([a_machine(1, project="terra-1"), a_machine(99)])) as server:
        held = run(*delete(server, *LIVE, "--plan", str(log)))
    assert (held.code, held.finished["outcomes"]) == (0, {"deletion_accepted": 1, "not_in_plan": 1})


@pytest.mark.unmeasured
def test_the_tasks_of_a_run_are_one_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = as_tasks(run, monkeypatch, 3, *LIVE)
    (verdict,) = verdicts(written(tmp_path / "a.jsonl", lines))
    assert (verdict.state, verdict.listed, verdict.acts, verdict.findings) == ("finished", 18, 9, [])
    assert [line["listed"] for line in ask(run, "runs", "--from", str(tmp_path))["runs"]] == [18]


def test_a_task_without_records_or_with_another_policy_is_missed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = as_tasks(run, monkeypatch, 3, *LIVE)
    without = [line for line in lines if line["task_index"] != 1]
    assert any("there is no record of task 1 of 3" in fault for fault in faults(without, tmp_path))
    openings = [line for line in lines if line["event"] == "run_started"]
    openings[1]["policy_digest"] = "sha256:another"
    assert any("another policy than the other tasks" in fault for fault in faults(lines, tmp_path))


def test_a_run_without_its_first_record_is_cut_off(live: list[Line], tmp_path: Path) -> None:
    found = faults(live[1:], tmp_path, datetime.now(UTC))
    assert "run_started is missing" in found


# rejudging: the rule and its own record always agree

INSTANT = datetime(2026, 11, 20, 3, 0, 0, 123456, tzinfo=UTC)
AGES = st.one_of(st.none(), st.timedeltas(timedelta(minutes=-10), timedelta(days=30)))
GLOBS = st.sampled_from([None, "a*", "b"])


@st.composite
def exemptions(draw: st.DrawFn) -> Exemption:
    return Exemption(
        until=INSTANT + draw(st.timedeltas(timedelta(days=-20), timedelta(days=20))),
        reason="r",
        project=draw(GLOBS),
        creator=draw(GLOBS),
        label=draw(st.sampled_from([(), ("k=a*",)])),
    )


@st.composite
def judged(draw: st.DrawFn) -> tuple[Runtime, DeletionPolicy, bool]:
    created, accessed = draw(AGES), draw(AGES)
    runtime = Runtime(
        id="1",
        project=draw(st.sampled_from(["a1", "b"])),
        name="n",
        cloud_provider=draw(st.sampled_from(["GCP", "GCP", "AZURE"])),
        status=draw(st.sampled_from([*RuntimeStatus, "New", None])),
        creator=draw(st.sampled_from(["a1", "b", None])),
        created_date=None if created is None else INSTANT - created,
        date_accessed=None if accessed is None else INSTANT - accessed,
        labels=draw(st.sampled_from([{}, {"k": "a1"}])),
        autopause_threshold=draw(st.sampled_from([None, timedelta(0), timedelta(minutes=30)])),
    )
    policy = DeletionPolicy(
        max_age=timedelta(days=14),
        max_age_if_idle=timedelta(days=7),
        idle_after=timedelta(hours=4),
        spare_possibly_busy=draw(st.booleans()),
        kernel_busy_limit=timedelta(hours=24),
        autopause_margin=timedelta(minutes=15),
        exemptions=tuple(draw(st.lists(exemptions(), max_size=3))),
    )
    return runtime, policy, draw(st.booleans())


@pytest.mark.unmeasured
@given(judged(), st.sampled_from(["plain", "omit"]))
def test_what_the_rule_decides_stands_when_it_is_judged_again(
    case: tuple[Runtime, DeletionPolicy, bool], creator: str
) -> None:
    runtime, policy, second_look = case
    now = INSTANT - timedelta(seconds=5) if second_look else INSTANT
    decision = policy.judge(runtime, INSTANT, second_look=second_look)
    outcome = (
        Outcome.WOULD_DELETE if decision.action is Action.DELETE else (Outcome.SPARED if second_look else Outcome.KEPT)
    )
    explanation = policy.explain(runtime, decision)
    line = events.runtime_audited(runtime, decision, outcome, explanation, name_creator=creator == "plain")
    started = Record(
        job="delete-old-runtimes",
        now=now,
        policy=policy.written(),
        exemptions=[events.exemption_detail(exemption, INSTANT) for exemption in policy.exemptions],
    )
    record = read_back(line)
    rules = rules_of(started)
    assert rules is not None
    assert [*rules.exemption_faults(record), *rules.faults(record, INSTANT, now)] == []


def read_back(event: events.Event) -> Record:
    return msgspec.json.decode(msgspec.json.encode(event), type=Record)


# questions


def test_runs_are_one_line_each_and_what_fails_again_is_shown_apart(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"), "--started-by", "cron")
    fails = [Fault(call="delete", name="all-of-us-1", status=400, times=9)]
    with serving(Leonardo([a_machine(1), a_machine(2)]), faults=fails) as server:
        for how in (LIVE, LIVE, ()):
            run(*delete(server, *how, *log))
        run(*check(server, *log))
    answer = ask(run, "runs", "--from", str(tmp_path))
    told = ("job", "dry_run", "started_by", "acted", "would_act", "failed", "state", "exit_code")
    assert [[line[name] for name in told] for line in answer["runs"]] == [
        ["delete-old-runtimes", False, "cron", 1, 0, 1, "finished", 1],
        ["delete-old-runtimes", False, "cron", 0, 0, 1, "finished", 1],
        ["delete-old-runtimes", True, "cron", 0, 1, 0, "finished", 0],
        ["check-autopause", True, "cron", 0, 0, 0, "finished", 0],
    ]
    assert answer["failing"] == []
    only = [line for line in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if not line["dry_run"]]
    (failing,) = ask(run, "runs", "--from", str(written(tmp_path / "live.jsonl", only)))["failing"]
    assert (failing["path"], failing["runs"], failing["last_run_id"]) == (paths(1)[0], 2, only[-1]["run_id"])


def test_a_run_is_told_with_its_policy_its_acts_and_its_failures(run: Run, live: list[Line], tmp_path: Path) -> None:
    log = str(written(tmp_path / "a.jsonl", live))
    answer = ask(run, "run", "latest", "--from", log)
    assert answer == ask(run, "run", live[0]["run_id"], "--from", log)
    assert answer["policy"] == live[0]["policy"]
    assert answer["exemptions"][0].startswith("project terra-work* until ")
    assert sum(line["count"] for line in answer["counts"]) == 7
    assert {(act["name"], act["outcome"]) for act in answer["acts"]} == {
        *((f"all-of-us-{number}", "deletion_accepted") for number in (1, 2, 3)),
        ("all-of-us-7", "failed"),
    }
    assert [failure.partition(":")[0] for failure in answer["failures"]] == ["failed to delete terra-7/all-of-us-7"]


def test_a_run_that_was_refused_says_by_which_guard(run: Run, tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        run(*delete(server, *LIVE, "--max-acts", "1", "--audit-file", str(tmp_path / "a.jsonl")))
    answer = ask(run, "run", "latest", "--from", str(tmp_path))
    assert answer["run"]["refused_by"] == ["max_acts"]
    assert answer["remarks"] == ["refused by max_acts: 2 acts are more than max-acts 1"]


def kept_by_days(tmp_path: Path, *ages: timedelta, created: datetime = INSTANT - timedelta(days=10)) -> Path:
    """The log of a daily run that saw one runtime at these ages, written as a job writes it."""
    policy = DeletionPolicy(
        max_age=timedelta(days=14),
        max_age_if_idle=timedelta(days=14),
        idle_after=timedelta(hours=4),
        spare_possibly_busy=False,
        kernel_busy_limit=timedelta(hours=24),
        autopause_margin=timedelta(minutes=15),
    )
    path = tmp_path / "daily.jsonl"
    for number, age in enumerate(ages):
        at = created + age
        sink = Memory()
        log = AuditLog(
            RunIdentity(job="delete-old-runtimes", run_id=f"run-{number}", environment="test", dry_run=True),
            [sink],
            now=lambda at=at: at,  # type: ignore[misc]
        )
        runtime = Runtime(id="7", project="terra-1", name="a", labels={}, created_date=created, date_accessed=created)
        log.write(
            events.RunStarted(
                severity=Severity.NOTICE,
                message="dry run",
                version="0",
                actor=None,
                started_by=None,
                approved_by=None,
                now=at,
                policy=policy.written(),
                policy_digest=events.policy_digest(policy.written(), ()),
                exemptions=[],
                limits={},
                scope={},
                plan=None,
            )
        )
        decision = policy.judge(runtime, at)
        outcome = Outcome.KEPT if decision.action is Action.KEEP else Outcome.WOULD_DELETE
        words = policy.explain(runtime, decision)
        log.write(events.runtime_audited(runtime, decision, outcome, words, name_creator=True))
        with path.open("ab") as file:
            file.writelines(sink.lines)
    return path


def test_why_tells_each_decision_in_plain_words_and_folds_equal_ones(run: Run, tmp_path: Path) -> None:
    created = datetime(2026, 11, 6, 23, 14, tzinfo=UTC)
    days = [timedelta(days=10, hours=3, minutes=46), timedelta(days=11), timedelta(days=13, hours=3, minutes=46)]
    path = kept_by_days(tmp_path, days[2], created=created)
    (incarnation,) = ask(run, "why", "terra-1/a", "--from", str(path))["incarnations"]
    assert [entry["line"] for entry in incarnation["entries"]] == [
        "2026-11-20 03:00 kept: 13 d 3 h old, limit 14 d; due 2026-11-20 23:14"
    ]
    path.unlink()
    path = kept_by_days(tmp_path, *days, timedelta(days=15), created=created)
    (incarnation,) = ask(run, "why", "terra-1/a", "--from", str(path))["incarnations"]
    assert (incarnation["runtime_id"], incarnation["created_date"]) == ("7", "2026-11-06T23:14:00Z")
    assert [entry["line"] for entry in incarnation["entries"]] == [
        "2026-11-17 03:00 to 2026-11-20 03:00, 3 runs: kept: 13 d 3 h old, limit 14 d; due 2026-11-20 23:14",
        "2026-11-21 23:14 would delete: 15 d old, limit 14 d",
    ]


def test_why_tells_incarnations_apart_and_works_across_jobs(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    with serving(Leonardo([overdue(1)])) as server:
        run(*check(server, *log))
        run(*delete(server, *log, "--max-age", "1d", "--max-age-if-idle", "1d", *LIVE))
    with serving(Leonardo([a_machine(9, project="terra-1", name="all-of-us-1", days=1)])) as server:
        run(*delete(server, *log))
    first, second = ask(run, "why", "terra-1/all-of-us-1", "--from", str(tmp_path))["incarnations"]
    told = [entry["line"].partition(" ")[2].partition(" ")[2] for entry in first["entries"]]
    assert told[0].startswith("autopause: autopause is overdue: idle for 1 d 6 h")
    assert told[1].startswith("about to delete: 5 d ")
    assert told[2].startswith("Leonardo accepted to delete: 5 d ")
    assert [entry["outcome"] for entry in second["entries"]] == ["kept"]


def test_why_falls_back_on_the_sentence_of_a_record_whose_rule_is_not_known(
    run: Run, live: list[Line], tmp_path: Path
) -> None:
    of(live, 4).update(reason="a_later_reason", message="kept terra-4/all-of-us-4: for a later reason")
    of(live, 3).update(outcome="a_later_outcome")
    live[0]["policy"].clear()
    log = str(written(tmp_path / "a.jsonl", live))
    (entry,) = ask(run, "why", "terra-4/all-of-us-4", "--from", log)["incarnations"][0]["entries"]
    assert " kept: for a later reason; due " in entry["line"]
    entries = ask(run, "why", "terra-3/all-of-us-3", "--from", log)["incarnations"][0]["entries"]
    assert " a later outcome: 8 d " in entries[-1]["line"]
    entries = ask(run, "why", "terra-7/all-of-us-7", "--from", log)["incarnations"][0]["entries"]
    assert entries[-1]["line"].count("failed to delete: ") == 1


def test_numbers_that_no_calendar_holds_keep_no_question_from_its_answer(
    run: Run, live: list[Line], tmp_path: Path
) -> None:
    live[0].update(time="9999-12-31T23:59:59Z")
    live[0]["policy"].update(idle_after_s=1e300)
    of(live, 1).update(age_s=1e300, idle_s=-1e300)
    of(live, 3).update(time="9999-12-31T23:59:59Z")
    of(live, 4).update(time="0001-01-01T00:00:00+14:00", created_date="0001-01-01T00:00:00+14:00", age_s=1e300)
    of(live, 4).update(due_at="9999-12-31T23:59:59-14:00", idle_s=-1e300)
    log = ("--from", str(written(tmp_path / "a.jsonl", live)))
    for question in (("runs",), ("run", "latest"), ("verify",), ("upcoming",), ("why", "terra-4/all-of-us-4")):
        told = run("review-audit-log", *question, *log, "--output", "table")
        assert told.code == (question == ("verify",)), question
        assert told.out
    assert run("review-audit-log", "report", *log, "--html", str(tmp_path / "a.html")).code == 0


@pytest.mark.unmeasured
def test_diff_says_why_each_runtime_is_condemned_in_one_run_only(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    soon = str((LATER + timedelta(days=9)).date())
    exempt = json.dumps([{"match": {"project": "terra-6"}, "until": soon, "reason": "r"}])
    fleet = [
        a_machine(1),  # gone by our act
        a_machine(2),  # gone without our act
        a_machine(3, days=8),  # used since
        a_machine(4),  # its status changes
        a_machine(5, days=6),  # the policy changes
        a_machine(6),  # exempt then
    ]
    with serving(Leonardo(fleet)) as server:
        a = run(*delete(server, *log)).records[0]["run_id"]
        run(*delete(server, *log, *LIVE, "--only", paths(1)[0]))
    fleet = [
        a_machine(3, days=8, idle_hours=1),
        a_machine(4, status=TrueStatus.ERROR),
        a_machine(5, days=6),
        a_machine(6),
        a_machine(7),  # new to the list
    ]
    with serving(Leonardo(fleet)) as server:
        b = run(*delete(server, *log, "--max-age-if-idle", "5d", "--exemptions", exempt)).records[0]["run_id"]
    answer = ask(run, "diff", a, b, "--from", str(tmp_path))
    assert {d["path"]: d["why_not_in_the_other"] for d in answer["differences"]} == dict(
        zip(
            paths(1, 2, 3, 4, 5, 6, 7),
            [
                "gone_by_our_act",
                "gone_without_our_act",
                "used_since",
                "status_changed",
                "policy_changed",
                "exempt",
                "new",
            ],
            strict=True,
        )
    )
    counts = ("grew_by", "new", "gone_by_our_act", "gone_without_our_act", "same_policy")
    assert [answer[name] for name in counts] == [-1, 1, 1, 1, False]
    other = ask(run, "diff", b, a, "--from", str(tmp_path))
    assert other["differences"] == answer["differences"]


@pytest.mark.unmeasured
def test_diff_does_not_call_gone_what_was_not_looked_at(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    with serving(Leonardo([a_machine(1), a_machine(2), a_machine(3, days=1)])) as server:
        a = run(*delete(server, *log)).records[0]["run_id"]
        b = run(*delete(server, *log, "--project", "terra-1")).records[0]["run_id"]
        c = run(*delete(server, *log, "--only", paths(2)[0])).records[0]["run_id"]
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", status=400, times=9)]) as server:
        d = run(*delete(server, *log)).records[0]["run_id"]
    for pair, expected in (((a, b), {2}), ((a, c), {1}), ((b, a), {2}), ((c, a), {1}), ((a, d), {1, 2})):
        found = ask(run, "diff", *pair, "--from", str(tmp_path))["differences"]
        assert {int(difference["runtime_id"]) for difference in found} == expected
        kinds = {difference["why_not_in_the_other"] for difference in found}
        assert kinds == {"not_looked_at"}


def test_diff_tells_what_has_become_due_and_what_the_policy_alone_changed(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    fleet = [a_machine(1, days=8), a_machine(2, status=TrueStatus.ERROR), a_machine(3, days=13.9, idle_hours=1)]
    soon = str((LATER + timedelta(days=9)).date())
    exempt = json.dumps([{"match": {"project": "terra-4"}, "until": soon, "reason": "r"}])
    with serving(Leonardo([*fleet, a_machine(4)])) as server:
        a = run(*delete(server, *log, "--max-age-if-idle", "9d", "--exemptions", exempt)).records[0]["run_id"]
    fleet = [a_machine(1, days=8), a_machine(2), a_machine(3, days=14.1, idle_hours=1)]
    with serving(Leonardo([*fleet, a_machine(4)])) as server:
        b = run(*delete(server, *log)).records[0]["run_id"]
    found = ask(run, "diff", a, b, "--from", str(tmp_path))["differences"]
    assert {int(d["runtime_id"]): d["why_not_in_the_other"] for d in found} == {
        1: "policy_changed",
        2: "status_changed",
        3: "due_since",
        4: "exempt",
    }


def test_diff_tells_the_limits_that_differ_the_counts_of_both_and_whom_to_tell_first(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    fleet = [
        a_machine(1),
        a_machine(2, days=11, idle_hours=1, creator="ada@example.org"),
        a_machine(3, days=11, idle_hours=1, config_type="GceConfig"),
        a_machine(4, days=12),  # condemned by both, for another reason
        a_machine(5, days=2),
    ]
    soon = str((LATER + timedelta(days=9)).date())
    exempt = json.dumps([{"match": {"project": "terra-9"}, "until": soon, "reason": "r"}])
    with serving(Leonardo(fleet)) as server:
        a = run(
            *delete(server, *log, "--project", "terra-1", *(w for n in "2345" for w in ("--project", f"terra-{n}")))
        )
        b = run(*delete(server, *log, "--max-age", "10d", "--exemptions", exempt, "--max-acts", "1"))
    ids = [ended.records[0]["run_id"] for ended in (a, b)]
    answer = ask(run, "diff", *ids, "--from", str(tmp_path))
    assert [(term["name"], term["a"], term["b"]) for term in answer["terms"]] == [
        ("max_age_s", 1209600.0, 864000.0),
        ("exemptions", [], [f"project terra-9 until {soon} 00:00: r"]),
        ("projects", [f"terra-{n}" for n in range(1, 6)], None),
    ]
    assert {(count["outcome"], count["reason"]): (count["a"], count["b"]) for count in answer["counts"]} == {
        ("would_delete", "max_age"): (1, 4),
        ("would_delete", "max_age_if_idle"): (1, 0),
        ("kept", "within_policy"): (3, 1),
    }
    assert (answer["condemned_in_both"], answer["other_reasons"]) == (
        2,
        [{"reason_a": "max_age_if_idle", "reason_b": "max_age", "count": 1}],
    )
    assert [(d["path"], d["disk"], d["creator"]) for d in answer["differences"]] == [
        (paths(3)[0], "lost", "researcher@example.org"),
        (paths(2)[0], "kept", "ada@example.org"),
    ]
    assert [answer[run]["would_be_refused_by"] for run in ("run_a", "run_b")] == [[], ["max_acts"]]
    told = run("review-audit-log", "diff", *ids, "--from", str(tmp_path), "--output", "table").out
    for words in ("max_age     14 d", "in B only: 2 (disk lost: 1).", "refused by max_acts", "ada@example.org"):
        assert words in " ".join(told.split("\n"))
    other_way = ask(run, "diff", *ids[::-1], "--from", str(tmp_path))["other_reasons"]
    assert other_way == [{"reason_a": "max_age", "reason_b": "max_age_if_idle", "count": 1}]


@pytest.mark.unmeasured
def test_numbers_that_no_clock_could_tell_are_shown_as_they_are(run: Run, live: list[Line], tmp_path: Path) -> None:
    sober = str(written(tmp_path / "b.jsonl", [{**line, "run_id": "b", INSERT_ID: None} for line in live]))
    live[0]["policy"]["max_age_s"] = 1e300
    of(live, 1).update(age_s=-1e300)
    log = str(written(tmp_path / "a.jsonl", live))
    run_id = live[0]["run_id"]
    for question in (["run", run_id], ["diff", run_id, "b"], ["report", run_id, "b", "--html", "r.html"]):
        ended = run("review-audit-log", *question, "--from", log, "--from", sober, "--output", "table")
        assert ended.code == 0, ended.err
        shown = ended.out + Path("r.html").read_text() if question[0] == "report" else ended.out
        assert "1e+300 s" in shown


def test_diff_of_another_instant_says_so(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    in_a_week = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%dT00:00:00Z}"
    with serving(Leonardo([a_machine(1), a_machine(2, days=5)])) as server:
        ahead = run(*delete(server, *log, "--as-of", in_a_week)).records[0]["run_id"]
        today = run(*delete(server, *log)).records[0]["run_id"]
        ahead_again = run(*delete(server, *log, "--as-of", in_a_week)).records[0]["run_id"]
    for pair, why in (((ahead, today), "not_due_yet"), ((today, ahead_again), "due_since")):
        answer = ask(run, "diff", *pair, "--from", str(tmp_path))
        assert {d["path"]: d["why_not_in_the_other"] for d in answer["differences"]} == {paths(2)[0]: why}
        (term,) = answer["terms"]
        assert (term["name"], in_a_week in (term["a"], term["b"]), answer["same_policy"]) == ("now", True, True)
    assert ask(run, "diff", ahead, ahead_again, "--from", str(tmp_path))["terms"] == []
    told = run("review-audit-log", "diff", ahead, today, "--from", str(tmp_path), "--output", "table").out
    assert f"dry as of {in_a_week[:10]} 00:00" in " ".join(told.split())
    assert "judged as of" in told


def test_upcoming_tells_what_is_due_when_by_project_and_creator(run: Run, tmp_path: Path) -> None:
    fleet = [a_machine(1, days=13), a_machine(2, days=1), a_machine(3, days=5), a_machine(4)]
    with serving(Leonardo(fleet)) as server:
        run(*delete(server, "--audit-file", str(tmp_path / "log.jsonl"), *LIVE))
        run(*delete(server, "--audit-file", str(tmp_path / "log.jsonl"), "--only", paths(2)[0]))
    for within, due in (("3d", [3]), ("1d", []), ("14d", [3, 2])):
        answer = ask(run, "upcoming", "--within", within, "--from", str(tmp_path))
        assert [int(row["runtime_id"]) for row in answer["due"]] == due
    assert (answer["due"][1]["project"], answer["run"]["listed"]) == ("terra-2", 4)


# the command


def test_verify_ends_in_1_when_anything_is_off_and_in_0_otherwise(run: Run, live: list[Line], tmp_path: Path) -> None:
    log = written(tmp_path / "a.jsonl", live)
    for words in ((), ("latest",), (live[0]["run_id"],)):
        assert run("review-audit-log", "verify", *words, "--from", str(log)).code == 0
    with log.open("a") as file:
        file.write('{"event": "runtime_aud')
    ended = run("review-audit-log", "verify", "--from", str(log))
    assert (ended.code, json.loads(ended.out)["ok"], len(json.loads(ended.out)["torn"])) == (0, True, 1)
    with log.open("a") as file:
        file.write("\n{}\n")
    ended = run("review-audit-log", "verify", "--from", str(log))
    answer = json.loads(ended.out)
    assert (ended.code, answer["ok"], answer["foreign"], len(answer["faults"])) == (1, False, 1, 1)
    written(log, [line for line in live if line["seq"] != 3])
    assert run("review-audit-log", "verify", "--from", str(log)).code == 1


def test_a_torn_line_is_told_on_stderr_whatever_is_asked(run: Run, live: list[Line], tmp_path: Path) -> None:
    log = written(tmp_path / "a.jsonl", live)
    log.write_text(log.read_text() + "{")
    ended = run("review-audit-log", "runs", "--from", str(log))
    assert (ended.code, ended.err) == (0, f"{log}:{len(live) + 1}: the line is torn: its writer was cut off\n")


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["runs", "--from", "nowhere"], "from: nowhere cannot be read: No such file or directory"),
        (["runs", "--from", "empty"], "from: empty cannot be read: the folder holds no log"),
        (["runs", "--from", "/dev/null"], "from: there is no audit record"),
        (["run", "latest", "--from", "/dev/null"], "from: there is no audit record"),
        (["runs", "more", "--from", "log"], "runs takes no argument"),
        (["run", "--from", "log"], "run takes RUN_ID or latest"),
        (["diff", "a", "--from", "log"], "diff takes RUN_A and RUN_B"),
        (["diff", "latest", "latest", "--from", "log"], "delete-old-run does not differ from itself"),
        (["why", "name", "--from", "log"], "why: 'name' is not PROJECT/NAME, a glob of it, "),
        (["why", "a/b", "--from", "log"], "there is no record about a/b"),
        (
            ["run", "delete-old-rum", "--from", "log"],
            "there is no record of run 'delete-old-rum'; did you mean delete-old-run?",
        ),
        (
            ["diff", "older", "latest", "--from", "log", "--since", "2d"],
            "there is no record of run 'older'; only runs since 2d were read: name what is older by a longer --since",
        ),
        (
            ["run", "later", "--from", "log", "--until", "2100-01-01"],
            "there is no record of run 'later'; only runs before --until 2100-01-01 were read",
        ),
        (
            ["disks", "--from", "log"],
            "there is no such run in the records; disks reads the newest run of check-disks\n",
        ),
        (["verify", "zzz", "--from", "log"], "there is no record of run 'zzz'"),
        (["upcoming", "--from", "other"], "there is no such run in the records"),
        (["upcoming", "--within", "3", "--from", "log"], "within: '3' is no duration: write 14d, 4h, 30m, 36s, or"),
        (["ask", "--from", "log"], "argument QUESTION: there is no question 'ask'"),
        (["runs"], "from: name files or folders, or cloud-logging; or name an environment by --env"),
    ],
    ids=lambda part: str(part).strip(),
)
def test_what_cannot_be_asked_or_answered_is_one_clear_line(
    run: Run, live: list[Line], tmp_path: Path, words: list[str], fault: str
) -> None:
    (tmp_path / "empty").mkdir()
    for line in live:
        line.update(
            {"run_id": "delete-old-run", "logging.googleapis.com/insertId": None, "logging.googleapis.com/labels": None}
        )
    written(tmp_path / "log", live)
    written(tmp_path / "other", [{**line, "job": "another"} for line in live])
    ended = run("review-audit-log", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"leo-lifecycle: {fault}")
    assert len(ended.err.splitlines()) == 1


def test_a_person_gets_tables_and_no_control_character(
    run: Run, live: list[Line], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    of(live, 7)["message"] += " \x1b[2J[bold]"
    log = written(tmp_path / "a.jsonl", live)
    run_id = live[0]["run_id"]

    def seen(*words: str) -> str:
        ended = run("review-audit-log", *words, "--from", str(log), "--output", "table")
        assert "\x1b" not in ended.out
        return ended.out

    assert re.search(rf"{run_id}  \S+ \S+  delete-old-runtimes  local        live", seen("runs"))
    told = seen("run", "latest")
    assert "�[2J[bold]" in told
    assert "Policy: max_age 14 d, max_age_if_idle 7 d, idle_after 4 h, spare_possibly_busy no" in told
    assert f"{paths(1)[0]}, id 1, created " in seen("why", paths(1)[0])
    assert "a records_digest that its task's lines do not give" in seen("verify")
    assert "1 are due by " in seen("upcoming")
    assert "0 new" not in seen("upcoming", "--within", "300d")


def test_a_person_sees_what_is_off(run: Run, live: list[Line], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    log = written(tmp_path / "a.jsonl", cut_behind(live, "deletion_requested"))
    ended = run("review-audit-log", "verify", "--from", str(log), "--output", "table")
    assert ": still going" in ended.out
    cut = cut_behind(live, "deletion_requested")
    cut[0]["time"] = "2026-01-01T00:00:00Z"
    log = written(tmp_path / "a.jsonl", [*cut, *cut[:1]])
    log.write_text(log.read_text() + "broken\n{}\n{")
    ended = run("review-audit-log", "verify", "--from", str(log), "--output", "table")
    assert ended.code == 1
    for told in ("run_finished is missing", "in doubt: ", "a.jsonl:", "torn", "1 met twice", "SOMETHING IS OFF"):
        assert told in ended.out
    assert "cut off" in run("review-audit-log", "runs", "--from", str(log), "--output", "table").out


@pytest.mark.unmeasured
def test_a_person_sees_what_differs_and_what_fails_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    fleet = [a_machine(number) for number in range(1, 105)]
    fails = [Fault(call="delete", name="all-of-us-1", status=400, times=9)]
    with serving(Leonardo(fleet), faults=fails) as server:
        a = run(*delete(server, *log)).records[0]["run_id"]
        b = run(*delete(server, *log, *LIVE, "--only", paths(1)[0])).records[0]["run_id"]
        run(*delete(server, *log, *LIVE, "--only", paths(1)[0]))

    def seen(*words: str) -> str:
        return run("review-audit-log", *words, "--from", str(tmp_path), "--output", "table").out

    told = seen("diff", a, b)
    assert "the fleet shrank by 103: 0 new, 0 gone by our act, 103 gone without our act" in told
    assert "the later run did not list it" in told
    assert told.count("the later run did not list it") == 103
    assert "Judged by the same policy; the fleet is the same." in seen("diff", b, "latest")
    assert "Both condemned the same runtimes." in seen("diff", b, "latest")
    assert "Failed in several runs in a row" in seen("runs")
    for whole in (seen("run", a), seen("upcoming")):
        assert set(re.findall(r"all-of-us-\d+", whole)) == {f"all-of-us-{number}" for number in range(1, 105)}


@pytest.mark.unmeasured
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_runs_can_be_read_at_every_width(
    run: Run, live: list[Line], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    live[0]["actor"] = "lifecycle-prod@terra-operations-1.iam.gserviceaccount.com"
    out = run("review-audit-log", "runs", "--from", str(written(tmp_path / "a.jsonl", live)), "--output", "table").out
    assert max(map(len, out.splitlines())) <= width
    for word in (live[0]["run_id"], "lifecycle-prod@terra-operations-1", "delete-old-runtimes", "local", "live"):
        assert re.search(rf"(^|\s){re.escape(word)}($|[\s,])", out, re.MULTILINE), word
    assert "gserviceaccount" not in out


def test_of_very_many_runs_all_are_shown_the_last_one_last(run: Run, live: list[Line], tmp_path: Path) -> None:
    many = []
    for number in range(150):
        for line in (live[0], live[-1]):
            told = {**line, "run_id": f"run-{number:03}", "logging.googleapis.com/insertId": f"{number}-{line['seq']}"}
            many.append({**told, "time": f"2026-11-20T{number // 60:02}:{number % 60:02}:00Z"})
    log = str(written(tmp_path / "a.jsonl", many))
    shown = re.findall(r"run-\d{3}", run("review-audit-log", "runs", "--from", log, "--output", "table").out)
    assert shown == [f"run-{number:03}" for number in range(150)]


@pytest.mark.parametrize("output", ["json", "table"])
def test_a_reader_that_has_seen_enough_is_no_failure(live: list[Line], tmp_path: Path, output: str) -> None:
    log = written(tmp_path / "a.jsonl", live)
    read, write = os.pipe()
    os.close(read)
    ended = finish(start("review-audit-log", "verify", "--from", str(log), "--output", output, stdout=write))
    os.close(write)
    assert (ended.code, ended.err) == (0, "")


def test_records_without_the_one_that_opens_their_run_still_answer(run: Run, live: list[Line], tmp_path: Path) -> None:
    log = str(written(tmp_path / "a.jsonl", live[1:]))
    run_id = live[0]["run_id"]
    (line,) = ask(run, "runs", "--from", log)["runs"]
    assert (line["started_at"], line["started_by"], line["state"]) == (None, None, "finished")
    answer = ask(run, "run", run_id, "--from", log)
    assert (answer["policy"], answer["exemptions"], len(answer["acts"])) == ({}, [], 4)
    (entry,) = ask(run, "why", paths(4)[0], "--from", log)["incarnations"][0]["entries"]
    assert " kept: 2 d " in entry["line"]
    ended = run("review-audit-log", "upcoming", "--from", log)
    missing = (
        "there is no such run in the records; upcoming reads the newest run of delete-old-runtimes over the whole fleet"
    )
    assert (ended.code, ended.err) == (2, f"leo-lifecycle: {missing}\n")


def test_a_first_record_out_of_its_place_is_caught(live: list[Line], tmp_path: Path) -> None:
    live[0].update({"seq": 1, "logging.googleapis.com/insertId": None})
    live[1].update({"seq": 0, "logging.googleapis.com/insertId": None})
    assert any("seq 1 (run_started) is not the first record" in fault for fault in faults(live, tmp_path))


@pytest.mark.parametrize(("back", "doubted"), [(60, False), (400, True)])
def test_a_clock_that_is_set_back_between_two_looks_is_no_fault_of_the_run(
    run: Run, back: int, *, doubted: bool
) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*delete(server, "--no-dry-run", "--audit-file", "live.jsonl"))

    def set_back(record: dict[str, Any]) -> None:
        if record["event"] == "runtime_audited":
            judged = datetime.fromisoformat(record["judged_at"]) - timedelta(seconds=back)
            record.update(judged_at=judged.isoformat(), age_s=record["age_s"] - back, idle_s=record["idle_s"] - back)
        elif record["event"] == "run_finished":
            record["records_digest"] = None

    rewritten(Path("live.jsonl"), set_back)
    said = run("review-audit-log", "verify", "--from", "live.jsonl", "--output", "json").out
    assert ("was judged after its outcome was" in said) is doubted
