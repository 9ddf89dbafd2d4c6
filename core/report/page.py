"""Writes audit records as one HTML page that needs no network; what it says is gathered and drawn beside."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from core.records.reader import AuditRecords, Record
from core.report.charts import charts
from core.report.gathered import Gathered
from core.report.side_by_side import MOST_ROWS, Policies, policies
from core.review.comparison import Comparison, rehearsals_that_differ
from core.review.promise import Promised, PromiseReview
from core.review.simulation import Simulation
from core.review.terms import label, value
from core.review.which import (
    IsMeant,
    UnknownError,
    checks_the_fleet,
    framed,
    latest,
    of_runs,
    of_the_fleet,
    only_environment,
)
from core.rules.disks import DiskPolicy
from core.rules.words import counted, duration, minute
from core.verify import verify
from core.verify.verdict import Verdict

CONTROLS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}
"""A name may hold what HTML must not, and what steers the terminal of whoever prints the page."""
MOST_RUNS = 500


def write_report(
    records: Iterable[Record],
    out: Path,
    now: datetime,
    *,
    log: AuditRecords | None = None,
    compared: Sequence[str] = (),
    simulation: Simulation | None = None,
) -> None:
    """Write the page about these records, which begin with the frames of all runs.

    Two runs stand side by side: the `compared`, else the latest two, if they are dry runs that judged by different
    policies or instants. So do two policies over the whole log where one is simulated. Where the records come out of
    `log`, what was wrong with its files is told too. Raises OSError where `out` cannot be written, UnknownError where
    no record is of a run that is to be compared, or where records are of several environments.
    """
    frames, records = framed(records)
    only_environment(frame.environment for frame in frames)
    ids, records = of_runs(records, compared or rehearsals_that_differ(frames), also=lambda _: True)
    gathered = Gathered(
        now,
        Comparison(*ids) if ids else None,
        _latest(frames, of_the_fleet),
        _latest(frames, checks_the_fleet),
        _latest(frames, lambda opening: opening.job == DiskPolicy.job),
    )
    review = PromiseReview(frames, now) if gathered.sweep else None
    watching = [part.add for part in (review, simulation) if part is not None]
    verdicts = verify(gathered.watch(_shown_to(watching, records)), now)
    page = _page(
        gathered,
        _verdict(verdicts, log),
        promised=review.answer() if review else None,
        policies=policies(simulation.answer()) if simulation else None,
    )
    out.write_text(page, encoding="utf-8")


def _shown_to(watching: Sequence[Callable[[Record], None]], records: Iterable[Record]) -> Iterator[Record]:
    """The same records: they can be read but once."""
    for record in records:
        for watch in watching:
            watch(record)
        yield record


def _latest(frames: Sequence[Record], is_meant: IsMeant) -> Record | None:
    try:
        return latest(frames, is_meant)
    except UnknownError:
        return None


def _verdict(verdicts: Sequence[Verdict], log: AuditRecords | None) -> dict[str, Any]:
    """Whether the log is whole and honest, in a line, and what is not."""
    off = [verdict for verdict in verdicts if not verdict.ok]
    faults = [f"{fault.place}: {fault.what}" for fault in (log.faults if log else ())]
    faults += [f"{verdict.run_id}: {verdict.findings[0].message}" for verdict in off]
    doubtful = sum(len(verdict.in_doubt) for verdict in verdicts)
    still_open = sum(verdict.state == "open" for verdict in verdicts)
    if not verdicts:
        line = "There is no record to verify."
    elif faults:
        line = f"The log is not whole: {counted(len(off), 'run')} of {len(verdicts)} off"
        line += f", {counted(len(faults) - len(off), 'fault')} in the files." if log and log.faults else "."
    else:
        line = f"The log is whole: nothing is off in {counted(len(verdicts), 'run')}."
    line += f" {counted(still_open, 'run')} still going." if still_open else ""
    line += f" {counted(doubtful, 'act')} in doubt." if doubtful else ""
    return {"line": line, "ok": not faults, "faults": faults[:10], "rest": len(faults[10:])}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _page(gathered: Gathered, verdict: dict[str, Any], *, promised: Promised | None, policies: Policies | None) -> str:
    lines = gathered.lines()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(minute=minute, count=counted, duration=duration, label=label, value=value, words=_words)
    template = environment.from_string(files("core.report").joinpath("page.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        now=gathered.now,
        gathered=gathered,
        verdict=verdict,
        runs=lines[::-1][:MOST_RUNS],
        run_count=len(lines),
        runs_not_shown=len(lines[:-MOST_RUNS]),
        totals={
            "acted": sum(line.acted for line, _ in lines),
            "would act": sum(line.would_act for line, _ in lines),
            "failed": sum(line.failed for line, _ in lines),
            "kept": sum(kept for _, kept in lines),
        },
        promised=promised,
        over_age=promised.over_age[:MOST_ROWS] if promised else [],
        policies=policies,
        side_by_side=gathered.side_by_side(),
        charts=list(charts(gathered, lines)),
        disks=gathered.disks.totals.largest_first(),
        most_totals=MOST_RUNS,
    )
    return page.translate(CONTROLS)
