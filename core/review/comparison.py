"""What two runs decided differently, by which limits, and why; pure, and draws nothing.

Of what one run alone condemned a row is held, of all else no more than tells why: two large runs fit into memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from itertools import chain
from sys import intern

import msgspec
from msgspec import structs

from core.records.events import MOST_NAMES, exemption_in_words
from core.records.outcome import LEAVING, NOT_OURS, Outcome
from core.records.reader import Record, ScopeDetail
from core.review.fleet import of_the_fleet
from core.review.questions import RunLine, RunSummary, known
from core.review.which import IsMeant, UnknownError, finished_runs, of_runs, only_environment
from core.rules.decision import Action, Reason, in_utc
from core.rules.deletion import DeletionPolicy
from core.rules.words import minute
from core.runtime import Disk
from core.verify.rejudge import deletion_policy, in_order, runtime_of

STATUS_REASONS = (Reason.STATUS_NOT_ELIGIBLE, Reason.STATUS_UNKNOWN)

Value = bool | float | str | list[str] | None


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """Something by which the two runs judged, and which is not the same: a limit, the instant, a scope."""

    name: str
    """As the run's first record has it; a limit's name says its unit."""
    a: Value
    b: Value


class CountOfBoth(msgspec.Struct, frozen=True, kw_only=True):
    outcome: str
    reason: str
    a: int
    b: int


class OtherReason(msgspec.Struct, frozen=True, kw_only=True):
    """How many runtimes both runs condemned, but not for the same reason."""

    reason_a: str
    reason_b: str
    count: int


class Condemned(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A runtime as the run saw it that condemned it."""

    runtime_id: str
    path: str
    project: str | None
    creator: str | None
    status: str | None
    created_date: datetime | None
    date_accessed: datetime | None
    judged_at: datetime | None
    age_s: float | None
    idle_s: float | None
    disk: str | None
    reason: str
    outcome: str


class Difference(Condemned, frozen=True, gc=False, kw_only=True):
    """A runtime that one run condemned and the other did not."""

    condemned_in: str
    why_not_in_the_other: str
    in_words: str


class Diff(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/diff/v1"):
    run_a: RunLine
    run_b: RunLine
    same_policy: bool
    terms: list[Term]
    counts: list[CountOfBoth]
    grew_by: int
    new: int
    gone_by_our_act: int
    gone_without_our_act: int
    projects_gone: dict[str, int]
    """Of which the later run lists nothing, with how many runtimes went without our act: was a role lost?"""
    condemned_in_both: int
    other_reasons: list[OtherReason]
    differences: list[Difference]
    """Those that lose their data first, then by project, creator and name."""

    @property
    def fleet_in_words(self) -> str:
        if not (self.grew_by or self.new or self.gone_by_our_act or self.gone_without_our_act):
            return "the fleet is the same"
        size = f"{'grew' if self.grew_by > 0 else 'shrank'} by {abs(self.grew_by):,}" if self.grew_by else "is as large"
        return (
            f"the fleet {size}: {self.new:,} new, {self.gone_by_our_act:,} gone by our act,"
            f" {self.gone_without_our_act:,} gone without our act"
        )

    def only_in(self, run: RunLine) -> list[Difference]:
        return [difference for difference in self.differences if difference.condemned_in == run.run_id]


def diff(
    records: Iterable[Record], run_a: str, run_b: str, now: datetime, *, is_meant: IsMeant = lambda _: True
) -> Diff:
    """What one run condemned and the other did not, why each differs, and how the fleet changed.

    Raises UnknownError.
    """
    ids, chosen = of_runs(records, [run_a, run_b], is_meant=is_meant, also=_accepted)
    comparison = Comparison(*ids)
    for record in chosen:
        comparison.add(record)
    return comparison.answer(now)


def rehearsals_that_differ(frames: Sequence[Record]) -> list[str]:
    """The latest two runs over the fleet, if both are dry and judged by different policies or instants; else none."""
    latest = finished_runs(frames, of_the_fleet)[-2:]
    alike = {(o.policy_digest, o.scope and o.scope.as_of) for o in latest}
    return [o.run_id for o in latest] if all(o.dry_run for o in latest) and len(alike) > 1 else []


class _Seen(msgspec.Struct, gc=False):
    """What a comparison asks of a runtime that was not condemned."""

    reason: str
    status: str | None
    date_accessed: datetime | None
    project: str | None


class _Side:
    """One of two runs that are compared."""

    def __init__(self, first: Record) -> None:
        self.run = RunSummary(first)
        self.condemned: dict[str, Condemned | None] = {}
        """None where the other run condemned it too, and nothing is left to ask."""
        self.others: dict[str, _Seen] = {}
        self.projects: set[str | None] = set()

    def __contains__(self, runtime_id: str) -> bool:
        return runtime_id in self.condemned or runtime_id in self.others

    def __iter__(self) -> Iterator[str]:
        return chain(self.condemned, self.others)

    @property
    def run_id(self) -> str:
        return self.run.first.run_id

    @property
    def now(self) -> datetime | None:
        return self.run.started.now if self.run.started else None

    @property
    def policy_digest(self) -> str | None:
        return self.run.started.policy_digest if self.run.started else None

    @cached_property
    def policy(self) -> DeletionPolicy | None:
        """What it judged by, as far as that can be told."""
        started = self.run.started
        return None if started is None else deletion_policy(started)

    def would_keep(self, record: Record) -> bool:
        """Whether its rule is known to keep the runtime of another run's record."""
        if self.policy is None or record.judged_at is None:
            return False
        again = self.policy.judge(runtime_of(record), record.judged_at, second_look=True)
        return again.action is Action.KEEP

    def looked_at(self, project: str | None, path: str) -> bool:
        """Whether the run could have listed a runtime, as far as its records tell."""
        scope = self.run.started.scope if self.run.started else None
        if self.run.unread & {None, project}:
            return False
        if scope is None:
            return True
        cut = (scope.project_count or 0) > MOST_NAMES
        return (scope.only is None or path in scope.only) and (
            scope.projects is None or cut or project in scope.projects
        )


class Comparison:
    """Two runs as the records of a log come by, those that open runs first."""

    def __init__(self, run_a: str, run_b: str) -> None:
        """Raises UnknownError where both are one."""
        if run_a == run_b:
            raise UnknownError(f"{run_a} does not differ from itself")
        self._ids = run_a, run_b
        self._sides: dict[str, _Side] = {}
        self._acted: set[tuple[str, str]] = set()
        """Environments and ids of what was deleted."""
        self._kept_by_the_other: set[str] = set()
        """Of the condemned, those that the other run's policy would have kept, whatever it saw of them."""
        self._in_both: Counter[tuple[str, str]] = Counter()

    def add(self, record: Record) -> None:
        if _accepted(record) and record.runtime_id is not None:
            self._acted.add((record.environment, record.runtime_id))
        if record.run_id not in self._ids:
            return
        side = self._sides.get(record.run_id)
        if side is None:
            side = self._sides[record.run_id] = _Side(record)
        side.run.add(record)
        if record.event != "runtime_audited" or record.runtime_id is None or record.reason == Reason.DUPLICATE:
            return
        side.projects.add(record.project)
        if record.action != Action.KEEP and record.outcome not in NOT_OURS:
            self._condemn(record.runtime_id, record, side)
        else:
            status = None if record.status is None else intern(record.status)
            project = None if record.project is None else intern(record.project)
            side.others[record.runtime_id] = _Seen(intern(record.reason), status, record.date_accessed, project)

    def _condemn(self, runtime_id: str, record: Record, side: _Side) -> None:
        a, b = self._ids
        other = self._sides.get(b if side.run_id == a else a)
        if other and runtime_id in other.condemned:
            if before := other.condemned[runtime_id]:
                reasons = (before.reason, record.reason)
                self._in_both[reasons if side.run_id == b else reasons[::-1]] += 1
            side.condemned[runtime_id] = other.condemned[runtime_id] = None
            return
        side.condemned[runtime_id] = _condemned(runtime_id, record)
        if other and side.policy_digest != other.policy_digest and other.would_keep(record):
            self._kept_by_the_other.add(runtime_id)

    def answer(self, now: datetime) -> Diff:
        """What the records added up to, each of the two runs among them.

        Raises UnknownError where they are of two environments.
        """
        a, b = (self._sides[run_id] for run_id in self._ids)
        only_environment(side.run.first.environment for side in (a, b))
        earlier, later = sorted((a, b), key=lambda side: side.run.order())
        gone = [runtime_id for runtime_id in earlier if runtime_id not in later]
        not_by_us = [runtime_id for runtime_id in gone if not self._was_deleted(runtime_id)]
        return Diff(
            run_a=a.run.line(now),
            run_b=b.run.line(now),
            same_policy=a.policy_digest is not None and a.policy_digest == b.policy_digest,
            terms=list(_terms(a.run.started, b.run.started)),
            counts=_counts(a.run.counts, b.run.counts),
            grew_by=later.run.listed - earlier.run.listed,
            new=sum(runtime_id not in earlier for runtime_id in later),
            gone_by_our_act=len(gone) - len(not_by_us),
            gone_without_our_act=len(not_by_us),
            projects_gone=_projects_gone(not_by_us, earlier, later),
            condemned_in_both=self._in_both.total(),
            other_reasons=[
                OtherReason(reason_a=in_a, reason_b=in_b, count=count)
                for (in_a, in_b), count in sorted(self._in_both.items(), key=lambda item: (-item[1], item[0]))
                if in_a != in_b
            ],
            differences=sorted(self._differences(earlier, later), key=_whom_to_tell),
        )

    def _was_deleted(self, runtime_id: str) -> bool:
        """By a run of the environment that the two are of."""
        return (self._sides[self._ids[0]].run.first.environment, runtime_id) in self._acted

    def _differences(self, earlier: _Side, later: _Side) -> Iterator[Difference]:
        for side, other, which, why in (
            (earlier, later, "later", self._why_not_later),
            (later, earlier, "earlier", self._why_not_earlier),
        ):
            for condemned in filter(None, side.condemned.values()):
                kind, words = self._spared(condemned, other, which) or why(condemned, other)
                yield Difference(
                    **structs.asdict(condemned),
                    condemned_in=side.run_id,
                    why_not_in_the_other=kind,
                    in_words=words,
                )

    def _spared(self, condemned: Condemned, other: _Side, which: str) -> tuple[str, str] | None:
        """Whether the other run's exemptions or policy kept what one run condemned."""
        seen = other.others.get(condemned.runtime_id)
        if seen is None:
            return None
        if seen.reason == Reason.EXEMPT:
            return "exempt", f"exempt in the {which} run"
        if condemned.runtime_id in self._kept_by_the_other:
            return "policy_changed", f"the {which} run's policy or exemptions keep it"
        return None

    def _why_not_later(self, condemned: Condemned, later: _Side) -> tuple[str, str]:
        """Why a runtime that was condemned is not any more."""
        seen = later.others.get(condemned.runtime_id)
        if seen is None:
            if not later.looked_at(condemned.project, condemned.path):
                return "not_looked_at", "the later run did not list it"
            if self._was_deleted(condemned.runtime_id):
                return "gone_by_our_act", "gone by our act"
            return "gone_without_our_act", "gone without our act"
        if seen.reason in STATUS_REASONS:
            return "status_changed", f"its status is {seen.status or 'missing'} now"
        if condemned.date_accessed and seen.date_accessed and seen.date_accessed > condemned.date_accessed:
            return "used_since", f"used since, on {minute(seen.date_accessed)}"
        if condemned.judged_at and later.now and later.now < condemned.judged_at:
            return "not_due_yet", f"not due yet on {minute(later.now)}"
        return "judged_otherwise", f"kept by the later run ({seen.reason})"

    def _why_not_earlier(self, condemned: Condemned, earlier: _Side) -> tuple[str, str]:
        """Why a runtime that is condemned was not before."""
        seen = earlier.others.get(condemned.runtime_id)
        if seen is None:
            if condemned.created_date and earlier.now and condemned.created_date > earlier.now:
                return "new", f"created since, on {minute(condemned.created_date)}"
            if not earlier.looked_at(condemned.project, condemned.path):
                return "not_looked_at", "the earlier run did not list it"
            return "new", "not in the earlier run's list"
        if seen.reason in STATUS_REASONS:
            return "status_changed", f"its status was {seen.status or 'missing'}"
        return "due_since", "it has become due since"


def _accepted(record: Record) -> bool:
    return record.outcome in LEAVING and not record.dry_run


def _condemned(runtime_id: str, record: Record) -> Condemned:
    return Condemned(
        runtime_id=runtime_id,
        path=record.path,
        project=record.project,
        creator=record.creator,
        status=record.status,
        created_date=record.created_date,
        date_accessed=record.date_accessed,
        judged_at=record.judged_at,
        age_s=known(record.age_s),
        idle_s=known(record.idle_s),
        disk=record.disk,
        reason=record.reason,
        outcome=record.outcome,
    )


def _whom_to_tell(difference: Difference) -> tuple[bool, str, str, str, str]:
    d = difference
    return d.disk != Disk.LOST, d.project or "", d.creator or "", d.path, d.runtime_id


def _terms(a: Record | None, b: Record | None) -> Iterator[Term]:
    """What is not the same in two runs' first records."""
    if a is None or b is None:
        return
    of_a, of_b = _judged_by(a), _judged_by(b)
    if not (a.scope and a.scope.as_of) and not (b.scope and b.scope.as_of):
        del of_a["now"], of_b["now"]  # the clock went on, no more
    for name in dict.fromkeys([*of_a, *of_b]):
        in_a, in_b = of_a.get(name), of_b.get(name)
        if in_a != in_b:
            yield Term(name=name, a=in_a, b=in_b)


def _judged_by(started: Record) -> dict[str, Value]:
    scope = started.scope or ScopeDetail()
    return {
        "now": None if started.now is None else str(msgspec.to_builtins(in_utc(started.now))),
        **in_order(started),
        "exemptions": sorted(map(exemption_in_words, started.exemptions)),
        "projects": scope.projects,
        "only": scope.only,
        "inventory": scope.inventory,
    }


def _counts(a: Counter[tuple[str, str]], b: Counter[tuple[str, str]]) -> list[CountOfBoth]:
    """What was kept last, and else the largest first."""
    kinds = sorted({*a, *b}, key=lambda kind: (kind[0] == Outcome.KEPT, -max(a[kind], b[kind]), kind))
    return [CountOfBoth(outcome=kind[0], reason=kind[1], a=a[kind], b=b[kind]) for kind in kinds]


def _projects_gone(gone: Iterable[str], earlier: _Side, later: _Side) -> dict[str, int]:
    seen = (earlier.condemned.get(runtime_id) or earlier.others.get(runtime_id) for runtime_id in gone)
    of_projects = Counter(one.project for one in seen if one and one.project not in later.projects)
    return {project: of_projects[project] for project in sorted(filter(None, of_projects))}
