"""Whether a task's closing record agrees with all the others of the task, as they were counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from core.exit_code import ExitCode, exit_code_of
from core.records.events import MOST_NAMES
from core.records.outcome import ANSWERED, LEAVING, Outcome
from core.records.reader import Record
from core.rules.decision import CLOCK_TOLERANCE
from core.rules.guards import INVENTORY_GUARDS, SMALL_RUN, Caps, Guard
from core.rules.words import counted
from core.runtime import RuntimeStatus
from core.verify.decisions import WOULD
from core.verify.finding import Kind
from core.verify.rejudge import POLICIES

Fault = tuple[Kind, str]
BEFORE_ANY_ACT = frozenset({*INVENTORY_GUARDS, Guard.MAX_ACTS, Guard.MAX_ACT_SHARE, Guard.PLAN}) - {Guard.CLOCK_SKEW}
"""Guards that stop a run before its first act."""
LOG_UNREAD = "the log was not read whole: "
"""How a warning begins that names among what failed what no record does."""


@dataclass(slots=True)
class Tally:
    """What the records of one task come to."""

    audited: int = 0
    living: int = 0
    acted: int = 0
    """Runtimes to which an act was sent."""
    answered: int = 0
    """Acts whose answer settled the case."""
    attempts: int = 0
    thresholds: int = 0
    """Runtimes of which a GET told the autopause threshold."""
    unreadable: int = 0
    skipped: bool = False
    decisions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    confirmations: Counter[str] = field(default_factory=Counter)
    disks: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refusals: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """A decision."""
        self.audited += 1
        self.decisions[record.action, record.reason, record.outcome] += 1
        self.attempts += record.attempts
        self.acted += record.attempts > 0
        self.answered += record.outcome in ANSWERED
        self.thresholds += record.autopause_threshold_min is not None
        gone = record.outcome in LEAVING or record.outcome == Outcome.GONE
        self.living += not (gone or record.status == RuntimeStatus.DELETING)

    def outcomes(self) -> Counter[str]:
        outcomes = self.confirmations.copy()
        for (_, _, outcome), count in self.decisions.items():
            outcomes[outcome] += count
        return outcomes

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
    if started is not None:
        yield from _duration_faults(closing, started)
        yield from _cap_faults(closing, tally, started)


def _count_faults(closing: Record, tally: Tally) -> Iterator[Fault]:
    if not closing.listed == closing.audited == tally.audited:
        yield (
            Kind.COUNTS,
            f"run_finished says {closing.listed} listed and {closing.audited} audited,"
            f" there are {tally.audited} runtime_audited",
        )
    actions, reasons = Counter[str](), tally.disks.copy()
    for (action, reason, _), count in tally.decisions.items():
        actions[action] += count
        reasons[reason] += count
    for name, said, found in (
        ("actions", closing.actions, actions),
        ("reasons", closing.reasons, reasons),
        ("outcomes", closing.outcomes, tally.outcomes()),
    ):
        if said is not None and said != found:
            yield Kind.COUNTS, f"run_finished counts {name} {_shown(said)}, the records give {_shown(found)}"
    if closing.living is not None and closing.living != tally.living:
        yield Kind.COUNTS, f"run_finished says {closing.living} living, the records give {tally.living}"


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
    early = sorted(guards & BEFORE_ANY_ACT)
    if early and tally.acted:
        yield Kind.REFUSALS, f"the run was refused by {early[0]}, and {counted(tally.acted, 'runtime')} acted on"
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
    looks = max(announced, tally.thresholds, outcomes[Outcome.SPARED] + outcomes[Outcome.REPLACED])
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
    for refusal in caps.refusals(acts=tally.acted, listed=tally.audited):
        yield Kind.CAPS, f"the run acted beyond its caps: {refusal.detail}"
    would = sum(count for outcome, count in tally.outcomes().items() if outcome in WOULD or outcome == "over_budget")
    tripped = {refusal.guard.value for refusal in caps.refusals(acts=would, listed=tally.audited)}
    if closing.would_be_refused_by is not None and closing.dry_run and set(closing.would_be_refused_by) != tripped:
        said = closing.would_be_refused_by
        yield Kind.CAPS, f"run_finished says a live run would be refused by {said}, its caps give {sorted(tripped)}"


def _shown(counts: Counter[str] | dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
