"""Whether what was announced, and what became of it, agree with each other; of one task."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
from msgspec import UnsetType

from core.records.events import MOST_NAMES
from core.records.outcome import ANSWERED
from core.records.reader import Record
from core.rules.decision import CLOCK_TOLERANCE, Action, to_millisecond
from core.verify.finding import Kind
from core.verify.rejudge import Rules

INTENTS = {"deletion_requested": Action.DELETE, "stop_requested": Action.STOP}
LOOK_LASTS = timedelta(seconds=10)
"""An act leaves at most so long after the look that justifies it, and its intent before it."""
A_MILLISECOND = 0.001

Told = tuple[Kind, Record, str]


class _End(msgspec.Struct, gc=False):
    """What a live run says became of a runtime."""

    record: Record
    sent: int


class Acts:
    """The intents and outcomes of one task, by runtime."""

    def __init__(self, rules: Rules | None) -> None:
        self._rules = rules
        self._intents: dict[str, list[Record]] = {}
        self._ends: dict[str, list[_End]] = {}
        self.announced = 0

    def add_intent(self, intent: Record) -> Iterator[Told]:
        self.announced += 1
        self._intents.setdefault(intent.runtime_id or "", []).append(intent)
        if intent.dry_run:
            yield Kind.INTENT, intent, "announces an act in a dry run"
        if intent.action != INTENTS[intent.event]:
            yield Kind.INTENT, intent, f"announces a {intent.action or 'nothing'} as {intent.event}"
        for fault in self._rules.intent_faults(intent) if self._rules is not None else ():
            yield Kind.INTENT, intent, fault

    def add_end(self, end: Record) -> None:
        """Of a live run, and of a runtime that was not merely kept."""
        sent = max(end.attempts, 1 if end.outcome in ANSWERED else 0)
        self._ends.setdefault(end.runtime_id or "", []).append(_End(end, sent))

    def without_outcome(self) -> list[Record]:
        """The intents of the runtimes whose act was announced and has no outcome, one each."""
        return [intents[0] for runtime_id, intents in self._intents.items() if runtime_id not in self._ends]

    def faults(self) -> Iterator[Told]:
        for runtime_id, ends in self._ends.items():
            intents = sorted(self._intents.get(runtime_id, ()), key=lambda intent: intent.seq)
            for end in ends:
                yield from _end_faults(end, intents)
            if intents:
                yield from _intent_faults(intents, max((end.record for end in ends), key=lambda end: end.seq))


def _end_faults(end: _End, intents: list[Record]) -> Iterator[Told]:
    announced = {intent.attempt for intent in intents if intent.seq < end.record.seq}
    if any(number not in announced for number in range(1, min(end.sent, MOST_NAMES) + 1)):
        yield Kind.ACT, end.record, f"is the outcome {end.record.outcome} of an act that no record announced before it"
    if any(intent.path != end.record.path for intent in intents):
        yield Kind.ACT, end.record, "has another name than the act that was announced for its id"


def _intent_faults(intents: list[Record], end: Record) -> Iterator[Told]:
    if intents[-1].seq > end.seq:
        yield Kind.ACT, intents[-1], "announces an act behind its outcome"
    for intent in intents:
        if not 1 <= intent.attempt <= end.attempts + 1:
            yield Kind.ACT, intent, f"announces attempt {intent.attempt}, and {end.attempts} were made"
        looked_at = _looked_at(intent, end)
        if looked_at is None or intent.time is None:
            continue
        if not -CLOCK_TOLERANCE <= intent.time - looked_at <= CLOCK_TOLERANCE + LOOK_LASTS:
            yield Kind.ACT, intent, f"says age_s {intent.age_s}, which is not what its runtime's dates give at its time"
        elif intent is intents[-1] and end.judged_at is not None:
            yield from _last_look_faults(intent, end, looked_at, end.judged_at)


def _last_look_faults(intent: Record, end: Record, looked_at: datetime, judged_at: datetime) -> Iterator[Told]:
    """The outcome's judgement is that of the last look, or of a later one, though a clock was set back between them."""
    behind = (looked_at - judged_at).total_seconds()
    ahead = intent.time is not None and (looked_at - intent.time).total_seconds() > A_MILLISECOND
    if behind > (A_MILLISECOND if ahead else CLOCK_TOLERANCE.total_seconds()):
        yield Kind.ACT, intent, "was judged after its outcome was"
    elif abs(behind) <= A_MILLISECOND and (intent.action, intent.reason) != (end.action, end.reason):
        yield Kind.ACT, intent, f"says {intent.action} ({intent.reason}), its outcome {end.action} ({end.reason})"
    elif abs(behind) <= A_MILLISECOND and _unlike(intent.idle_s, end.idle_s):
        yield Kind.ACT, intent, f"says idle_s {intent.idle_s}, its outcome {end.idle_s}"


def _unlike(one: float | UnsetType | None, other: float | UnsetType | None) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other) > A_MILLISECOND
    return False


def _looked_at(intent: Record, end: Record) -> datetime | None:
    """When the runtime was looked at, by its age then."""
    if end.created_date is None or not isinstance(intent.age_s, float | int):
        return None
    try:
        return to_millisecond(end.created_date) + timedelta(seconds=intent.age_s)
    except OverflowError:
        return end.created_date
