"""When the rule takes a runtime, by its record: if nobody uses it, and whatever anybody does; pure."""

from datetime import datetime

from core.records.outcome import LEAVING, NOT_OURS
from core.records.reader import Record
from core.rules.deletion import DeletionPolicy
from core.verify.rejudge import exemption_of

NOT_DUE = LEAVING | NOT_OURS
"""How runs leave what no later one has to take."""


def due_at(record: Record) -> datetime | None:
    """If nobody uses it; None where nothing is due, or no more."""
    if not isinstance(record.due_at, datetime) or record.outcome in NOT_DUE:
        return None
    return record.due_at


def final_at(record: Record, policy: DeletionPolicy | None) -> datetime | None:
    """Whatever anybody does, once its exemption has ended; None where its age or the policy is not on record."""
    if policy is None or record.created_date is None:
        return None
    exemption = None if record.exemption is None else exemption_of(record.exemption)
    return policy.final_at(record.created_date, exemption)
