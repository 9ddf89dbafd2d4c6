"""Whether a closing record says of ages, delays and exemptions what the decisions of its task come to."""

from collections.abc import Iterator, Sequence

from msgspec import UNSET

from core.exit_code import ExitCode
from core.records.reader import OldestDetail, Record
from core.rules.decision import Reason
from core.rules.promise import End, Promise
from core.verify.decisions import Alike, Fault
from core.verify.finding import Kind
from core.verify.rejudge import DUPLICATE, Rules, exemption_of, match_on_record, runtime_of


class Standing:
    """How a task left its fleet, as far as its decisions tell."""

    def __init__(self, rules: Rules | None) -> None:
        max_age = None if rules is None else rules.policy.promised_age
        self._promise = None if max_age is None else Promise(max_age)
        self._max_age = 0.0 if max_age is None else max_age.total_seconds()
        self._enough = float("-inf")
        """Whoever is younger than this changes nothing."""
        self._exemptions = () if rules is None else rules.exemptions
        self._matched = [0] * len(self._exemptions)
        """How many runtimes each matches for certain: labels and omitted creators are on no record."""
        self._may_match = [0] * len(self._exemptions)
        self._due = True
        """Whether each that was accepted says when it was due: older ones do not."""
        self.unused: list[Record] = []
        """Those that say that an exemption matches nothing."""

    def add(self, record: Record, alike: Alike) -> None:
        if not alike.ended:
            age = record.age_s
            if self._promise is not None and not (isinstance(age, float) and age < self._enough):
                self._live_on(record, self._promise)
        elif alike.accepted and self._promise is not None:
            self._promise.accepted(record)
            self._due = self._due and record.due_at is not UNSET
        if self._exemptions and alike.judged and record.reason != DUPLICATE:
            runtime = runtime_of(record)
            for place, exemption in enumerate(self._exemptions):
                matches = match_on_record(exemption, runtime)
                self._matched[place] += matches is True
                self._may_match[place] += matches is not False

    def _live_on(self, record: Record, promise: Promise) -> None:
        """Of some that are equally old the run names the first; records may come in any order."""
        promise.lives_on(record)
        first = promise.oldest
        equal = record.age_s == promise.oldest_age and record.reason != Reason.EXEMPT
        if equal and isinstance(first, Record) and record.seq < first.seq:
            promise.oldest = record
        self._enough = min(promise.oldest_age, self._max_age)

    def faults(self, closing: Record, started: Record) -> Iterator[Fault]:
        """What a closing record says and the decisions do not."""
        if self._promise is not None and closing.over_age is not None:  # older ones do not say
            yield from _promise_faults(closing, self._promise)
            if self._due:
                yield from _delay_faults(closing, self._promise)
        said = closing.exemptions_matched
        if said is None or len(started.exemptions) != len(self._exemptions):
            return
        can_be = list(zip(self._matched, self._may_match, strict=True))
        if len(said) != len(can_be) or not all(low <= n <= high for n, (low, high) in zip(said, can_be, strict=True)):
            yield Kind.EXEMPTIONS, f"run_finished says {said} runtimes match its exemptions, the records give {can_be}"
            return
        yield from self._unused_faults(closing, started, said)

    def _unused_faults(self, closing: Record, started: Record, matched: Sequence[int]) -> Iterator[Fault]:
        unused = [exemption_of(record.exemption) for record in self.unused if record.exemption is not None]
        used = [one for one, count in zip(self._exemptions, matched, strict=True) if count]
        if any(record.exemption is not None and record.exemption.lapsed for record in self.unused):
            yield Kind.EXEMPTIONS, "exemption_unused names one that has lapsed"
        for one in unused:
            if one not in self._exemptions or one in used:
                yield Kind.EXEMPTIONS, f"exemption_unused names one that is in use, or none of the run's: {one.reason}"
        scope, lists = started.scope, closing.lists
        everything = (
            started.task_count == 1
            and (scope is None or (scope.projects is None and scope.only is None))
            and (lists is not None and lists.read > 0 and not lists.unread)
            and closing.exit_code != ExitCode.UNRECORDED
        )
        for detail, one in zip(started.exemptions, self._exemptions, strict=True):
            if everything and not detail.lapsed and one not in used and one not in unused:
                yield Kind.EXEMPTIONS, f"no exemption_unused tells that one matches nothing: {one.reason}"


def _promise_faults(closing: Record, promise: Promise) -> Iterator[Fault]:
    if closing.over_age != promise.over_age:
        told, found = dict(closing.over_age or {}), dict(promise.over_age)
        yield Kind.PROMISE, f"run_finished counts over_age {told}, the records give {found}"
    said, oldest = closing.oldest, promise.oldest
    if (said is None or (said.age_s, *_who(said))) != (oldest is None or (promise.oldest_age, *_who(oldest))):
        yield Kind.PROMISE, "run_finished names as the oldest another than the records give"


def _delay_faults(closing: Record, promise: Promise) -> Iterator[Fault]:
    late = None if closing.late_s is None else (closing.late_s.max, closing.late_s.median)
    if late != promise.late:
        yield Kind.PROMISE, f"run_finished says late_s {late}, the records give {promise.late}"


def _who(of: End | OldestDetail) -> tuple[object, ...]:
    return of.project, of.name, of.status, of.reason, of.date_accessed
