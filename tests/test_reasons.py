"""Every reason that a run may give, on record and judged again: nothing of it may hang on what no record holds."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from core.records.events import ErrorDetail, Exchanged, RuntimeAudited, runtime_audited
from core.records.outcome import Outcome
from core.rules.decision import Action, Decision, Reason
from core.rules.evidence import Evidence
from core.runtime import Disk, Runtime
from core.sandbox.server import SandboxServer, made_up, serving
from tests.conftest import Ended, a_machine, delete

Run = Callable[..., Ended]
SPARED = '[{"match": {"project": "terra-exempt"}, "until": "2099-01-01", "reason": "a course"}]'
RUNS = {
    "check": ("check-autopause",),
    "plan": ("delete-old-runtimes", "--spare-possibly-busy", "--max-act-share", "1"),
    "unannounced": ("delete-old-runtimes", "--notice-period", "1d"),
    "foreign": ("delete-old-runtimes", "--project", "terra-asked"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    """With a made-up fleet, and what is not in it."""
    fleet = made_up(400)
    foreign = a_machine(9001, project="terra-other")
    for machine in (
        a_machine(9002, project="terra-exempt"),
        a_machine(9003, autopause_threshold=-1),
        a_machine(9004, days=10, idle_hours=5, autopause_threshold=30),
        foreign,
    ):
        fleet.add(machine)
    fleet.raw_rows = [*fleet.raw_rows, (None, b"[]"), ("terra-asked", msgspec.json.encode(foreign.list_item()))]
    with serving(fleet) as server:
        yield server


def test_verify_judges_every_reason_as_the_run_did_and_a_plan_of_it_can_be_used(
    run: Run, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_EXEMPTIONS", SPARED.replace("2099-01-01", "2027-01-01"))
    seen: set[str] = set()
    for name, (job, *words) in RUNS.items():
        ended = run(job, *delete(server)[1:], *words, "--audit-file", f"{name}.jsonl")
        seen |= ended.finished["reasons"].keys()
        verdict = run("review-audit-log", "verify", "--from", f"{name}.jsonl", "--output", "table")
        assert verdict.code == 0, verdict.out
    assert seen == set(Reason)
    held = run(*delete(server, *RUNS["plan"][1:], "--plan", "plan.jsonl"))
    assert held.finished["refused_by"] == []


def test_what_is_known_of_a_runtime_stands_on_record_under_its_own_name() -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    runtime = Runtime(
        "41",
        "a-project",
        "a-name",
        {},
        "GCP",
        "Stopped",
        "somebody@example.org",
        at - timedelta(days=3),
        at - timedelta(days=2),
        Disk.KEPT,
        "42",
        timedelta(minutes=43),
        "n1-standard-44",
        disk_gb=45,
    )
    decision = Decision(
        Action.KEEP, Reason.IN_USE, at, timedelta(46), timedelta(47), at + timedelta(1), None, timedelta(48)
    )
    exchanged = Exchanged(200, ErrorDetail("denied", "no", "Exception"), 49, "5" * 32, Evidence.UNLISTED, None)
    record = runtime_audited(runtime, decision, Outcome.KEPT, "why", name_creator=True, exchanged=exchanged)
    known = [runtime, decision, exchanged]
    own = {"runtime_id": "41", "autopause_threshold_min": 43, "outcome": "kept"}
    own |= {f"{name}_s": getattr(decision, name).total_seconds() for name in ("age", "idle", "overdue")}
    for name in RuntimeAudited.__struct_fields__[2:]:
        sources = [getattr(of, name) for of in known if hasattr(of, name)]
        assert getattr(record, name) == own.get(name, *sources), name
