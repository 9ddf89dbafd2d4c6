"""Which deletions of the audit log have no confirmed end yet; pure. Asking Leonardo about them is the job's matter."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.records.events import Outcome
from core.records.reader import Record
from core.records.selection import Match, Wanted
from core.rules.confirmation import Confirmation

SETTLED = frozenset(
    {Outcome.ALREADY_DELETING, Outcome.CONFLICT, Outcome.GONE, Outcome.REPLACED, Outcome.SPARED, Outcome.NOT_ATTEMPTED}
)
"""Ends after which nothing is open, though there was an intent; NOT_ATTEMPTED only where nothing was sent."""
TOLD: Wanted = (
    Match(events=("deletion_requested", "deletion_confirmed")),
    Match(outcomes=(*sorted(SETTLED), Outcome.DELETION_ACCEPTED, Outcome.FAILED, Outcome.IN_DOUBT)),
)
"""What tells of deletions: all else need not be read."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A deletion that was announced, and whether Leonardo had accepted it."""

    runtime_id: str
    project: str
    name: str
    run_id: str
    accepted: bool


def unconfirmed(records: Iterable[Record], since: datetime) -> list[Unconfirmed]:
    """Of each runtime's deletions announced since then the last one, unless it is settled or was confirmed before."""
    intents: dict[str, Record] = {}
    ends: dict[tuple[str, str], Record] = {}
    confirmed: set[str] = set()
    for record in records:
        identity = record.runtime_id
        if identity is None:
            continue
        match record.event:
            case "deletion_requested" if record.time is not None and record.time >= since:
                known = intents.get(identity)
                if known is None or known.time is None or known.time <= record.time:
                    intents[identity] = record
            case "runtime_audited" if record.action == "delete" or record.attempts:
                ends[record.run_id, identity] = record
            case "deletion_confirmed" if record.outcome == Confirmation.CONFIRMED:
                confirmed.add(identity)
    return [
        Unconfirmed(
            identity,
            intent.project or "",
            intent.name or "",
            intent.run_id,
            end is not None and end.outcome == Outcome.DELETION_ACCEPTED,
        )
        for identity, intent in intents.items()
        if identity not in confirmed and not _settled(end := ends.get((intent.run_id, identity)))
    ]


def _settled(end: Record | None) -> bool:
    if end is None:
        return False
    return end.outcome in SETTLED and not (end.outcome == Outcome.NOT_ATTEMPTED and end.attempts)
