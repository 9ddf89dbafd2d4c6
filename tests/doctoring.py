"""What somebody may do to a log who wants it to say something else: made out of logs that real runs wrote."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from core.records.outcome import ACCEPTED, ENDED
from core.records.reader import Record
from core.rules.promise import Promise
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.server import serving
from core.verify.finding import Kind
from jobs.__main__ import main
from tests.conftest import a_machine, delete
from tests.test_check_autopause import check, overdue

Line = dict[str, Any]
Lines = list[Line]
Edit = Callable[[Lines], Lines | None]
INSERT_ID, LABELS = "logging.googleapis.com/insertId", "logging.googleapis.com/labels"
FAR = str((datetime.now(UTC) + timedelta(days=9)).date())


@dataclass(frozen=True, slots=True)
class Doctoring:
    """One thing that is done to the middle one of three runs, and how it shows by the run's own fields."""

    name: str
    edit: Edit
    kind: Kind | None
    """None where no field refutes it: then only its digest, the next run or a digest that was kept elsewhere can."""
    base: str = "live"
    why: str = field(default="")


def write_bases(folder: Path) -> dict[str, list[Lines]]:
    """Three runs each, of which the middle one is of its kind."""
    return {name: list(_runs(folder / f"{name}.jsonl", middle)) for name, middle in BASES.items()}


def _runs(log: Path, middle: Callable[[tuple[str, ...]], None]) -> Iterator[Lines]:
    kept = ("--audit-file", str(log))
    with serving(Leonardo([a_machine(1), a_machine(2, days=1)])) as server:
        main(delete(server, *kept))
    middle(kept)
    with serving(Leonardo([a_machine(1, days=1)])) as server:
        main(delete(server, *kept, "--allow-shrunken"))
    runs: dict[str, Lines] = {}
    for text in log.read_text().splitlines():
        line = json.loads(text)
        runs.setdefault(line["run_id"], []).append(line)
    yield from runs.values()


def write_plan(folder: Path) -> list[Lines]:
    """A dry run, a live one that was refused since of its plan a part was lost, and one that was held to the whole."""
    plan, part, log = (folder / f"{name}.jsonl" for name in ("plan", "part", "live"))
    with serving(Leonardo([a_machine(1), a_machine(2), a_machine(3, days=1)])) as server:
        main(delete(server, "--audit-file", str(plan)))
        lines = plan.read_bytes().splitlines(keepends=True)
        part.write_bytes(b"".join(line for line in lines if b"all-of-us-1" not in line))
        how = ("--no-dry-run", "--max-act-share", "1", "--audit-file", str(log))
        for held_to in (part, plan):
            main(delete(server, *how, "--plan", str(held_to)))
    runs: dict[str, Lines] = {}
    for text in (plan.read_text() + log.read_text()).splitlines():
        line = json.loads(text)
        runs.setdefault(line["run_id"], []).append(line)
    return list(runs.values())


def _live(kept: tuple[str, ...]) -> None:
    """Two too old, one idle and old, one young, one exempt, one in Error, one that fails, one used meanwhile."""
    fleet = [
        a_machine(1),
        a_machine(2, days=30),
        a_machine(3, days=8),
        a_machine(4, days=2),
        a_machine(5, days=40, project="terra-workshop"),
        a_machine(6, status=TrueStatus.ERROR),
        a_machine(7),
        a_machine(8, days=8),
        a_machine(9, days=3, config_type="GceConfig"),
    ]
    exemptions = json.dumps([{"match": {"project": "terra-work*"}, "until": FAR, "reason": "workshop"}])
    faults = [
        Fault(call="delete", name="all-of-us-7", status=400),
        Fault(call="get", name="all-of-us-8", user="touch"),
    ]
    with serving(Leonardo(fleet), faults=faults) as server:
        main(delete(server, *kept, "--no-dry-run", "--max-act-share", "1", "--exemptions", exemptions))


def _dry(kept: tuple[str, ...]) -> None:
    fleet = [a_machine(1), a_machine(2), a_machine(3, days=8), a_machine(4, days=2)]
    projects = [word for n in range(1, 5) for word in ("--project", f"terra-{n}")]
    with serving(Leonardo(fleet)) as server:
        main(delete(server, *kept, *projects, "--max-acts", "9"))


def _stops(kept: tuple[str, ...]) -> None:
    fleet = [overdue(1), overdue(2, idle_hours=1), overdue(3)]
    with serving(Leonardo(fleet)) as server:
        main(check(server, *kept, "--stop-overdue", "--no-dry-run", "--max-act-share", "1"))


def _narrow(kept: tuple[str, ...]) -> None:
    """Four due, one of them excepted, two to be acted on at most; one exempt, and an exemption for nothing."""
    fleet = [a_machine(n, days=days) for n, days in ((1, 24), (2, 23), (3, 22), (4, 21), (5, 40))]
    until_then = [{"match": {"name": name}, "until": FAR, "reason": name} for name in ("*-5", "nothing-*")]
    how = ("--no-dry-run", "--max-act-share", "1", "--at-most", "2", "--except", EXCEPTED)
    with serving(Leonardo(fleet)) as server:
        main(delete(server, *kept, *how, "--exemptions", json.dumps(until_then)))


BASES = {"live": _live, "dry": _dry, "stops": _stops, "narrow": _narrow}


# what is done


def of(lines: Lines, number: int | None, event: str) -> Line:
    name = None if number is None else f"all-of-us-{number}"
    return next(line for line in lines if line["event"] == event and line.get("name") == name)


def numbered(lines: Lines) -> Lines:
    """The numbers of the records made good again."""
    for seq, line in enumerate(lines):
        line["seq"] = seq
        line[INSERT_ID] = f"{line['run_id']}-{line['task_index']}-{seq}"
    return lines


def sealed(lines: Lines, *, digest: bool = True) -> Lines:
    """The digest made good again, or removed."""
    closing = lines[-1]
    if closing["event"] != "run_finished":
        return lines
    if not digest:
        closing.pop("records_digest", None)
        return lines
    closing["records_digest"] = None
    digests = (sha256(msgspec.json.encode(line)).digest() for line in lines)
    closing["records_digest"] = "sha256:" + sha256(b"".join(digests)).hexdigest()
    return lines


def as_bytes(lines: Lines) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def edited(event: str, number: int | None, **fields: Any) -> Edit:
    def edit(lines: Lines) -> None:
        line = of(lines, number, event)
        for name, value in fields.items():
            line[name] = value(line[name]) if callable(value) else value

    return edit


def dropped(event: str, number: int | None, *, renumber: bool) -> Edit:
    def edit(lines: Lines) -> Lines:
        gone = of(lines, number, event)
        rest = [line for line in lines if line is not gone]
        return numbered(rest) if renumber else rest

    return edit


def later(**by: float) -> Callable[[str], str]:
    return lambda text: (datetime.fromisoformat(text) + timedelta(**by)).isoformat().replace("+00:00", "Z")


def forged_counts(change: Callable[[Lines], Lines | None]) -> Edit:
    """Counts made good again after a change: as far as they go, the closing record agrees."""

    def edit(lines: Lines) -> Lines:
        lines = change(lines) or lines
        closing = lines[-1]
        audited = [line for line in lines if line["event"] == "runtime_audited"]
        for name, one in (("actions", "action"), ("reasons", "reason"), ("outcomes", "outcome")):
            counts: dict[str, int] = {}
            for line in audited:
                counts[line[one]] = counts.get(line[one], 0) + 1
            closing[name] = dict(sorted(counts.items()))
        closing["listed"] = closing["audited"] = len(audited)
        leaving = ("deletion_accepted", "already_deleting", "gone")
        closing["living"] = sum(line["outcome"] not in leaving and line["status"] != "Deleting" for line in audited)
        _forge_promise(closing, audited, timedelta(seconds=lines[0]["policy"]["max_age_s"]))
        return lines

    return edit


def _forge_promise(closing: Line, audited: Lines, max_age: timedelta) -> None:
    promise = Promise(max_age)
    for record in msgspec.convert(audited, list[Record]):
        if record.outcome not in ENDED:
            promise.lives_on(record)
        elif record.outcome in ACCEPTED:
            promise.accepted(record)
    oldest, late = promise.oldest, promise.late
    names = ("project", "name", "age_s", "status", "reason", "date_accessed")
    closing["over_age"] = dict(promise.over_age)
    closing["oldest"] = oldest and next(
        {name: line[name] for name in names} for line in audited if line["name"] == oldest.name
    )
    closing["late_s"] = late and late._asdict()


def _without(lines: Lines, number: int) -> Lines:
    return numbered([line for line in lines if line.get("name") != f"all-of-us-{number}"])


def _renamed(lines: Lines, run_id: str = "another-run") -> Lines:
    for line in lines:
        line["run_id"] = run_id
        line[LABELS]["run_id"] = run_id
    return numbered(lines)


def _swapped(lines: Lines) -> Lines:
    """The numbers of two records the other way round."""
    one, other = of(lines, 1, "deletion_requested"), of(lines, 1, "runtime_audited")
    for name in ("seq", INSERT_ID):
        one[name], other[name] = other[name], one[name]
    return sorted(lines, key=lambda line: line["seq"])


def _in_2099(lines: Lines) -> None:
    for line in lines:
        for name in ("time", "now", "judged_at", "created_date", "date_accessed", "due_at"):
            if line.get(name):
                line[name] = later(days=73 * 365)(line[name])


def _policy(lines: Lines) -> None:
    lines[0]["policy"]["max_age_s"] = 86400 * 10


def _elsewhere(lines: Lines) -> None:
    line = of(lines, 4, "runtime_audited")
    line["environment"] = line[LABELS]["environment"] = "another"


def _expecting(lines: Lines) -> None:
    lines[0]["previous"] = {"run_id": lines[0]["follows"]["run_id"], "living": 900, "lists": 1}


def _told(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'changed' if callable(value) else value}" for name, value in fields.items())


def _audited(number: int, kind: Kind | None, *, base: str = "live", why: str = "", **fields: Any) -> Doctoring:
    name = f"{base}: decision {number}: {_told(fields)}"
    return Doctoring(name, edited("runtime_audited", number, **fields), kind, base, why)


def _closing(kind: Kind | None, *, base: str = "live", why: str = "", **fields: Any) -> Doctoring:
    return Doctoring(f"{base}: closing: {_told(fields)}", edited("run_finished", None, **fields), kind, base, why)


def _opening(kind: Kind | None, *, base: str = "live", why: str = "", **fields: Any) -> Doctoring:
    return Doctoring(f"{base}: opening: {_told(fields)}", edited("run_started", None, **fields), kind, base, why)


def _intent(number: int, kind: Kind | None, *, base: str = "live", why: str = "", **fields: Any) -> Doctoring:
    event = "stop_requested" if base == "stops" else "deletion_requested"
    return Doctoring(f"{base}: intent {number}: {_told(fields)}", edited(event, number, **fields), kind, base, why)


def null(name: str) -> dict[str, Any]:
    return {name: None}


EXCEPTED = "terra-3/all-of-us-3"
FREE_TEXT, BESIDE = "a text for people", "beside what the rule judges by"
OLDER = "versions that did not have it yet wrote none"
NOT_COUNTED = "beside what follows from records"
DECISIONS = [
    _audited(1, Kind.JUDGEMENT, status="Creating"),
    _audited(1, Kind.JUDGEMENT, age_s=9e6),
    _audited(1, Kind.JUDGEMENT, age_s=None),
    _audited(1, Kind.JUDGEMENT, idle_s=1),
    _audited(1, Kind.JUDGEMENT, reason="max_age_if_idle"),
    _audited(1, Kind.JUDGEMENT, created_date="2999-01-01T00:00:00Z"),
    _audited(1, Kind.JUDGEMENT, created_date=None),
    _audited(1, Kind.JUDGEMENT, created_date=later(days=5)),
    _audited(1, Kind.JUDGEMENT, date_accessed=later(days=1)),
    _audited(1, Kind.JUDGEMENT, due_at=None),
    _audited(1, Kind.JUDGEMENT, due_at=later(days=1)),
    _audited(1, Kind.JUDGEMENT, cloud_provider="AZURE"),
    _audited(4, Kind.JUDGEMENT, status="Error"),
    _audited(4, Kind.JUDGEMENT, due_at=later(days=3)),
    _audited(4, Kind.JUDGEMENT, age_s=1),
    _audited(4, Kind.JUDGEMENT, idle_s=None),
    _audited(4, Kind.JUDGEMENT, created_date=later(days=-20)),
    _audited(6, Kind.JUDGEMENT, status="Running"),
    _audited(6, Kind.JUDGEMENT, reason="within_policy"),
    _audited(8, Kind.JUDGEMENT, date_accessed=later(days=-3)),
    _audited(4, Kind.INSTANT, judged_at="2026-01-01T00:00:00Z"),
    _audited(1, Kind.INSTANT, judged_at=None),
    _audited(1, Kind.OUTCOME, outcome="kept"),
    _audited(1, Kind.OUTCOME, outcome="would_delete"),
    _audited(1, Kind.OUTCOME, outcome="stop_accepted"),
    _audited(1, Kind.OUTCOME, action="keep"),
    _audited(4, Kind.OUTCOME, outcome="deletion_accepted"),
    _audited(4, Kind.OUTCOME, attempts=1),
    _audited(7, Kind.SEVERITY, outcome="deletion_accepted"),
    _audited(7, Kind.SEVERITY, severity="INFO"),
    _audited(4, Kind.SEVERITY, severity="ERROR"),
    _audited(1, Kind.SEVERITY, severity="INFO"),
    _audited(1, Kind.DISK, persistent_disk_id=None),
    _audited(1, Kind.DISK, disk="lost"),
    _audited(1, Kind.DISK, disk="detached"),
    _audited(9, Kind.DISK, disk="kept"),
    _audited(9, Kind.DISK, persistent_disk_id="77"),
    _audited(4, Kind.ERROR, http_status=200),
    _audited(4, Kind.ERROR, trace_id="0" * 32),
    _audited(4, Kind.ERROR, error={"kind": "refused", "message": "m", "exception_class": None}),
    _audited(2, Kind.ERROR, base="stops", error={"kind": "refused", "message": "m", "exception_class": None}),
    _audited(4, Kind.FIELDS, severity=None),
    _audited(1, Kind.FIELDS, severity=None),
    _audited(1, Kind.FIELDS, time=None),
    _audited(5, Kind.EXEMPTION, exemption=lambda of: of | {"lapsed": True}),
    _audited(7, Kind.ERROR, error={"kind": "denied", "message": "m", "exception_class": None}),
    _audited(7, Kind.ERROR, error={"kind": "throttled", "message": "m", "exception_class": None}),
    _audited(4, Kind.EVIDENCE, evidence="unlisted"),
    _audited(7, Kind.EVIDENCE, evidence="name_taken"),
    _audited(5, Kind.EXEMPTION, exemption=None),
    _audited(5, Kind.EXEMPTION, project="terra-5"),
    _audited(5, Kind.EXEMPTION, exemption=lambda of: of | {"reason": "made up"}),
    _audited(4, Kind.EXEMPTION, project="terra-workshop"),
    _audited(1, Kind.ACT, runtime_id="99"),
    _audited(1, Kind.ACT, name="another"),
    _audited(1, Kind.ACT, project="terra-77"),
    _audited(1, Kind.ACT, attempts=2),
    _audited(1, Kind.OUTCOME, attempts=0),
    _audited(4, Kind.INCARNATION, runtime_id="1"),
    _audited(1, Kind.OUTCOME, base="narrow", outcome="over_budget"),
    _audited(4, Kind.OUTCOME, base="narrow", attempts=1),
    _audited(3, Kind.OUTCOME, base="narrow", attempts=1),
    _audited(3, Kind.SCOPE, base="narrow", outcome="over_budget"),
    _audited(1, Kind.JUDGEMENT, base="dry", status="Starting"),
    _audited(1, Kind.OUTCOME, base="dry", outcome="deletion_accepted"),
    _audited(1, Kind.OUTCOME, base="dry", attempts=1),
    _audited(4, Kind.OUTCOME, base="dry", outcome="would_delete"),
    _audited(1, Kind.SCOPE, base="dry", project="terra-9"),
    _audited(1, Kind.ERROR, base="dry", error={"kind": "refused", "message": "m", "exception_class": None}),
    _audited(1, Kind.JUDGEMENT, base="stops", overdue_s=1),
    _audited(1, Kind.JUDGEMENT, base="stops", autopause_threshold_min=0),
    _audited(2, Kind.JUDGEMENT, base="stops", autopause_threshold_min=10**6),
    _audited(2, Kind.JUDGEMENT, base="stops", reason="autopause_overdue"),
    _audited(1, Kind.OUTCOME, base="stops", outcome="deletion_accepted"),
    _audited(1, None, why=FREE_TEXT, message="kept, and nothing happened"),
    _audited(4, None, why=BESIDE, creator="somebody@example.org"),
    _audited(4, None, why=BESIDE, machine_type="n1-highmem-96"),
    _audited(4, None, why=BESIDE, name="another"),
    _audited(4, None, why=BESIDE, runtime_id="4444"),
    _audited(1, None, why=BESIDE, persistent_disk_id="4444"),
    _audited(1, None, why=BESIDE, trace_id="0" * 32),
    _audited(1, None, why=BESIDE, http_status=204),
    _audited(7, None, why=FREE_TEXT, error={"kind": "refused", "message": "m", "exception_class": None}),
    _audited(1, None, why=BESIDE, failed_before={"times": 3, "since": "2026-11-01T00:00:00Z"}),
]
INTENTS = [
    _intent(1, Kind.SEVERITY, severity="INFO"),
    _intent(1, Kind.SEVERITY, base="stops", severity="ERROR"),
    _intent(1, Kind.FIELDS, severity=None),
    _intent(1, Kind.INTENT, base="stops", age_s=None),
    _intent(1, Kind.FIELDS, time=None),
    _intent(1, Kind.INTENT, age_s=1),
    _intent(1, Kind.INTENT, age_s=None),
    _intent(1, Kind.INTENT, idle_s=None),
    _intent(1, Kind.INTENT, reason="max_age_if_idle"),
    _intent(1, Kind.INTENT, action="stop"),
    _intent(3, Kind.INTENT, idle_s=60),
    _intent(1, Kind.ACT, age_s=lambda age: age + 86400),
    _intent(1, Kind.ACT, age_s=lambda age: age - 1800),
    _intent(1, Kind.ACT, age_s=lambda age: age + 1),
    _intent(1, Kind.ACT, idle_s=lambda idle: idle + 60),
    _intent(1, Kind.ACT, runtime_id="99"),
    _intent(1, Kind.ACT, name="another"),
    _intent(1, Kind.ACT, project="terra-9"),
    _intent(1, Kind.ACT, attempt=2),
    _intent(1, Kind.ACT, attempt=7),
    _intent(1, Kind.IDENTITY, dry_run=True),
    _intent(1, Kind.TIME, time=later(minutes=30)),
    _intent(1, Kind.TIME, time=later(minutes=-30)),
    _intent(1, Kind.INTENT, base="stops", idle_s=60),
    _intent(1, Kind.INTENT, base="stops", action="delete"),
    _intent(1, None, why=FREE_TEXT, message="m"),
]
CLOSINGS = [
    _closing(Kind.COUNTS, listed=6),
    _closing(Kind.COUNTS, audited=80),
    _closing(Kind.COUNTS, outcomes={"kept": 9}),
    _closing(Kind.COUNTS, reasons={}),
    _closing(Kind.COUNTS, actions={"keep": 9}),
    _closing(Kind.COUNTS, living=0),
    _closing(Kind.FAILED, failed=[]),
    _closing(Kind.FAILED, failed=["terra-1/all-of-us-1"]),
    _closing(Kind.CALLS, calls={"delete": 9, "disks": 0, "get": 9, "list": 1, "stop": 0}),
    _closing(Kind.CALLS, calls={"delete": 4, "disks": 0, "get": 0, "list": 1, "stop": 0}),
    _closing(Kind.CALLS, calls={"delete": 4, "disks": 0, "get": 9, "list": 0, "stop": 0}),
    _closing(Kind.LISTS, lists={"read": 1, "unread": 1}),
    _closing(Kind.LISTS, lists={"read": 0, "unread": 0}),
    _closing(Kind.EXIT_CODE, exit_code=0),
    _closing(Kind.EXIT_CODE, exit_code=3),
    _closing(Kind.EXIT_CODE, exit_code=4),
    _closing(Kind.EXIT_CODE, exit_code=70),
    _closing(Kind.EXIT_CODE, base="dry", exit_code=1),
    _closing(Kind.EXIT_CODE, base="dry", exit_code=5),
    _closing(Kind.REFUSALS, refused_by=["max_acts"]),
    _closing(Kind.REFUSALS, clock_skew_s=301),
    _closing(Kind.DURATION, duration_s=86400),
    _closing(Kind.DURATION, time=later(days=2)),
    _closing(Kind.CAPS, base="dry", would_be_refused_by=["max_acts"]),
    _closing(Kind.LISTS, base="dry", lists={"read": 3, "unread": 0}),
    _closing(Kind.CALLS, base="stops", calls={"delete": 0, "disks": 0, "get": 1, "list": 1, "stop": 2}),
    _closing(Kind.COUNTS, base="stops", living=1),
    _closing(Kind.PROMISE, over_age={}),
    _closing(Kind.PROMISE, over_age=lambda counts: counts | {"failed": 9}),
    _closing(Kind.PROMISE, oldest=None),
    _closing(Kind.PROMISE, oldest=lambda of: of | {"age_s": 86400}),
    _closing(Kind.PROMISE, oldest=lambda of: of | {"name": "all-of-us-4"}),
    _closing(Kind.PROMISE, oldest=lambda of: of | {"status": "Error"}),
    _closing(Kind.PROMISE, late_s=None),
    _closing(Kind.PROMISE, late_s=lambda of: of | {"max": 60}),
    _closing(Kind.PROMISE, late_s=lambda of: of | {"median": 60}),
    _closing(Kind.PROMISE, base="dry", late_s={"max": 1, "median": 1}),
    _closing(Kind.PROMISE, base="dry", over_age={}),
    _closing(Kind.EXEMPTIONS, exemptions_matched=[0]),
    _closing(Kind.EXEMPTIONS, exemptions_matched=[]),
    _closing(Kind.EXEMPTIONS, base="dry", exemptions_matched=[1]),
    _closing(Kind.EXEMPTIONS, base="narrow", exemptions_matched=[1, 1]),
    _closing(Kind.SEVERITY, severity="WARNING"),
    _closing(Kind.PROMISE, base="stops", over_age={}),
    _closing(Kind.PROMISE, base="stops", late_s={"max": 1, "median": 1}),
    *(
        _closing(Kind.FIELDS, base=base, **null(name))
        for base in ("live", "dry", "stops")
        for name in (
            "listed",
            "audited",
            "actions",
            "reasons",
            "outcomes",
            "failed",
            "calls",
            "lists",
            "living",
            "duration_s",
            "exit_code",
            "refused_by",
            "would_be_refused_by",
            "severity",
            "time",
        )
    ),
    _closing(None, why=OLDER, exemptions_matched=None),
    _closing(None, why=OLDER, over_age=None),
    _closing(None, why="what failed to be kept only its own code tells", exit_code=6),
    _closing(None, why=FREE_TEXT, message="m"),
    _closing(None, why=NOT_COUNTED, warnings=["w"]),
    _closing(None, why=NOT_COUNTED, clock_skew_s=1.5),
    _closing(None, why=NOT_COUNTED, duration_s=lambda seconds: seconds + 60),
    _closing(None, why=NOT_COUNTED, calls=lambda calls: calls | {"get": 99}),
]
OPENINGS = [
    Doctoring("policy", _policy, Kind.POLICY),
    *(_opening(Kind.FIELDS, **null(name)) for name in ("version", "now", "policy_digest", "scope", "time")),
    _opening(Kind.SEVERITY, severity="INFO"),
    _opening(Kind.SCOPE, scope=lambda scope: scope | {"project_count": 9}),
    _opening(Kind.EXEMPTIONS, exemptions=lambda of: [one | {"lapsed": True} for one in of]),
    _opening(Kind.CAPS, base="stops", limits=lambda limits: limits | {"expect_at_least": 4}),
    _opening(Kind.POLICY, policy=None),
    _opening(Kind.POLICY, exemptions=[]),
    _opening(Kind.POLICY, policy_digest="sha256:0"),
    _opening(Kind.POLICY, policy={}),
    _opening(Kind.TIME, time=later(hours=3)),
    _opening(Kind.INSTANT, base="dry", now=later(hours=3)),
    _opening(Kind.LIMITS, limits=lambda limits: limits | {"deadline_s": 86400 * 36500}),
    _opening(Kind.CAPS, limits=lambda limits: limits | {"max_acts": 2}),
    _opening(Kind.CAPS, base="dry", limits=lambda limits: limits | {"max_acts": 1}),
    _opening(Kind.CAPS, base="narrow", limits=lambda limits: limits | {"at_most": 1}),
    _opening(Kind.CAPS, base="narrow", limits=lambda limits: limits | {"at_most": 9}),
    _opening(Kind.CAPS, base="narrow", limits=lambda limits: {n: v for n, v in limits.items() if n != "at_most"}),
    _opening(Kind.SCOPE, base="narrow", scope=lambda scope: scope | {"except": None}),
    _opening(Kind.SCOPE, base="narrow", scope=lambda scope: scope | {"except": [EXCEPTED, "terra-1/all-of-us-1"]}),
    _opening(Kind.LISTS, base="dry", scope=lambda scope: scope | {"project_count": 9}),
    _opening(Kind.SCOPE, scope=lambda scope: scope | {"only": ["terra-1/all-of-us-1"]}),
    _opening(Kind.PREDECESSOR, follows=lambda of: of | {"records_digest": "sha256:" + "0" * 64}),
    _opening(Kind.PREDECESSOR, follows=lambda of: of | {"finished_at": "2026-01-01T00:00:00Z"}),
    _opening(Kind.PREDECESSOR, follows=lambda of: of | {"run_id": "never-was"}),
    Doctoring("more expected than there was", _expecting, Kind.PREVIOUS),
    _opening(None, why="said by who starts it, and known to nobody else", started_by="somebody"),
    _opening(None, why="said by who starts it, and known to nobody else", approved_by="somebody"),
    _opening(None, why="said by the run alone", actor="somebody@example.org"),
    _opening(None, why="said by the run alone", version="9"),
    _opening(None, why="an older run may not have been readable", follows=None),
    _opening(None, why=FREE_TEXT, message="m"),
]
LOST = [
    ("runtime_audited", 1), ("runtime_audited", 4), ("runtime_audited", 7), ("deletion_requested", 1),
    ("deletion_requested", 3), ("run_started", None), ("run_finished", None),
]  # fmt: skip
MISSING = {"run_started": Kind.MISSING_OPENING, "run_finished": Kind.MISSING_CLOSING}
ANEW = {"runtime_audited": Kind.COUNTS, "deletion_requested": Kind.ACT} | MISSING
WHOLE = [
    *(
        Doctoring(f"drop {event} {n}", dropped(event, n, renumber=False), MISSING.get(event, Kind.MISSING_RECORD))
        for event, n in LOST
    ),
    *(
        Doctoring(f"drop {event} {n}, renumbered", dropped(event, n, renumber=True),
                  Kind.ACT if (event, n) in (("runtime_audited", 1), ("runtime_audited", 7)) else ANEW[event])
        for event, n in LOST
    ),
    Doctoring("a kept one that never was", forged_counts(lambda lines: _without(lines, 4)), None,
              why="nothing else tells of a runtime that was kept"),
    Doctoring("an act that never was", forged_counts(lambda lines: _without(lines, 1)), Kind.CALLS),
    Doctoring("tail", lambda lines: lines[:-3], Kind.MISSING_CLOSING),
    Doctoring("all but the first", lambda lines: lines[:1], Kind.MISSING_CLOSING),
    Doctoring("the numbers of an intent and its outcome", _swapped, Kind.ACT),
    Doctoring("another run id", _renamed, None, why="the run is whole, only called otherwise"),
    Doctoring("in 2099", _in_2099, Kind.TIME),
    Doctoring("age forged throughout", forged_counts(edited("runtime_audited", 4, age_s=1, idle_s=1)), Kind.JUDGEMENT),
    Doctoring("kept instead of accepted", forged_counts(
        edited("runtime_audited", 1, outcome="kept", action="keep", reason="within_policy", severity="INFO", attempts=0)
    ), Kind.INSTANT),
    Doctoring("accepted instead of failed", forged_counts(
        edited("runtime_audited", 7, outcome="deletion_accepted", severity="NOTICE")), Kind.FAILED),
    Doctoring("narrow: excepted, and called over the budget",
              forged_counts(edited("runtime_audited", 3, outcome="over_budget")), Kind.SCOPE, "narrow"),
    Doctoring("narrow: over the budget, and called excepted",
              forged_counts(edited("runtime_audited", 4, outcome="excepted")), Kind.SCOPE, "narrow"),
    Doctoring("narrow: an exemption in use called unused",
              edited("exemption_unused", None, exemption=lambda of: of | {"match": {"name": "*-5"}, "reason": "*-5"}),
              Kind.EXEMPTIONS, "narrow"),
    Doctoring("narrow: an exemption that was none called unused",
              edited("exemption_unused", None, exemption=lambda of: of | {"reason": "another"}),
              Kind.EXEMPTIONS, "narrow"),
    Doctoring("narrow: an exemption that has lapsed called unused",
              edited("exemption_unused", None, exemption=lambda of: of | {"lapsed": True}), Kind.EXEMPTIONS, "narrow"),
    Doctoring("narrow: nothing said of an exemption for nothing", dropped("exemption_unused", None, renumber=True),
              Kind.EXEMPTIONS, "narrow"),
    Doctoring("an environment in one record", _elsewhere, Kind.IDENTITY),
    Doctoring("another task", edited("runtime_audited", 4, task_count=2), Kind.IDENTITY),
]  # fmt: skip
ALL = [*DECISIONS, *INTENTS, *CLOSINGS, *OPENINGS, *WHOLE]


def doctored(base: list[Lines], doctoring: Doctoring) -> Lines:
    """The middle run after it."""
    lines = copy.deepcopy(base[1])
    return doctoring.edit(lines) or lines
