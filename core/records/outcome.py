"""The one table of outcomes: what each means, how grave it is, how it is said; who gives which is the run's matter."""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from core.rules.confirmation import Confirmation
from core.rules.decision import Action


class Outcome(StrEnum):
    """What became of a runtime in this run; the words never change."""

    KEPT = "kept"
    WOULD_DELETE = "would_delete"
    DELETION_ACCEPTED = "deletion_accepted"
    SPARED = "spared"
    REPLACED = "replaced"
    GONE = "gone"
    ALREADY_DELETING = "already_deleting"
    CONFLICT = "conflict"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    WITHHELD = "withheld"
    NOT_ATTEMPTED = "not_attempted"
    NOT_IN_PLAN = "not_in_plan"
    EXCEPTED = "excepted"
    OVER_BUDGET = "over_budget"
    WOULD_STOP = "would_stop"
    STOP_ACCEPTED = "stop_accepted"


class Severity(StrEnum):
    """Cloud Logging's words."""

    INFO = "INFO"
    NOTICE = "NOTICE"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Meaning(NamedTuple):
    """What follows from an outcome, for every reader of a record."""

    words: str
    """How a record's sentence begins; `{act}` is what was to be done."""
    severity: Severity = Severity.NOTICE
    planned: bool = False
    """A live run that is held to this one as its plan may act."""
    accepted: bool = False
    """Leonardo said yes to an act of ours."""
    answered: bool = False
    """An act of ours left, and its answer settled the case."""
    looked_at: bool = False
    """The runtime was looked at again, and judged by that."""
    leaving: bool = False
    """The runtime is on its way out, by whomever."""
    not_ours: bool = False
    """The runtime went without us."""
    ended: bool = False
    """The runtime that was listed lives on no more, or only until Leonardo has done what it accepted."""
    failed: bool = False
    """It makes the exit code 1, and the runtime is named in the closing record."""
    open: bool = False
    """Of a deletion that was announced: what became of it has to be asked."""
    needs_person: bool = False


OUTCOMES = {
    Outcome.KEPT: Meaning("kept", Severity.INFO),
    Outcome.WOULD_DELETE: Meaning("would delete", planned=True),
    Outcome.WOULD_STOP: Meaning("would stop", planned=True),
    Outcome.DELETION_ACCEPTED: Meaning(
        "Leonardo accepted to delete", accepted=True, answered=True, looked_at=True, leaving=True, ended=True, open=True
    ),
    Outcome.STOP_ACCEPTED: Meaning("Leonardo accepted to stop", accepted=True, answered=True, looked_at=True),
    Outcome.SPARED: Meaning("spared", looked_at=True),
    Outcome.REPLACED: Meaning("left alone, another runtime has its name now:", not_ours=True, ended=True),
    Outcome.GONE: Meaning("already gone:", not_ours=True, ended=True),
    Outcome.ALREADY_DELETING: Meaning("already being deleted:", answered=True, looked_at=True, leaving=True),
    Outcome.CONFLICT: Meaning("Leonardo cannot just now {act}", Severity.WARNING, answered=True, looked_at=True),
    Outcome.FAILED: Meaning("failed to {act}", Severity.ERROR, failed=True, open=True),
    Outcome.IN_DOUBT: Meaning("in doubt whether Leonardo accepted to {act}", Severity.ERROR, failed=True, open=True),
    Outcome.WITHHELD: Meaning("refused to {act}", Severity.WARNING),
    Outcome.NOT_ATTEMPTED: Meaning("did not get to {act}", Severity.WARNING),
    Outcome.NOT_IN_PLAN: Meaning("not in the plan to {act}"),
    Outcome.EXCEPTED: Meaning("told not to {act}"),
    Outcome.OVER_BUDGET: Meaning("left for a later run to {act}"),
}

CONFIRMATIONS = {
    Confirmation.CONFIRMED: Meaning("confirmed"),
    Confirmation.PENDING: Meaning("pending", open=True),
    Confirmation.STUCK: Meaning("stuck", Severity.WARNING, open=True, failed=True, needs_person=True),
    Confirmation.ERRORED: Meaning("errored", Severity.WARNING, open=True, failed=True, needs_person=True),
    Confirmation.SURVIVED: Meaning("survived", Severity.WARNING, open=True, failed=True, needs_person=True),
    Confirmation.NEVER_HAPPENED: Meaning("never happened", open=True),
    Confirmation.NOT_VISIBLE: Meaning("not visible", Severity.WARNING, open=True, failed=True, needs_person=True),
}


@cache
def in_words(outcome: Outcome, action: str) -> str:
    """What became of what was to be done; where that was nothing, a runtime was looked at."""
    return OUTCOMES[outcome].words.format(act="check" if action == Action.KEEP else action)


def outcomes_that(trait: Callable[[Meaning], bool]) -> frozenset[Outcome]:
    """All outcomes of which something is true: `outcomes_that(lambda of: of.failed)`."""
    return frozenset(outcome for outcome, meaning in OUTCOMES.items() if trait(meaning))


ACCEPTED = outcomes_that(lambda of: of.accepted)
ANSWERED = outcomes_that(lambda of: of.answered)
ENDED = outcomes_that(lambda of: of.ended)
FAILED = outcomes_that(lambda of: of.failed)
LEAVING = outcomes_that(lambda of: of.leaving)
LOOKED_AT = outcomes_that(lambda of: of.looked_at)
NOT_OURS = outcomes_that(lambda of: of.not_ours)
OPEN = outcomes_that(lambda of: of.open)
PLANNED = outcomes_that(lambda of: of.planned)
FAILED_CONFIRMATIONS = frozenset(word for word, meaning in CONFIRMATIONS.items() if meaning.failed)
NEEDS_A_PERSON = frozenset(word for word, meaning in CONFIRMATIONS.items() if meaning.needs_person)
