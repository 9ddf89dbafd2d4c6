"""What an audit record is: names, fields, outcomes, its severity; pure. Where records go lives in `writer`."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Final, Literal, Protocol, Union

import msgspec

from core.records.outcome import OUTCOMES, Outcome, Severity, in_words
from core.rules.confirmation import Confirmation
from core.rules.decision import NEVER, Action, Decision, Reason
from core.rules.disks import DiskReason
from core.rules.evidence import Evidence
from core.rules.exemptions import Exemption
from core.rules.guards import Guard, Refusal
from core.rules.promise import Promise
from core.rules.words import counted, minute
from core.runtime import Disk, MalformedRuntime, Runtime

SCHEMA: Final = "leo-lifecycle/audit/v1"
MOST_NAMES = 100
CALLS = ("list", "disks", "get", "delete", "stop")
"""The kinds of calls that a closing record counts, in the order in which a run makes them."""
ALL_RUNTIMES = "the list of all runtimes"
"""How the unscoped list is named among what failed."""
LOG_UNREAD = "the log was not read whole: "
"""How a warning begins that names among what failed what no record does."""

WARNING_REASONS = frozenset({Reason.STUCK, Reason.AUTOPAUSE_OVERDUE, Reason.FOREIGN_PROJECT, Reason.MALFORMED})

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Failure(Protocol):
    """A failed exchange, as the client tells of it."""

    @property
    def kind(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def http_status(self) -> int | None: ...

    @property
    def exception_class(self) -> str | None: ...


class ErrorDetail(msgspec.Struct, frozen=True):
    """A failed exchange with Leonardo."""

    kind: str
    message: str
    exception_class: str | None


class ExemptionDetail(msgspec.Struct, frozen=True):
    """An exemption as it was configured, and whether it was over."""

    match: dict[str, str | list[str]]
    until: Instant
    reason: str
    lapsed: bool


class Previous(msgspec.Struct, frozen=True):
    """The earlier run whose inventory leads to expect the most of this one."""

    run_id: str
    living: int
    """Less what live runs accepted since."""
    lists: int
    """So many it had read."""


class Follows(msgspec.Struct, frozen=True):
    """The run that had finished last in this environment when this one began, by whatever job: the log is a chain."""

    run_id: str
    finished_at: Instant
    records_digest: str | None
    """None where it was written before records had digests."""


class FailedBefore(msgspec.Struct, frozen=True):
    """In how many live runs of the last days this runtime is named among what failed, and since when."""

    times: int
    since: Instant

    def __str__(self) -> str:
        return f"failed in {counted(self.times, 'earlier run')} since {minute(self.since)}"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What no two records of a task share."""

    time: Instant
    insert_id: str = msgspec.field(name="logging.googleapis.com/insertId")
    seq: int


class Common(Stamp, frozen=True, kw_only=True):
    """The fields of every record; Cloud Logging lifts time, insertId and labels out of the line."""

    labels: dict[str, str] = msgspec.field(name="logging.googleapis.com/labels")
    schema: Literal["leo-lifecycle/audit/v1"]
    job: str
    run_id: str
    environment: str
    dry_run: bool
    task_index: int
    task_count: int
    truncated: list[str] | None = None
    """Fields of which a part was left out, so that the record fits into one log entry."""


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="event"):
    """What all events say beside the common fields."""

    severity: Severity
    message: str


class RunStarted(Event, frozen=True, kw_only=True, tag="run_started"):
    """The first record of a run: who, by which rule, how far."""

    version: str
    actor: str | None
    started_by: str | None
    approved_by: str | None
    now: Instant
    policy: dict[str, float | bool | str]
    policy_digest: str
    exemptions: list[ExemptionDetail]
    limits: dict[str, float | bool]
    scope: dict[str, Any]
    plan: dict[str, str] | None
    previous: Previous | None = None
    """What the guard `shrunken_inventory` holds this run's inventory against."""
    follows: Follows | None = None
    """Null at the first run, and where earlier ones could not be read."""


class RuntimeAudited(Event, frozen=True, gc=False, tag="runtime_audited"):
    """The one record that each listed runtime ends in."""

    runtime_id: str | None
    project: str | None
    name: str | None
    cloud_provider: str | None
    status: str | None
    creator: str | None
    created_date: Instant | None
    date_accessed: Instant | None
    judged_at: Instant
    age_s: float | None
    idle_s: float | None
    due_at: Instant | None
    disk: Disk | None
    persistent_disk_id: str | None
    machine_type: str | None
    disk_gb: int | None
    """Of its persistent disk, where the run had read a list of disks."""
    failed_before: FailedBefore | None
    action: Action
    reason: Reason
    outcome: Outcome
    exemption: ExemptionDetail | None
    http_status: int | None
    error: ErrorDetail | None
    attempts: int
    trace_id: str | None
    evidence: Evidence | None
    autopause_threshold_min: int | None
    overdue_s: float | None


class Requested(Event, frozen=True, kw_only=True):
    """An intent, kept before its act leaves."""

    runtime_id: str
    project: str
    name: str
    action: Action
    reason: Reason
    age_s: float | None
    idle_s: float | None
    attempt: int


class DeletionRequested(Requested, frozen=True, kw_only=True, tag="deletion_requested"):
    """The intent to delete."""


class StopRequested(Requested, frozen=True, kw_only=True, tag="stop_requested"):
    """The intent to stop."""


class ProjectUnreadable(Event, frozen=True, kw_only=True, tag="project_unreadable"):
    """A list that failed; `project` is null for the unscoped one."""

    project: str | None
    http_status: int | None
    error: ErrorDetail


class RuntimeMissing(Event, frozen=True, kw_only=True, tag="runtime_missing"):
    """A runtime that was asked for by name and is not listed."""

    project: str
    name: str


class RunRefused(Event, frozen=True, kw_only=True, tag="run_refused"):
    """A guard that stopped every further act of the run."""

    guard: Guard
    detail: str
    candidates: int
    listed: int


class RunSkipped(Event, frozen=True, kw_only=True, tag="run_skipped"):
    """An older live run of the same job was still going: nothing was listed."""

    older_execution: str


class DeletionConfirmed(Event, frozen=True, kw_only=True, tag="deletion_confirmed"):
    """What became of a deletion that a run had asked for."""

    runtime_id: str
    project: str
    name: str
    accepted_run_id: str
    outcome: Confirmation
    status: str | None
    evidence: Evidence | None = None
    persistent_disk_id: str | None = None
    disk_status: str | None = None
    """Of the kept disk: `missing` where the project is seen without it, null where nothing of the project is seen."""


class Notice(Event, frozen=True, kw_only=True):
    """What the owner of a runtime is told of its deletion."""

    runtime_id: str
    project: str
    name: str
    creator: str | None
    due_at: Instant
    """If nobody uses it."""
    final_at: Instant
    """Whatever anybody does."""
    not_before: Instant
    """No run deletes it before."""
    notice_id: str


class NoticeRequested(Notice, frozen=True, kw_only=True, tag="notice_requested"):
    """The intent to tell, kept before the notice leaves; of a dry run, who would be told."""


class NoticeSent(Notice, frozen=True, kw_only=True, tag="notice_sent"):
    """The site's receiver has taken the notice."""


class NoticeFailed(Notice, frozen=True, kw_only=True, tag="notice_failed"):
    """It has not, or did not say so."""

    error: ErrorDetail


class DiskAudited(Event, frozen=True, kw_only=True, gc=False, tag="disk_audited"):
    """The one record of each listed disk."""

    disk_id: str
    project: str
    name: str
    status: str | None
    size_gb: int | None
    disk_type: str | None
    creator: str | None
    created_date: Instant | None
    date_accessed: Instant | None
    unused_s: float | None
    """Since its last change of status, or since our deletion left it; null where it is attached."""
    reason: DiskReason
    left_by_run: str | None
    """The run whose deletion kept it."""


class ExemptionUnused(Event, frozen=True, kw_only=True, tag="exemption_unused"):
    """An exemption that has not lapsed and matches nothing of the whole fleet: a wrong pattern, or one to take out."""

    exemption: ExemptionDetail


class Oldest(msgspec.Struct, frozen=True):
    """The oldest runtime that lives on and that no exemption spares."""

    project: str | None
    name: str | None
    age_s: float
    status: str | None
    reason: Reason
    date_accessed: Instant | None
    """Since when it is in its status, unless that is Running or Stopped."""


class Late(msgspec.Struct, frozen=True):
    """By how much acts came later than they were due, in seconds."""

    max: float
    median: float


class RunFinished(Event, frozen=True, kw_only=True, tag="run_finished"):
    """The last record of a run: the counts, and how it ended."""

    listed: int
    audited: int
    actions: dict[str, int]
    reasons: dict[str, int]
    outcomes: dict[str, int]
    failed: list[str]
    calls: dict[str, int]
    lists: dict[str, int]
    """How many lists were `read`, and how many `unread`."""
    living: int
    """Listed, less Deleting, accepted for deletion and gone."""
    duration_s: float
    exit_code: int
    refused_by: list[Guard]
    would_be_refused_by: list[Guard]
    clock_skew_s: float | None = None
    """How far the run's clock was ahead of Leonardo's; null where it could not be told, as in earlier records."""
    oldest: Oldest | None = None
    """Null where no age is known, and for jobs that promise no maximum age, as the next two."""
    over_age: dict[str, int] | None = None
    """How many live on above the maximum age or at an unknown one: by outcome where the rule condemned them, by status
    where that is not eligible, else by reason."""
    late_s: Late | None = None
    """`judged_at` minus `due_at` of what was accepted; null where nothing was."""
    exemptions_matched: list[int] | None = None
    """How many listed runtimes each exemption of the run matches, in their order."""
    warnings: list[str] = []
    """What a person should know of the run beside its counts."""
    records_digest: str | None = None
    """Over this task's lines, this one included as it is without it; the writer sets it."""


EVENTS: tuple[type[Event], ...] = (
    RunStarted,
    RuntimeAudited,
    DeletionRequested,
    StopRequested,
    ProjectUnreadable,
    RuntimeMissing,
    RunRefused,
    RunSkipped,
    DeletionConfirmed,
    NoticeRequested,
    NoticeSent,
    NoticeFailed,
    DiskAudited,
    ExemptionUnused,
    RunFinished,
)
_ANY_EVENT: Any = Union[EVENTS]  # noqa: UP007 - made of a tuple


def record_of(fields: Mapping[str, Any]) -> tuple[Event, Common]:
    """A record's event and what is common to its run, out of its fields as text and numbers.

    Raises msgspec.ValidationError where it is no record, or one of a later version's events.
    """
    return msgspec.convert(fields, _ANY_EVENT, strict=False), msgspec.convert(fields, Common, strict=False)


def schema() -> dict[str, Any]:
    """The JSON Schema of one line: the common fields and those of its event, all of them always present."""
    (common, *events), components = msgspec.json.schema_components([Common, *EVENTS])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "allOf": [common, {"oneOf": events}],
        "$defs": components,
    }


def policy_digest(policy: Mapping[str, float | bool | str], exemptions: Iterable[Exemption]) -> str:
    """The same for two runs exactly where both judged by the same limits and exemptions, by their values."""
    limits = {name: of if isinstance(of, bool | str) else float(of) for name, of in policy.items()}
    judged_by = [limits, *(exemption_detail(exemption, NEVER) for exemption in exemptions)]
    return "sha256:" + hashlib.sha256(msgspec.json.encode(judged_by, order="sorted")).hexdigest()


def seconds(duration: timedelta | None) -> float | None:
    """With three decimals at most: every judgement is to the millisecond."""
    return None if duration is None else duration.total_seconds()


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was said with Leonardo about one runtime, now and before."""

    http_status: int | None = None
    error: ErrorDetail | None = None
    attempts: int = 0
    """Acts that were sent."""
    trace_id: str | None = None
    evidence: Evidence | None = None
    failed_before: FailedBefore | None = None


NOT_EXCHANGED = Exchanged()


def runtime_audited(
    runtime: Runtime,
    decision: Decision,
    outcome: Outcome,
    explanation: str,
    *,
    name_creator: bool,
    exchanged: Exchanged = NOT_EXCHANGED,
) -> RuntimeAudited:
    """The record of one judged runtime."""
    sentence = f"{in_words(outcome, decision.action)} {runtime.project}/{runtime.name}: {explanation}"
    age, idle, threshold = decision.age, decision.idle, runtime.autopause_threshold
    return RuntimeAudited(  # in the order of the fields: naming them takes eight times as long
        severity_of(outcome, decision.reason),
        f"{sentence}; {exchanged.error.message}" if exchanged.error else sentence,
        runtime.id,
        runtime.project,
        runtime.name,
        runtime.cloud_provider,
        runtime.status,
        runtime.creator if name_creator else None,
        runtime.created_date,
        runtime.date_accessed,
        decision.judged_at,
        None if age is None else age.total_seconds(),
        None if idle is None else idle.total_seconds(),
        decision.due_at,
        runtime.disk,
        runtime.persistent_disk_id,
        runtime.machine_type,
        runtime.disk_gb,
        exchanged.failed_before,
        decision.action,
        decision.reason,
        outcome,
        None if decision.exemption is None else exemption_detail(decision.exemption, decision.judged_at),
        exchanged.http_status,
        exchanged.error,
        exchanged.attempts,
        exchanged.trace_id,
        exchanged.evidence,
        None if threshold is None else threshold // timedelta(minutes=1),
        seconds(decision.overdue),
    )


@cache
def severity_of(outcome: Outcome, reason: Reason) -> Severity:
    """How grave the record of a runtime is."""
    if outcome is Outcome.KEPT and reason in WARNING_REASONS:
        return Severity.WARNING
    return OUTCOMES[outcome].severity


def malformed_audited(item: MalformedRuntime, judged_at: datetime) -> RuntimeAudited:
    """The record of a list item that cannot be read, with what could be read of it."""
    return RuntimeAudited(
        severity=Severity.WARNING,
        message=f"kept {item.path}: the list item is malformed ({item.detail})",
        runtime_id=item.id,
        project=item.project,
        name=item.name,
        cloud_provider=None,
        status=None,
        creator=None,
        created_date=None,
        date_accessed=None,
        judged_at=judged_at,
        age_s=None,
        idle_s=None,
        due_at=None,
        disk=None,
        persistent_disk_id=None,
        machine_type=None,
        disk_gb=None,
        failed_before=None,
        action=Action.KEEP,
        reason=Reason.MALFORMED,
        outcome=Outcome.KEPT,
        exemption=None,
        http_status=None,
        error=None,
        attempts=0,
        trace_id=None,
        evidence=None,
        autopause_threshold_min=None,
        overdue_s=None,
    )


def project_unreadable(project: str | None, error: Failure) -> ProjectUnreadable:
    """The record of a list that failed."""
    return ProjectUnreadable(
        severity=Severity.ERROR,
        message=f"could not list {project or 'the runtimes'}: {error}",
        project=project,
        http_status=error.http_status,
        error=error_detail(error),
    )


def error_detail(error: Failure) -> ErrorDetail:
    return ErrorDetail(kind=error.kind, message=error.message, exception_class=error.exception_class)


def run_refused(refusal: Refusal, *, candidates: int, listed: int) -> RunRefused:
    """The record of a guard that stops the run."""
    return RunRefused(
        severity=Severity.WARNING,
        message=f"refused by {refusal.guard}: {refusal.detail}",
        guard=refusal.guard,
        detail=refusal.detail,
        candidates=candidates,
        listed=listed,
    )


def exemption_in_words(exemption: ExemptionDetail) -> str:
    shown = (f"{key} {glob if isinstance(glob, str) else ' '.join(glob)}" for key, glob in exemption.match.items())
    return f"{', '.join(shown)} until {minute(exemption.until)}: {exemption.reason}"


def exemption_unused(exemption: ExemptionDetail) -> ExemptionUnused:
    """The record of an exemption that spares nobody."""
    return ExemptionUnused(
        severity=Severity.WARNING,
        message=f"an exemption matches nothing that is listed: {exemption_in_words(exemption)}",
        exemption=exemption,
    )


def oldest_of(promise: Promise) -> Oldest | None:
    """As the closing record names it."""
    end = promise.oldest
    if end is None:
        return None
    return Oldest(end.project, end.name, promise.oldest_age, end.status, Reason(end.reason), end.date_accessed)


def exemption_detail(exemption: Exemption, instant: datetime) -> ExemptionDetail:
    fields = {
        "project": exemption.project,
        "name": exemption.name,
        "creator": exemption.creator,
        "label": list(exemption.label),
    }
    return ExemptionDetail(
        match={name: value for name, value in fields.items() if value},
        until=exemption.until.astimezone(UTC),
        reason=exemption.reason,
        lapsed=exemption.lapsed(instant),
    )
