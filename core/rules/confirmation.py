"""What became of a deletion that was asked for, by what Leonardo says later: 202 is a promise, not a deletion."""

from datetime import datetime, timedelta
from enum import StrEnum

from core.rules.decision import since
from core.runtime import Runtime, RuntimeStatus


class Confirmation(StrEnum):
    """The words stand in records, so they never change."""

    CONFIRMED = "confirmed"
    PENDING = "pending"
    STUCK = "stuck"
    """Leonardo has lost it on the way: Deleting is not deletable again, so it stays until a person acts."""
    SURVIVED = "survived"
    """Accepted and then lost: Leonardo's autopause can overwrite an accepted deletion."""
    NEVER_HAPPENED = "never_happened"
    NOT_VISIBLE = "not_visible"


NEEDS_A_PERSON = frozenset({Confirmation.STUCK, Confirmation.SURVIVED, Confirmation.NOT_VISIBLE})


def confirm(state: Runtime | None, *, accepted: bool, instant: datetime, stuck_after: timedelta) -> Confirmation:
    """Judge this very incarnation as its project's list shows it, deleted ones included; None is not listed.

    `accepted` is whether Leonardo had answered 202. Deleting for `stuck_after` or longer is stuck; `dateAccessed`, set
    by every change of status, tells since when, and without it a deletion is pending.
    """
    if state is None:
        return Confirmation.NOT_VISIBLE
    if state.status == RuntimeStatus.DELETED:
        return Confirmation.CONFIRMED
    if state.status == RuntimeStatus.DELETING:
        lasting = since(state.date_accessed, instant)
        return Confirmation.STUCK if lasting is not None and lasting >= stuck_after else Confirmation.PENDING
    return Confirmation.SURVIVED if accepted else Confirmation.NEVER_HAPPENED
