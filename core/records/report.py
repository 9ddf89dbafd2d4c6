"""Draws audit records as one HTML page that needs no network; what they answer lives in `review` and `verify`."""

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from heapq import heappush, heappushpop
from importlib.resources import files
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.records.events import ALL_RUNTIMES, Outcome
from core.records.reader import AuditRecords, Record
from core.records.rejudge import PolicyNotRecordedError, deletion_policy
from core.records.review import ACCEPTED, ENDED_WITHOUT_US, RunLine, RunSummary, of_the_fleet
from core.records.verify import FAILED, Verdict, verify
from core.records.view import duration, minute
from core.rules.decision import Reason, in_utc, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

AHEAD = timedelta(days=14)
MOST_ACTS = 5000
MOST_FAILURES = 1000
CONTROLS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}
"""A name may hold what HTML must not, and what steers the terminal of whoever prints the page."""
MOST_RUNS = 500
BARS_WIDE, BARS_NARROW = 60, 16
WIDE, NARROW = (1010, 300), (390, 250)
HALF_WIDTH = (390, 215)
"""Width and height of drawings, in points; a drawing of its own for the phone keeps letters legible there."""
INKS = {
    "acted": "#a1b001",
    "would": "#a1b002",
    "failed": "#a1b003",
    "kept": "#a1b004",
    "limit": "#a1b005",
    "ink": "#a1b006",
    "rule": "#a1b007",
}
"""Stand-ins that become CSS variables, so that a drawing follows light and dark."""
IDLE_EDGES = tuple(timedelta(hours=hours) for hours in (0, 0.25, 0.5, 1, 2, 4, 8, 24, 72, 168, 336, 720))
BINS_TO_MAX_AGE = 14
DRAWING: "dict[RcKeyType, Any]" = {
    "font.size": 10.5,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": INKS["ink"],
    "axes.edgecolor": INKS["rule"],
    "axes.labelcolor": INKS["ink"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": INKS["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": INKS["rule"],
    "ytick.color": INKS["rule"],
    "xtick.labelcolor": INKS["ink"],
    "ytick.labelcolor": INKS["ink"],
    "ytick.major.size": 0,
    "legend.frameon": False,
}
NOT_DUE = ACCEPTED | ENDED_WITHOUT_US
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One runtime, project or list in a table: what became of it."""

    at: datetime | None
    run_id: str
    dry_run: bool
    path: str
    creator: str | None
    reason: str
    outcome: str
    age: str
    idle: str
    error: str | None


class Newest:
    """The newest rows, and how many there were."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._heap: list[tuple[datetime, int, Row]] = []

    def add(self, record: Record) -> None:
        self.count += 1
        at = record.time or record.judged_at or LONG_AGO
        if len(self._heap) < self.most:
            heappush(self._heap, (at, self.count, _row(record)))
        elif at >= self._heap[0][0]:
            heappushpop(self._heap, (at, self.count, _row(record)))

    @property
    def rest(self) -> int:
        return self.count - len(self._heap)

    @property
    def rows(self) -> list[Row]:
        return [row for _, _, row in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


@dataclass(slots=True)
class Sweep:
    """The latest run over the whole fleet, in numbers."""

    started: Record
    ages: "array[float]" = field(default_factory=lambda: array("d"))
    idles: "array[float]" = field(default_factory=lambda: array("d"))
    due: Counter[date] = field(default_factory=Counter)
    overdue: int = 0
    later: int = 0

    def add(self, record: Record, now: datetime) -> None:
        if record.reason == Reason.DUPLICATE:
            return
        if isinstance(record.age_s, float):
            self.ages.append(record.age_s)
        if isinstance(record.idle_s, float):
            self.idles.append(record.idle_s)
        if not isinstance(record.due_at, datetime) or record.outcome in NOT_DUE:
            return
        if record.due_at <= now:
            self.overdue += 1
        elif record.due_at <= now + AHEAD:
            self.due[record.due_at.astimezone(UTC).date()] += 1
        else:
            self.later += 1

    @property
    def limits(self) -> dict[str, timedelta]:
        try:
            policy = deletion_policy(self.started)
        except PolicyNotRecordedError:
            return {}
        return {
            "max_age": policy.max_age,
            "max_age_if_idle": policy.max_age_if_idle,
            "idle_after": policy.idle_after,
        }


class Gathered:
    """Everything that the page says, out of one pass over the records."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.records = 0
        self.first_at: datetime | None = None
        self.last_at: datetime | None = None
        self.acts = Newest(MOST_ACTS)
        self.failures = Newest(MOST_FAILURES)
        self.deleted: Counter[str] = Counter()
        self.would_delete: Counter[str] = Counter()
        self.sweep: Sweep | None = None
        self._runs: dict[str, RunSummary] = {}

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, each noted on its way to another reader: they can be read but once."""
        for record in records:
            self._add(record)
            yield record

    def _add(self, record: Record) -> None:
        self.records += 1
        if record.time is not None:
            if self.first_at is None or record.time < self.first_at:
                self.first_at = record.time
            if self.last_at is None or record.time > self.last_at:
                self.last_at = record.time
        run = self._runs.get(record.run_id)
        if run is None:
            run = self._runs[record.run_id] = RunSummary(record)
        run.add(record)
        if record.event == "runtime_audited":
            self._add_audited(record)
        elif record.event == "run_started":
            self._open(record)
        elif record.event in ("project_unreadable", "runtime_missing"):
            self.failures.add(record)

    def _open(self, started: Record) -> None:
        if not of_the_fleet(started):
            return
        known = self.sweep.started if self.sweep else None
        if known is None or (known.run_id != started.run_id and _order(known) < _order(started)):
            self.sweep = Sweep(started)

    def _add_audited(self, record: Record) -> None:
        if self.sweep and record.run_id == self.sweep.started.run_id:
            self.sweep.add(record, self.now)
        if record.outcome in FAILED or record.reason == Reason.MALFORMED:
            self.failures.add(record)
        if record.outcome == Outcome.KEPT:
            return
        self.acts.add(record)
        if record.outcome == Outcome.DELETION_ACCEPTED:
            self.deleted[record.reason] += 1
        elif record.outcome == Outcome.WOULD_DELETE:
            self.would_delete[record.reason] += 1

    def lines(self) -> list[tuple[RunLine, int]]:
        """Each run in the order of time, and how many it kept."""
        in_time = sorted(self._runs.values(), key=RunSummary.order)
        return [
            (run.line(self.now), sum(n for (outcome, _), n in run.counts.items() if outcome == Outcome.KEPT))
            for run in in_time
        ]


def _order(started: Record) -> tuple[datetime, str]:
    return started.time or LONG_AGO, started.run_id


def _row(record: Record) -> Row:
    audited = record.event == "runtime_audited"
    alone = record.project or ALL_RUNTIMES
    message = record.message if not audited or record.reason == Reason.MALFORMED else None
    return Row(
        at=record.time or record.judged_at,
        run_id=record.run_id,
        dry_run=record.dry_run,
        path=alone if record.event == "project_unreadable" else record.path,
        creator=record.creator,
        reason=record.reason,
        outcome=record.outcome if audited else record.event,
        age=duration(record.age_s if isinstance(record.age_s, float) else None),
        idle=duration(record.idle_s if isinstance(record.idle_s, float) else None),
        error=message if record.error is None else record.error.message,
    )


def write_report(records: Iterable[Record], out: Path, now: datetime, *, log: AuditRecords | None = None) -> None:
    """Write the page about these records, each run's `run_started` before its others.

    Where they come out of `log`, what was wrong with its files is told too. Raises OSError where `out` cannot be
    written, ImportError where what draws is not installed.
    """
    gathered = Gathered(now)
    verdicts = verify(gathered.watch(records), now)
    out.write_text(_page(gathered, _verdict(verdicts, log)), encoding="utf-8")


def _verdict(verdicts: Sequence[Verdict], log: AuditRecords | None) -> dict[str, Any]:
    """Whether the log is whole and honest, in a line, and what is not."""
    off = [verdict for verdict in verdicts if not verdict.ok]
    faults = [f"{fault.place}: {fault.what}" for fault in (log.faults if log else ())]
    faults += [f"{verdict.run_id}: {verdict.faults[0]}" for verdict in off]
    doubtful = sum(len(verdict.in_doubt) for verdict in verdicts)
    still_open = sum(verdict.state == "open" for verdict in verdicts)
    if not verdicts:
        line = "There is no record to verify."
    elif faults:
        line = f"The log is not whole: {_count(len(off), 'run')} of {len(verdicts)} off"
        line += f", {_count(len(faults) - len(off), 'fault')} in the files." if log and log.faults else "."
    else:
        line = f"The log is whole: nothing is off in {_count(len(verdicts), 'run')}."
    line += f" {_count(still_open, 'run')} still going." if still_open else ""
    line += f" {_count(doubtful, 'act')} in doubt." if doubtful else ""
    return {"line": line, "ok": not faults, "faults": faults[:10], "rest": len(faults[10:])}


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _page(gathered: Gathered, verdict: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - only a report needs it

    lines = gathered.lines()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(minute=minute, count=_count)
    template = environment.from_string(files("core.records").joinpath("report.html.j2").read_text(encoding="utf-8"))
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
        charts=list(_charts(gathered, lines)),
    )
    return page.translate(CONTROLS)


# charts


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and its numbers for whoever does not see it."""

    key: str
    title: str
    summary: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    drawings: dict[str, str]
    """SVG by the width of page that it is for: `wide`, `narrow` or `any`."""


def _charts(gathered: Gathered, lines: list[tuple[RunLine, int]]) -> Iterator[Chart]:
    from matplotlib import rc_context  # noqa: PLC0415 - takes a while to import, and only a report needs it

    with rc_context(DRAWING):
        sweeps = [(line, kept) for line, kept in lines if line.listed]
        if sweeps:
            yield _runs_chart(sweeps)
        if gathered.sweep:
            yield from _histograms(gathered.sweep)
        if gathered.deleted or gathered.would_delete:
            yield _reasons_chart(gathered)
        if gathered.sweep:
            yield _upcoming_chart(gathered.sweep, gathered.now)


def _runs_chart(lines: list[tuple[RunLine, int]]) -> Chart:
    sizes = {"wide": (WIDE, lines[-BARS_WIDE:]), "narrow": (NARROW, lines[-BARS_NARROW:])}
    title = "Runs over time"
    summary = (
        f"The latest {_count(min(len(lines), BARS_WIDE), 'run')} that listed runtimes, oldest first: above what was "
        "acted on and what failed, below what was kept, on a scale of its own."
    )
    drawings = {}
    for width, (size, shown) in sizes.items():
        figure, (above, below) = _figure(size, rows=2)
        _stack(above, shown)
        below.bar(range(len(shown)), [kept for _, kept in shown], color=INKS["kept"], label="kept", width=0.7)
        _name_runs(below, shown)
        for axes, columns in ((above, 3), (below, 1)):
            axes.set_xlim(-0.6, max(len(shown), 8) - 0.4)
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.95), ncols=columns, handlelength=0.9, borderpad=0)
        drawings[width] = _svg(figure, f"runs-{width}", title, summary)
    return Chart(
        key="runs-over-time",
        title=title,
        summary=summary,
        headers=("Run", "Started", "Acted", "Would act", "Failed", "Kept"),
        rows=[
            (
                line.run_id,
                minute(line.started_at),
                f"{line.acted:,}",
                f"{line.would_act:,}",
                f"{line.failed:,}",
                f"{kept:,}",
            )
            for line, kept in reversed(lines[-BARS_WIDE:])
        ],
        drawings=drawings,
    )


def _stack(axes: "Axes", shown: list[tuple[RunLine, int]]) -> None:
    bottom = [0] * len(shown)
    for name, ink, heights in (
        ("acted", "acted", [line.acted for line, _ in shown]),
        ("would act (dry run)", "would", [line.would_act for line, _ in shown]),
        ("failed", "failed", [line.failed for line, _ in shown]),
    ):
        axes.bar(range(len(shown)), heights, bottom=bottom, color=INKS[ink], label=name, width=0.7)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks([])


def _name_runs(axes: "Axes", shown: list[tuple[RunLine, int]]) -> None:
    step = -(-len(shown) // (5 if len(shown) <= BARS_NARROW else 12))
    places = range(0, len(shown), step)
    days = [shown[place][0].started_at for place in places]
    axes.set_xticks(places, [f"{in_utc(day):%d %b}" if day else "?" for day in days])


def _histograms(sweep: Sweep) -> Iterator[Chart]:
    limits = sweep.limits
    longest = limits.get("max_age") or timedelta(days=BINS_TO_MAX_AGE)
    steps = {longest / BINS_TO_MAX_AGE * n for n in range(2 * BINS_TO_MAX_AGE + 1)}
    when = minute(sweep.started.time)
    for key, title, numbers, edges, names in (
        ("age", "Age of the runtimes", sweep.ages, steps, ("max_age_if_idle", "max_age")),
        ("idle", "Idle time of the runtimes", sweep.idles, {*IDLE_EDGES}, ("idle_after",)),
    ):
        drawn = {name: limits[name] for name in names if name in limits}
        told = ", ".join(f"{name} {in_words(limit)}" for name, limit in drawn.items()) or "not recorded"
        summary = f"{_count(len(numbers), 'runtime')} in the latest whole sweep ({when}). Limits: {told}."
        yield _histogram(key, title, summary, numbers, sorted({*edges, *drawn.values()}), drawn)


def _histogram(
    key: str,
    title: str,
    summary: str,
    numbers: "array[float]",
    edges: list[timedelta],
    limits: dict[str, timedelta],
) -> Chart:
    starts = [edge.total_seconds() for edge in edges]
    counted = Counter(max(0, bisect_right(starts, number) - 1) for number in numbers)
    counts = [counted[n] for n in range(len(edges))]
    figure, (axes,) = _figure(HALF_WIDTH)
    axes.bar([n + 0.5 for n in range(len(edges))], counts, width=0.86, color=INKS["acted"])
    axes.set_xlim(0, len(edges))
    axes.set_ylim(0, max(1, *counts) * 1.05)
    for name, limit in limits.items():
        last = name == [*limits][-1]
        axes.axvline(edges.index(limit), 0, 1.09, color=INKS["limit"], linestyle=(0, (4, 2)), clip_on=False)
        axes.annotate(
            f"{name} {_short(limit)}",
            (edges.index(limit), 1.03),
            (4 if last else -4, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            color=INKS["limit"],
            horizontalalignment="left" if last else "right",
        )
    ticks = range(0, len(edges), 1 if len(edges) <= BINS_TO_MAX_AGE else BINS_TO_MAX_AGE // 2)
    axes.set_xticks(ticks, [_short(edges[tick]) for tick in ticks])
    bounds = [f"{in_words(low)} to under {in_words(high)}" for low, high in pairwise(edges)]
    bounds.append(f"{in_words(edges[-1])} or more")
    rows = [(bound, f"{count:,}") for bound, count in zip(bounds, counts, strict=True)]
    return Chart(key, title, summary, (key.capitalize(), "Runtimes"), rows, {"any": _svg(figure, key, title, summary)})


def _short(length: timedelta) -> str:
    return in_words(length).replace(" min", "m").replace(" h", "h").replace(" d", "d").replace("0 s", "0")


def _reasons_chart(gathered: Gathered) -> Chart:
    deleted, would = gathered.deleted, gathered.would_delete
    reasons = sorted({*deleted, *would}, key=lambda reason: (deleted[reason] + would[reason], reason))
    figure, (axes,) = _figure(HALF_WIDTH)
    for name, ink, counts, shift in (("deleted", "acted", deleted, 0.19), ("would delete", "would", would, -0.19)):
        heights = [counts[reason] for reason in reasons]
        places = [n + shift for n in range(len(reasons))]
        bars = axes.barh(places, heights, height=0.34, color=INKS[ink], label=name)
        axes.bar_label(bars, [f"{height:,}" for height in heights], padding=4)
    axes.set_yticks(range(len(reasons)), [reason[:24] or "?" for reason in reasons])
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.margins(x=0.15)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=2, handlelength=0.9, borderpad=0)
    title = "Deletions by reason"
    summary = (
        f"{_count(deleted.total(), 'deletion')} accepted in live runs. Dry runs would have deleted "
        f"{would.total():,}, where a runtime counts once in each run."
    )
    return Chart(
        key="reasons",
        title=title,
        summary=summary,
        headers=("Reason", "Deleted", "Would delete"),
        rows=[(reason, f"{deleted[reason]:,}", f"{would[reason]:,}") for reason in reversed(reasons)],
        drawings={"any": _svg(figure, "reasons", title, summary)},
    )


def _upcoming_chart(sweep: Sweep, now: datetime) -> Chart:
    days = [now.astimezone(UTC).date() + timedelta(days=n) for n in range(AHEAD.days + 1)]
    counts = [sweep.overdue, *(sweep.due[day] for day in days)]
    figure, (axes,) = _figure(HALF_WIDTH)
    axes.bar(range(len(counts)), counts, color=[INKS["failed"]] + [INKS["acted"]] * len(days), width=0.72)
    axes.set_ylim(0, max(1, *counts) * 1.1)
    axes.set_xticks([0, *range(2, len(counts), 4)], ["due", *(f"{day:%d %b}" for day in days[1::4])])
    named = [("already due", sweep.overdue), *((f"{day:%a} {day}", sweep.due[day]) for day in days)]
    title = "Upcoming deletions by day"
    summary = (
        f"{_count(sum(counts), 'runtime')} due until {minute(now + AHEAD)} if nobody uses them again, "
        f"{sweep.overdue:,} of them already; {sweep.later:,} later. As of the sweep of {minute(sweep.started.time)}."
    )
    return Chart(
        key="upcoming",
        title=title,
        summary=summary,
        headers=("Day", "Deletions"),
        rows=[(name, f"{count:,}") for name, count in named],
        drawings={"any": _svg(figure, "upcoming", title, summary)},
    )


def _figure(size: tuple[int, int], rows: int = 1) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure  # noqa: PLC0415 - only a report needs it
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415 - only a report needs it

    figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
    figure.patch.set_visible(False)
    panels: list[Axes] = [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]
    for axes in panels:
        axes.patch.set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    return figure, panels


def _svg(figure: "Figure", key: str, title: str, summary: str) -> str:
    """The drawing as markup that can stand among others in a page: ids of its own, no namespaces, no metadata."""
    from markupsafe import Markup  # noqa: PLC0415 - only a report needs it
    from matplotlib import rc_context  # noqa: PLC0415 - only a report needs it

    written = StringIO()
    with rc_context({"svg.hashsalt": key}):
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = re.sub(r"<!--.*?-->", "", written.getvalue().partition("<svg")[2].partition(">")[2], flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{key}-", body)
    for name, ink in INKS.items():
        body = body.replace(ink, f"var(--{name})")
    width, height = figure.get_size_inches() * 72
    opening = Markup(
        '<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{key}-title {key}-desc">'
        '<title id="{key}-title">{title}</title><desc id="{key}-desc">{summary}</desc>'
    )
    told = opening.format(width=width, height=height, key=key, title=title, summary=summary)
    return told + Markup(body)  # noqa: S704 - matplotlib escapes every text
