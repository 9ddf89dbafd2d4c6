"""Whether a task's closing record agrees with all the others of the task, as they were counted."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from core.exit_code import ExitCode, exit_code_of
from core.records.events import ALL_RUNTIMES, LOG_UNREAD, MOST_NAMES
from core.records.outcome import ANSWERED, LEAVING, Outcome
from core.records.reader import Record
from core.rules.decision import CLOCK_TOLERANCE
from core.rules.guards import INVENTORY_GUARDS, SMALL_RUN, Caps, Guard
from core.rules.words import counted
from core.runtime import RuntimeStatus
from core.verify.decisions import NOT_TRIED, WOULD, Alike, Words, words_of
from core.verify.finding import Kind
from core.verify.rejudge import DELETION_JOB, POLICIES

Fault = tuple[Kind, str]
BEFORE_ANY_ACT = frozenset({*INVENTORY_GUARDS, Guard.MAX_ACTS, Guard.MAX_ACT_SHARE, Guard.PLAN, Guard.NOTICES}) - {
    Guard.CLOCK_SKEW
}
"""Guards that stop a run before its first act."""
RELEASED = frozenset({Outcome.WITHHELD, Outcome.NOT_ATTEMPTED})
"""As which those of a list end that broke off or was cut off, before any comes to its turn."""
CUT_SHORT = (ExitCode.STOPPED, ExitCode.UNRECORDED)


@dataclass(slots=True)
class Tally:
    """What the records of one task come to."""

    decisions: dict[tuple[Any, ...], Alike] = field(default_factory=dict)
    attempts: int = 0
    unreadable: int = 0
    skipped: bool = False
    confirmations: Counter[str] = field(default_factory=Counter)
    disks: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refusals: list[Record] = field(default_factory=list)

    def note(self, record: Record) -> None:
        """What is neither about a listed runtime nor about an act."""
        match record.event:
            case "disk_audited":
                self.disks[record.reason] += 1
            case "notice_requested" | "notice_sent" | "notice_failed":
                self.confirmations[record.event] += 1
                self.failed.update([record.path] * (record.event == "notice_failed"))
            case "run_refused":
                self.refusals.append(record)
            case "run_skipped":
                self.skipped = True
            case "project_unreadable":
                self.unreadable += 1
                self.failed[record.project or ALL_RUNTIMES] += 1
            case "runtime_missing":
                self.failed[record.path] += 1
            case _:
                pass

    def add_decision(self, record: Record) -> Alike:
        """The decision about a runtime, counted among those in the same words."""
        words = words_of(record)
        alike = self.decisions.get(words)
        if alike is None:
            alike = self.decisions[words] = Alike(Words(*words))
        alike.count += 1
        if record.attempts:
            self.attempts += record.attempts
        return alike

    def count(self, which: Callable[[Words], bool]) -> int:
        """How many decisions there are of which something is true."""
        return sum(alike.count for alike in self.decisions.values() if which(alike.words))

    def count_by(self, word: Callable[[Words], str]) -> Counter[str]:
        counts = Counter[str]()
        for alike in self.decisions.values():
            counts[word(alike.words)] += alike.count
        return counts

    @property
    def audited(self) -> int:
        return self.count(lambda _: True)

    @property
    def answered(self) -> int:
        """Acts whose answer settled the case."""
        return self.count(lambda of: of.outcome in ANSWERED)

    def outcomes(self) -> Counter[str]:
        return self.confirmations + self.count_by(lambda of: of.outcome)

    @property
    def guards(self) -> set[str]:
        return {refusal.guard or "" for refusal in self.refusals}


def closing_faults(closing: Record, tally: Tally, started: Record | None, *, announced: int) -> Iterator[Fault]:
    """What a closing record says and the others do not."""
    if closing.listed is None and not tally.audited:
        return
    yield from _count_faults(closing, tally)
    yield from _name_faults(closing, tally)
    yield from _refusal_faults(closing, tally)
    yield from _call_faults(closing, tally, started, announced)
    yield from _list_faults(closing, tally)
    yield from _exit_code_faults(closing, tally)
    measured = closing.oldest, closing.over_age, closing.late_s
    if closing.job != DELETION_JOB and measured != (None, None, None):
        yield Kind.PROMISE, "run_finished measures a promise, which its job does not"
    if started is not None:
        yield from _duration_faults(closing, started)
        yield from _cap_faults(closing, tally, started)
        yield from _expectation_faults(closing, tally, started)
        yield from _budget_faults(closing, tally, started)


def _count_faults(closing: Record, tally: Tally) -> Iterator[Fault]:
    if not closing.listed == closing.audited == tally.audited:
        yield (
            Kind.COUNTS,
            f"run_finished says {closing.listed} listed and {closing.audited} audited,"
            f" there are {tally.audited} runtime_audited",
        )
    for name, said, found in (
        ("actions", closing.actions, tally.count_by(lambda of: of.action)),
        ("reasons", closing.reasons, tally.disks + tally.count_by(lambda of: of.reason)),
        ("outcomes", closing.outcomes, tally.outcomes()),
    ):
        if said is not None and said != found:
            yield Kind.COUNTS, f"run_finished counts {name} {_shown(said)}, the records give {_shown(found)}"
    living = tally.count(_lives_on)
    if closing.living is not None and closing.living != living:
        yield Kind.COUNTS, f"run_finished says {closing.living} living, the records give {living}"


def _lives_on(of: Words) -> bool:
    return not (of.outcome in LEAVING or of.outcome == Outcome.GONE or of.status == RuntimeStatus.DELETING)


def _name_faults(closing: Record, tally: Tally) -> Iterator[Fault]:
    if closing.failed is None:
        return
    told = (text.removeprefix(LOG_UNREAD) for text in closing.warnings if text.startswith(LOG_UNREAD))
    failed = tally.failed + Counter(told)
    said = Counter(closing.failed)
    missing = failed - said if failed.total() <= MOST_NAMES else Counter[str]()
    cut = "failed" in (closing.truncated or ()) or any("…" in name for name in (*said, *failed))
    if not cut and ((said - failed) or missing):
        yield Kind.FAILED, f"run_finished names as failed {_shown(said)}, the records give {_shown(failed)}"


def _refusal_faults(closing: Record, tally: Tally) -> Iterator[Fault]:
    guards = tally.guards
    if closing.refused_by is not None and set(closing.refused_by) != guards:
        yield (
            Kind.REFUSALS,
            f"run_finished says it was refused by {closing.refused_by}, the records by {sorted(guards)}",
        )
    skewed = abs(closing.clock_skew_s or 0) > CLOCK_TOLERANCE.total_seconds()
    refused = Guard.CLOCK_SKEW in guards
    if (refused and not skewed) or (skewed and not refused and tally.attempts and not _settled_by_lists(closing)):
        yield (
            Kind.REFUSALS,
            f"run_finished says a clock skew of {closing.clock_skew_s} s, which is not how the run went",
        )
    early, acted = sorted(guards & BEFORE_ANY_ACT), tally.count(lambda of: of.acted)
    if early and acted:
        yield Kind.REFUSALS, f"the run was refused by {early[0]}, and {counted(acted, 'runtime')} acted on"
    if tally.skipped and (tally.audited or tally.attempts):
        yield Kind.COUNTS, "run_skipped says that nothing was listed, and there are decisions"
    for refusal in tally.refusals:
        if max(refusal.candidates or 0, refusal.listed or 0) > max(closing.listed or 0, tally.confirmations.total()):
            if tally.confirmations or closing.job not in POLICIES:
                continue
            yield Kind.REFUSALS, f"run_refused says {refusal.candidates} of {refusal.listed}, which were not listed"


def _settled_by_lists(closing: Record) -> bool:
    """Whether more lists were asked for than the sweep goes by: nothing is judged by the clock as these are read."""
    asked, lists = closing.calls or {}, closing.lists
    return lists is not None and asked.get("list", 0) > lists.read + lists.unread


def _call_faults(closing: Record, tally: Tally, started: Record | None, announced: int) -> Iterator[Fault]:
    calls = closing.calls
    if calls is None:
        return
    sent = calls.get("delete", 0) + calls.get("stop", 0)
    if sent != tally.attempts:
        yield Kind.CALLS, f"run_finished says {counted(sent, 'act')} sent, the records give {tally.attempts}"
    outcomes = tally.outcomes()
    thresholds = tally.count(lambda of: of.looked)
    looks = max(announced, thresholds, outcomes[Outcome.SPARED] + outcomes[Outcome.REPLACED])
    if calls.get("get", 0) < looks:
        yield Kind.CALLS, f"run_finished says {calls.get('get', 0)} GETs, the records give {looks} looks"
    saved = started is not None and started.scope is not None and started.scope.inventory is not None
    if closing.lists is not None and not saved and calls.get("list", 0) < closing.lists.read:
        yield Kind.CALLS, f"run_finished says {calls.get('list', 0)} list calls, and {closing.lists.read} lists read"


def _list_faults(closing: Record, tally: Tally) -> Iterator[Fault]:
    lists = closing.lists
    if lists is None or closing.job not in POLICIES:
        return
    if lists.unread != tally.unreadable:
        yield Kind.LISTS, f"run_finished says {lists.unread} lists unread, the records give {tally.unreadable}"
    if not (lists.read or lists.unread or closing.exit_code == ExitCode.UNRECORDED) and tally.audited:
        yield Kind.LISTS, "run_finished says that no list was read, and there are decisions"


def _exit_code_faults(closing: Record, tally: Tally) -> Iterator[Fault]:
    code = closing.exit_code
    if code is None or code == ExitCode.UNRECORDED:  # of a lost record only the code itself can tell
        return
    outcomes, lists = tally.outcomes(), closing.lists
    nothing_read = tally.unreadable > 0 and not (tally.audited if lists is None else lists.read)
    unfinished = outcomes[Outcome.NOT_ATTEMPTED] > 0
    excuses = unfinished or tally.unreadable or outcomes[Outcome.FAILED] or outcomes[Outcome.IN_DOUBT]
    stopped = {True} if unfinished else {False, True} if excuses or closing.job not in POLICIES else {False}
    failed = bool(tally.failed) or any(text.startswith(LOG_UNREAD) for text in closing.warnings)
    possible = {
        exit_code_of(
            unrecorded=False,
            stopped=stop,
            signalled=signalled,
            nothing_read=nothing_read,
            refused=bool(tally.refusals),
            failed=failed,
        )
        for stop in stopped
        for signalled in (False, True)
    }
    if code not in possible:
        yield Kind.EXIT_CODE, f"run_finished says exit code {code}, which is not what the records show"


def _duration_faults(closing: Record, started: Record) -> Iterator[Fault]:
    if closing.duration_s is None or closing.time is None or started.time is None:
        return
    lasted = (closing.time - started.time).total_seconds()
    if abs(lasted - closing.duration_s) > CLOCK_TOLERANCE.total_seconds():
        yield Kind.DURATION, f"run_finished says {closing.duration_s} s, its records span {lasted} s"


def _cap_faults(closing: Record, tally: Tally, started: Record) -> Iterator[Fault]:
    limits = started.limits
    most, share = limits.get("max_acts"), limits.get("max_act_share")
    if not isinstance(most, float | int) or not isinstance(share, float | int) or closing.job not in POLICIES:
        return
    small = -(-SMALL_RUN // max(1, closing.task_count))
    caps = Caps(max_acts=int(most), max_act_share=share, small_run=small)
    acted = tally.count(lambda of: of.acted)
    for refusal in caps.refusals(acts=acted, listed=tally.audited):
        yield Kind.CAPS, f"the run acted beyond its caps: {refusal.detail}"
    planned = {*WOULD, Outcome.OVER_BUDGET} if started.plan is None else WOULD
    would = tally.count(lambda of: of.outcome in planned)
    tripped = {refusal.guard.value for refusal in caps.refusals(acts=would, listed=tally.audited)}
    if closing.would_be_refused_by is not None and closing.dry_run and set(closing.would_be_refused_by) != tripped:
        said = closing.would_be_refused_by
        yield Kind.CAPS, f"run_finished says a live run would be refused by {said}, its caps give {sorted(tripped)}"


def _expectation_faults(closing: Record, tally: Tally, started: Record) -> Iterator[Fault]:
    """A sweep that read all its lists, and fewer runtimes than it was to expect, is refused."""
    lists, listed, scope = closing.lists, closing.listed, started.scope
    single = scope is not None and scope.only is not None
    if closing.job not in POLICIES or single or closing.task_count > 1 or tally.skipped or lists is None:
        return
    if lists.unread or not lists.read or listed is None or closing.exit_code in CUT_SHORT:
        return
    least = started.limits.get("expect_at_least", 0)
    if listed == 0 and started.limits.get("allow_empty") is False and Guard.EMPTY_INVENTORY not in tally.guards:
        yield Kind.CAPS, "the run listed nothing, which it was not to accept, and was not refused"
    elif isinstance(least, float | int) and listed < least and Guard.EXPECT_AT_LEAST not in tally.guards:
        yield Kind.CAPS, f"the run was to expect {least} runtimes at least, listed {listed}, and was not refused"


def _budget_faults(closing: Record, tally: Tally, started: Record) -> Iterator[Fault]:
    """Where no more than so many were to be acted on, the others are over the budget, and nothing else is."""
    at_most = started.limits.get("at_most")
    over = tally.count(lambda of: of.outcome == Outcome.OVER_BUDGET)
    came_to_their_turn = tally.count(lambda of: of.outcome not in NOT_TRIED)
    read = closing.lists is not None and not closing.lists.unread and closing.exit_code not in CUT_SHORT
    released = 0 if read else tally.count(lambda of: of.outcome in RELEASED)
    if not isinstance(at_most, float | int):
        if over:
            yield Kind.CAPS, f"{counted(over, 'runtime')} over the budget of a run that had none"
    elif tally.count(lambda of: of.acted or of.outcome in WOULD) > at_most:
        yield Kind.CAPS, f"the run was to act on {at_most} at most, and did on more"
    elif over and closing.job == DELETION_JOB and not came_to_their_turn - released <= at_most <= came_to_their_turn:
        yield Kind.CAPS, f"{counted(over, 'runtime')} over a budget of {at_most}, and {came_to_their_turn} within it"


def _shown(counts: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
