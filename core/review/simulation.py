"""What another deletion policy would have done over the months on record; pure, and draws nothing.

Each runtime that a run listed is judged again at the instant of that run by the run's own policy with some limits
changed. Whatever order the records come in, and however often, the answer is the same. A record holds what decided
then: what it does not tell (an autopause threshold that nobody looked at, labels, a policy) is counted as unknown.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from struct import Struct
from sys import intern
from typing import Any, Literal, NamedTuple

import msgspec

from core.records.outcome import LEAVING, NOT_OURS
from core.records.reader import LONG_AGO, Record
from core.review.fleet import rehearsals_of_another_policy
from core.review.which import NotThereError, in_time, only_environment
from core.rules.decision import NEVER, NOT_JUDGED, Action, Decision, Reason
from core.rules.deletion import RULED_OUT, DeletionPolicy
from core.rules.exemptions import Exemption
from core.rules.words import counted, duration
from core.runtime import Disk, Runtime, RuntimeStatus
from core.verify.rejudge import (
    DELETION_JOB,
    as_told,
    deletion_policy,
    exemption_of,
    is_older,
    match_on_record,
    runtime_of,
    was_looked_at_again,
)

BACK_WITHIN = timedelta(hours=24)
"""A runtime whose user comes back so soon would have been missed."""
LEFT_OUT = NOT_JUDGED | {Reason.DUPLICATE}
USABLE = frozenset({RuntimeStatus.CREATING, RuntimeStatus.STARTING, RuntimeStatus.RUNNING, RuntimeStatus.UPDATING})
RESTING = RuntimeStatus.STOPPED
INSTANT = Struct("<d")
NO_THRESHOLD = timedelta(0)

Limits = Mapping[str, Any]
"""Durations and flags, by the names that a policy has for them."""
Kind = Literal["both", "only_simulated", "cut_off", "only_in_force", "unknown", "neither"]
"""`cut_off`: the policy in force took it first, so that nobody knows when the other would have."""


class Taken(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An incarnation that one of the two policies would have taken, and when each came to it first."""

    kind: Kind
    runtime_id: str
    project: str | None
    name: str | None
    creator: str | None
    disk: str | None
    reason: str | None
    """Of the simulated policy."""
    simulated_at: datetime | None
    in_force_at: datetime | None
    earlier_s: float | None
    """How much earlier the simulated policy comes; below zero where it comes later."""
    back_at: datetime | None
    """When its user was back, within 24 hours of the simulated deletion."""


class Simulated(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/simulate/v1"):
    """Two policies over one history: the simulated, and the one that was in force."""

    policy: dict[str, float | bool | str]
    """Simulated; where those in force changed on the way, that of the newest run."""
    in_force: dict[str, float | bool | str]
    since: datetime
    until: datetime
    runs: int
    incarnations: int
    both: int
    only_simulated: int
    cut_off: int
    only_in_force: int
    """Condemned in a rehearsal or in vain; the log goes on, and the simulated policy never takes it."""
    unknown: int
    neither: int
    disks_lost: int
    """Of what the simulated policy takes."""
    regret: int
    """How many of those had their users back within 24 hours."""
    earlier_s: float
    """Of all that both take, together."""
    rows: list[Taken]
    """By project, creator, name and time."""

    @property
    def simulated(self) -> int:
        """How many incarnations the simulated policy takes."""
        return self.both + self.only_simulated

    @property
    def changed(self) -> list[tuple[str, float | bool | str | None, float | bool | str]]:
        """The limits that are not the same: in force, and simulated."""
        in_force = self.in_force
        return [(name, in_force.get(name), of) for name, of in self.policy.items() if of != in_force.get(name)]

    @property
    def differing(self) -> list[Taken]:
        """What the two do not take at the same time."""
        return [row for row in self.rows if row.kind != "both" or row.earlier_s]

    @property
    def in_words(self) -> str:
        """How the two compare, in a sentence."""
        when = "at the same time"
        if self.earlier_s:
            mean = duration(abs(self.earlier_s) / self.both)
            when = f"{mean} {'earlier' if self.earlier_s > 0 else 'later'} on average"
        if not self.simulated:
            return f"It would have deleted none of {counted(self.incarnations, 'runtime')}."
        taken = f"It would have deleted {self.simulated:,} of {counted(self.incarnations, 'runtime')}"
        who = f"{self.only_simulated:,} alone, {self.both:,} as the policy in force did, {when}"
        what = f"{self.disks_lost:,} have no disk to keep, the users of {self.regret:,} were back within 24 h"
        return f"{taken}: {who}; {what}."


def simulate(records: Iterable[Record], limits: Limits, exemptions: tuple[Exemption, ...] | None = None) -> Simulated:
    """What these limits, and perhaps other exemptions, would have done beside all else that each run had.

    The records begin with the frames of all runs. Raises UnknownError where no deletion run is on record, or where they
    are of several environments.
    """
    simulation = Simulation(limits, exemptions)
    for record in records:
        simulation.add(record)
    return simulation.answer()


@dataclass(frozen=True, slots=True)
class _Judging:
    """The simulated policy as one run would have had it."""

    policy: DeletionPolicy
    """Without exemptions."""
    of_run: tuple[Exemption, ...]
    other: tuple[Exemption, ...] | None
    """Exemptions in the place of the run's own."""

    def judge(self, record: Record, at: datetime, *, looked_at: bool) -> tuple[Decision, bool]:
        """The decision, and whether the log leaves it open.

        Where a run condemned by its list alone, so does the simulated policy; what the run kept by its list, the other
        policy would have looked at before it took it.
        """
        runtime = runtime_of(record)
        matching, perhaps = self._exemptions(record, runtime)
        policy = as_told(self.policy, record)
        policy = replace(policy, exemptions=matching) if matching else policy
        decision = policy.judge(runtime, at, second_look=looked_at)
        if decision.action is Action.KEEP:
            return decision, False
        doubt = any(not exemption.lapsed(at) for exemption in perhaps)
        if not looked_at and record.action == Action.KEEP:
            least = policy.judge(runtime._replace(autopause_threshold=NO_THRESHOLD), at, second_look=True)
            if least.action is Action.KEEP:
                return least, False
            doubt |= policy.judge(runtime, at, second_look=True).action is Action.KEEP  # by an unread threshold
        return decision, doubt

    def _exemptions(self, record: Record, runtime: Runtime) -> tuple[tuple[Exemption, ...], list[Exemption]]:
        """Those that match, and those that may."""
        if self.other is not None:
            candidates = self.other
        elif record.exemption is not None:
            return (_matching_all(exemption_of(record.exemption)),), []
        elif is_older(record) and record.reason in RULED_OUT:  # the others would have been exempt
            candidates = self.of_run
        else:
            return (), []
        told = [(exemption, match_on_record(exemption, runtime)) for exemption in candidates]
        matching = tuple(_matching_all(exemption) for exemption, how in told if how)
        return matching, [exemption for exemption, how in told if how is None]


class _Run(NamedTuple):
    """What a record's run says of its judgement."""

    now: datetime | None
    judging: _Judging | None
    """None where its policy is not on record."""


NOT_ON_RECORD = _Run(None, None)


class _Life(msgspec.Struct, gc=False):
    """One incarnation, in what is asked of it; a month has as many as there are deletions."""

    project: str | None
    name: str | None
    creator: str | None
    disk: str | None = None
    judging: _Judging | None = None
    created: datetime | None = None
    accessed: datetime | None = None
    status: str | None = None
    spared_until: datetime | None = None
    """As it was when it was seen last."""
    due: datetime = LONG_AGO
    """Before this nobody need judge it again, as long as it stays as it was."""
    in_force_at: datetime | None = None
    accepted_at: datetime | None = None
    simulated_at: datetime | None = None
    unknown_at: datetime | None = None
    reason: str | None = None
    was_running: bool = False
    """When the simulated policy took it."""
    used: bytes = b""
    """Instants at which it was used, packed, in seconds; negative where a pause alone would explain them."""

    def kind(self) -> Kind:
        ours = self.simulated_at
        if self.unknown_at is not None and (ours is None or self.unknown_at < ours):
            return "unknown"
        if self.accepted_at is not None and (ours is None or ours > self.accepted_at):
            return "cut_off"
        if ours is None:
            return "neither" if self.in_force_at is None else "only_in_force"
        return "only_simulated" if self.in_force_at is None else "both"

    def back_at(self) -> datetime | None:
        """The first use within 24 hours of the simulated deletion."""
        if self.simulated_at is None:
            return None
        gone = self.simulated_at.timestamp()
        uses = (abs(use) for (use,) in INSTANT.iter_unpack(self.used) if use > 0 or not self.was_running)
        back = min((use for use in uses if gone < use <= gone + BACK_WITHIN.total_seconds()), default=None)
        return None if back is None else datetime.fromtimestamp(back, UTC)


class Simulation:
    """The other policy over a log, as its records come by."""

    def __init__(self, limits: Limits, exemptions: tuple[Exemption, ...] | None = None) -> None:
        self._limits = dict(limits)
        self._exemptions = exemptions
        self._runs: dict[str, Record] = {}
        """The first record of each that judged what was there, when it was there."""
        self._judged_by: dict[str, _Run] = {}
        self._alike: dict[_Judging, _Judging] = {}
        self._passed_over: set[str] = set()
        """Runs of other jobs, of a saved list, as of another instant, or that rehearsed another policy."""
        self._all_begun = False
        self._lives: dict[str, _Life] = {}

    def add(self, record: Record) -> None:
        if record.event == "runtime_audited":
            if not self._all_begun:
                self._pass_over_rehearsals()
            if record.job == DELETION_JOB and record.run_id not in self._passed_over:
                self._audited(record)
        elif record.event == "run_started":
            self._begin(record)

    def _begin(self, started: Record) -> None:
        scope = started.scope
        if started.job != DELETION_JOB or (scope is not None and (scope.as_of or scope.inventory)):
            self._passed_over.add(started.run_id)
            return
        self._runs.setdefault(started.run_id, started)
        policy, judging = deletion_policy(started), None
        if policy is not None:
            changed = replace(policy, exemptions=(), **self._limits)
            judging = _Judging(changed, policy.exemptions, self._exemptions)
            judging = self._alike.setdefault(judging, judging)
        self._judged_by[started.run_id] = _Run(started.now, judging)

    def _pass_over_rehearsals(self) -> None:
        """Once all runs have begun: what was rehearsed was in force for nobody."""
        self._all_begun = True
        for run_id in rehearsals_of_another_policy([*self._runs.values()]):
            self._passed_over.add(run_id)
            del self._runs[run_id]

    def _audited(self, record: Record) -> None:
        at, run = record.judged_at, self._judged_by.get(record.run_id, NOT_ON_RECORD)
        if record.runtime_id is None or at is None or record.reason in LEFT_OUT or record.outcome in NOT_OURS:
            return
        if at == run.now:
            at = run.now  # all of a run share it
        life = self._lives.get(record.runtime_id)
        if life is None:
            life = self._lives[record.runtime_id] = _Life(
                _interned(record.project), _interned(record.name), _interned(record.creator)
            )
        if record.action == Action.DELETE:
            life.in_force_at = _earlier(life.in_force_at, at)
            if record.outcome in LEAVING and not record.dry_run:
                life.accepted_at = _earlier(life.accepted_at, at)
        if run.judging is None:
            life.unknown_at = _earlier(life.unknown_at, at)
            return
        if not _as_before(life, record, run.judging):
            _note(life, record, run.judging)
        if at >= life.due and (life.simulated_at is None or at < life.simulated_at):
            _judge(life, record, at, run.judging, looked_at=was_looked_at_again(record, run.now))
        if life.accepted_at is at:
            _forget(life)

    def answer(self) -> Simulated:
        """What the records added up to; they are let go on the way. Raises UnknownError."""
        if not self._all_begun:
            self._pass_over_rehearsals()
        runs = sorted(self._runs.values(), key=in_time)
        if not runs:
            raise NotThereError("there is no deletion run in the records")
        only_environment(run.environment for run in runs)
        counts: Counter[str] = Counter()
        rows: list[Taken] = []
        for row in self._rows():
            counts[row.kind] += 1
            if row.kind != "neither":
                rows.append(row)
        rows.sort(key=_whose_and_when)
        ours = [row for row in rows if row.kind in ("both", "only_simulated")]
        newest = deletion_policy(runs[-1])
        return Simulated(
            policy={} if newest is None else replace(newest, **self._limits).written(),
            in_force={} if newest is None else newest.written(),
            since=runs[0].now or in_time(runs[0])[0],
            until=runs[-1].now or in_time(runs[-1])[0],
            runs=len(runs),
            incarnations=counts.total(),
            both=counts["both"],
            only_simulated=counts["only_simulated"],
            cut_off=counts["cut_off"],
            only_in_force=counts["only_in_force"],
            unknown=counts["unknown"],
            neither=counts["neither"],
            disks_lost=sum(row.disk == Disk.LOST for row in ours),
            regret=sum(row.back_at is not None for row in ours),
            earlier_s=sum(row.earlier_s or 0.0 for row in ours),
            rows=rows,
        )

    def _rows(self) -> Iterator[Taken]:
        while self._lives:
            runtime_id, life = self._lives.popitem()
            kind = life.kind()
            ours = life.simulated_at if kind in ("both", "only_simulated") else None
            yield Taken(
                kind=kind,
                runtime_id=runtime_id,
                project=life.project,
                name=life.name,
                creator=life.creator,
                disk=life.disk,
                reason=None if ours is None else life.reason,
                simulated_at=ours,
                in_force_at=life.in_force_at,
                earlier_s=(life.in_force_at - ours).total_seconds() if ours and life.in_force_at else None,
                back_at=None if ours is None else life.back_at(),
            )


def _whose_and_when(row: Taken) -> tuple[str, str, str, datetime, str]:
    at = row.simulated_at or row.in_force_at or NEVER
    return row.project or "", row.creator or "", row.name or "", at, row.runtime_id


def _judge(life: _Life, record: Record, at: datetime, judging: _Judging, *, looked_at: bool) -> None:
    decision, doubt = judging.judge(record, at, looked_at=looked_at)
    if decision.action is Action.KEEP:
        if decision.reason in (Reason.EXEMPT, Reason.WITHIN_POLICY):
            life.due = decision.due_at or NEVER
        elif decision.reason in RULED_OUT - {Reason.FUTURE_DATED}:
            life.due = NEVER
    elif doubt:
        life.unknown_at = _earlier(life.unknown_at, at)
    else:
        life.simulated_at, life.reason, life.disk = at, decision.reason, record.disk
        life.was_running = record.status != RESTING


def _as_before(life: _Life, record: Record, judging: _Judging) -> bool:
    """Whether it was judged as it is, but for the time that has passed."""
    return (
        record.date_accessed == life.accessed
        and record.status == life.status
        and record.created_date == life.created
        and (None if record.exemption is None else record.exemption.until) == life.spared_until
        and judging is life.judging
    )


def _note(life: _Life, record: Record, judging: _Judging) -> None:
    """It is seen as it was not before."""
    if record.date_accessed is not None and record.date_accessed != life.accessed:
        if record.status in USABLE:
            life.used += INSTANT.pack(record.date_accessed.timestamp())
        elif record.status == RESTING:
            life.used += INSTANT.pack(-record.date_accessed.timestamp())
    created = record.created_date
    life.judging, life.created, life.accessed = judging, created, record.date_accessed
    life.status = _interned(record.status)
    life.spared_until = None if record.exemption is None else record.exemption.until
    life.due = LONG_AGO if created is None else judging.policy.never_before(created)


def _forget(life: _Life) -> None:
    """It is on its way out: whatever is told of it still is judged anew."""
    life.judging = life.created = life.accessed = life.status = None
    life.due = LONG_AGO


def _matching_all(exemption: Exemption) -> Exemption:
    """The same without what a record does not hold, once it is known to match."""
    return Exemption(until=exemption.until, reason=exemption.reason)


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(text)


def _earlier(known: datetime | None, at: datetime) -> datetime:
    return at if known is None or at < known else known
