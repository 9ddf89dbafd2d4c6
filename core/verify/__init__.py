"""Whether a log is whole and honest: nothing missing, nothing that its own numbers refute; pure, and draws nothing."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from core.records.outcome import Outcome
from core.records.reader import FRAMES, Record
from core.verify.chain import Across, chain_findings
from core.verify.finding import by_cause
from core.verify.notices import Notices
from core.verify.runs import Run
from core.verify.verdict import Verdict

KEPT = Outcome.KEPT.value


def verify(
    records: Iterable[Record], now: datetime, frames: Callable[[], Sequence[Record]] | None = None
) -> list[Verdict]:
    """One verdict for each run of which there is a record, in the order of time.

    `records` hold each run's `run_started` before its others, as `core.records.reader` gives them; `now` tells a run
    that is still going from one that was cut off. `frames` are all that open and close runs, where `records` are of
    some runs only; they are asked for when `records` have come to their end.
    """
    runs: dict[str, Run] = {}
    across, notices = Across(), Notices()
    passed: list[Record] = []
    for record in records:
        run = runs.get(record.run_id)
        if run is None:
            run = runs[record.run_id] = Run(record)
        run.add(record)
        if record.outcome != KEPT:
            across.add(record)
            notices.add(record)
            if record.event in FRAMES:
                passed.append(record)
    verdicts = {run_id: run.verdict(now) for run_id, run in runs.items()}
    for finding in across.findings():
        verdicts[finding.run_id].findings.append(finding)
    framing = frames() if frames else passed
    for finding in notices.findings(framing, runs.keys()):
        verdicts[finding.run_id].findings.append(finding)
    for predecessor, finding in chain_findings(framing):
        if finding.run_id in verdicts:
            changed = predecessor in verdicts and verdicts[predecessor].findings  # it follows from that
            verdicts[predecessor if changed else finding.run_id].findings.append(finding)
    by_time = sorted(verdicts.values(), key=lambda v: (v.started_at is None, v.started_at or now, v.run_id))
    return [
        msgspec.structs.replace(verdict, findings=by_cause(verdict.findings, verdict.listed)) for verdict in by_time
    ]
