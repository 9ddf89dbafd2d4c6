"""The account of one run: what happened so far, how it is recorded, and with which exit code it ends.

The sweep and the confirmation tell it what happened; nothing is asked of Leonardo and nothing is judged here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog

from core import __version__
from core.exit_code import ExitCode, exit_code_of
from core.leonardo.errors import ErrorKind, LeonardoError
from core.records import events
from core.records.outcome import ACCEPTED, ENDED, FAILED, LEAVING, PLANNED, Outcome, Severity
from core.records.writer import RecordNotKeptError
from core.rules.decision import Reason
from core.rules.guards import Expected, Refusal
from core.rules.plan import Plan
from core.rules.policy import RuntimePolicy
from core.rules.promise import Promise
from core.run.case import Case
from core.run.running import Job, Running
from core.runtime import MalformedRuntime, RuntimeStatus
from core.settings.fields import Settings

log = structlog.get_logger(__name__)

UNJUDGEABLE = (Reason.CLOUD_NOT_SUPPORTED, Reason.STATUS_UNKNOWN, Reason.UNDATED, Reason.MALFORMED)
"""Reasons that keep a runtime because of what is not understood; where most are kept so, the fault is not theirs."""
DELETING = RuntimeStatus.DELETING
NOT_LIVING = LEAVING | {Outcome.GONE}
ACTS, PROJECTS, ROWS = "acts", "projects", "rows"
"""The kinds of what can fail, in the order in which the closing record names them."""


class ExemptionUse:
    """How many listed runtimes each of the run's exemptions matches."""

    def __init__(self, exemptions: Sequence[events.ExemptionDetail] = ()) -> None:
        self._exemptions = exemptions
        self.matched = [0] * len(exemptions)

    def add(self, places: Iterable[int]) -> None:
        """Those at these places match a listed runtime."""
        for place in places:
            self.matched[place] += 1

    def unused(self) -> Iterator[events.ExemptionDetail]:
        """Those that have not lapsed and match nothing."""
        for exemption, matched in zip(self._exemptions, self.matched, strict=True):
            if not matched and not exemption.lapsed:
                yield exemption


class Account:
    """Counts, refusals and failures of one run; `exit_code` says how it would end now."""

    def __init__(self, running: Running, *, max_age: timedelta | None = None) -> None:
        """`max_age` is what the job promises of every runtime, if it does."""
        self._running = running
        self._promise = None if max_age is None else Promise(max_age)
        self.exemptions = ExemptionUse()
        self._ends: Counter[tuple[str, str, str]] = Counter()
        """How many runtimes ended in which action, reason and outcome."""
        self._failed: dict[str, list[str]] = {ACTS: [], PROJECTS: [], ROWS: []}
        self.lists = {"read": 0, "unread": 0}
        self.listed = 0
        self.living = 0
        """Of those on record."""
        self.refusals: list[Refusal] = []
        self.caps_tripped: list[Refusal] = []
        """What would refuse the live run that this one rehearses."""
        self.warnings: list[str] = []
        self._cut_short = False

    async def open(self, started: events.RunStarted) -> None:
        """The first record, made durable at once: that the run has begun is known wherever it is followed from."""
        self.exemptions = ExemptionUse(started.exemptions)
        self.record(started)
        await self._commit()

    def record(self, *records: events.Event) -> None:
        """Write where it can be written still; the audit log remembers a loss, for the exit code."""
        with suppress(RecordNotKeptError):
            self._running.audit.write(*records)

    def audited(self, *records: events.RuntimeAudited) -> None:
        """These runtimes have come to their end in this run."""
        self._ends.update([(record.action, record.reason, record.outcome) for record in records])
        for record in records:
            outcome = record.outcome
            self.living += not (outcome in NOT_LIVING or record.status == DELETING)
            if outcome in FAILED:
                self._failed[ACTS].append(f"{record.project}/{record.name}")
            if self._promise is None:
                continue
            if outcome not in ENDED:
                self._promise.lives_on(record)
            elif outcome in ACCEPTED:
                self._promise.accepted(record)
        self.record(*records)

    def ended(self, case: Case, outcome: Outcome) -> None:
        """A runtime that was held has come to its end."""
        self.audited(case.record(outcome, name_creator=self._running.names_creators))

    def told(self, record: events.DeletionConfirmed | events.Notice, outcome: str, *, failed: bool = False) -> None:
        """What became of a deletion, or of a notice, is known as far as it can be."""
        self._ends["", "", outcome] += 1
        if failed:
            self._failed[ACTS].append(f"{record.project}/{record.name}")
        self.record(record)

    def disk(self, record: events.DiskAudited) -> None:
        self._ends["", record.reason, ""] += 1
        self.record(record)

    def malformed(self, item: MalformedRuntime) -> None:
        self._failed[ROWS].append(item.path)

    def foreign(self, path: str) -> None:
        self._failed[ROWS].append(path)

    def missing(self, project: str, name: str) -> None:
        """A runtime that was asked for by name is not listed."""
        path = f"{project}/{name}"
        self._failed[ACTS].append(path)
        self.record(
            events.RuntimeMissing(
                severity=Severity.WARNING, message=f"{path} is not listed", project=project, name=name
            )
        )

    def list_read(self) -> None:
        self.lists["read"] += 1

    def list_unread(self, project: str | None, error: LeonardoError) -> None:
        self.lists["unread"] += 1
        self.unreadable(project, error)

    def list_cut_off(self, project: str | None) -> None:
        """The deadline or a signal came before a list had ended."""
        self._cut_short = True
        why = "a signal" if self._running.clock.signalled else "the deadline"
        self.list_unread(project, LeonardoError(ErrorKind.UNAVAILABLE, f"{why} came before the list had ended"))

    def unreadable(self, project: str | None, error: LeonardoError) -> None:
        """Something of this project could not be read."""
        self._failed[PROJECTS].append(project or events.ALL_RUNTIMES)
        self.record(events.project_unreadable(project, error))

    def log_unread(self, what: str) -> None:
        """A part of the log that the run goes by could not be read: it knows less than there is to know."""
        self.warnings.append(f"{events.LOG_UNREAD}{what}")
        self._failed[ROWS].append(what)

    def cut_short(self) -> None:
        """There was no time left for something."""
        self._cut_short = self._cut_short or self._running.audit.failure is None

    def skipped(self, older: str) -> None:
        """An older run goes on: what it does not get to, the next one will."""
        self.record(
            events.RunSkipped(
                severity=Severity.NOTICE,
                message=f"skipped: {older}, an older run of this job, is still going",
                older_execution=older,
            )
        )

    def refuse(self, refusals: Iterable[Refusal], *, candidates: int) -> None:
        """Guards that stop every further act."""
        for refusal in refusals:
            if refusal.guard in {told.guard for told in self.refusals}:  # by several looks at a time
                continue
            self.refusals.append(refusal)
            self.record(events.run_refused(refusal, candidates=candidates, listed=self.listed))

    def would_refuse(self, caps: Sequence[Refusal]) -> None:
        """Caps that would stop the live run that this one rehearses."""
        self.caps_tripped += caps
        self.warnings += [f"a live run would be refused by {refusal.guard}: {refusal.detail}" for refusal in caps]

    @property
    def accepted_any(self) -> bool:
        """Whether Leonardo said yes to an act of this run."""
        return any(outcome in ACCEPTED for _, _, outcome in self._ends)

    @property
    def plans_any(self) -> bool:
        """Whether a live run that is held to this one may act."""
        return any(outcome in PLANNED for _, _, outcome in self._ends)

    def exit_code(self) -> ExitCode:
        return exit_code_of(
            unrecorded=self._running.audit.failure is not None,
            stopped=self._cut_short,
            signalled=self._running.clock.signalled,
            nothing_read=self.lists["unread"] > 0 and not self.lists["read"],
            refused=bool(self.refusals),
            failed=any(self._failed.values()),
        )

    async def close(self) -> ExitCode:
        """The closing record, and the exit code: another than it says only where it could not be kept itself."""
        self.warnings += _not_understood(_count_by(1, self._ends), self.listed)
        self._report_unused_exemptions()
        if self._running.clock.waits_twice:
            await self._commit()  # so that the closing record knows whether all before it was kept
        finished = self._finished()
        self.record(finished)
        await self._commit()
        return ExitCode.UNRECORDED if self._running.audit.failure is not None else ExitCode(finished.exit_code)

    async def _commit(self) -> None:
        with suppress(RecordNotKeptError):
            await self._running.audit.commit()

    def _report_unused_exemptions(self) -> None:
        """Only where the whole fleet was seen: elsewhere they may match what was not asked for."""
        settings, task = self._running.settings, self._running.task
        asked_for_all = settings.swept is None and settings.only is None and not task.shared
        if asked_for_all and self.lists["read"] and not self.lists["unread"]:
            for exemption in self.exemptions.unused():
                self.record(events.exemption_unused(exemption))

    def _finished(self) -> events.RunFinished:
        exit_code, promise = self.exit_code(), self._promise
        actions, reasons, outcomes = (_count_by(place, self._ends) for place in range(3))
        counts = ", ".join(f"{count} {word}" for word, count in (outcomes or reasons).most_common())
        return events.RunFinished(
            severity=Severity.NOTICE,
            message=f"finished with exit code {exit_code}: {self.listed} listed, {counts or 'none judged'}",
            listed=self.listed,
            audited=actions.total(),
            actions=dict(actions),
            reasons=dict(reasons),
            outcomes=dict(outcomes),
            failed=[name for names in self._failed.values() for name in names][: events.MOST_NAMES],
            calls=dict(self._running.leonardo.calls),
            lists=dict(self.lists),
            living=self.living,
            duration_s=round(self._running.clock.elapsed(), 3),
            exit_code=exit_code,
            refused_by=list(dict.fromkeys(refusal.guard for refusal in self.refusals)),
            would_be_refused_by=[refusal.guard for refusal in self.caps_tripped],
            clock_skew_s=events.seconds(self._running.leonardo.clock_skew),
            oldest=None if promise is None else events.oldest_of(promise),
            over_age=None if promise is None else dict(promise.over_age),
            late_s=None if promise is None or promise.late is None else events.Late(*promise.late),
            exemptions_matched=self.exemptions.matched,
            warnings=self.warnings,
        )


def _count_by(place: int, ends: Counter[tuple[str, str, str]]) -> Counter[str]:
    """By action, reason or outcome, of what has one."""
    counts: Counter[str] = Counter()
    for end, count in ends.items():
        if end[place]:
            counts[end[place]] += count
    return counts


def _not_understood(reasons: Counter[str], listed: int) -> Iterator[str]:
    counts = Counter({reason: reasons[reason] for reason in UNJUDGEABLE})
    if 2 * counts.total() > listed:
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common() if count)
        yield (
            f"{counts.total():,} of {listed:,} runtimes are kept because they are not understood ({kinds}):"
            " has Leonardo's answer changed?"
        )


def opening_record(
    job: Job,
    running: Running,
    *,
    follows: events.Follows | None,
    plan: Plan | None = None,
    expected: Expected | None = None,
) -> events.RunStarted:
    """The first record of the job's run; its `now` is the instant that the list is judged by."""
    settings, now, policy = running.settings, running.clock.now(), job.policy.written()
    exemptions = job.policy.exemptions if isinstance(job.policy, RuntimePolicy) else ()
    for exemption in exemptions:
        if exemption.lapsed(now):
            log.warning("exemption has lapsed", reason=exemption.reason, until=exemption.until.isoformat())
    return events.RunStarted(
        severity=Severity.NOTICE,
        message=f"{'dry run' if settings.dry_run else 'live run'}: {job.policy}",
        version=__version__,
        actor=running.leonardo.actor,
        started_by=settings.started_by,
        approved_by=settings.approved_by,
        now=now,
        policy=policy,
        policy_digest=events.policy_digest(policy, exemptions),
        exemptions=[events.exemption_detail(exemption, now) for exemption in exemptions],
        limits=_limits(settings, running.task.count),
        scope=_scope(settings),
        plan=None if plan is None else {"run_id": plan.run_id, "digest": plan.digest},
        previous=None
        if expected is None
        else events.Previous(run_id=expected.run_id, living=expected.living, lists=expected.lists),
        follows=follows,
    )


def _limits(settings: Settings, tasks: int) -> dict[str, float | bool]:
    caps = settings.caps.divided(tasks)
    budget = {} if settings.at_most is None else {"at_most": settings.at_most}
    return {
        **budget,
        "max_acts": caps.max_acts,
        "max_act_share": caps.max_act_share,
        "allow_empty": settings.allow_empty,
        "expect_at_least": settings.expect_at_least,
        "max_shrink": settings.max_shrink,
        "allow_shrunken": settings.allow_shrunken,
        "deadline_s": settings.deadline.total_seconds(),
        "request_timeout_s": settings.request_timeout.total_seconds(),
        "read_concurrency": settings.read_concurrency,
        "write_concurrency": settings.write_concurrency,
    }


def _scope(settings: Settings) -> dict[str, Any]:
    swept, only = settings.swept, settings.only
    return {
        "leonardo_url": settings.leonardo_url,
        "projects": None if swept is None else list(swept[: events.MOST_NAMES]),
        "project_count": None if swept is None else len(swept),
        "only": None if only is None else list(only[: events.MOST_NAMES]),
        "except": list(settings.excepted[: events.MOST_NAMES]) or None,
        "as_of": settings.as_of,
        "inventory": None if settings.inventory is None else str(settings.inventory),
    }
