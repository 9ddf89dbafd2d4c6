"""The report's drawings, each with its numbers for whoever does not see it."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.typing import RcKeyType

from core.records.outcome import Outcome
from core.report.gathered import AHEAD, Gathered, LatestSweep
from core.review.questions import RunLine
from core.rules.decision import in_utc
from core.rules.words import counted, in_words, minute

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
DRAWING: dict[RcKeyType, Any] = {
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


def charts(gathered: Gathered, lines: list[RunLine]) -> Iterator[Chart]:
    with rc_context(DRAWING):
        sweeps = [line for line in lines if line.listed]
        if sweeps:
            yield _runs_chart(sweeps)
        if gathered.sweep:
            yield from _histograms(gathered.sweep)
        if len(gathered.deletions) or (gathered.sweep and gathered.sweep.would_delete.total()):
            yield _reasons_chart(gathered)
        if gathered.sweep:
            yield _upcoming_chart(gathered.sweep, gathered.now)


def _runs_chart(lines: list[RunLine]) -> Chart:
    sizes = {"wide": (WIDE, lines[-BARS_WIDE:]), "narrow": (NARROW, lines[-BARS_NARROW:])}
    title = "Runs over time"
    summary = (
        f"The latest {counted(min(len(lines), BARS_WIDE), 'run')} that listed runtimes, oldest first: above what was "
        "acted on and what failed, below what was kept, on a scale of its own."
    )
    drawings = {}
    for width, (size, shown) in sizes.items():
        figure, (above, below) = _figure(size, rows=2)
        _stack(above, shown)
        below.bar(range(len(shown)), list(map(_kept, shown)), color=INKS["kept"], label="kept", width=0.7)
        _name_runs(below, shown)
        for axes, columns in ((above, 3), (below, 1)):
            axes.set_xlim(-0.6, max(len(shown), 8) - 0.4)
            axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.04), ncols=columns, handlelength=0.9, borderpad=0)
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
                f"{_kept(line):,}",
            )
            for line in reversed(lines[-BARS_WIDE:])
        ],
        drawings=drawings,
    )


def _kept(line: RunLine) -> int:
    return line.outcomes.get(Outcome.KEPT, 0)


def _stack(axes: Axes, shown: list[RunLine]) -> None:
    bottom = [0] * len(shown)
    for name, ink, heights in (
        ("acted", "acted", [line.acted for line in shown]),
        ("would act (dry run)", "would", [line.would_act for line in shown]),
        ("failed", "failed", [line.failed for line in shown]),
    ):
        axes.bar(range(len(shown)), heights, bottom=bottom, color=INKS[ink], label=name, width=0.7)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks([])


def _name_runs(axes: Axes, shown: list[RunLine]) -> None:
    step = -(-len(shown) // (5 if len(shown) <= BARS_NARROW else 12))
    places = range(0, len(shown), step)
    days = [shown[place].started_at for place in places]
    axes.set_xticks(places, [f"{in_utc(day):%d %b}" if day else "?" for day in days])


def _histograms(sweep: LatestSweep) -> Iterator[Chart]:
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
        summary = f"{counted(len(numbers), 'runtime')} in the latest whole sweep ({when}). Limits: {told}."
        yield _histogram(key, title, summary, numbers, sorted({*edges, *drawn.values()}), drawn)


def _histogram(
    key: str,
    title: str,
    summary: str,
    numbers: Sequence[float],
    edges: list[timedelta],
    limits: dict[str, timedelta],
) -> Chart:
    starts = [edge.total_seconds() for edge in edges]
    fallen = Counter(max(0, bisect_right(starts, number) - 1) for number in numbers)
    counts = [fallen[n] for n in range(len(edges))]
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
    deleted = Counter({of.name: of.deletions for of in gathered.deletions.by("reason")})
    would = gathered.sweep.would_delete if gathered.sweep else Counter[str]()
    reasons = sorted({*+deleted, *+would}, key=lambda reason: (deleted[reason] + would[reason], reason))
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
        f"{counted(deleted.total(), 'runtime')} deleted by live runs, each counted once; "
        f"the latest whole sweep would delete {would.total():,}."
    )
    return Chart(
        key="reasons",
        title=title,
        summary=summary,
        headers=("Reason", "Deleted", "Would delete"),
        rows=[(reason, f"{deleted[reason]:,}", f"{would[reason]:,}") for reason in reversed(reasons)],
        drawings={"any": _svg(figure, "reasons", title, summary)},
    )


def _upcoming_chart(sweep: LatestSweep, now: datetime) -> Chart:
    days = [now.astimezone(UTC).date() + timedelta(days=n) for n in range(AHEAD.days + 1)]
    counts = [sweep.overdue, *(sweep.due[day] for day in days)]
    figure, (axes,) = _figure(HALF_WIDTH)
    axes.bar(range(len(counts)), counts, color=[INKS["failed"]] + [INKS["acted"]] * len(days), width=0.72)
    axes.set_ylim(0, max(1, *counts) * 1.1)
    axes.set_xticks([0, *range(2, len(counts), 4)], ["due", *(f"{day:%d %b}" for day in days[1::4])])
    named = [("already due", sweep.overdue), *((f"{day:%a} {day}", sweep.due[day]) for day in days)]
    title = "Upcoming deletions by day"
    summary = (
        f"{counted(sum(counts), 'runtime')} due until {minute(now + AHEAD)} if nobody uses them again, "
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


def _figure(size: tuple[int, int], rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(size[0] / 72, size[1] / 72))
    figure.patch.set_visible(False)
    panels: list[Axes] = [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]
    for axes in panels:
        axes.patch.set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    return figure, panels


def _svg(figure: Figure, key: str, title: str, summary: str) -> str:
    """The drawing as markup that can stand among others in a page: ids of its own, no metadata."""
    ConstrainedLayoutEngine().execute(figure)  # makes the last of its parts; told to the figure, it goes twice
    for number, part in enumerate(figure.findobj()):
        part.set_gid(f"{key}-{number}")
    written = StringIO()
    with rc_context({"svg.hashsalt": key}):
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = written.getvalue().partition("<svg")[2].partition(">")[2]
    for name, ink in INKS.items():  # the library knows colours, no CSS variables
        body = body.replace(ink, f"var(--{name})")
    width, height = figure.get_size_inches() * 72
    opening = Markup(
        '<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{key}-title {key}-desc">'
        '<title id="{key}-title">{title}</title><desc id="{key}-desc">{summary}</desc>'
    )
    told = opening.format(width=width, height=height, key=key, title=title, summary=summary)
    return told + Markup(body)  # noqa: S704 - matplotlib escapes every text
