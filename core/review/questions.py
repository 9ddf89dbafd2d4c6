"""What audit records answer: which runs, one run, why this runtime; other questions have modules of their own beside.

Every question takes records that begin with the frames of all runs, as `core.records.reader` gives them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain, groupby
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from core.records.causes import NOT_LISTED, NOT_TOLD, Causes
from core.records.events import ALL_RUNTIMES, exemption_in_words
from core.records.outcome import (
    ACCEPTED,
    ANSWERED,
    CONFIRMATIONS,
    FAILED,
    FAILED_CONFIRMATIONS,
    NEEDS_A_PERSON,
    PLANNED,
    Outcome,
    in_words,
)
from core.records.reader import LONG_AGO, Record
from core.review.about import TOLD, about_whom
from core.review.deletions import DeletedBy, Deletions
from core.review.which import (
    LATEST,
    IsMeant,
    NotThereError,
    framed,
    in_time,
    newer_unfinished,
    of_runs,
    only_environment,
)
from core.rules.decision import NOT_JUDGED, Action, Reason
from core.rules.policy import PolicyNotRecordedError
from core.rules.words import minute
from core.runtime import RuntimeStatus
from core.verify.rejudge import AUTOPAUSE_JOB, decision_of, in_order, policy_of, runtime_of
from core.verify.verdict import state_of

T = TypeVar("T")

SUMMED_UP = (
    "run_started",
    "run_refused",
    "run_skipped",
    "project_unreadable",
    "runtime_missing",
    "exemption_unused",
    "run_finished",
)
"""Events that a run's line is made of, beside the decisions that its closing record does not name."""
LEFT_STANDING = frozenset({Reason.STUCK, Reason.ERRORED})
"""Findings of the autopause check that no later run ends by itself: somebody must see to these runtimes."""
IN_A_ROW = 2
"""Runs in a row in which a runtime fails before it is shown apart."""


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run on one line."""

    run_id: str
    started_at: datetime | None
    job: str
    environment: str
    dry_run: bool
    started_by: str | None
    approved_by: str | None
    """As whoever started it typed, like `started_by`; nothing vouches for either."""
    actor: str | None
    """As whom it called Leonardo."""
    plan_run_id: str | None
    """The dry run that it was held to."""
    listed: int
    asked: int
    """Deletions of earlier runs that it asked about."""
    acted: int
    would_act: int
    outcomes: dict[str, int]
    """The most frequent first."""
    failed: int
    needs_person: int
    """What no later run ends by itself."""
    state: str
    """`finished`, `open` or `cut_off`."""
    exit_code: int | None
    duration_s: float | None
    """Of its longest task; null where that has no closing record."""
    refused_by: list[str]
    would_be_refused_by: list[str]
    as_of: datetime | None


class Failing(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that failed in several runs of a job in a row."""

    path: str
    job: str
    environment: str
    runs: int
    since: datetime | None
    last_run_id: str


class Runs(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/runs/v1"):
    runs: list[RunLine]
    failing: list[Failing]
    deleted: DeletedBy
    """By the runs among these that were live."""


class ActLine(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided for one runtime that was not simply kept, and what became of it."""

    runtime_id: str | None
    project: str | None
    name: str | None
    creator: str | None
    status: str | None
    action: str
    reason: str
    outcome: str
    age_s: float | None
    idle_s: float | None
    disk: str | None
    attempts: int
    error: str | None


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a deletion that an earlier run had asked for."""

    runtime_id: str | None
    project: str | None
    name: str | None
    accepted_run_id: str | None
    outcome: str
    status: str | None
    evidence: str | None
    persistent_disk_id: str | None
    disk_status: str | None


class CountLine(msgspec.Struct, frozen=True, kw_only=True):
    outcome: str
    reason: str
    count: int


class RunAnswer(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/run/v1"):
    """One run: by which policy, how many of what, every act and every failure."""

    run: RunLine
    version: str | None
    policy: dict[str, bool | float | str]
    policy_digest: str | None
    exemptions: list[str]
    counts: list[CountLine]
    acts: list[ActLine]
    confirmations: list[Confirmed]
    left_standing: list[ActLine]
    """Stuck or in Error, as the autopause check finds them; in Error, as a sweep passes them over."""
    needs_person: list[str]
    """What no later run ends by itself, in words."""
    causes: list[str]
    """What failed with an answer, one line each cause, the most frequent first."""
    failures: list[str]
    """Whom, and why, in words."""
    remarks: list[str]
    """Warnings, what guards said, exemptions that match nothing, acts without an outcome, newer runs that go on."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Equal decisions in a row about one runtime; the numbers are those of the last."""

    first_at: datetime
    last_at: datetime
    runs: int
    job: str
    last_run_id: str
    action: str
    reason: str
    outcome: str
    line: str


class Incarnation(msgspec.Struct, frozen=True, kw_only=True):
    """One bearer of a name, and every decision about it."""

    path: str
    runtime_id: str | None
    created_date: datetime | None
    creator: str | None
    entries: list[Entry]
    """In the order in which they began."""


class Why(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/why/v1"):
    asked: str
    """`PROJECT/NAME` or a glob of it, a runtime's id, or an e-mail."""
    incarnations: list[Incarnation]
    """By name and time."""


# runs


def runs(records: Iterable[Record], now: datetime) -> Runs:
    """Every run on one line, in the order of time, and what fails again and again."""
    seen: dict[str, RunSummary] = {}
    deletions = Deletions()
    for record in records:
        seen.setdefault(record.run_id, RunSummary(record)).add(record)
        deletions.add(record)
    in_time = sorted(seen.values(), key=RunSummary.order)
    return Runs(runs=[run.line(now) for run in in_time], failing=list(_failing(in_time)), deleted=deletions.totals())


class RunSummary:
    """One run as its records come by, in counts."""

    def __init__(self, first: Record) -> None:
        self.first = first
        self.started: Record | None = None
        self.closings: dict[int, Record] = {}
        self.listed = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        self.failed: dict[str, str] = {}
        """Whom, and why."""
        self.causes = Causes()
        self.needs_person: dict[str, str] = {}
        self.remarks: list[str] = []
        self.refused_by: set[str] = set()
        self.unread: set[str | None] = set()
        """Projects whose list failed."""

    def add(self, record: Record) -> None:
        match record.event:
            case "run_started":
                self.started = self.started or record
            case "run_finished":
                self.closings[record.task_index] = record
                self.remarks += record.warnings
            case "runtime_audited":
                self.listed += 1
                self.counts[record.outcome, record.reason] += 1
            case "deletion_confirmed" | "notice_sent" | "notice_failed":
                self.counts[record.outcome or record.event, ""] += 1
            case "project_unreadable":
                self.unread.add(record.project)
            case "run_refused":
                self.remarks.append(record.message)
                self.refused_by.add(record.guard or "?")
            case "run_skipped" | "exemption_unused":
                self.remarks.append(record.message)
        if failed(record):
            self.failed[whom(record)] = record.message
            self.causes.add(_what_failed(record), record)
        if needs_person(record):
            self.needs_person[whom(record)] = record.message

    def order(self) -> tuple[datetime, str]:
        return in_time(self.first)

    @property
    def finished(self) -> bool:
        return len(self.closings) >= self.first.task_count

    def line(self, now: datetime) -> RunLine:
        started = self.started or Record()
        durations = [closing.duration_s for closing in self.closings.values() if closing.duration_s is not None]
        codes = [closing.exit_code for closing in self.closings.values() if closing.exit_code is not None]
        listed, outcomes, reasons = self._counted()
        return RunLine(
            run_id=self.first.run_id,
            started_at=started.time,
            job=self.first.job,
            environment=self.first.environment,
            dry_run=self.first.dry_run,
            started_by=started.started_by,
            approved_by=started.approved_by,
            actor=started.actor,
            plan_run_id=(started.plan or {}).get("run_id"),
            listed=listed,
            asked=sum(outcomes[outcome] for outcome in CONFIRMATIONS),
            acted=sum(outcomes[outcome] for outcome in ACCEPTED),
            would_act=sum(outcomes[outcome] for outcome in PLANNED),
            outcomes=dict(sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))),
            failed=len(self.failed),
            needs_person=sum(outcomes[outcome] for outcome in NEEDS_A_PERSON)
            + sum(reasons[reason] for reason in LEFT_STANDING if self.first.job == AUTOPAUSE_JOB),
            state=state_of(self.started, finished=self.finished, now=now),
            exit_code=max(codes) if self.finished and codes else None,
            duration_s=max(durations) if self.finished and durations else None,
            refused_by=sorted(self.refused_by),
            would_be_refused_by=sorted({g for c in self.closings.values() for g in c.would_be_refused_by or ()}),
            as_of=None if started.scope is None else started.scope.as_of,
        )

    def _counted(self) -> tuple[int, Counter[str], Counter[str]]:
        """How many were listed, how they ended, and why; of a whole run by the closing records of its tasks."""
        outcomes: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        if self.finished:
            for closing in self.closings.values():
                outcomes.update(closing.outcomes or {})
                reasons.update(closing.reasons or {})
            return sum(closing.listed or 0 for closing in self.closings.values()), outcomes, reasons
        for (outcome, reason), count in self.counts.items():
            outcomes[outcome] += count
            reasons[reason] += count
        return self.listed, outcomes, reasons


def failed(record: Record) -> bool:
    """Whether it tells of a failure that makes the exit code of its run 1."""
    match record.event:
        case "runtime_audited":
            return record.outcome in FAILED or record.reason in NOT_JUDGED
        case "deletion_confirmed":
            return record.outcome in FAILED_CONFIRMATIONS
        case event:
            return event in ("project_unreadable", "runtime_missing", "notice_failed")


def _what_failed(record: Record) -> str:
    match record.event:
        case "project_unreadable":
            return NOT_LISTED
        case "notice_failed":
            return NOT_TOLD
        case _ if record.outcome in FAILED:
            return in_words(Outcome(record.outcome), record.action)
        case _:
            return "could not read"


def needs_person(record: Record) -> bool:
    """Whether it tells of what no later run ends by itself."""
    if record.event == "deletion_confirmed":
        return record.outcome in NEEDS_A_PERSON
    return record.event == "runtime_audited" and record.reason in LEFT_STANDING


def whom(record: Record) -> str:
    """The runtime, project or list that a failure is of."""
    return (record.project or ALL_RUNTIMES) if record.event == "project_unreadable" else record.path


def _failing(in_time: list[RunSummary]) -> Iterator[Failing]:
    """Who failed in the last runs of a job, at least two in a row."""

    def kind(run: RunSummary) -> tuple[str, str]:
        return run.first.job, run.first.environment

    for (job, environment), of_kind in groupby(sorted(in_time, key=kind), kind):
        streaks: dict[str, list[RunSummary]] = {}
        for run in of_kind:
            streaks = {path: [*streaks.get(path, []), run] for path in run.failed}
        for path, failed_in in sorted(streaks.items()):
            if len(failed_in) >= IN_A_ROW:
                yield Failing(
                    path=path,
                    job=job,
                    environment=environment,
                    runs=len(failed_in),
                    since=failed_in[0].order()[0],
                    last_run_id=failed_in[-1].first.run_id,
                )


# one run, or two


def of_one_run(
    records: Iterable[Record], run_id: str, now: datetime, is_meant: IsMeant
) -> tuple[RunSummary, list[str], Iterator[Record]]:
    """A summary that is still empty, what is newer than the latest, and the records of which there is at least one.

    Raises UnknownError.
    """
    frames, records = framed(records)
    _, chosen = of_runs(records, [run_id], is_meant=is_meant)
    first = next(chosen)
    newer = newer_unfinished(frames, first, is_meant, now) if run_id == LATEST else []
    return RunSummary(first), newer, chain([first], chosen)


def run(records: Iterable[Record], run_id: str, now: datetime, *, is_meant: IsMeant = lambda _: True) -> RunAnswer:
    """What one run (or the `latest` of those that may be meant) did. Raises UnknownError."""
    seen, newer, chosen = of_one_run(records, run_id, now, is_meant)
    acts: list[ActLine] = []
    left_standing: list[ActLine] = []
    confirmations: list[Confirmed] = []
    spared: Counter[str] = Counter()
    announced: dict[str | None, str] = {}
    for record in chosen:
        seen.add(record)
        if record.event in ("deletion_requested", "stop_requested"):
            announced[record.runtime_id] = f"announced to {record.action} {record.path}, and no outcome is on record"
        elif record.event == "runtime_audited":
            announced.pop(record.runtime_id, None)
        if record.exemption is not None and _is_spared(record):
            spared[exemption_in_words(record.exemption)] += 1
        if record.event == "runtime_audited" and record.outcome != Outcome.KEPT:
            acts.append(_act_line(record))
        elif record.event == "runtime_audited" and _is_left_standing(record):
            left_standing.append(_act_line(record))
        elif record.event == "deletion_confirmed":
            confirmations.append(_confirmed(record))
    started = seen.started
    return RunAnswer(
        run=seen.line(now),
        version=None if started is None else started.version,
        policy={} if started is None else in_order(started),
        policy_digest=None if started is None else started.policy_digest,
        exemptions=[
            f"{exemption} (spares {spared[exemption]:,})"
            for exemption in map(exemption_in_words, started.exemptions if started else [])
        ],
        counts=_count_lines(seen.counts),
        acts=acts,
        confirmations=confirmations,
        left_standing=left_standing,
        needs_person=list(seen.needs_person.values()),
        causes=seen.causes.in_words(),
        failures=list(seen.failed.values()),
        remarks=[*newer, *seen.remarks, *announced.values()],
    )


def _count_lines(counts: Counter[tuple[str, str]]) -> list[CountLine]:
    return [
        CountLine(outcome=outcome, reason=reason, count=count)
        for (outcome, reason), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _is_spared(record: Record) -> bool:
    """Whether an exemption alone keeps it: a check keeps its finding as the reason, and stops nothing."""
    in_check = record.reason == Reason.AUTOPAUSE_OVERDUE and record.action == Action.KEEP
    return record.reason == Reason.EXEMPT or (in_check and record.exemption is not None and not record.exemption.lapsed)


def _is_left_standing(record: Record) -> bool:
    passed_over = record.reason == Reason.STATUS_NOT_ELIGIBLE and record.status == RuntimeStatus.ERROR
    return record.reason in LEFT_STANDING or passed_over


def known(value: T | UnsetType) -> T | None:
    """None also where a record does not have it at all."""
    return None if value is UNSET else value


def _act_line(record: Record) -> ActLine:
    return ActLine(
        runtime_id=record.runtime_id,
        project=record.project,
        name=record.name,
        creator=record.creator,
        status=record.status,
        action=record.action,
        reason=record.reason,
        outcome=record.outcome,
        age_s=known(record.age_s),
        idle_s=known(record.idle_s),
        disk=record.disk,
        attempts=record.attempts,
        error=None if record.error is None else record.error.message,
    )


def _confirmed(record: Record) -> Confirmed:
    return Confirmed(
        runtime_id=record.runtime_id,
        project=record.project,
        name=record.name,
        accepted_run_id=record.accepted_run_id,
        outcome=record.outcome,
        status=record.status,
        evidence=known(record.evidence),
        persistent_disk_id=record.persistent_disk_id,
        disk_status=record.disk_status,
    )


# why


def why(records: Iterable[Record], asked: str) -> Why:
    """Every decision about the runtimes that are meant, as `about_whom` reads it, in plain words.

    Raises UnknownError where there is none, NobodyError.
    """
    starts: dict[str, Record] = {}
    about: dict[tuple[str | None, str], list[Record]] = {}
    for record in about_whom(asked).of(records):
        if record.event == "run_started":
            starts.setdefault(record.run_id, record)
        elif record.event in TOLD:
            about.setdefault((record.runtime_id, record.path), []).append(record)
    if not about:
        raise NotThereError(f"there is no record about {asked}")
    only_environment(record.environment for told in about.values() for record in told)
    incarnations = [_incarnation(path, runtime_id, told, starts) for (runtime_id, path), told in about.items()]
    return Why(asked=asked, incarnations=sorted(incarnations, key=lambda i: (i.path, i.entries[0].first_at)))


def _incarnation(path: str, runtime_id: str | None, told: list[Record], starts: dict[str, Record]) -> Incarnation:
    told.sort(key=lambda record: (written_at(record), record.run_id, record.task_index, record.seq))
    by_kind: dict[tuple[str, str, bool], list[Record]] = {}
    for record in told:  # runs of two jobs in turn still fold, and those before and after an announcement
        by_kind.setdefault((record.job, record.event, record.reason == Reason.DUPLICATE), []).append(record)
    folded = [list(equal) for records in by_kind.values() for _, equal in groupby(records, _told_alike)]
    place = {id(record): n for n, record in enumerate(told)}
    entries = [_entry(equal, starts) for equal in sorted(folded, key=lambda equal: place[id(equal[0])])]
    return Incarnation(
        path=path,
        runtime_id=runtime_id,
        created_date=next(filter(None, (record.created_date for record in reversed(told))), None),
        creator=next(filter(None, (record.creator for record in reversed(told))), None),
        entries=entries,
    )


def written_at(record: Record) -> datetime:
    """When it was written, as far as it tells."""
    return record.time or record.judged_at or LONG_AGO


def _told_alike(record: Record) -> tuple[object, ...]:
    alone = record.event != "runtime_audited" or record.outcome in (ANSWERED | FAILED)
    own = (record.run_id, record.seq) if alone else None
    return record.dry_run, record.action, record.reason, record.outcome, own


def _entry(equal: list[Record], starts: dict[str, Record]) -> Entry:
    first, last = equal[0], equal[-1]
    when = minute(written_at(last))
    if len(equal) > 1:
        when = f"{minute(written_at(first))} to {when}, {len(equal)} runs:"
    return Entry(
        first_at=written_at(first),
        last_at=written_at(last),
        runs=len(equal),
        job=last.job,
        last_run_id=last.run_id,
        action=last.action,
        reason=last.reason,
        outcome=last.outcome,
        line=f"{when} {_told(last, starts.get(last.run_id))}",
    )


def _told(record: Record, started: Record | None) -> str:
    """One decision in plain words: "kept: 13 d 2 h old, limit 14 d; due 2026-11-20 23:14"."""
    if record.event != "runtime_audited":
        return record.message.replace(f" {record.path}", "")
    words = record.outcome.replace("_", " ")
    if record.outcome in list(Outcome):
        words = in_words(Outcome(record.outcome), record.action).removesuffix(":")
    if record.job == AUTOPAUSE_JOB and record.outcome == Outcome.KEPT:
        words = "autopause"
    told = f"{words}: {_explained(record, started)}"
    if record.error is not None:
        told += f"; {record.error.message}"
    if isinstance(record.due_at, datetime) and record.action == Action.KEEP:
        told += f"; due {minute(record.due_at)}"
    return told


def _explained(record: Record, started: Record | None) -> str:
    """Why, by the numbers of the record and the limits of its run; its own sentence where the rule is not known."""
    decision = decision_of(record)
    if decision is not None and decision.reason not in NOT_JUDGED and started is not None and started.job == record.job:
        with suppress(PolicyNotRecordedError):
            policy = policy_of(started)
            if policy is not None:
                return policy.explain(runtime_of(record), decision)
    return record.message.partition(f"{record.path}: ")[2] or record.message or record.reason
