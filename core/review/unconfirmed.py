"""Which deletions of the audit log have no confirmed end yet; pure. Asking Leonardo about them is the run's matter."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from core.records.outcome import ANSWERED, CONFIRMATIONS, NOT_OURS, OPEN, OUTCOMES, Outcome
from core.records.reader import LONG_AGO, Record
from core.records.selection import Match, Wanted
from core.rules.confirmation import Confirmation
from core.rules.decision import CLOCK_TOLERANCE, NEVER, Action, Reason
from core.rules.evidence import Evidence

KEPT_BY_THE_RULE = frozenset({Reason.WITHIN_POLICY, Reason.EXEMPT, Reason.KERNEL_MAY_BE_BUSY})
"""Reasons after which a runtime that survived its deletion is to live on."""
ENDS = frozenset[str](word for word, meaning in CONFIRMATIONS.items() if not meaning.open)
"""What is confirmed so is not asked about again; a word that is not known is no end."""
TELLS = (ANSWERED | NOT_OURS) - {Outcome.ALREADY_DELETING}
"""Ends of a later act that tell what became of an older one: what never left, or found it Deleting, does not."""
ABOUT_DELETIONS: Wanted = (
    Match(events=("deletion_requested", "deletion_confirmed")),
    Match(events=("runtime_audited",), outcomes=tuple(sorted(set(OUTCOMES) - {Outcome.KEPT}))),
)
"""What tells of deletions: all else need not be read."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A deletion that was announced, and what is known of it."""

    runtime_id: str
    project: str
    name: str
    run_id: str
    accepted: bool
    """Whether Leonardo had answered 202."""
    persistent_disk_id: str | None = None
    """The newest number on record of the disk that was kept."""
    survived_at: datetime | None = None
    """When it was found to have survived, if that is the newest that is known."""
    not_visible_since: datetime | None = None
    """When it was first found to be out of sight, if it has been since."""
    gone_at: datetime | None = None
    """When it was confirmed without evidence: then it is asked about only where a later run has listed it."""

    @property
    def path(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(slots=True)
class _Known:
    """What the log says of one incarnation, record by record."""

    intents: dict[str, Record] = field(default_factory=dict)
    """By run."""
    ends: dict[str, Record] = field(default_factory=dict)
    """By run."""
    confirmations: list[Record] = field(default_factory=list)


def unconfirmed(records: Iterable[Record], since: datetime) -> list[Unconfirmed]:
    """Of each incarnation the deletion whose end has to be asked, if there is one, as far back as `since`."""
    known: dict[str, _Known] = {}
    for record in records:
        if record.runtime_id is None or (record.time or LONG_AGO) < since:
            continue
        match record.event:
            case "deletion_requested":
                known.setdefault(record.runtime_id, _Known()).intents[record.run_id] = record
            case "runtime_audited" if record.action == Action.DELETE or record.attempts:
                known.setdefault(record.runtime_id, _Known()).ends[record.run_id] = record
            case "deletion_confirmed":
                known.setdefault(record.runtime_id, _Known()).confirmations.append(record)
    found = (_open_case(identity, of) for identity, of in known.items())
    return [case for case in found if case is not None]


def settled_since(cases: Iterable[Unconfirmed], records: Iterable[Record]) -> set[str]:
    """The ids of those that need not be asked about, by what runs have recorded since.

    They survived and a rule has kept them, or were confirmed without evidence and no run has listed them.
    """
    survived = {case.runtime_id: case.survived_at for case in cases if case.survived_at is not None}
    gone = {case.runtime_id: case.gone_at for case in cases if case.gone_at is not None}
    kept, listed = set[str](), set[str]()
    for record in records:
        if record.event != "runtime_audited" or record.runtime_id is None:
            continue
        if record.reason in KEPT_BY_THE_RULE and _time(record) > survived.get(record.runtime_id, NEVER):
            kept.add(record.runtime_id)
        if _time(record) - CLOCK_TOLERANCE > gone.get(record.runtime_id, NEVER):
            listed.add(record.runtime_id)
    return kept | (gone.keys() - listed)


def _open_case(identity: str, of: _Known) -> Unconfirmed | None:
    confirmations = sorted(of.confirmations, key=_time)
    newest = max(of.intents.values(), key=_time, default=None)
    end = next((record for record in reversed(confirmations) if record.outcome in ENDS), None)
    gone_at = None
    if end is not None:
        announced = newest is not None and _time(newest) - _time(end) > CLOCK_TOLERANCE
        if not announced and end.evidence != Evidence.UNLISTED:
            return None
        confirmations = confirmations[confirmations.index(end) + 1 :]
        gone_at = None if announced or confirmations else end.time
    last = confirmations[-1] if confirmations else None
    never_happened = last is not None and last.outcome == Confirmation.NEVER_HAPPENED
    accepted = [end for end in of.ends.values() if end.outcome == Outcome.DELETION_ACCEPTED]
    in_doubt = _in_doubt(of)
    if accepted:  # whatever later runs say of it
        told = max(accepted, key=_time)
    elif in_doubt is not None:
        told = in_doubt
    elif last is not None and (newest is None or not never_happened):  # its acceptance is older than what was read
        told = last
    else:
        return None
    return Unconfirmed(
        identity,
        told.project or "",
        told.name or "",
        told.accepted_run_id or told.run_id,
        accepted=bool(accepted) or (told is last and not never_happened),
        persistent_disk_id=_disk(of),
        survived_at=last.time if last is not None and last.outcome == Confirmation.SURVIVED else None,
        not_visible_since=_not_visible_since(confirmations),
        gone_at=gone_at,
    )


def _time(record: Record) -> datetime:
    return record.time or LONG_AGO


def _in_doubt(of: _Known) -> Record | None:
    """The newest intent of which no later one tells what became of it: that it is being deleted may be due to it."""
    for intent in sorted(of.intents.values(), key=_time, reverse=True):
        end = of.ends.get(intent.run_id)
        if _is_open(end):
            return intent
        if end is None or end.outcome in TELLS:
            return None
    return None


def _is_open(end: Record | None) -> bool:
    """Whether what became of an intent is not known: no end is on record, or one that leaves it open.

    An act that left without an answer may arrive late, also where its runtime was spared since, or where the next try
    found it being deleted.
    """
    if end is None:
        return True
    unanswered = (end.attempts or 0) - (end.outcome in ANSWERED)
    return end.outcome in OPEN or (unanswered > 0 and end.outcome not in NOT_OURS)


def _disk(of: _Known) -> str | None:
    told = sorted([*of.ends.values(), *of.confirmations], key=_time)
    return next((record.persistent_disk_id for record in reversed(told) if record.persistent_disk_id), None)


def _not_visible_since(confirmations: list[Record]) -> datetime | None:
    since = None
    for record in reversed(confirmations):
        if record.outcome != Confirmation.NOT_VISIBLE:
            break
        since = record.time
    return since
