"""Whether runs agree with each other: what one names of another must be there, and no run is there twice."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from core.records import digest
from core.records.outcome import ANSWERED, PLANNED, Outcome
from core.records.reader import LONG_AGO, FollowsDetail, Record
from core.rules.confirmation import Confirmation
from core.rules.decision import CLOCK_TOLERANCE
from core.rules.guards import Guard
from core.rules.plan import plan_digest
from core.verify.finding import Finding, Kind, found


def chain_findings(frames: Sequence[Record]) -> Iterator[tuple[str, Finding]]:
    """By the records that open and close runs, whose predecessor is not there as it was, and which that is."""
    closings: dict[str, list[Record]] = {}
    for frame in frames:
        if frame.event == "run_finished":
            closings.setdefault(frame.run_id, []).append(frame)
    ends = _first_ends(frames)
    for opening in frames:
        if opening.event == "run_started" and isinstance(follows := opening.follows, FollowsDetail):
            fault = _fault(opening, follows, closings.get(follows.run_id, []), ends)
            if fault:
                yield follows.run_id, found(Kind.PREDECESSOR, opening, fault)


def _first_ends(frames: Iterable[Record]) -> dict[str, list[tuple[datetime, str]]]:
    """When runs ended, and which, by environment, the first one first."""
    ends: dict[str, list[tuple[datetime, str]]] = {}
    for frame in frames:
        if frame.event == "run_finished":
            ends.setdefault(frame.environment, []).append((frame.time or LONG_AGO, frame.run_id))
    return {environment: sorted(of) for environment, of in ends.items()}


def _fault(
    opening: Record,
    follows: FollowsDetail,
    closings: Sequence[Record],
    ends: dict[str, list[tuple[datetime, str]]],
) -> str | None:
    if follows.run_id == opening.run_id:
        return "follows itself"
    began = opening.time or LONG_AGO
    if follows.finished_at is not None and follows.finished_at - began > CLOCK_TOLERANCE:
        return f"follows run {follows.run_id}, which ended after it began"
    if not closings:
        others = (end for end, run_id in ends.get(opening.environment, ()) if run_id != opening.run_id)
        known = next(others, None)
        if known is not None and known < began:
            return f"follows run {follows.run_id}, which is not in the log any more"
        return None
    ended = [closing for closing in closings if closing.time == follows.finished_at]
    if not any(closing.records_digest == follows.records_digest for closing in ended):
        return f"follows run {follows.run_id}, whose closing record had another digest or time then"
    if any(closing.environment != opening.environment for closing in ended):
        return f"follows run {follows.run_id}, which is of another environment"
    return None


def expected_digest_findings(frames: Iterable[Record], expected: str) -> Iterator[Finding]:
    """Whether the newest closing record of an environment has this digest."""
    newest: dict[str, Record] = {}
    known: Record | None = None
    wanted = digest.ALGORITHM + expected.removeprefix(digest.ALGORITHM)
    for frame in frames:
        if frame.event != "run_finished":
            continue
        if frame.records_digest == wanted:
            known = frame
        before = newest.get(frame.environment)
        if before is None or (frame.time or LONG_AGO) > (before.time or LONG_AGO):
            newest[frame.environment] = frame
    if any(frame.records_digest == wanted for frame in newest.values()):
        return
    last = max(newest.values(), key=lambda frame: frame.time or LONG_AGO, default=None)
    told = "there is no finished run" if last is None else f"the newest run, {last.run_id}, has {last.records_digest}"
    where = ", and no run has it"
    if known is not None and last is not None and known.run_id == last.run_id:
        where = f"; it is that of task {known.task_index} of that run, of which another task ended later"
    elif known is not None:
        where = f"; it is that of run {known.run_id}, which newer ones follow"
    message = f"{told}, not {wanted}{where}"
    run_id, task_index = ("", None) if last is None else (last.run_id, last.task_index)
    yield Finding(
        kind=Kind.EXPECTED_DIGEST, run_id=run_id, task_index=task_index, seq=None, runtime=None, message=message
    )


class Across:
    """What records of several runs say of each other; holds what was acted on, planned or confirmed, and no more."""

    def __init__(self) -> None:
        self._openings: dict[tuple[object, ...], Record] = {}
        self._traces: dict[str, str] = {}
        self._copies: dict[str, Finding] = {}
        self._acted: dict[tuple[str, str], Record] = {}
        """What a run announced, or what became of it."""
        self._planned: dict[str, set[tuple[str, str]]] = {}
        self._planned_acts: list[tuple[str, Record]] = []
        self._confirmed: list[Record] = []
        self._previous: list[Record] = []
        self._closings: dict[tuple[str, int], Record] = {}
        self._began: dict[str, Record] = {}
        """The first record of each run, of one of its tasks."""

    def add(self, record: Record) -> None:
        match record.event:
            case "runtime_audited" if record.outcome != Outcome.KEPT:
                self._add_decision(record)
            case "deletion_requested":
                self._acted.setdefault((record.run_id, record.runtime_id or ""), record)
            case "deletion_confirmed":
                self._confirmed.append(record)
            case "run_started":
                self._open(record)
            case "run_finished":
                self._closings[record.run_id, record.task_index] = record
            case _:
                pass

    def _open(self, record: Record) -> None:
        self._began.setdefault(record.run_id, record)
        moment = (record.job, record.environment, record.task_index, record.time, record.now)
        same = self._openings.setdefault(moment, record) if record.time is not None else record
        self._is_copy(record, same.run_id, "begins at the very instant of")
        if record.previous is not None:
            self._previous.append(record)

    def _is_copy(self, record: Record, other: str, how: str) -> None:
        if other != record.run_id and record.run_id not in self._copies:
            self._copies[record.run_id] = found(Kind.COPY, record, f"{how} run {other}: one is a copy")

    def _add_decision(self, record: Record) -> None:
        if record.trace_id is not None:
            self._is_copy(record, self._traces.setdefault(record.trace_id, record.run_id), "has the trace id of")
        runtime = (record.runtime_id or "", record.path)
        if record.outcome in PLANNED:
            self._planned.setdefault(record.run_id, set()).add(runtime)
        if record.attempts:
            self._acted[record.run_id, runtime[0]] = record
            plan = self._plan_of(record.run_id)
            if plan is not None:
                self._planned_acts.append((plan.get("run_id", ""), record))

    def _plan_of(self, run_id: str) -> dict[str, str] | None:
        opening = self._began.get(run_id)
        return None if opening is None else opening.plan

    def findings(self) -> Iterator[Finding]:
        yield from self._copies.values()
        yield from self._plan_findings()
        for plan, record in self._planned_acts:
            planned = self._planned.get(plan)
            if planned is not None and (record.runtime_id or "", record.path) not in planned:
                yield found(Kind.PLAN, record, f"was acted on, and is not in the plan {plan}")
        for record in self._confirmed:
            yield from self._confirmation_findings(record)
        for record in self._previous:
            yield from self._previous_findings(record)

    def _plan_findings(self) -> Iterator[Finding]:
        """Whether each plan that was followed is what its run planned, where all of that run is there.

        What was refused over its plan may have read of it only a part.
        """
        for opening in self._began.values():
            closing = self._closings.get((opening.run_id, opening.task_index))
            told, planned = opening.plan or {}, self._began.get((opening.plan or {}).get("run_id", ""))
            if planned is None or closing is None or Guard.PLAN in (closing.refused_by or ()):
                continue
            run_id = planned.run_id
            whole = all((run_id, task) in self._closings for task in range(planned.task_count))
            right = plan_digest(run_id, planned.policy_digest or "", self._planned.get(run_id, ()))
            if whole and told.get("digest", right) != right:
                yield found(Kind.PLAN, opening, f"was held to another plan than run {run_id} made")

    def _confirmation_findings(self, record: Record) -> Iterator[Finding]:
        run_id = record.accepted_run_id or ""
        if (run_id, 0) not in self._closings:  # not here whole
            return
        act = self._acted.get((run_id, record.runtime_id or ""))
        if act is None:
            yield found(Kind.CONFIRMATION, record, f"is about an act of run {run_id}, which announced none")
        elif act.path != record.path:
            yield found(Kind.CONFIRMATION, record, f"is about {act.path}, as run {run_id} calls it")
        elif (
            record.outcome == Confirmation.NEVER_HAPPENED
            and act.outcome in ANSWERED
            and self._had_ended(run_id, record)
        ):
            yield found(Kind.CONFIRMATION, record, f"never happened, and run {run_id} says {act.outcome}")

    def _had_ended(self, run_id: str, record: Record) -> bool:
        """Whether that run surely had, as the record's own began: else it may have acted after it was asked about."""
        opening = self._began.get(record.run_id)
        ended, began = self._closings[run_id, 0].time, None if opening is None else opening.time
        return ended is None or began is None or began - ended > CLOCK_TOLERANCE

    def _previous_findings(self, record: Record) -> Iterator[Finding]:
        previous = record.previous
        closing = None if previous is None else self._closings.get((previous.run_id, record.task_index))
        if previous is None or closing is None or closing.living is None or closing.lists is None:
            return
        if previous.living > closing.living or previous.lists != closing.lists.read:
            yield found(Kind.PREVIOUS, record, f"expects more than run {previous.run_id} had listed")
