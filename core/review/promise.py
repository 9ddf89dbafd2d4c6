"""Whether every runtime has the maximum age that is promised: since when not, by whom it is broken, and what to do.

Asked of the newest run over the whole fleet and of the closing records before it; how a run measures itself is said in
`core.rules.promise`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import msgspec

from core.records.events import ALL_RUNTIMES, exemption_in_words
from core.records.outcome import ENDED, Outcome
from core.records.reader import Record
from core.review.due import final_at
from core.review.fleet import Fleet, fleet_of
from core.review.questions import RunLine, RunSummary, known
from core.review.which import IsMeant, finished_runs, framed, latest, newer_unfinished, only_environment
from core.rules.decision import NOT_JUDGED, Action, Reason, in_utc
from core.rules.deletion import RULED_OUT, DeletionPolicy
from core.rules.promise import NOT_COUNTED, kept_by
from core.rules.words import counted, duration, in_words, minute
from core.runtime import RuntimeStatus
from core.verify.rejudge import deletion_policy, runtime_of

PATIENCE = timedelta(hours=6)
"""Two runs have passed: whatever is older by this than the maximum age breaks the promise."""
STALE = timedelta(hours=7)
"""By then a job that runs every three hours has called on call by its silence."""
NOT_RUN = "not_run"
"""What keeps a runtime that came of age after the newest run."""
ON_ITS_WAY = "stuck on its way: check-autopause says since when, Leonardo's operators can end it"
DELETING = "Leonardo has not finished deleting it: confirm-deletions says since when, Leonardo's operators can end it"
DATES = "its dates make no sense: ask Leonardo's operators for its row"
FAILED = (
    "review-audit-log run says why: denied needs the runner's role on the project back, else the next run tries again"
)
WHAT_TO_DO: dict[str, str] = {
    NOT_RUN: "no live run over the whole fleet has finished since: is the scheduler paused, do runs fail?",
    RuntimeStatus.ERROR: "delete-old-runtimes --delete-errored (--only PROJECT/NAME: only it) deletes by the same rule",
    RuntimeStatus.DELETING: DELETING,
    RuntimeStatus.CREATING: ON_ITS_WAY,
    RuntimeStatus.STARTING: ON_ITS_WAY,
    RuntimeStatus.STOPPING: ON_ITS_WAY,
    RuntimeStatus.UPDATING: ON_ITS_WAY,
    Reason.STATUS_UNKNOWN: "Leonardo does not know its status: ask its operators",
    Reason.UNDATED: DATES,
    Reason.FUTURE_DATED: DATES,
    Reason.MALFORMED: "its list item cannot be read: its record says what is wrong with it",
    Reason.FOREIGN_PROJECT: "it was listed under another project: ask Leonardo's operators",
    Reason.NOT_NOTICED: "its owner was not told in time: does notify-owners run, and does its receiver take notices?",
    Reason.EXEMPT: "it goes when its exemption ends; nothing is to be done",
    Outcome.WOULD_DELETE: "a dry run deletes nothing: run live, with this run as the plan",
    Outcome.WITHHELD: "a guard stopped the run: run_refused says which, and why",
    Outcome.NOT_IN_PLAN: "make a new plan: this one did not hold it",
    Outcome.EXCEPTED: "somebody left it out by --except: the next run without that takes it",
    Outcome.OVER_BUDGET: "at-most left it to a later run: raise it, or run more often",
    Outcome.NOT_ATTEMPTED: "the run ended early: the next one goes on with the most overdue",
    Outcome.ALREADY_DELETING: DELETING,
    Outcome.CONFLICT: "the next run tries again; if it stays so, Leonardo's operators can say why",
    Outcome.FAILED: FAILED,
    Outcome.IN_DOUBT: "confirm-deletions asks what became of it",
}
"""By what keeps a runtime that is too old."""
NEVER_DUE = RULED_OUT | NOT_JUDGED
"""Reasons that no time ends."""
OTHERWISE = "review-audit-log why PROJECT/NAME tells its story"


class OverAge(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that lives on above the maximum age, or at an unknown one."""

    runtime_id: str | None
    project: str | None
    name: str | None
    creator: str | None
    status: str | None
    age_s: float | None
    since: datetime | None
    """When it came to the maximum age, or an exemption of it ended after that."""
    kept_by: str
    breaks: bool
    """Whether it breaks the promise: not exempt, and too old by more than two runs."""
    exemption: str | None


class KindOfBreak(msgspec.Struct, frozen=True, kw_only=True):
    kept_by: str
    count: int
    breaking: int
    oldest_s: float | None
    what_to_do: str


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What the closing records of one day say, in UTC; null where none does."""

    day: date
    runs: int
    oldest_s: float | None
    over_age: int | None
    """The most that any run left above the maximum age, the exempt not counted."""
    late_max_s: float | None


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that was made before an instant and is still there."""

    project: str | None
    name: str | None
    creator: str | None
    created_date: datetime | None
    final_at: datetime | None
    """From when the rule takes it, whatever anybody does; null where it cannot be relied on."""
    exempt: bool
    """Whether it is the end of its exemption that it waits for."""
    not_relied_on: str | None
    """Why."""


class Horizon(msgspec.Struct, frozen=True, kw_only=True):
    """When the last runtime that was made before an instant will be gone."""

    made_before: datetime
    left: int
    final_at: datetime | None
    """Of all that can be relied on; a run comes within hours of it."""
    final_at_of_the_rest: datetime | None
    """The same without the exempt."""
    exempt: int
    not_relied_on: int
    seen_until: datetime | None
    """When the run looked, where that is before the instant: what was made since is not in the answer, ..."""
    unseen_final_at: datetime | None
    """... and goes by then."""
    rows: list[Left]
    """The last to go first, and before them those that cannot be relied on."""

    @property
    def in_words(self) -> str:
        """How many are left, and when they are gone."""
        parts = [f"{self.not_relied_on:,} cannot be relied on"]
        if self.exempt:
            last = _last(row for row in self.rows if row.exempt)
            parts.append(f"{_are(self.exempt)} exempt, until {minute(last)}Z at the latest")
        if self.final_at_of_the_rest:
            parts.append(f"the last of the others goes from {minute(self.final_at_of_the_rest)}Z")
        left = f"Of those made before {minute(self.made_before)}Z {_are(self.left)} left: {', '.join(parts)}."
        if self.seen_until is None:
            return left
        by = (
            f"they go from {minute(self.unseen_final_at)}Z, the exempt apart"
            if self.unseen_final_at
            else "it cannot be told when they go"
        )
        return f"{left} Those made after {minute(self.seen_until)}Z the run has not seen: {by}."


def _are(count: int) -> str:
    return f"{count:,} {'is' if count == 1 else 'are'}"


class Spared(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that an exemption keeps."""

    project: str | None
    name: str | None
    creator: str | None
    age_s: float | None
    would_go: bool
    """Whether the rule would delete it now without the exemption."""


class ExemptionLine(msgspec.Struct, frozen=True, kw_only=True):
    exemption: str
    until: datetime
    matches: int | None
    """Of all that were listed; null where the run did not write it down."""
    would_go: int
    spared: list[Spared]
    """Of several exemptions that match, the one that ends last is named."""


class Promised(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/promise/v1"):
    run: RunLine
    max_age_s: float | None
    kept: bool | None
    """Null where it cannot be told: a list was not read, or the policy is not on record."""
    broken_since: datetime | None
    over_age: list[OverAge]
    """The oldest first."""
    kinds: list[KindOfBreak]
    days: list[Day]
    horizon: Horizon | None
    exemptions: list[ExemptionLine]
    unread: list[str]
    """Projects whose runtimes nobody saw."""
    remarks: list[str]

    @property
    def in_words(self) -> str:
        """Whether it is kept, in a sentence."""
        if self.kept:
            but = f" but {counted(len(self.over_age), 'runtime')}, exempt or just due" if self.over_age else ""
            return f"The promise is kept: nothing is older than {duration(self.max_age_s)}{but}."
        if self.kept is None:
            return "Whether the promise is kept cannot be told: not everything is on record."
        breaking = counted(sum(row.breaks for row in self.over_age), "runtime")
        grace = f", {in_words(PATIENCE)} after the maximum age"
        since = f" since {minute(self.broken_since)}Z{grace}" if self.broken_since else ""
        kinds = ", ".join(f"{kind.breaking:,} {kind.kept_by}" for kind in self.kinds if kind.breaking)
        older = f"older than {duration(self.max_age_s)}, or of unknown age"
        return f"The promise is broken{since}: {breaking} {older}: {kinds}."


def promise(records: Iterable[Record], now: datetime, made_before: datetime | None = None) -> Promised:
    """As of the newest finished run over the whole fleet, a live one where there is any. Raises UnknownError."""
    frames, records = framed(records)
    review = PromiseReview(frames, now, made_before)
    for record in records:
        review.add(record)
    return review.answer()


class PromiseReview:
    """What the newest run left, as the records of a log come by."""

    def __init__(self, frames: Sequence[Record], now: datetime, made_before: datetime | None = None) -> None:
        """Raises UnknownError where no run over the whole fleet has finished."""
        self._frames = frames
        self._started, self._is_meant, self._fleet = newest_sweep(frames)
        self._seen = RunSummary(self._started)
        self._policy = deletion_policy(self._started)
        self._now = now
        self._made_before = made_before
        self._over_age: list[OverAge] = []
        self._left: list[Left] = []
        self._matched: Counter[int] = Counter()
        """By the place of an exemption among those of the run."""
        self._spared: defaultdict[str, list[Spared]] = defaultdict(list)

    def add(self, record: Record) -> None:
        if record.run_id != self._started.run_id:
            return
        self._seen.add(record)
        if record.event == "run_finished":
            self._matched.update(dict(enumerate(record.exemptions_matched or ())))
        if record.event != "runtime_audited" or record.outcome in ENDED or record.reason in NOT_COUNTED:
            return
        if (row := _over_age(record, self._policy, self._now)) is not None:
            self._over_age.append(row)
        made = record.created_date
        if self._made_before is not None and (made is None or made < self._made_before):
            self._left.append(_left(record, self._policy, self._now))
        if record.reason == Reason.EXEMPT and record.exemption is not None:
            self._spared[exemption_in_words(record.exemption)].append(_spared(record, self._policy))

    def answer(self) -> Promised:
        over_age = sorted(self._over_age, key=lambda row: (row.age_s is not None, -(row.age_s or 0.0)))
        breaking = [row for row in over_age if row.breaks]
        unseen = self._seen.unread or self._policy is None or self._started.run_id in self._fleet.passed_over
        return Promised(
            run=self._seen.line(self._now),
            max_age_s=None if self._policy is None else self._policy.max_age.total_seconds(),
            kept=False if breaking else None if unseen else True,
            broken_since=min((row.since + PATIENCE for row in breaking if row.since is not None), default=None),
            over_age=over_age,
            kinds=_kinds(over_age),
            days=_days(self._frames, self._fleet, live=not self._started.dry_run),
            horizon=None if self._made_before is None else self._horizon(self._made_before),
            exemptions=self._exemptions(),
            unread=sorted(project or ALL_RUNTIMES for project in self._seen.unread),
            remarks=list(self._remarks()),
        )

    def _horizon(self, made_before: datetime) -> Horizon:
        left = sorted(self._left, key=lambda row: (row.final_at is not None, -_seconds(row.final_at)))
        looked_at = self._started.now or self._started.time
        has_unseen = looked_at is not None and looked_at < made_before
        return Horizon(
            made_before=made_before,
            left=len(left),
            final_at=_last(left),
            final_at_of_the_rest=_last(row for row in left if not row.exempt),
            exempt=sum(row.exempt for row in left),
            not_relied_on=sum(row.final_at is None for row in left),
            seen_until=looked_at if has_unseen else None,
            unseen_final_at=self._policy.final_at(made_before) if has_unseen and self._policy else None,
            rows=left,
        )

    def _remarks(self) -> Iterator[str]:
        """How far the answer can be relied on, and what the run itself warned of: exemptions that spare nobody, too."""
        ago = self._now - (self._started.time or self._now)
        if ago > STALE:
            yield f"the newest run over the whole fleet is {in_words(ago)} old: what changed since is not in the answer"
        yield from newer_unfinished(self._frames, self._started, self._is_meant, self._now)
        yield from self._fleet.remarks_on(self._started, live_alone=not self._started.dry_run)
        yield from dict.fromkeys(self._seen.remarks)

    def _exemptions(self) -> list[ExemptionLine]:
        """In the order in which the run has them."""
        lines = []
        for place, detail in enumerate(self._started.exemptions):
            words = exemption_in_words(detail)
            rows = sorted(self._spared[words], key=lambda row: (not row.would_go, row.project or "", row.name or ""))
            lines.append(
                ExemptionLine(
                    exemption=words,
                    until=detail.until,
                    matches=self._matched.get(place),
                    would_go=sum(row.would_go for row in rows),
                    spared=rows,
                )
            )
        return lines


def newest_sweep(frames: Sequence[Record]) -> tuple[Record, IsMeant, Fleet]:
    """The first record of the run that is asked about, which runs it is the newest of, and what is known of all.

    Raises UnknownError.
    """
    fleet = fleet_of(frames)
    is_meant = _live_if_any(frames, fleet.is_meant)
    return latest(frames, is_meant), is_meant, fleet


def _live_if_any(frames: Sequence[Record], is_meant: IsMeant) -> IsMeant:
    """Raises UnknownError where the dry runs are of another environment: which is meant is not said by who is live."""
    only_environment(frame.environment for frame in frames if frame.event == "run_started" and is_meant(frame))

    def is_live(started: Record) -> bool:
        return is_meant(started) and not started.dry_run

    return is_live if finished_runs(frames, is_live) else is_meant


def _over_age(record: Record, policy: DeletionPolicy | None, now: datetime) -> OverAge | None:
    """None for a runtime that has not come of age by now."""
    since = _came_of_age(record, policy)
    if record.created_date is not None and (since is None or since >= now):
        return None
    kept, exemption = kept_by(record), record.exemption
    if since is not None and record.reason not in NEVER_DUE:
        if exemption is not None and exemption.until <= now:
            since = max(since, exemption.until)
        if _due_since_the_run(since, record, now) and (exemption is None or exemption.until <= now):
            kept = NOT_RUN
    return OverAge(
        runtime_id=record.runtime_id,
        project=record.project,
        name=record.name,
        creator=record.creator,
        status=record.status,
        age_s=None if record.created_date is None else (now - record.created_date).total_seconds(),
        since=since,
        kept_by=kept,
        breaks=kept != Reason.EXEMPT and (since is None or now > since + PATIENCE),
        exemption=None if record.exemption is None else exemption_in_words(record.exemption),
    )


def _came_of_age(record: Record, policy: DeletionPolicy | None) -> datetime | None:
    """None where that is not known."""
    return None if record.created_date is None or policy is None else policy.final_at(record.created_date)


def _due_since_the_run(final_at: datetime, record: Record, now: datetime) -> bool:
    """Whether the rule takes it by now, and did not yet when the run judged it."""
    return record.judged_at is not None and record.judged_at <= final_at < now


def _kinds(over_age: Sequence[OverAge]) -> list[KindOfBreak]:
    """What breaks most first."""
    by_kind: defaultdict[str, list[OverAge]] = defaultdict(list)
    for row in over_age:
        by_kind[row.kept_by].append(row)
    kinds = [
        KindOfBreak(
            kept_by=kept,
            count=len(rows),
            breaking=sum(row.breaks for row in rows),
            oldest_s=max((row.age_s for row in rows if row.age_s is not None), default=None),
            what_to_do=WHAT_TO_DO.get(kept, OTHERWISE),
        )
        for kept, rows in by_kind.items()
    ]
    return sorted(kinds, key=lambda kind: (-kind.breaking, -kind.count, kind.kept_by))


def _days(frames: Iterable[Record], fleet: Fleet, *, live: bool) -> list[Day]:
    run_ids = {opening.run_id for opening in fleet.openings if opening.dry_run is not live}
    days: defaultdict[date, defaultdict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        if frame.event == "run_finished" and frame.run_id in run_ids and frame.time is not None:
            days[in_utc(frame.time).date()][frame.run_id].append(frame)
    return [_day(day, runs, fleet.passed_over) for day, runs in sorted(days.items())]


def _day(day: date, of_day: Mapping[str, list[Record]], passed_over: Collection[str]) -> Day:
    """All of its runs are counted, and measured those that tell of the whole fleet."""
    runs = {run_id: closings for run_id, closings in of_day.items() if run_id not in passed_over}
    closings = [closing for of_run in runs.values() for closing in of_run]
    beyond = [
        sum(count for closing in of_run for kept, count in (closing.over_age or {}).items() if kept != Reason.EXEMPT)
        for of_run in runs.values()
        if any(closing.over_age is not None for closing in of_run)
    ]
    return Day(
        day=day,
        runs=len(of_day),
        oldest_s=max((closing.oldest.age_s for closing in closings if closing.oldest is not None), default=None),
        over_age=max(beyond, default=None),
        late_max_s=max((closing.late_s.max for closing in closings if closing.late_s is not None), default=None),
    )


def _seconds(at: datetime | None) -> float:
    return 0.0 if at is None else at.timestamp()


def _last(rows: Iterable[Left]) -> datetime | None:
    return max((row.final_at for row in rows if row.final_at is not None), default=None)


def _left(record: Record, policy: DeletionPolicy | None, now: datetime) -> Left:
    final = final_at(record, policy)
    why: str | None = None
    if final is None or record.reason in NEVER_DUE:
        why = kept_by(record)
    elif now > final + PATIENCE:
        why = NOT_RUN if _due_since_the_run(final, record, now) else kept_by(record)
    return Left(
        project=record.project,
        name=record.name,
        creator=record.creator,
        created_date=record.created_date,
        final_at=None if why else final,
        exempt=why is None and record.reason == Reason.EXEMPT and final != _came_of_age(record, policy),
        not_relied_on=why,
    )


def _spared(record: Record, policy: DeletionPolicy | None) -> Spared:
    condemned = (
        policy is not None
        and record.judged_at is not None
        and replace(policy, exemptions=()).judge(runtime_of(record), record.judged_at).action is Action.DELETE
    )
    return Spared(
        project=record.project,
        name=record.name,
        creator=record.creator,
        age_s=known(record.age_s),
        would_go=condemned,
    )
