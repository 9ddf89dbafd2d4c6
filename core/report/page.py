"""Writes audit records as one HTML page that needs no network; what it says is gathered and drawn beside."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from core.exit_code import IN_WORDS
from core.records.outcome import FAILED, FAILED_CONFIRMATIONS
from core.records.reader import AuditRecords, Record
from core.report.charts import charts
from core.report.gathered import Gathered, Row
from core.report.side_by_side import MOST_ROWS, Policies, policies
from core.review.comparison import Comparison, rehearsals_that_differ
from core.review.fleet import checks_the_fleet, fleet_of
from core.review.promise import Promised, PromiseReview
from core.review.questions import RunLine
from core.review.simulation import Simulation
from core.review.terms import label, value
from core.review.which import (
    IsMeant,
    UnknownError,
    framed,
    latest,
    of_job,
    of_runs,
    only_environment,
)
from core.rules.confirmation import ConfirmationPolicy
from core.rules.disks import DiskPolicy
from core.rules.words import counted, duration, minute
from core.runtime import Disk
from core.verify import verify
from core.verify.verdict import Verdict

CONTROLS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}
"""A name may hold what HTML must not, and what steers the terminal of whoever prints the page."""
MOST_RUNS = 500
MOST_TOTALS = 500
MOST_SHOWN = 500
"""Acts at a time; the page's own search finds the others."""
WORDS = (2, 3)
"""Which cells of an act are words of the log, outcome and reason."""
BAD = frozenset({*FAILED, *FAILED_CONFIRMATIONS, Disk.LOST})
"""What is marked among outcomes and disks."""


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
    checks: tuple[IsMeant, ...] = (checks_the_fleet, of_job(ConfirmationPolicy.job), of_job(DiskPolicy.job))
    gathered = Gathered(
        now,
        Comparison(*ids) if ids else None,
        _latest(frames, fleet_of(frames).is_meant),
        filter(None, (_latest(frames, check) for check in checks)),
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
    faults = [*map(str, log.faults if log else ())]
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


def _tiles(gathered: Gathered, lines: Sequence[RunLine]) -> Iterator[tuple[str, int, str]]:
    """A name, a number and what it counts: nothing is counted again for each run that saw it."""
    if gathered.sweep:
        when = f"at {minute(gathered.sweep.started.time)}, by the latest sweep"
        yield "runtimes", gathered.sweep.listed, when
        yield "overdue", gathered.sweep.overdue, when
    yield "deleted", len(gathered.deletions), "accepted in live runs, each runtime once"
    if told := gathered.deletions.told:
        yield "owners told", told, "of the deleted, those of which a notice was sent"
    yield "data lost", gathered.deletions.disks_lost, "of the deleted, those without a disk to keep"
    yield "need a person", gathered.needs_person.count, "by the latest checks"
    yield "runs that failed", sum(map(_failed, lines)), f"refused or cut off too, of {len(lines):,}"


def _failed(line: RunLine) -> bool:
    return line.state == "cut_off" or bool(line.exit_code)


def _ended(line: RunLine) -> str:
    if line.exit_code is None:
        return _words(line.state)
    return f"exit code {line.exit_code}: {IN_WORDS.get(line.exit_code, 'not known')}"


def _cells(row: Row) -> tuple[str, ...]:
    """Of the table of acts, which the page's own search fills from these too."""
    texts = (minute(row.at), row.path, row.outcome, row.reason, row.disk, row.age, row.idle, row.creator, row.run_id)
    return tuple(_words(text or "-") if n in WORDS else text or "-" for n, text in enumerate(texts))


def _data(rows: Sequence[tuple[str, ...]]) -> Markup:
    """All acts as the page's own search reads them: each text once, and the rows as their numbers."""
    numbers: dict[str, int] = {}
    coded = [[numbers.setdefault(text.translate(CONTROLS), len(numbers)) for text in row] for row in rows]
    told = msgspec.json.encode({"texts": list(numbers), "rows": coded}).decode()
    return Markup(told.replace("<", "\\u003c"))  # noqa: S704 - no text can end the element that it stands in


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(minute=minute, count=counted, duration=duration, label=label, value=value, words=_words)
    environment.filters.update(ended=_ended, failed=_failed)
    return environment.from_string(files("core.report").joinpath("page.html.j2").read_text(encoding="utf-8"))


def _page(gathered: Gathered, verdict: dict[str, Any], *, promised: Promised | None, policies: Policies | None) -> str:
    lines = gathered.lines()
    acts = [_cells(row) for row in gathered.acts.rows]
    page = _template().render(
        now=gathered.now,
        gathered=gathered,
        verdict=verdict,
        runs=lines[::-1][:MOST_RUNS],
        run_count=len(lines),
        runs_not_shown=len(lines[:-MOST_RUNS]),
        tiles=list(_tiles(gathered, lines)),
        acts=acts[:MOST_SHOWN],
        data=_data(acts),
        bad=sorted(map(_words, BAD)),
        deleted=[(kind, gathered.deletions.by(kind)) for kind in ("month", "project", "creator")],
        promised=promised,
        over_age=promised.over_age[:MOST_ROWS] if promised else [],
        policies=policies,
        side_by_side=gathered.side_by_side(),
        charts=list(charts(gathered, lines)),
        disks=gathered.disks.largest_first(),
        most_totals=MOST_TOTALS,
        causes=gathered.causes(),
    )
    return page.translate(CONTROLS)
