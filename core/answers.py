"""Draws the answers of the audit log's review on a terminal; what they say is settled in `core.records`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import singledispatch
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.console import STYLES, printable
from core.records.review import Diff, RunAnswer, RunLine, Runs, Upcoming, Why
from core.records.verify import Verdict, Verification
from core.records.view import duration

MOST_LINES = 100
"""More would push the rest off any screen; `--output json` has them all."""
STATES = {"finished": "", "open": "still going", "cut_off": "cut off"}


def draw(answer: object) -> None:
    """Show one answer of `core.records.review` or `core.records.verify` on standard output."""
    for part in _parts(answer):
        Console().print(part)


@singledispatch
def _parts(answer: object) -> Iterable[Text | Table]:
    raise NotImplementedError(f"{type(answer).__name__} is drawn nowhere")


@_parts.register
def _(answer: Runs) -> Iterable[Text | Table]:
    yield _table("Runs", RUN_HEADERS, (_run_cells(line) for line in answer.runs))
    if answer.failing:
        yield _table(
            "Failed in several runs in a row",
            ("runtime", "job", "environment", "runs", "since", "last run"),
            ([f.path, f.job, f.environment, str(f.runs), _minute(f.since), f.last_run_id] for f in answer.failing),
        )


@_parts.register
def _(answer: RunAnswer) -> Iterable[Text | Table]:
    yield from _lines([_headline(answer.run)])
    limits = ", ".join(f"{name} {_limit(name, value)}" for name, value in answer.policy.items())
    yield from _lines([f"Policy: {limits or 'not on record'}."])
    yield from _lines([f"Exempt: {exemption}" for exemption in answer.exemptions])
    yield _table(
        "Decisions", ("outcome", "reason", "count"), ([c.outcome, c.reason, f"{c.count:,}"] for c in answer.counts)
    )
    if answer.acts:
        yield _table(
            "Acts",
            ("project", "name", "creator", "status", "age", "idle", "disk", "reason", "outcome"),
            (
                [
                    a.project or "?",
                    a.name or "?",
                    a.creator or "-",
                    a.status or "-",
                    duration(a.age_s),
                    duration(a.idle_s),
                    f"disk {a.disk}" if a.disk else "-",
                    a.reason,
                    a.outcome,
                ]
                for a in answer.acts
            ),
        )
    yield from _lines(answer.remarks, "yellow")
    yield from _lines([f"Failed: {failure}" for failure in answer.failures], "red")


@_parts.register
def _(answer: Why) -> Iterable[Text | Table]:
    for incarnation in answer.incarnations:
        by = f" by {incarnation.creator}" if incarnation.creator else ""
        created = f", created {_minute(incarnation.created_date)}{by}" if incarnation.created_date else ""
        yield printable(f"{answer.path}, id {incarnation.runtime_id or 'unknown'}{created} (times in UTC)", "bold")
        yield from _lines([f"  {entry.line}" for entry in incarnation.entries])


@_parts.register
def _(answer: Diff) -> Iterable[Text | Table]:
    yield from _lines([f"A: {_headline(answer.run_a)}", f"B: {_headline(answer.run_b)}"])
    policy = "the same policy" if answer.same_policy else "different policies"
    fleet = (
        "the fleet is as large"
        if answer.grew_by == 0
        else f"the fleet {'grew' if answer.grew_by > 0 else 'shrank'} by {abs(answer.grew_by):,}"
    )
    yield Text(
        f"Judged by {policy}; {fleet}: {answer.new:,} new, {answer.gone_by_our_act:,} gone by our act,"
        f" {answer.gone_without_our_act:,} gone without our act."
    )
    if answer.differences:
        sides = {answer.run_a.run_id: "A", answer.run_b.run_id: "B"}
        yield _table(
            "Condemned in one run only",
            ("runtime", "id", "only in", "reason", "outcome", "why not in the other"),
            (
                [d.path, d.runtime_id, sides[d.condemned_in], d.reason, d.outcome, d.in_words]
                for d in answer.differences
            ),
        )
    else:
        yield Text("Both condemned the same runtimes.", style="bold")


@_parts.register
def _(answer: Verification) -> Iterable[Text | Table]:
    for verdict in answer.runs:
        yield from _of_verdict(verdict)
    yield from _lines([f"{fault.place}: {fault.what}" for fault in answer.torn], "yellow")
    yield from _lines([f"{fault.place}: {fault.what}" for fault in answer.faults], "red")
    beside = [
        f"{count:,} {what}"
        for count, what in ((answer.repeated, "met twice"), (answer.foreign, "lines of other programs or versions"))
        if count
    ]
    read = ", ".join([f"{answer.records:,} records read", *beside])
    yield Text(
        f"{read}: {'nothing is off' if answer.ok else 'SOMETHING IS OFF'}.", "bold green" if answer.ok else "bold red"
    )


def _of_verdict(verdict: Verdict) -> Iterable[Text]:
    state = {"finished": "whole", "open": "still going", "cut_off": "cut off"}[verdict.state]
    how = f"{len(verdict.faults):,} off" if verdict.faults else state
    yield printable(
        f"{_minute(verdict.started_at)} {verdict.run_id} {verdict.job} {verdict.environment}:"
        f" {verdict.records:,} records, {verdict.listed:,} listed, {verdict.acts:,} acts: {how}",
        "red" if verdict.faults else "",
    )
    yield from _lines([f"  {fault}" for fault in verdict.faults], "red")
    yield from _lines([f"  in doubt: {whom}" for whom in verdict.in_doubt], "yellow")


@_parts.register
def _(answer: Upcoming) -> Iterable[Text | Table]:
    yield from _lines([_headline(answer.run)])
    for (project, creator), rows in groupby(answer.due, lambda due: (due.project, due.creator)):
        yield printable(f"{project}, {creator or 'creator not on record'}", "bold")
        yield from _lines(
            [f"  {_minute(row.due_at)} {row.name} ({row.status}, disk {row.disk or 'unknown'})" for row in rows]
        )
    yield Text(f"{len(answer.due):,} will be deleted by {_minute(answer.until)}Z if nobody uses them.", style="bold")


RUN_HEADERS = ("when", "run", "job", "environment", "how", "who", "listed", "acted", "would act", "failed", "ended")


def _run_cells(line: RunLine) -> list[str]:
    return [
        _minute(line.started_at),
        line.run_id,
        line.job,
        line.environment,
        _how(line),
        line.who or "-",
        f"{line.listed:,}",
        f"{line.acted:,}",
        f"{line.would_act:,}",
        f"{line.failed:,}",
        _ended(line),
    ]


def _how(line: RunLine) -> str:
    return "dry" if line.dry_run else "live"


def _ended(line: RunLine) -> str:
    if line.state != "finished":
        return STATES[line.state]
    refused = f", refused by {', '.join(line.refused_by)}" if line.refused_by else ""
    return f"exit code {line.exit_code}{refused}"


def _headline(line: RunLine) -> str:
    return (
        f"{_minute(line.started_at)} {line.run_id}: {line.job} in {line.environment}, {_how(line)} run"
        f" by {line.who or 'unknown'}, {line.listed:,} listed, {_ended(line)}"
    )


def _limit(name: str, value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return duration(value) if name.endswith("_s") else f"{value:g}"


def _minute(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def _lines(texts: list[str], style: str = "") -> Iterable[Text]:
    for text in texts[:MOST_LINES]:
        yield printable(text, style)
    if len(texts) > MOST_LINES:
        yield Text(f"and {len(texts) - MOST_LINES:,} more", style)


def _table(title: str, headers: tuple[str, ...], rows: Iterable[list[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold")
    shown = list(rows)
    for row in shown[:MOST_LINES]:
        table.add_row(*(printable(cell, STYLES.get(cell, "")) for cell in row))
    if len(shown) > MOST_LINES:
        table.caption = f"and {len(shown) - MOST_LINES:,} more"
    return table
