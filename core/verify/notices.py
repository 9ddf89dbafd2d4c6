"""Whether every deletion was announced to its owner as its run's policy requires; what of each run is held beside."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from core.records.reader import LONG_AGO, Record
from core.rules.notices import NoticePolicy
from core.verify.finding import Finding, Kind, found

ANNOUNCED = ("project", "name", "creator", "due_at", "final_at", "not_before", "notice_id")
"""What a notice says, before it is sent and when it was."""


class Notices:
    """The notices of a log, and the acts that needed one; holds a few instants of each."""

    def __init__(self) -> None:
        self._periods: dict[str, tuple[timedelta, timedelta]] = {}
        """Of runs that delete nothing unannounced: how long before, and how far back they read."""
        self._requested: dict[tuple[str, str], Record] = {}
        self._sent: dict[tuple[str, str], list[Record]] = {}
        self._acts: list[Record] = []
        self._findings: list[Finding] = []

    def add(self, record: Record) -> None:
        runtime_id = record.runtime_id or ""
        match record.event:
            case "run_started" if record.job != NoticePolicy.job:
                policy = record.policy or {}
                period, reach = policy.get("notice_period_s"), policy.get("max_age_s")
                if isinstance(period, float | int) and isinstance(reach, float | int):
                    self._periods[record.run_id] = timedelta(seconds=period), timedelta(seconds=reach)
            case "deletion_requested" if record.run_id in self._periods:
                self._acts.append(record)
            case "notice_requested":
                self._requested[record.run_id, runtime_id] = record
            case "notice_sent" | "notice_failed":
                self._end(record)
            case _:
                pass

    def _end(self, record: Record) -> None:
        """What became of a notice, which the same run announced in the same words."""
        intent = self._requested.pop((record.run_id, record.runtime_id or ""), None)
        if record.dry_run:
            self._findings.append(found(Kind.NOTICE, record, "tells somebody in a dry run"))
        elif intent is None:
            self._findings.append(found(Kind.NOTICE, record, "was told, and no record announced that before"))
        elif any(getattr(intent, name) != getattr(record, name) for name in ANNOUNCED):
            self._findings.append(found(Kind.NOTICE, record, "is another notice than the one that was announced"))
        elif record.event == "notice_sent":
            self._sent.setdefault((record.environment, record.runtime_id or ""), []).append(record)

    def findings(self, frames: Sequence[Record], runs: Collection[str]) -> Iterator[Finding]:
        """`runs` are those whose records were added; where one that tells owners is not, acts are held to nothing."""
        yield from self._findings
        finished = {frame.run_id for frame in frames if frame.event == "run_finished"}
        for (run_id, _), intent in self._requested.items():
            if run_id in finished and not intent.dry_run:
                yield found(Kind.NOTICE, intent, "was to be told, and what became of that is not on record")
        if any(frame.job == NoticePolicy.job and frame.run_id not in runs for frame in frames):
            return
        openings = [frame for frame in frames if frame.event == "run_started"]
        first = min(openings, key=lambda opening: opening.time or LONG_AGO, default=None)
        for act in self._acts:
            period, reach = self._periods[act.run_id]
            at = act.time or LONG_AGO
            whole = first is not None and (first.follows is None or (first.time or at) <= at - reach)
            fault = self._fault(act, at, period)
            if fault and whole:
                yield found(Kind.NOTICE, act, fault)

    def _fault(self, act: Record, at: datetime, period: timedelta) -> str | None:
        told = self._sent.get((act.environment, act.runtime_id or ""), [])
        if not told:
            return "is deleted, and its owner was not told of it"
        if not any(max(of.not_before or at, (of.time or at) + period) <= at for of in told):
            promised = min(of.not_before or at for of in told)
            return f"is deleted before its owner was told of it for so long, or before {promised:%Y-%m-%d %H:%M:%S}Z"
        return None
