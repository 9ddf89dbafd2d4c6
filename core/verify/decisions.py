"""Whether the record of one runtime agrees with itself, and with the first record of its task."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from core.leonardo.errors import ErrorKind, is_sam_fault
from core.records.events import MOST_NAMES, severity_of
from core.records.outcome import ACCEPTED, ANSWERED, ENDED, FAILED, OUTCOMES, Outcome
from core.records.reader import Record
from core.rules.decision import CLOCK_TOLERANCE, Action, Reason
from core.rules.evidence import Evidence
from core.rules.sharing import task_of
from core.runtime import GCP, Disk
from core.verify.finding import Kind
from core.verify.rejudge import DELETION_JOB, Rules, malformed_faults

ACTIONS = {Outcome.DELETION_ACCEPTED: Action.DELETE, Outcome.STOP_ACCEPTED: Action.STOP}
WOULD = {Outcome.WOULD_DELETE: Action.DELETE, Outcome.WOULD_STOP: Action.STOP}
LEFT_ALONE = frozenset({Outcome.KEPT, Outcome.SPARED})
NOT_TRIED = frozenset({Outcome.KEPT, Outcome.NOT_IN_PLAN, Outcome.EXCEPTED, Outcome.OVER_BUDGET})
"""Outcomes of what did not come to its turn."""
NEVER_ACTED = NOT_TRIED.union(WOULD)
NOT_EXCEPTED = frozenset({*WOULD, Outcome.NOT_IN_PLAN, Outcome.OVER_BUDGET})
"""What is not asked any more of a runtime that was excepted."""
ERRORS = {
    ErrorKind.DENIED: (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    ErrorKind.THROTTLED: (HTTPStatus.TOO_MANY_REQUESTS,),
}
"""The answers that an error of this kind can stand for."""

MOST_KNOWN = 10_000
"""Decisions that are remembered, of which many may be alike."""
Fault = tuple[Kind, str]


class Words(NamedTuple):
    """What of a decision does not depend on which runtime it is about: the same for most, and so looked at once."""

    dry_run: bool
    action: str
    reason: str
    outcome: str
    severity: str | None
    status: str | None
    cloud_provider: str | None
    acted: bool
    looked: bool
    """A GET told the autopause threshold."""
    disk: str | None
    has_disk: bool
    evidence: object


def words_of(record: Record) -> tuple[Any, ...]:
    """Those of `Words`; a plain tuple is made four times as fast."""
    return (
        record.dry_run,
        record.action,
        record.reason,
        record.outcome,
        record.severity,
        record.status,
        record.cloud_provider,
        record.attempts > 0,
        record.autopause_threshold_min is not None,
        record.disk,
        record.persistent_disk_id is not None,
        record.evidence,
    )


class Alike:
    """Decisions in the same words: how many there are, and what these words say of each."""

    __slots__ = (
        "accepted",
        "count",
        "ended",
        "failed",
        "faults",
        "judged",
        "kept",
        "malformed",
        "plain",
        "single",
        "words",
    )

    def __init__(self, words: Words) -> None:
        self.words = words
        self.count = 0
        self.malformed = words.reason == Reason.MALFORMED
        self.judged = not self.malformed and words.reason != Reason.FOREIGN_PROJECT
        self.failed = not self.judged or words.outcome in FAILED
        self.single = words.reason != Reason.DUPLICATE and words.cloud_provider == GCP
        """Whether there is one for each id."""
        self.kept = words.outcome == Outcome.KEPT
        self.ended = words.outcome in ENDED
        self.accepted = words.outcome in ACCEPTED
        self.faults = () if self.malformed else tuple(_word_faults(words))
        self.plain = self.kept and self.judged and not self.faults


class Decisions:
    """The records of runtimes, against the first record of their task."""

    def __init__(self, started: Record | None, rules: Rules | None) -> None:
        self._started = started
        self._rules = rules
        scope = None if started is None else started.scope
        everything = scope is None or (scope.projects or scope.only) is None
        self._now = started.now if started is not None and everything and started.task_count == 1 else None
        """When what was kept was judged, where it cannot be beside the scope."""
        self._at_once = started is not None and started.job == DELETION_JOB
        self._right: dict[tuple[object, ...], tuple[object, ...]] = {}
        """What was told of some: what equals it need not be judged again."""

    def faults(self, record: Record, alike: Alike) -> Iterable[Fault]:
        """What is off in the record of one runtime."""
        if alike.plain and not (record.error or record.exemption) and self._is_right(record, alike):
            return ()
        return _faults(record, alike, self._started, self._rules)

    def _is_right(self, record: Record, alike: Alike) -> bool:
        """Whether nothing is off in what was kept, as in most: the short way to know; where in doubt, no."""
        now, at, time, rules = self._now, record.judged_at, record.time, self._rules
        if now is None or at is None or time is None or rules is None or not now <= at <= time:
            return False
        looked_again = at != now
        if self._at_once and (looked_again or record.http_status is not None or record.trace_id is not None):
            return False
        duration = record.age_s, record.idle_s
        threshold = record.autopause_threshold_min
        told = alike, at, record.created_date, record.date_accessed, record.due_at, record.overdue_s, threshold
        if self._right.get(duration) == told:
            return True
        right = rules.agree(record, at, second_look=looked_again)
        if right and len(self._right) < MOST_KNOWN:
            self._right[duration] = told
        return right


def _faults(record: Record, alike: Alike, started: Record | None, rules: Rules | None) -> Iterator[Fault]:
    if alike.malformed:
        for fault in malformed_faults(record):
            yield Kind.OUTCOME, fault
        return
    yield from (fault for fault in alike.faults if fault[0] is Kind.OUTCOME)
    if not alike.judged:
        if record.age_s or record.idle_s or record.due_at:
            yield Kind.JUDGEMENT, "is of another project than was asked for, but was judged"
    elif started is not None and rules is not None:
        yield from _judgement_faults(record, started, rules)
    yield from (fault for fault in alike.faults if fault[0] is not Kind.OUTCOME)
    yield from _answer_faults(record)
    if record.error is not None:
        yield from _error_faults(record)


def _judgement_faults(record: Record, started: Record, rules: Rules) -> Iterator[Fault]:
    if record.judged_at is None:
        yield Kind.INSTANT, "lacks judged_at"
        return
    yield from _scope_faults(record, started)
    yield from _instant_faults(record, started)
    for fault in rules.exemption_faults(record):
        yield Kind.EXEMPTION, fault
    for fault in rules.faults(record, record.judged_at, started.now):
        yield Kind.JUDGEMENT, fault


def _instant_faults(record: Record, started: Record) -> Iterator[Fault]:
    at, now = record.judged_at, started.now
    if at is None:
        return
    if record.job == DELETION_JOB and record.outcome == Outcome.KEPT and at != now and now is not None:
        yield Kind.INSTANT, "was kept, but not judged at the instant of the list"
    if started.scope is not None and started.scope.as_of is not None:
        return
    if record.time is not None and at - record.time > CLOCK_TOLERANCE:
        yield Kind.INSTANT, "was judged after it was written"
    elif now is not None and at != now and now - at > CLOCK_TOLERANCE:
        yield Kind.INSTANT, "was judged before its list"


def _scope_faults(record: Record, started: Record) -> Iterator[Fault]:
    """Whether the run was to look at this runtime at all, as far as its first record names what it was to look at."""
    scope = started.scope
    if record.task_count > 1 and record.reason != Reason.FOREIGN_PROJECT and record.project is not None:
        index = task_of(record.project, record.task_count)
        if index != record.task_index and scope is not None and (scope.projects or scope.only):
            yield Kind.SHARE, f"is of a project that falls to task {index}"
    if scope is None:
        return
    excepted = scope.excepted or ()
    spared = record.path in excepted
    if spared and (record.attempts or record.outcome in NOT_EXCEPTED):
        yield Kind.SCOPE, f"was excepted, and says {record.outcome}"
    elif record.outcome == Outcome.EXCEPTED and not spared and len(excepted) < MOST_NAMES:
        yield Kind.SCOPE, "was not excepted, and says so"
    if scope.projects is None and scope.only is None:
        return
    all_named = scope.projects is not None and (scope.project_count or 0) <= MOST_NAMES
    if (scope.only is not None and len(scope.only) < MOST_NAMES and record.path not in scope.only) or (
        all_named and record.reason != Reason.FOREIGN_PROJECT and record.project not in (scope.projects or ())
    ):
        yield Kind.SCOPE, "is outside the scope of its run"


def _answer_faults(record: Record) -> Iterator[Fault]:
    """A deletion run asks nothing of what it keeps; what no job could ask about was not kept, but failed."""
    asked = record.http_status is not None or record.trace_id is not None
    if record.outcome == Outcome.KEPT and (record.error is not None or (asked and record.job == DELETION_JOB)):
        yield Kind.ERROR, "was kept, and says what Leonardo answered"


def _error_faults(record: Record) -> Iterator[Fault]:
    error, status = record.error, record.http_status
    if error is None:
        return
    answers = ERRORS.get(ErrorKind(error.kind)) if error.kind in ERRORS else None
    unlike = answers is not None and status is not None and status not in answers
    of_404 = status == HTTPStatus.NOT_FOUND and error.kind in (ErrorKind.DENIED, ErrorKind.NOT_VISIBLE)
    if unlike or (of_404 and is_sam_fault(error.exception_class) != (error.kind == ErrorKind.DENIED)):
        yield Kind.ERROR, f"says {error.kind}, which HTTP {status} is not"
    if record.outcome in WOULD:
        yield Kind.ERROR, f"says {record.outcome} and an error"


def _word_faults(of: Words) -> Iterator[Fault]:
    yield from _outcome_faults(of)
    yield from _disk_and_evidence_faults(of)
    yield from _severity_faults(of)


def _outcome_faults(of: Words) -> Iterator[Fault]:
    """Whether what was decided, and how the run was meant, can have led to this outcome."""
    impossible = (
        (of.dry_run and (of.acted or of.outcome in ANSWERED or of.outcome == Outcome.IN_DOUBT))
        or (not of.dry_run and of.outcome in WOULD)
        or (of.outcome in LEFT_ALONE and of.action != Action.KEEP)
        or (of.outcome in NEVER_ACTED and of.acted)
        or (of.outcome in ACTIONS and not of.acted)
        or (of.outcome in WOULD and of.action != WOULD[Outcome(of.outcome)])
        or (of.outcome in ACTIONS and of.action != ACTIONS[Outcome(of.outcome)])
        or (
            of.action == Action.KEEP
            and of.outcome not in (*LEFT_ALONE, Outcome.REPLACED)
            and of.reason != Reason.THRESHOLD_UNREAD
        )
    )
    if impossible:
        how = "a dry run" if of.dry_run else "a live run"
        yield (
            Kind.OUTCOME,
            f"says {of.action} ({of.reason}), which in {how} cannot end in {of.outcome or 'nothing'}",
        )


def _disk_and_evidence_faults(of: Words) -> Iterator[Fault]:
    if of.disk is not None and (of.disk == Disk.KEPT) != of.has_disk:
        yield Kind.DISK, f"says disk {of.disk}, and {'a' if of.has_disk else 'no'} persistent_disk_id"
    if not (of.evidence is None or isinstance(of.evidence, str)):
        return  # of a time when no record named any
    proven = {
        Outcome.GONE: of.evidence is not None,
        Outcome.REPLACED: of.evidence == Evidence.NAME_TAKEN,
        **dict.fromkeys((*LEFT_ALONE, *WOULD, Outcome.FAILED), of.evidence is None),
    }
    if of.outcome in OUTCOMES and not proven.get(Outcome(of.outcome), True):
        yield Kind.EVIDENCE, f"says {of.outcome} on the evidence {of.evidence or 'of nothing'}"


def _severity_faults(of: Words) -> Iterator[Fault]:
    if of.outcome not in OUTCOMES or of.severity is None or of.reason not in set(Reason):
        return
    right = severity_of(Outcome(of.outcome), Reason(of.reason))
    if of.severity != right:
        yield Kind.SEVERITY, f"is of severity {of.severity}, and {of.outcome} is {right}"
