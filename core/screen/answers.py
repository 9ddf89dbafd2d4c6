"""Draws the answers of the audit log's review on a terminal; what they say is settled in `core.review`."""

from collections.abc import Iterable, Iterator, Sequence
from functools import singledispatch
from itertools import groupby
from typing import NamedTuple

from core.exit_code import IN_WORDS
from core.records.outcome import Outcome
from core.review.comparison import Diff, Difference
from core.review.disks import Disks
from core.review.promise import ExemptionLine, Horizon, Promised
from core.review.questions import ActLine, Confirmed, RunAnswer, RunLine, Runs, Why
from core.review.simulation import Simulated, Taken
from core.review.terms import label, value
from core.review.upcoming import Due, Upcoming
from core.rules.confirmation import ConfirmationPolicy
from core.rules.decision import Reason
from core.rules.disks import DiskPolicy
from core.rules.words import counted, duration, minute, with_lost
from core.runtime import Disk
from core.screen.columns import DISKS, DISKS_LEFT, TOTALS, cells_of_total, path_of
from core.screen.drawing import open_drawing
from core.screen.styled import FAULT, NOTHING, WARNING, Headers, Styled, printable
from core.verify.finding import Finding
from core.verify.rejudge import AUTOPAUSE_JOB
from core.verify.verdict import Verdict, Verification

SERVICE_ACCOUNT = ".iam.gserviceaccount.com"
"""Tells nothing, and is wide."""
READS_ONLY = frozenset({AUTOPAUSE_JOB, ConfirmationPolicy.job, DiskPolicy.job})
"""Jobs that act on nothing as they are scheduled: to call that a dry run would say that a live one is to follow."""
STATES = {"finished": "", "open": "still going", "cut_off": "cut off"}
"""How a run stands; nothing where its end says that."""


class Table(NamedTuple):
    title: str
    headers: Headers
    rows: list[list[str]]


Part = Table | list[Styled]


def draw(answer: object) -> None:
    """Show one answer on standard output."""
    drawing, below_lines = open_drawing(), False
    for part in parts_of(answer):
        if isinstance(part, Table):
            if below_lines:
                drawing.blank()
            drawing.table(part.title, part.headers, part.rows)
            drawing.blank()
        else:
            drawing.lines(part)
        below_lines = (below_lines or bool(part)) and not isinstance(part, Table)


@singledispatch
def parts_of(answer: object) -> Iterable[Part]:
    raise NotImplementedError(f"{type(answer).__name__} is drawn nowhere")


@parts_of.register
def _(answer: Runs) -> Iterable[Part]:
    yield Table("Runs", RUN_HEADERS, [_run_cells(line) for line in answer.runs])
    if answer.failing:
        yield Table(
            "Failed in several runs in a row",
            (("runtime",), ("job", "environment"), ("last run", "since"), ("runs",)),
            [[f.path, f.job, f.environment, f.last_run_id, minute(f.since), f"{f.runs:,}"] for f in answer.failing],
        )
    for what, accepted in (
        ("month", answer.deleted.month),
        ("project", answer.deleted.project),
        ("creator", answer.deleted.creator),
    ):
        if accepted:  # and no more than that: confirm-deletions says which of them ended
            rows = [[of.name, f"{of.deletions:,}", f"{of.disks_lost:,}"] for of in accepted]
            yield Table(f"Deletions accepted, by {what}", ((what,), ("deletions accepted",), ("disks lost",)), rows)


@parts_of.register
def _(answer: RunAnswer) -> Iterable[Part]:
    limits = ", ".join(f"{label(name)} {value(name, limit)}" for name, limit in answer.policy.items())
    yield _lines([_headline(answer.run), *_who(answer.run), f"Policy: {limits or 'not on record'}."])
    yield _lines([f"Exempt: {exemption}" for exemption in answer.exemptions])
    if answer.counts:
        counts = [[c.outcome, c.reason or NOTHING, f"{c.count:,}"] for c in answer.counts]
        yield Table("Decisions", (("outcome",), ("reason",), ("count",)), counts)
    if answer.acts:
        yield Table("Acts", ACT_HEADERS, [_act_cells(act) for act in answer.acts])
    if answer.confirmations:
        headers = (("runtime", "deleted by run"), ("status", "disk"), ("evidence",), ("outcome",))
        yield Table("What became of earlier deletions", headers, [_confirmed_cells(c) for c in answer.confirmations])
    if answer.left_standing:
        yield Table("Stuck or in Error", ACT_HEADERS, [_act_cells(act) for act in answer.left_standing])
    yield _lines(answer.remarks, WARNING)
    yield _lines([f"Needs a person: {whom}" for whom in answer.needs_person], FAULT)
    yield _lines(answer.causes, FAULT)
    rest = [failure for failure in answer.failures if failure not in answer.needs_person]
    yield _lines(rest, FAULT)
    yield [Styled(_verdict(answer.run), "bold")]


ACT_HEADERS = (("runtime", "creator"), ("status", "disk"), ("age", "idle"), ("reason", "outcome"))


def _act_cells(act: ActLine) -> list[str]:
    return [
        path_of(act),
        act.creator or NOTHING,
        act.status or NOTHING,
        _disk(act.disk),
        duration(act.age_s),
        duration(act.idle_s),
        act.reason,
        act.outcome,
    ]


def _disk(word: str | None) -> str:
    return f"disk {word}" if word else NOTHING


def _confirmed_cells(confirmed: Confirmed) -> list[str]:
    return [
        path_of(confirmed),
        confirmed.accepted_run_id or NOTHING,
        confirmed.status or NOTHING,
        _disk(confirmed.disk_status),
        confirmed.evidence or NOTHING,
        confirmed.outcome,
    ]


@parts_of.register
def _(answer: Why) -> Iterable[Part]:
    for incarnation in answer.incarnations:
        by = f" by {incarnation.creator}" if incarnation.creator else ""
        created = f", created {minute(incarnation.created_date)}{by}" if incarnation.created_date else ""
        head = f"{incarnation.path}, id {incarnation.runtime_id or 'unknown'}{created} (times in UTC)"
        yield [printable(head, "bold")]
        yield _lines([f"  {entry.line}" for entry in incarnation.entries])


@parts_of.register
def _(answer: Diff) -> Iterable[Part]:
    yield _lines([f"A: {_headline(answer.run_a)}", f"B: {_headline(answer.run_b)}"])
    if answer.terms:
        yield Table(
            "Judged by",
            (("",), ("A",), ("B",)),
            [[label(term.name), value(term.name, term.a), value(term.name, term.b)] for term in answer.terms],
        )
    if answer.counts:
        counts = [[count.outcome, count.reason, f"{count.a:,}", f"{count.b:,}"] for count in answer.counts]
        yield Table("Decisions", (("outcome",), ("reason",), ("A",), ("B",)), counts)
    if answer.differences:
        sides = {answer.run_a.run_id: "only A", answer.run_b.run_id: "only B"}
        yield Table(
            "Condemned in one run only",
            (("runtime", "creator"), ("in", "disk"), ("age", "idle"), ("reason", "outcome"), ("why not in the other",)),
            [_difference_cells(difference, sides) for difference in answer.differences],
        )
    if answer.projects_gone:
        gone = [[project, f"{count:,}"] for project, count in answer.projects_gone.items()]
        yield Table("Projects of which nothing is listed any more", (("project",), ("gone without our act",)), gone)
    yield _lines(
        [f"Judged by {'the same policy' if answer.same_policy else 'different policies'}; {answer.fleet_in_words}."]
    )
    only_a, only_b = (answer.only_in(run) for run in (answer.run_a, answer.run_b))
    verdict = f"Condemned in A only: {_count_with_lost(only_a)}; in B only: {_count_with_lost(only_b)}."
    yield [Styled(verdict if answer.differences else "Both condemned the same runtimes.", "bold")]


def _difference_cells(difference: Difference, sides: dict[str, str]) -> list[str]:
    return [
        difference.path,
        difference.creator or NOTHING,
        sides[difference.condemned_in],
        _disk(difference.disk),
        duration(difference.age_s),
        duration(difference.idle_s),
        difference.reason,
        difference.outcome,
        difference.in_words,
    ]


def _count_with_lost(differences: list[Difference]) -> str:
    lost = sum(difference.disk == Disk.LOST for difference in differences)
    return with_lost(f"{len(differences):,}", lost)


@parts_of.register
def _(answer: Verification) -> Iterable[Part]:
    yield [_of_verdict(verdict) for verdict in answer.runs if verdict.ok]
    for verdict in answer.runs:
        yield _lines([f"  in doubt: {whom}" for whom in verdict.in_doubt], WARNING)
    for verdict in answer.runs:
        if not verdict.ok:
            yield [_of_verdict(verdict)]
            yield _lines(_of_findings(verdict.findings, "  "), FAULT)
    yield _lines(_of_findings(answer.findings, ""), FAULT)
    yield _lines([*map(str, answer.torn)], WARNING)
    yield _lines([*map(str, answer.faults)], FAULT)
    beside = [
        f"{count:,} {what}"
        for count, what in ((answer.repeated, "met twice"), (answer.foreign, "lines of other programs or versions"))
        if count
    ]
    checked = sum(verdict.records for verdict in answer.runs)
    read = ", ".join([f"{checked:,} of {answer.records:,} records checked", *beside])
    yield [
        Styled(
            f"{read}: {'nothing is off' if answer.ok else 'SOMETHING IS OFF'}.",
            "bold" if answer.ok else FAULT,
        )
    ]


def _of_verdict(verdict: Verdict) -> Styled:
    how = (STATES[verdict.state] or "whole") if verdict.ok else f"{len(verdict.findings):,} off"
    return printable(
        f"{minute(verdict.started_at)} {verdict.run_id} {verdict.job} {verdict.environment}:"
        f" {verdict.records:,} records, {verdict.listed:,} listed, {verdict.acts:,} acts: {how}",
        "" if verdict.ok else FAULT,
    )


def _of_findings(findings: Iterable[Finding], indent: str) -> Iterator[str]:
    """One line each, and what follows from it below."""
    for finding in findings:
        task = f"task {finding.task_index}: " if finding.task_index else ""
        yield f"{indent}{task}{finding.message} [{finding.kind}]"
        yield from _of_findings(finding.consequences, f"{indent}  so ")


@parts_of.register
def _(answer: Upcoming) -> Iterable[Part]:
    yield _lines([_headline(answer.run)])
    blocks: list[Styled] = []
    for (overdue, creator), rows in groupby(answer.due, lambda due: (due.overdue, due.creator)):
        head = f"{'Overdue' if overdue else 'Due'}: {creator or 'creator not on record'}"
        first, *others = _lines(map(_due_in_words, rows))
        blocks += [printable(head, "bold")._replace(below=first.text), *others]
    yield blocks
    yield _lines(answer.remarks, WARNING)
    final = sum(due.is_final for due in answer.due)
    held = sum(due.reason == Reason.NOT_NOTICED for due in answer.due)
    overdue = sum(due.overdue for due in answer.due)
    yield [
        Styled(
            f"{len(answer.due):,} are due by {minute(answer.until)}Z, {overdue:,} of them overdue:"
            f" {final:,} whatever anybody does, {len(answer.due) - final:,} if nobody uses them"
            f"{f'; {held:,} of all not before their owners have been told in time' if held else ''}.",
            "bold",
        )
    ]


def _due_in_words(due: Due) -> str:
    what = f"{due.project}/{due.name} ({due.status}, disk {due.disk or 'unknown'})"
    when = "when its exemption ends, " if due.limit == "exemption" else ""
    latest = f"; else {minute(due.final_at)} at the latest" if due.final_at else ""
    unless = "whatever anybody does" if due.is_final else f"if nobody uses it{latest}"
    if due.reason == Reason.NOT_NOTICED:
        unless = f"held until its owner has been told in time, then {unless}"
    return f"  {minute(due.due_at)} {what}: {when}{unless}"


@parts_of.register
def _(answer: Promised) -> Iterable[Part]:
    yield _lines([_headline(answer.run)])
    if answer.days:
        yield Table(
            "Day by day",
            (("day",), ("runs",), ("oldest",), ("above the maximum age",), ("deleted late by",)),
            [
                [
                    f"{day.day}",
                    f"{day.runs:,}",
                    duration(day.oldest_s),
                    NOTHING if day.over_age is None else f"{day.over_age:,}",
                    duration(day.late_max_s),
                ]
                for day in answer.days
            ],
        )
    yield from _exemptions(answer.exemptions)
    if answer.over_age:
        yield from _over_age(answer)
    if answer.horizon:
        yield from _horizon(answer.horizon)
    yield _lines([f"Not seen, for its list could not be read: {project}" for project in answer.unread], WARNING)
    yield _lines(answer.remarks, WARNING)
    yield [Styled(answer.in_words, "bold" if answer.kept else FAULT)]


def _over_age(answer: Promised) -> Iterator[Part]:
    yield Table(
        "Above the maximum age",
        (("runtime", "creator"), ("status", "age now"), ("kept by",), ("breaks the promise",)),
        [
            [
                path_of(row),
                row.creator or NOTHING,
                row.status or NOTHING,
                duration(row.age_s),
                row.kept_by,
                "yes" if row.breaks else "not yet" if row.kept_by != Reason.EXEMPT else "exempt",
            ]
            for row in answer.over_age
        ],
    )
    yield Table(
        "What to do",
        (("kept by",), ("runtimes", "breaking"), ("oldest",), ("what to do",)),
        [
            [kind.kept_by, f"{kind.count:,}", f"{kind.breaking:,}", duration(kind.oldest_s), kind.what_to_do]
            for kind in answer.kinds
        ],
    )


def _exemptions(lines: Sequence[ExemptionLine]) -> Iterator[Part]:
    if not lines:
        return
    yield Table(
        "Exemptions",
        (("exemption",), ("matches",), ("spares",), ("from deletion now",)),
        [
            [
                line.exemption,
                NOTHING if line.matches is None else f"{line.matches:,}",
                f"{len(line.spared):,}",
                f"{line.would_go:,}",
            ]
            for line in lines
        ],
    )
    spared = [(line, row) for line in lines for row in line.spared if row.would_go]
    if spared:
        yield Table(
            "Would be deleted now without their exemption",
            (("runtime", "creator"), ("age",), ("exemption",)),
            [[path_of(row), row.creator or NOTHING, duration(row.age_s), line.exemption] for line, row in spared],
        )


def _horizon(horizon: Horizon) -> Iterator[Part]:
    doubtful = [row for row in horizon.rows if row.not_relied_on]
    if doubtful:
        yield Table(
            f"Made before {minute(horizon.made_before)} and not to be relied on",
            (("runtime", "creator"), ("created",), ("kept by",)),
            [
                [path_of(row), row.creator or NOTHING, minute(row.created_date), row.not_relied_on or ""]
                for row in doubtful
            ],
        )
    yield [Styled(horizon.in_words, "bold")]


SIMULATED: dict[str, str] = {
    "only_simulated": "the simulated policy alone takes it",
    "both": "both take it",
    "cut_off": "the policy in force took it first: nobody knows when the other would have",
    "only_in_force": "the policy in force condemned it, the simulated never does",
    "unknown": "the log does not tell (a threshold nobody looked at, labels)",
    "neither": "neither takes it",
}


@parts_of.register
def _(answer: Simulated) -> Iterable[Part]:
    between = f"from {minute(answer.since)} to {minute(answer.until)} (UTC)"
    yield _lines([f"{counted(answer.runs, 'run')} {between}, {counted(answer.incarnations, 'runtime')}."])
    yield Table(
        "Judged by",
        (("",), ("in force",), ("simulated",)),
        [[label(name), value(name, in_force), value(name, limit)] for name, in_force, limit in answer.changed]
        or [["the same limits", NOTHING, NOTHING]],
    )
    yield Table(
        "Runtimes",
        (("",), ("count",)),
        [[words, f"{count:,}"] for kind, words in SIMULATED.items() if (count := getattr(answer, kind))],
    )
    if answer.differing:
        yield Table(
            "Taken otherwise",
            (("runtime", "creator"), ("by", "disk"), ("simulated", "in force"), ("earlier",), ("user back",)),
            [_simulated_cells(row) for row in answer.differing],
        )
    yield [Styled(answer.in_words, "bold")]


def _simulated_cells(row: Taken) -> list[str]:
    return [
        path_of(row),
        row.creator or NOTHING,
        row.kind.replace("_", " "),
        _disk(row.disk),
        minute(row.simulated_at),
        minute(row.in_force_at),
        duration(row.earlier_s),
        minute(row.back_at),
    ]


@parts_of.register
def _(answer: Disks) -> Iterable[Part]:
    yield _lines([_headline(answer.run)])
    title, headers = TOTALS
    yield Table(title, headers, [cells_of_total(total) for total in answer.totals])
    columns = [[column.header for column in group] for group in DISKS]
    cells = [[column.cell(disk) for group in DISKS for column in group] for disk in answer.disks]
    yield Table(DISKS_LEFT, columns, cells)
    yield _lines(answer.remarks, WARNING)
    gb = sum(total.gb for total in answer.totals)
    yield [Styled(f"{counted(len(answer.disks), 'disk')} of {gb:,} GB attached to no runtime.", "bold")]


RUN_HEADERS = (
    ("run", "when"),
    ("job", "environment", "how"),
    ("listed", "outcomes"),
    ("failed", "needs a person"),
    ("exit code", "took", "refused by"),
    ("who", "plan"),
)


def _run_cells(line: RunLine) -> list[str]:
    return [
        line.run_id,
        minute(line.started_at),
        line.job,
        line.environment,
        _how(line),
        _listed(line),
        outcomes_in_words(line) or NOTHING,
        f"{line.failed:,}",
        f"{line.needs_person:,}",
        STATES[line.state] or str(line.exit_code),
        NOTHING if line.duration_s is None else duration(line.duration_s),
        ", ".join(line.refused_by) or NOTHING,
        ", ".join(_who_in_short(line)) or NOTHING,
        f"plan {line.plan_run_id}" if line.plan_run_id else NOTHING,
    ]


def _listed(line: RunLine) -> str:
    """As far as it came; a dash for what lists nothing of its own."""
    if _notices(line) or line.asked:
        return NOTHING
    return f"{line.listed:,}{_so_far(line)}"


def _so_far(line: RunLine) -> str:
    return "" if line.state == "finished" else " so far"


def outcomes_in_words(line: RunLine) -> str:
    """Of what was not simply kept; each notice once, by what became of it."""
    ended = {outcome: count for outcome, count in line.outcomes.items() if outcome != Outcome.KEPT}
    if told := _notices(line):
        ended["notice_requested"] = told - ended.get("notice_sent", 0) - ended.get("notice_failed", 0)
    return ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in ended.items() if count)


def _notices(line: RunLine) -> int:
    return line.outcomes.get("notice_requested", 0)


def _how(line: RunLine) -> str:
    how = "live" if not line.dry_run else "read only" if line.job in READS_ONLY and not line.would_act else "dry"
    return f"{how} as of {minute(line.as_of)}" if line.as_of else how


def _describe_end(line: RunLine) -> str:
    words = IN_WORDS.get(line.exit_code, "") if line.exit_code is not None else ""
    return STATES[line.state] or f"exit code {line.exit_code}" + (f" ({words})" if words else "")


def _who_in_short(line: RunLine) -> Iterator[str]:
    for what, who in (("by", line.started_by or line.actor), ("approved by", line.approved_by)):
        if who:
            yield f"{what} {who.removesuffix(SERVICE_ACCOUNT)}"


def _who(line: RunLine) -> Iterator[str]:
    """Who started the run and who approved it: words of whoever typed them, which nothing vouches for."""
    if line.started_by or line.approved_by:
        starter, approver = line.started_by or "somebody not named", line.approved_by or "nobody named"
        named = f"Started by {starter}, approved by {approver} (both as whoever started it typed)"
    else:
        named = "No starter or approver is named, as in scheduled runs"
    yield f"{named}{f'; it called Leonardo as {line.actor}' if line.actor else ''}."
    if line.plan_run_id:
        yield f"Held to the plan of run {line.plan_run_id}."


def _verdict(line: RunLine) -> str:
    failed = [f"{line.failed:,} failed"] if line.failed else []
    needs = [f"{line.needs_person:,} in need of a person"] if line.needs_person else []
    after = "" if line.duration_s is None else f" after {duration(line.duration_s)}"
    return f"{', '.join([_looked_at(line), *failed, *needs])}; {_describe_end(line)}{after}."


def _looked_at(line: RunLine) -> str:
    if told := _notices(line):
        return f"{counted(told, 'notice')} to owners"
    return f"{counted(line.asked, 'deletion')} asked about" if line.asked else f"{line.listed:,} listed{_so_far(line)}"


def _headline(line: RunLine) -> str:
    refused = f", refused by {', '.join(line.refused_by)}" if line.refused_by else ""
    if line.would_be_refused_by:
        refused += f", a live run would be refused by {', '.join(line.would_be_refused_by)}"
    return (
        f"{minute(line.started_at)} {line.run_id}: {line.job} in {line.environment}, {_how(line)},"
        f" {_looked_at(line)}, {_describe_end(line)}{refused}"
    )


def _lines(texts: Iterable[str], style: str = "") -> list[Styled]:
    return [printable(text, style) for text in texts]
