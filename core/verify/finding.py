"""What can be off in a log, as typed values: which fields must agree, and one finding for each cause."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from core.records.reader import Record


class Kind(StrEnum):
    """What is off; `AGREEMENTS` says by which fields."""

    MISSING_RECORD = "missing_record"
    MISSING_OPENING = "missing_opening"
    MISSING_CLOSING = "missing_closing"
    MISSING_TASK = "missing_task"
    FIELDS = "fields"
    SEQ = "seq"
    TIME = "time"
    IDENTITY = "identity"
    COPY = "copy"
    POLICY = "policy"
    TASKS = "tasks"
    LIMITS = "limits"
    INSTANT = "instant"
    JUDGEMENT = "judgement"
    EXEMPTION = "exemption"
    OUTCOME = "outcome"
    SCOPE = "scope"
    SHARE = "share"
    DISK = "disk"
    SEVERITY = "severity"
    ERROR = "error"
    EVIDENCE = "evidence"
    INCARNATION = "incarnation"
    INTENT = "intent"
    ACT = "act"
    NOTICE = "notice"
    CONFIRMATION = "confirmation"
    CAPS = "caps"
    REFUSALS = "refusals"
    COUNTS = "counts"
    PROMISE = "promise"
    EXEMPTIONS = "exemptions"
    FAILED = "failed"
    CALLS = "calls"
    LISTS = "lists"
    DURATION = "duration"
    EXIT_CODE = "exit_code"
    DIGEST = "digest"
    PLAN = "plan"
    PREVIOUS = "previous"
    PREDECESSOR = "predecessor"
    EXPECTED_DIGEST = "expected_digest"


class Agreement(NamedTuple):
    """Fields that cannot both be true unless they agree."""

    of: str
    with_: str


AGREEMENTS: dict[Kind, Agreement] = {
    Kind.MISSING_RECORD: Agreement("seq", "seq of the task's other records: no gaps"),
    Kind.MISSING_OPENING: Agreement("event", "seq: 0 is run_started"),
    Kind.MISSING_CLOSING: Agreement("event", "limits.deadline_s, and what time it is: every run ends in run_finished"),
    Kind.MISSING_TASK: Agreement("task_index", "task_count"),
    Kind.FIELDS: Agreement("every field", "event: what it always has is not null"),
    Kind.SEQ: Agreement("seq", "event: run_started is first, run_finished last"),
    Kind.TIME: Agreement("time", "seq; what time it is: no record is of the future"),
    Kind.IDENTITY: Agreement("job, environment, dry_run, task_count", "those of the run's other records"),
    Kind.COPY: Agreement("trace_id; now and time of run_started", "those of every other run"),
    Kind.POLICY: Agreement("policy, exemptions", "policy_digest; its job's rule"),
    Kind.TASKS: Agreement("version, policy_digest, limits, scope, plan", "those of the run's other tasks"),
    Kind.LIMITS: Agreement("limits.deadline_s", "24 h, the most that can be set"),
    Kind.INSTANT: Agreement("judged_at", "run_started.now, scope.as_of, time"),
    Kind.JUDGEMENT: Agreement(
        "action, reason, age_s, idle_s, due_at, overdue_s",
        "status, cloud_provider, created_date, date_accessed, autopause_threshold_min, judged_at, policy",
    ),
    Kind.EXEMPTION: Agreement("exemption, reason", "run_started.exemptions, project, name, creator"),
    Kind.OUTCOME: Agreement("outcome", "action, reason, dry_run, attempts"),
    Kind.SCOPE: Agreement("project, name", "run_started.scope"),
    Kind.SHARE: Agreement("task_index", "project, task_count"),
    Kind.DISK: Agreement(
        "disk, disk_status; reason, unused_s of a disk", "persistent_disk_id; status, date_accessed, time, policy"
    ),
    Kind.SEVERITY: Agreement("severity", "event, outcome, reason"),
    Kind.ERROR: Agreement(
        "error.kind",
        "http_status, error.exception_class, outcome; none of them, and no trace_id, where nothing was asked",
    ),
    Kind.EVIDENCE: Agreement("evidence", "outcome, disk_status"),
    Kind.INCARNATION: Agreement("runtime_id", "that of the task's other decisions: one each, and its duplicates"),
    Kind.INTENT: Agreement("action, reason, age_s, idle_s, dry_run of an intent", "event, time, policy"),
    Kind.ACT: Agreement(
        "runtime_id, project, name, attempt, age_s, idle_s, seq of an intent",
        "runtime_id, project, name, attempts, created_date, judged_at, seq of its outcome",
    ),
    Kind.NOTICE: Agreement(
        "project, name, creator, due_at, final_at, not_before, notice_id of a notice; runtime_id, time of an intent",
        "those that were announced; a notice of that runtime_id, its time and not_before; policy",
    ),
    Kind.CONFIRMATION: Agreement(
        "outcome, project, name of a confirmation", "status, evidence; the run that accepted_run_id names"
    ),
    Kind.CAPS: Agreement(
        "limits.max_acts, limits.max_act_share, limits.at_most, limits.expect_at_least, limits.allow_empty",
        "attempts, outcomes, listed, lists, would_be_refused_by, guard",
    ),
    Kind.REFUSALS: Agreement("refused_by, clock_skew_s", "guard, candidates, listed of run_refused; attempts"),
    Kind.COUNTS: Agreement("listed, audited, actions, reasons, outcomes, living", "the task's decisions"),
    Kind.PROMISE: Agreement(
        "oldest, over_age, late_s", "age_s, status, reason, outcome, judged_at, due_at of decisions; policy.max_age_s"
    ),
    Kind.EXEMPTIONS: Agreement(
        "exemptions_matched, exemption_unused", "run_started.exemptions; project, name, creator of decisions"
    ),
    Kind.FAILED: Agreement("failed", "outcome, reason, project_unreadable, runtime_missing, warnings"),
    Kind.CALLS: Agreement("calls", "attempts, intents, outcomes, autopause_threshold_min, lists"),
    Kind.LISTS: Agreement("lists", "project_unreadable, scope.project_count"),
    Kind.DURATION: Agreement("duration_s", "time of run_started and run_finished"),
    Kind.EXIT_CODE: Agreement("exit_code", "failed, refused_by, lists, outcomes"),
    Kind.DIGEST: Agreement("records_digest", "every byte of the task's lines"),
    Kind.PLAN: Agreement("plan.digest, acts", "what the planned run would do, where it is in the log"),
    Kind.PREVIOUS: Agreement("previous.living, previous.lists", "living, lists of that run, where it is in the log"),
    Kind.PREDECESSOR: Agreement("follows", "run_id, time, records_digest of a run_finished in the log"),
    Kind.EXPECTED_DIGEST: Agreement("--expect-digest", "records_digest of the newest run_finished of an environment"),
}

FIRST = (
    Kind.COPY,
    Kind.MISSING_TASK,
    Kind.MISSING_OPENING,
    Kind.MISSING_RECORD,
    Kind.MISSING_CLOSING,
    Kind.SEQ,
    Kind.IDENTITY,
    Kind.POLICY,
    Kind.TIME,
)
"""What is off in a run as a whole: it explains whatever else does not fit."""
LAST = (
    Kind.TASKS,
    Kind.INCARNATION,
    Kind.ACT,
    Kind.PLAN,
    Kind.LISTS,
    Kind.COUNTS,
    Kind.PROMISE,
    Kind.EXEMPTIONS,
    Kind.FAILED,
    Kind.CALLS,
    Kind.CAPS,
    Kind.EXIT_CODE,
    Kind.DURATION,
    Kind.PREVIOUS,
    Kind.PREDECESSOR,
    Kind.DIGEST,
)
"""What follows where something else is off: a record that was changed does not fit its run's counts and digest."""
WHOLE, ITSELF, CONSEQUENCE = range(3)
RANK = dict.fromkeys(FIRST, WHOLE) | dict.fromkeys(LAST, CONSEQUENCE)
EXPLAINS_ALL = frozenset({Kind.COPY, Kind.MISSING_OPENING, Kind.POLICY, Kind.TIME})
"""What is off in every record of a run."""
OF_CLOSING = frozenset(
    {
        Kind.COUNTS, Kind.PROMISE, Kind.EXEMPTIONS, Kind.FAILED, Kind.CALLS, Kind.CAPS, Kind.LISTS, Kind.EXIT_CODE,
        Kind.DURATION, Kind.REFUSALS,
    }
)  # fmt: skip
"""What a closing record says of different things: that it is off in one does not put it off in another."""
UNCOUNTED = frozenset({Kind.TASKS, Kind.PLAN, Kind.LISTS, Kind.DURATION, Kind.PREVIOUS, Kind.EXIT_CODE})
COUNTED = frozenset(Kind) - UNCOUNTED
"""What may be off where a record of the task was changed, removed or added."""
FOLLOWS_FROM = {
    Kind.TASKS: frozenset[Kind](),
    Kind.PREVIOUS: frozenset[Kind](),
    Kind.DURATION: frozenset[Kind](),
    Kind.LISTS: frozenset({Kind.LISTS, Kind.SCOPE, Kind.SHARE}),
    Kind.EXIT_CODE: COUNTED | {Kind.LISTS},
    Kind.DIGEST: frozenset(Kind),
    Kind.PREDECESSOR: frozenset(Kind),
}
"""Of what a consequence is one, beside what is off in the run as a whole; the others follow from what is `COUNTED`."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is off, and what follows from it."""

    kind: Kind
    run_id: str
    task_index: int | None
    seq: int | None
    runtime: str | None
    """`PROJECT/NAME`."""
    message: str
    consequences: "list[Finding]" = []


def by_cause(findings: Iterable[Finding], decisions: int) -> list[Finding]:
    """One for each cause, and under it what follows: what the same record says, and what no longer fits the whole.

    What is off in half of all `decisions` or more has one cause, which is none of these.
    """
    findings = list(findings)
    alike = {kind for kind, count in Counter(found.kind for found in findings).items() if 2 * count >= decisions > 1}
    causes: list[Finding] = []
    under: list[list[Finding]] = []
    known: dict[object, int] = {}
    for found in sorted(findings, key=_in_order):
        number = _cause(found, causes, known)
        if number is None:
            number = len(causes)
            causes.append(found)
            under.append([])
        else:
            under[number].append(found)
        for key in _known_by(found):
            known.setdefault(key, number)
        if found.kind in alike:
            known.setdefault(found.kind, number)
    return [msgspec.structs.replace(cause, consequences=of) for cause, of in zip(causes, under, strict=True)]


def _in_order(found: Finding) -> tuple[int, int]:
    rank = RANK.get(found.kind, ITSELF)
    return rank, LAST.index(found.kind) if rank == CONSEQUENCE else 0


def _cause(found: Finding, causes: list[Finding], known: dict[object, int]) -> int | None:
    """The number of the cause that a finding follows from."""
    for key in (*_known_by(found), found.kind):
        if key in known:
            return known[key]
    if causes and causes[0].kind in EXPLAINS_ALL:
        return 0
    if RANK.get(found.kind, ITSELF) != CONSEQUENCE:
        return None
    return next((number for number, cause in enumerate(causes) if _explains(cause, found)), None)


def _explains(cause: Finding, found: Finding) -> bool:
    elsewhere = found.task_index not in (None, cause.task_index) and cause.task_index is not None
    if elsewhere and found.kind != Kind.PREDECESSOR:
        return False
    return RANK.get(cause.kind) == WHOLE or cause.kind in FOLLOWS_FROM.get(found.kind, COUNTED)


def _known_by(found: Finding) -> Iterator[object]:
    """What another finding may share with it."""
    if found.seq is not None and found.kind not in OF_CLOSING:
        yield found.task_index, found.seq
    if found.runtime is not None:
        yield found.runtime


def messages(findings: Iterable[Finding]) -> Iterator[str]:
    """All that is said, causes and what follows from them."""
    for found in findings:
        yield found.message
        yield from messages(found.consequences)


def found(kind: Kind, record: Record, what: str) -> Finding:
    """About one record."""
    return Finding(
        kind=kind,
        run_id=record.run_id,
        task_index=record.task_index,
        seq=record.seq,
        runtime=record.path if record.name else None,
        message=f"seq {record.seq} ({record.path if record.name else record.event}) {what}",
    )
