"""The page that the report writes, read as text and opened in a real browser."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from benchmarks.history import write_history
from core.records.files import AuditFiles
from core.records.reader import AuditRecords, Record
from core.report import gathered, side_by_side
from core.report import page as page_module
from core.report.page import write_report
from core.review import comparison
from core.review import questions as review
from core.review.promise import promise
from core.review.upcoming import upcoming
from core.review.which import UnknownError
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.server import serving
from jobs.__main__ import main
from tests.conftest import Ended, a_machine, delete, finish, script, start, variables_alone
from tests.test_check_autopause import check, overdue

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
LIVE = ("--no-dry-run",)
MINUTE = timedelta(minutes=1)
SCRIPT = "<script>alert(1)</script>"
QUOTED = "a \"quoted\" & 'single' name"
CHROMIUM = shutil.which("chromium")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")


def now() -> datetime:
    return datetime.now(UTC)


class Page(HTMLParser):
    """The cells of each table that has an id, and every address that the page refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tables: dict[str, list[list[str]]] = {}
        self.parts: dict[str, list[dict[str, str]]] = {}
        """By table and row what stands in a cell together and is told apart in a spreadsheet."""
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self._within: str | None = None
        self._in_cell = False
        self._part: tuple[str, str, int] | None = None
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += filter(None, [given.get("id")])
        self.addresses += [str(given[name]) for name in ("src", "href", "xlink:href", "data") if name in given]
        if tag == "table":
            self._within = given.get("id")
        if tag == "tr" and self._within:
            self.tables.setdefault(self._within, []).append([])
            self.parts.setdefault(self._within, []).append({})
        if tag in ("td", "th") and self._within:
            self.tables[self._within][-1].append("")
            self._in_cell = True
        if self._part and self._part[1] == tag:
            self._part = (*self._part[:2], self._part[2] + 1)
        if self._within and (part := given.get("data-col")):
            self._part = part, tag, 0
            self.parts[self._within][-1][part] = ""

    def handle_endtag(self, tag: str) -> None:
        if self._part and self._part[1] == tag:
            name, _, depth = self._part
            self._part = (name, tag, depth - 1) if depth else None
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell and self._within:
            self.tables[self._within][-1][-1] += data
            if self._part:
                part = self.parts[self._within][-1]
                part[self._part[0]] = f"{part[self._part[0]]}{data}".strip()

    def rows(self, table: str) -> list[dict[str, str]]:
        headers, *rows = self.tables.get(table, [[]])
        return [dict(zip(headers, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dry runs, a live one with a failure, an autopause check, and names that try to be markup.

    Leonardo knows no such names, so that a second look at them fails.
    """
    file = tmp_path_factory.mktemp("recorded") / "log.jsonl"
    kept = ("--audit-file", str(file))
    fleet = [
        a_machine(1, name=SCRIPT),
        a_machine(2, days=8, name=QUOTED),
        a_machine(3, days=2),
        a_machine(4, days=13.5),
        a_machine(5),
        a_machine(7, days=8),
        a_machine(8, config_type="GceConfig"),
    ]
    faults = [Fault(call="delete", name="all-of-us-5", status=400)]
    with serving(Leonardo([*fleet, overdue(6)]), faults=faults) as server, variables_alone():
        for arguments in (delete(server), delete(server, *LIVE), delete(server), check(server)):
            main([*arguments, *kept])
    return file


@pytest.fixture
def log(recorded: Path, tmp_path: Path) -> AuditRecords:
    """Of this test alone, which may change the file."""
    return AuditRecords(AuditFiles([Path(shutil.copy(recorded, tmp_path))]))


@pytest.fixture(scope="module")
def page(recorded: Path) -> Page:
    """Drawn once, since that takes a second."""
    return reported(AuditRecords(AuditFiles([recorded])), recorded.parent)


def reported(
    records: AuditRecords | list[Record],
    tmp_path: Path,
    at: datetime | None = None,
    *,
    compared: Sequence[str] = (),
) -> Page:
    out = tmp_path / "report.html"
    log = records if isinstance(records, AuditRecords) else None
    write_report(records, out, at or now(), log=log, compared=compared)
    return Page(out)


def chart(page: Page, key: str) -> str:
    found = re.search(rf'<section id="{key}".*?</section>', page.text, re.DOTALL)
    assert found, key
    return found[0]


def numbers(page: Page, key: str) -> dict[str, list[int]]:
    """The rows of the table beside a chart."""
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', chart(page, key))
    return {name: [int(n) for n in re.findall(r'<td class="n">(\d+)</td>', cells)] for name, cells in rows}


def test_the_page_loads_nothing_and_every_id_stands_once(page: Page) -> None:
    assert [address for address in page.addresses if not address.startswith("#")] == []
    assert not re.search(r"https?://|@import|url\((?!#)", page.text)
    assert "default-src 'none'" in page.text
    assert len(page.ids) == len(set(page.ids))


def test_the_runs_are_those_that_review_tells_of(log: AuditRecords, page: Page) -> None:
    at = now()
    shown = page.parts["runs"][1:]
    expected = review.runs(log, at).runs[::-1]
    assert [(r["run"], r["listed"], r["failed"], r["needs a person"]) for r in shown] == [
        (line.run_id, str(line.listed), str(line.failed), str(line.needs_person)) for line in expected
    ]
    assert [r["mode"] for r in shown] == ["dry", "dry", "live", "dry"]
    assert [set(r["outcomes"].split(",")) for r in shown][2] >= {"3 deletion accepted"}
    assert [r["ended"].partition(":")[0] for r in shown] == [f"exit code {line.exit_code}" for line in expected]


def test_the_acts_and_failures_are_those_that_review_tells_of(log: AuditRecords, page: Page) -> None:
    answers = [review.run(log, line.run_id, now()) for line in review.runs(log, now()).runs]
    acts = sorted((a.run.run_id, f"{act.project}/{act.name}", act.outcome) for a in answers for act in a.acts)
    shown = [(r["Run"], r["Runtime"], r["Outcome"].replace(" ", "_")) for r in page.rows("acts")]
    assert sorted(shown) == acts
    failures = {(r["Runtime"], r["Outcome"], r["Why"]) for r in page.rows("failures")}
    assert ("terra-5/all-of-us-5", "failed", "Bad Request") in failures
    assert (f"terra-2/{QUOTED}", "failed", f"The runtime name {QUOTED} is not valid.") in failures
    assert {path for path, _, _ in failures} == {"terra-5/all-of-us-5", f"terra-1/{SCRIPT}", f"terra-2/{QUOTED}"}
    assert len(page.rows("failures")) == sum(len(answer.failures) for answer in answers)


def test_failures_of_one_cause_are_told_once_for_all_runs_with_the_newest_example(
    log: AuditRecords, page: Page
) -> None:
    refused = f"refused, HTTP 400: The runtime name {QUOTED} is not valid."
    unseen = "not_visible, HTTP 404: The requested resource could not be found."
    assert [(row["What failed, and the answer"], row["Times"]) for row in page.rows("causes")] == [
        (f"failed to delete: {refused}", "3"),
        (f"failed to delete: {unseen}", "3"),
        (f"failed to check: {refused}", "1"),
        (f"failed to check: {unseen}", "1"),
        ("failed to delete: refused, HTTP 400: Bad Request", "1"),
    ]
    newest = [r for r in log if r.name == QUOTED and r.job == "delete-old-runtimes"][-1]
    assert (page.rows("causes")[0]["Such as"], page.rows("causes")[0]["Trace"]) == (newest.path, newest.trace_id)


def test_the_charts_say_their_numbers(log: AuditRecords, page: Page) -> None:
    assert numbers(page, "reasons") == {"max_age": [1, 1], "max_age_if_idle": [2, 0]}, "a runtime counts once"
    age, idle, by_day = (numbers(page, key) for key in ("age", "idle", "upcoming"))
    (due_now,) = by_day.pop("already due")
    due = upcoming(log, gathered.AHEAD, now()).due
    assert due_now + sum(n for (n,) in by_day.values()) == len(due)
    listed = review.runs(log, now()).runs[-2].listed
    assert sum(n for (n,) in age.values()) == sum(n for (n,) in idle.values()) == listed
    assert "max_age_if_idle 7 d, max_age 14 d" in chart(page, "age")
    assert "max_age 14d" in chart(page, "age").partition("<svg")[2]
    assert "idle_after 4h" in chart(page, "idle").partition("<svg")[2]


def test_every_drawing_has_a_title_a_description_and_follows_the_colours_of_the_page(page: Page) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page.text, re.DOTALL)
    assert len(drawings) == 6
    for drawing in drawings:
        assert re.match(r'<svg [^>]*role="img" aria-labelledby="\S+ \S+"><title id=.+?</title><desc id=', drawing)
        assert "var(--acted)" in drawing
        assert "#a1b0" not in drawing


def test_names_stay_text(page: Page) -> None:
    assert page.text.count("<script>") == 1
    assert {f"terra-1/{SCRIPT}", f"terra-2/{QUOTED}"} <= {row["Runtime"] for row in page.rows("acts")}


def test_words_that_a_chart_shows_stay_text_too(tmp_path: Path) -> None:
    reason = "--><script>$x^{$"
    records = [Record(event="runtime_audited", run_id="r", reason=reason, outcome="deletion_accepted", dry_run=False)]
    page = reported(records, tmp_path)
    assert page.text.count("<script>") == 1
    assert "--&gt;&lt;script&gt;$x^{$" in chart(page, "reasons").partition("<svg")[2].partition("</svg")[0]


def test_a_whole_log_is_said_to_be_whole_and_another_is_not(log: AuditRecords, page: Page, tmp_path: Path) -> None:
    assert "The log is whole: nothing is off in 4 runs." in page.text
    (file,) = AuditFiles([tmp_path]).files
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:3], *lines[4:], lines[0].replace('"dry_run":true', '"dry_run":false')]))
    page = reported(log, tmp_path)
    assert "The log is not whole: 1 run of 4 off, 1 fault in the files." in page.text
    assert "is here with other content than before" in page.text
    assert "1 record missing: seq 3" in page.text


@pytest.mark.measured
def test_no_record_makes_a_page_that_says_so(tmp_path: Path) -> None:
    page = reported([], tmp_path)
    for words in ("There is no record to verify.", "There is no run in these records.", "Nothing was acted on."):
        assert words in page.text
    assert "<svg" not in page.text


def test_one_run_makes_a_page(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    run("delete-old-runtimes", "--sandbox", "--output", "json", "--audit-file", str(file))
    page = reported(AuditRecords(AuditFiles([file])), tmp_path)
    assert len(page.rows("runs")) == 1
    assert set(numbers(page, "upcoming"))


def test_without_a_sweep_of_the_fleet_there_is_no_histogram(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "check.jsonl"
    with serving(Leonardo([overdue(1)])) as server:
        run(*check(server, "--stop-overdue", *LIVE), "--audit-file", str(file))
    page = reported(AuditRecords(AuditFiles([file])), tmp_path)
    assert [(r["job"], r["outcomes"]) for r in page.parts["runs"][1:]] == [("check-autopause", "1 stop accepted")]
    assert "runs-over-time" in page.ids
    assert not {"age", "idle", "upcoming", "reasons"} & {*page.ids}


def test_a_project_that_could_not_be_listed_is_a_failure(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "unread.jsonl"
    with serving(
        Leonardo([a_machine(1)]), faults=[Fault(call="project_list", project="terra-2", status=403)]
    ) as server:
        run(*delete(server, "--project", "terra-1", "--project", "terra-2"), "--audit-file", str(file))
    (row,) = reported(AuditRecords(AuditFiles([file])), tmp_path).rows("failures")
    assert (row["Runtime"], row["Outcome"]) == ("terra-2", "project unreadable")


def told_acts(page: Page) -> list[list[str]]:
    """Every act that the page's search finds, in the cells of its table."""
    found = re.search(r'id="all-acts">(.*?)</script>', page.text)
    assert found
    data = json.loads(found[1])
    return [[data["texts"][number] for number in row] for row in data["rows"]]


@pytest.mark.measured
def test_every_act_is_found_the_newest_are_shown_and_what_live_runs_did_is_left_out_last(tmp_path: Path) -> None:
    start = now()
    live = Record(event="runtime_audited", run_id="l", name="live", outcome="failed", time=start, dry_run=False)
    planned = [
        Record(event="runtime_audited", run_id="r", name=str(n), outcome="would_delete", time=start + n * MINUTE)
        for n in range(1, page_module.MOST_SHOWN + 8)
    ]
    page = reported([*planned[::-1], live], tmp_path)
    acts = page.rows("acts")
    assert (len(acts), acts[0]["Runtime"], acts[-1]["Runtime"]) == (page_module.MOST_SHOWN, "?/507", "?/8")
    assert [act[1] for act in told_acts(page)] == [f"?/{n}" for n in range(507, 0, -1)] + ["?/live"]
    assert "Too many for one page" not in page.text
    few = gathered.Newest(2)
    for record in [live, *planned]:
        few.add(record)
    assert ([row.path for row in few.rows], few.rest) == (["?/507", "?/live"], 506)


@pytest.mark.chaos
def test_acts_that_are_left_out_are_counted(tmp_path: Path) -> None:
    many = gathered.MOST_ACTS + 3
    records = [Record(event="runtime_audited", run_id="r", name=str(n), outcome="would_delete") for n in range(many)]
    assert "those of dry runs first: 3 acts." in reported(records, tmp_path).text


def test_what_tries_to_end_the_list_of_acts_stays_text(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>\x1b[2J"
    page = reported([Record(event="runtime_audited", run_id="r", name=name, outcome="failed")], tmp_path)
    assert page.text.count("<script>") == 1
    assert [act[1] for act in told_acts(page)] == [f"?/{name[:-4]}\u241b[2J"]


@pytest.mark.measured
def test_a_run_that_was_refused_or_gave_up_is_a_failure_and_says_why(tmp_path: Path) -> None:
    at: dict[str, Any] = {"job": "delete-old-runtimes", "environment": "e", "time": now()}
    records = [
        opening("refused"),
        opening("blind"),
        Record(event="run_refused", run_id="refused", guard="max_acts", detail="2 acts are more than max-acts 1", **at),
        Record(event="run_finished", run_id="refused", exit_code=3, message="refused", **at),
        Record(event="run_finished", run_id="blind", exit_code=4, message="nothing was read", **at),
    ]
    page = reported(records, tmp_path)
    assert {(r["Run"], r["Runtime"], r["Outcome"], r["Why"]) for r in page.rows("failures")} == {
        ("refused", "the whole run", "refused by max acts", "2 acts are more than max-acts 1"),
        (
            "blind",
            "the whole run",
            "exit code 4, the inventory could not be read, nothing was touched",
            "nothing was read",
        ),
    }
    assert tiles(page)["runs that failed"] == 2
    (refused,) = [row for row in page.parts["runs"] if row.get("run") == "refused"]
    assert (refused["ended"], refused["refused by"]) == ("exit code 3: refused by a guard", "refused by max_acts")


def tiles(page: Page) -> dict[str, int]:
    found = re.findall(r"<div><dt>(.*?)</dt><dd>([\d,]+)</dd>", page.text)
    return {name: int(number.replace(",", "")) for name, number in found}


def test_the_tiles_count_nothing_again_for_each_run_that_saw_it(page: Page) -> None:
    assert tiles(page) == {
        "runtimes": 8,
        "overdue": 3,
        "deleted": 3,
        "data lost": 1,
        "need a person": 0,
        "runs that failed": 4,
    }
    by_month, by_project = page.rows("deleted-month"), page.rows("deleted-project")
    assert [(row["Accepted"], row["Data lost"]) for row in by_month] == [("3", "1")]
    assert {row["Project"] for row in by_project} == {"terra-4", "terra-7", "terra-8"}


# two runs side by side


@pytest.fixture(scope="module")
def stricter(tmp_path_factory: pytest.TempPathFactory) -> AuditRecords:
    """Two dry runs over one fleet, of which the second judges by a smaller age."""
    file = tmp_path_factory.mktemp("stricter") / "log.jsonl"
    fleet = [
        a_machine(1),
        a_machine(2, days=11, idle_hours=1, creator=SCRIPT),
        a_machine(3, days=12, idle_hours=1, config_type="GceConfig"),
        a_machine(4, days=12),
        a_machine(5, days=2),
    ]
    with serving(Leonardo(fleet)) as server, variables_alone():
        for max_age in ("14d", "10d"):
            main([*delete(server, "--max-acts", "3", "--max-age", max_age), "--audit-file", str(file)])
    return AuditRecords(AuditFiles([file]))


@pytest.fixture(scope="module")
def ids(stricter: AuditRecords) -> list[str]:
    """Of the two dry runs."""
    return [line.run_id for line in review.runs(stricter, now()).runs]


@pytest.fixture(scope="module")
def opposed(stricter: AuditRecords, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The two side by side."""
    return reported(stricter, tmp_path_factory.mktemp("opposed"))


def told(page: Page) -> str:
    """What stands above the tables of the chapter, as a person reads it."""
    found = re.search(r'<section id="side-by-side".*?<table', page.text, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", "", found[0]).split()) if found else ""


def test_two_dry_runs_under_different_policies_stand_side_by_side(opposed: Page, ids: list[str]) -> None:
    page = opposed
    assert "A condemns 2, B 4: 2 in B only (1 of them lose their data), 0 in A only." in told(page)
    assert "Both judged by different policies; the fleet is the same." in told(page)
    judged = {row[""]: (row["A"], row["B"]) for row in page.rows("judged-by")}
    assert judged.pop("started")
    assert judged == {
        "run": tuple(ids),
        "max_age": ("14 d", "10 d"),
        "listed": ("5", "5"),
        "a live run": ("-", "would be refused: max_acts"),
    }
    decided = {(r["Outcome"], r["Reason"]): (r["A"], r["B"], r["Change"]) for r in page.rows("decisions")}
    assert decided == {
        ("would delete", "max age"): ("1", "4", "+3"),
        ("would delete", "max age if idle"): ("1", "0", "-1"),
        ("kept", "within policy"): ("3", "1", "-2"),
    }
    assert "1 condemned by both: max age if idle in A, max age in B." in page.text
    rows = page.rows("only-B")
    assert [(r["Disk"], r["Runtime, creator"], r["Reason in B"]) for r in rows] == [
        ("lost", "terra-3/all-of-us-3researcher@example.org", "max age"),
        ("kept", f"terra-2/all-of-us-2{SCRIPT}", "max age"),
    ]
    assert page.rows("only-A") == []
    assert page.rows("by-project") == [
        {"Project": "terra-3", "In B only": "1", "Disk lost": "1"},
        {"Project": "terra-2", "In B only": "1", "Disk lost": "0"},
    ]
    assert {row["Creator"] for row in page.rows("by-creator")} == {SCRIPT, "researcher@example.org"}
    assert page.text.count("<script>") == 1


def test_the_two_runs_are_those_that_diff_tells_of_either_way_round(
    stricter: AuditRecords, ids: list[str], tmp_path: Path
) -> None:
    page = reported(stricter, tmp_path, compared=ids[::-1])
    answer = comparison.diff(stricter, ids[1], ids[0], now())
    assert [(r["Runtime, creator"], r["Why not in B"]) for r in page.rows("only-A")] == [
        (f"{d.path}{d.creator}", d.in_words) for d in answer.differences
    ]
    assert page.rows("only-B") == []
    assert "A condemns 4, B 2: 0 in B only, 2 in A only (1 of them lose their data)." in told(page)


def test_runs_that_do_not_differ_in_what_they_judge_by_stand_side_by_side_only_when_named(
    log: AuditRecords, page: Page, tmp_path: Path
) -> None:
    assert told(page) == ""
    dry, _, again, _ = [line.run_id for line in review.runs(log, now()).runs]
    named = reported(log, tmp_path, compared=[dry, again])
    assert "Both judged by the same policy" in told(named)
    assert {row["Why not in B"] for row in named.rows("only-A")} == {"its status is Deleting now"}
    with pytest.raises(UnknownError, match=f"did you mean {again}"):
        reported(log, tmp_path, compared=[dry, again + "x"])


def opening(run_id: str, **fields: Any) -> Record:
    given: dict[str, Any] = {"job": "delete-old-runtimes", "environment": "e", "policy_digest": run_id, **fields}
    return Record(event="run_started", run_id=run_id, time=now(), **given)


@pytest.mark.measured
def test_of_very_many_differences_those_that_lose_data_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    many = side_by_side.MOST_ROWS + 7
    audited = [
        Record(
            event="runtime_audited",
            run_id=run_id,
            runtime_id=str(n),
            project=f"p-{n % 30:02}",
            name=str(n),
            disk="lost" if n >= many - 2 else "kept",
            action="delete" if run_id == "b" else "keep",
            reason="max_age" if run_id == "b" else "within_policy",
            outcome="would_delete" if run_id == "b" else "kept",
        )
        for run_id in "ab"
        for n in range(many)
    ]
    closings = [Record(event="run_finished", run_id=run_id, environment="e") for run_id in "ab"]
    page = reported([opening("a"), opening("b"), *closings, *audited], tmp_path)
    rows = page.rows("only-B")
    assert [row["Disk"] for row in rows] == ["lost"] * 2 + ["kept"] * (side_by_side.MOST_ROWS - 2)
    assert "7 more are not shown" in page.text
    assert "due since 507" in page.text
    assert len(page.rows("by-project")) == side_by_side.MOST_OWNERS
    assert "Those with most are shown; 10 projects more." in page.text
    assert page.rows("by-creator") == []


def test_the_headings_of_the_page_are_in_order_and_every_table_of_two_runs_has_its_headers(opposed: Page) -> None:
    page = opposed
    assert len(page.ids) == len(set(page.ids))
    levels = [int(level) for level in re.findall(r"<h(\d)", page.text)]
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    chapter = page.text.partition('<section id="side-by-side"')[2].partition("</section>")[0]
    for name in re.findall(r'aria-labelledby="([^"]+)"', chapter):
        assert name in page.ids
    for table in re.findall(r"<table.*?</table>", chapter, re.DOTALL):
        assert not re.search(r"<th(?! scope=)[ >]", table)
        body = table.partition("<tbody>")[2]
        assert body.count("<tr>") == body.count('<th scope="row"') > 0


# in a browser

PROBE = """<script>
const input = document.getElementById("words");
input.value = "ALL-OF-US-7 deletion_accepted";
input.dispatchEvent(new Event("input"));
document.body.dataset.shown = document.querySelectorAll("#acts tbody tr").length;
document.body.dataset.found = document.getElementById("found").value;
document.body.dataset.scripts = document.scripts.length;
document.body.dataset.ink = getComputedStyle(document.body).color;
document.body.dataset.bar = getComputedStyle(document.querySelector("#age svg [style*='--acted']")).fill;
document.body.dataset.lost = getComputedStyle(document.querySelector("#only-A .lost")).color;
document.body.dataset.edges = ["runs", "causes", "failures", "acts"].map(id => {
  const scroll = document.getElementById(id).closest(".scroll");
  return scroll.scrollWidth - scroll.clientWidth;
});
const taken = [];
URL.createObjectURL = sheet => taken.push(sheet) && "#";
HTMLAnchorElement.prototype.click = () => {};
for (const button of document.querySelectorAll("[data-csv=runs], [data-csv=acts]")) button.click();
Promise.all(taken.map(sheet => sheet.text())).then(sheets => {
  document.body.dataset.sheets = encodeURIComponent(JSON.stringify(sheets));
});
const frame = document.createElement("iframe");
frame.width = 390;
frame.style.border = 0;
frame.srcdoc = document.documentElement.outerHTML.replace(/<script[^]*?<.script>/g, "");
frame.onload = () => {
  const root = frame.contentDocument.documentElement;
  document.body.dataset.phone = `${root.clientWidth} of ${root.scrollWidth}`;
};
document.body.append(frame);
</script>"""
"""What a person would do and see, left on the body for the test; appended, since the page itself asks nothing."""


def seen(page: Path, *how: str) -> dict[str, str]:
    """What the probe left, after the page has loaded in the browser."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    profile = f"--user-data-dir={page.with_name('profile')}"
    ended = subprocess.run(
        [str(CHROMIUM), *QUIET, profile, *how, "--virtual-time-budget=5000", "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (body,) = re.findall(r"<body ([^>]*)>", ended.stdout)[:1]
    return dict(re.findall(r'data-(\w+)="([^"]*)"', body))


@in_a_browser
def test_in_a_browser_names_stay_text_search_works_lost_data_stands_out_and_a_phone_does_not_scroll_sideways(
    log: AuditRecords, tmp_path: Path
) -> None:
    dry, _, again, _ = [line.run_id for line in review.runs(log, now()).runs]
    page = reported(log, tmp_path, compared=[dry, again])
    found = seen(tmp_path / "report.html", "--window-size=1280,900")
    assert found["scripts"] == "3"  # the page's own, its list of acts and the probe
    assert (found["shown"], found["found"]) == ("1", f"1 of {len(told_acts(page))} found")
    assert found["phone"] == "390 of 390"
    assert found["edges"] == "0,0,0,0", "nothing of these tables is beyond the edge of 1280 pixels"
    runs, acts = (list(csv.reader(sheet.splitlines())) for sheet in json.loads(unquote(found["sheets"])))
    assert [row[:2] for row in runs[1:]] == [[r["run"], r["started"]] for r in page.parts["runs"][1:]]
    assert runs[0] == ["run", *[*page.parts["runs"][1]][1:]]
    assert acts[0] == ["When", "Runtime", "Outcome", "Reason", "Disk", "Age", "Idle", "Creator", "Run"]
    assert [row[1:3] for row in acts[1:]] == [["terra-7/all-of-us-7", "deletion accepted"]], "those that were searched"
    dark = seen(tmp_path / "report.html", "--blink-settings=preferredColorScheme=0")
    assert len({shown[ink] for shown in (found, dark) for ink in ("ink", "lost")}) == 4
    assert dark["bar"] != found["bar"]


def test_the_command_writes_the_report_and_says_where(run: Callable[..., Ended], tmp_path: Path) -> None:
    with serving(Leonardo([overdue(1)])) as server:
        run(*check(server, "--stop-overdue", *LIVE, "--audit-file", "audit/run.jsonl"))
    for where in ((), ("--html", "report.html")):
        ended = run("review-audit-log", "report", "--from", "audit", *where)
        assert (ended.code, ended.out) == (0, "the report is in report.html\n")
    assert "terra-1/all-of-us-1" in (tmp_path / "report.html").read_text()


@pytest.mark.measured
def test_the_command_says_in_one_line_what_it_lacks(run: Callable[..., Ended]) -> None:
    with serving(Leonardo([overdue(1)])) as server:
        run(*check(server, "--stop-overdue", *LIVE, "--audit-file", "audit/run.jsonl"))
    for arguments, fault in (
        (("runs", "--from", "audit", "--html", "x"), "--html FILE goes with report, and with nothing else"),
        (("report", "--from", "none", "--html", "x"), "from: none cannot be read: No such file or directory"),
        (("report", "a", "--from", "audit", "--html", "x"), "report takes RUN_A and RUN_B, or no argument"),
        (("report", "a", "b", "--from", "audit", "--html", "x"), "there is no record of run 'a'"),
        (("report", "a", "a", "--from", "audit", "--html", "x"), "a does not differ from itself"),
        (("report", "--from", "audit", "--html", "no/x"), "report: no/x: No such file or directory"),
    ):
        ended = run("review-audit-log", *arguments)
        assert (ended.code, ended.err) == (2, f"leo-lifecycle: {fault}\n")


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_without_what_draws_it_is_a_usage_error(library: str, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").touch()
    main = "from jobs.__main__ import main; sys.exit(main(sys.argv[1:]))"
    question = ("review-audit-log", "report", "--html", str(tmp_path / "report.html"), "--from", str(tmp_path))
    program = script(f"import sys; sys.modules[{library!r}] = None; {main}")
    ended = finish(start(*question, program=program))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"leo-lifecycle: report: {library} is not installed; in the checkout: pip install '.[report]'\n"


@pytest.mark.long
@pytest.mark.measured
def test_two_policies_stand_side_by_side_as_simulate_tells_of_them(run: Run, tmp_path: Path) -> None:
    """Out of history, as two dry runs do; the numbers are those of the answer."""
    (tmp_path / "log").mkdir()
    write_history(tmp_path / "log", days=4, runtimes=60)
    asked = ("--from", str(tmp_path / "log"), "--max-age", "10d", "--max-age-if-idle", "5d")
    answer = json.loads(run("review-audit-log", "simulate", *asked).out)
    run("review-audit-log", "report", "--html", str(tmp_path / "page.html"), *asked)
    page = Page(tmp_path / "page.html")
    assert page.rows("limits") == [
        {"": name, "In force": was, "Simulated": other}
        for name, was, other in (("max_age", "14 d", "10 d"), ("max_age_if_idle", "7 d", "5 d"))
    ]
    differing = [row for row in answer["rows"] if row["kind"] != "both" or row["earlier_s"]]
    assert len(page.rows("taken")) == len(differing)
    assert sum(int(row["Simulated only"]) for row in page.rows("taken-by-project")) <= answer["only_simulated"]
    assert f"{answer['only_simulated']} alone, {answer['both']} as the policy in force did" in page.text
    run("review-audit-log", "report", "--html", str(tmp_path / "page.html"), *asked[:2])
    assert "two-policies" not in Page(tmp_path / "page.html").ids


def test_the_page_says_whether_the_promise_is_kept_as_promise_does(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with serving(Leonardo([a_machine(1, status=TrueStatus.ERROR), a_machine(2), a_machine(3, days=2)])) as server:
        run(*delete(server, *LIVE, "--audit-file", str(log)))
    run("review-audit-log", "report", "--html", str(tmp_path / "page.html"), "--from", str(log))
    page = Page(tmp_path / "page.html")
    assert promise(AuditRecords(AuditFiles([log])), now()).in_words in page.text
    assert [row["Kept by"] for row in page.rows("kinds")] == ["Error"]
    assert [row["Breaks the promise"] for row in page.rows("over-age")] == ["yes"]
    assert [(row["Runs"], row["Above it"]) for row in page.rows("days")] == [("1", "1")]
