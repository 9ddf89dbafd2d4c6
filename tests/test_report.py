"""The page that the report writes, read as text and opened in a real browser."""

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from core.records import report, review
from core.records.files import AuditFiles
from core.records.reader import AuditRecords, Record
from core.records.report import write_report
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, delete
from tests.test_check_autopause import check, overdue

Run = Callable[..., Ended]
LIVE = ("--no-dry-run",)
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
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self._within: str | None = None
        self._in_cell = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += filter(None, [given.get("id")])
        self.addresses += [str(given[name]) for name in ("src", "href", "xlink:href", "data") if name in given]
        if tag == "table":
            self._within = given.get("id")
        if tag == "tr" and self._within:
            self.tables.setdefault(self._within, []).append([])
        if tag in ("td", "th") and self._within:
            self.tables[self._within][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell and self._within:
            self.tables[self._within][-1][-1] += data

    def rows(self, table: str) -> list[dict[str, str]]:
        headers, *rows = self.tables.get(table, [[]])
        return [dict(zip(headers, row, strict=True)) for row in rows]


@pytest.fixture
def log(run: Run, tmp_path: Path) -> AuditRecords:
    """Two dry runs, a live one with a failure, an autopause check, and names that try to be markup.

    Leonardo knows no such names, so that a second look at them fails.
    """
    file = tmp_path / "log.jsonl"
    kept = ("--audit-file", str(file))
    fleet = [
        a_machine(1, name=SCRIPT),
        a_machine(2, days=8, name=QUOTED),
        a_machine(3, days=2),
        a_machine(4, days=13.5),
        a_machine(5),
        a_machine(7, days=8),
        a_machine(8),
    ]
    faults = [Fault(call="delete", name="all-of-us-5", status=400)]
    with serving(Leonardo([*fleet, overdue(6)]), faults=faults) as server:
        for arguments in (delete(server), delete(server, *LIVE), delete(server), check(server)):
            run(*arguments, *kept)
    return AuditRecords(AuditFiles([file]))


def reported(records: AuditRecords | list[Record], tmp_path: Path, at: datetime | None = None) -> Page:
    out = tmp_path / "report.html"
    write_report(records, out, at or now(), log=records if isinstance(records, AuditRecords) else None)
    return Page(out)


def chart(page: Page, key: str) -> str:
    found = re.search(rf'<section id="{key}".*?</section>', page.text, re.DOTALL)
    assert found, key
    return found[0]


def numbers(page: Page, key: str) -> dict[str, list[int]]:
    """The rows of the table beside a chart."""
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', chart(page, key))
    return {name: [int(n) for n in re.findall(r'<td class="n">(\d+)</td>', cells)] for name, cells in rows}


def test_the_page_loads_nothing_and_every_id_stands_once(log: AuditRecords, tmp_path: Path) -> None:
    page = reported(log, tmp_path)
    assert [address for address in page.addresses if not address.startswith("#")] == []
    assert not re.search(r"https?://|@import|url\((?!#)", page.text)
    assert "default-src 'none'" in page.text
    assert len(page.ids) == len(set(page.ids))


def test_the_runs_are_those_that_review_tells_of(log: AuditRecords, tmp_path: Path) -> None:
    at = now()
    rows = reported(log, tmp_path, at).rows("runs")
    expected = review.runs(log, at).runs[::-1]
    assert [(r["Run"], r["Listed"], r["Acted"], r["Would act"], r["Failed"]) for r in rows] == [
        (line.run_id, str(line.listed), str(line.acted), str(line.would_act), str(line.failed)) for line in expected
    ]
    assert [r["Mode"] for r in rows] == ["dry", "dry", "live", "dry"]
    assert [r["Acted"] for r in rows] == ["0", "0", "3", "0"]


def test_the_acts_and_failures_are_those_that_review_tells_of(log: AuditRecords, tmp_path: Path) -> None:
    page = reported(log, tmp_path)
    answers = [review.run(log, line.run_id, now()) for line in review.runs(log, now()).runs]
    acts = sorted((a.run.run_id, f"{act.project}/{act.name}", act.outcome) for a in answers for act in a.acts)
    shown = [(r["Run"], r["Runtime"], r["Outcome"].replace(" ", "_")) for r in page.rows("acts")]
    assert sorted(shown) == acts
    failures = {(r["Runtime"], r["Outcome"], r["Error"]) for r in page.rows("failures")}
    assert ("terra-5/all-of-us-5", "failed", "Bad Request") in failures
    assert (f"terra-2/{QUOTED}", "failed", f"The runtime name {QUOTED} is not valid.") in failures
    assert {path for path, _, _ in failures} == {"terra-5/all-of-us-5", f"terra-1/{SCRIPT}", f"terra-2/{QUOTED}"}
    assert len(page.rows("failures")) == sum(len(answer.failures) for answer in answers)


def test_the_charts_say_their_numbers(log: AuditRecords, tmp_path: Path) -> None:
    page = reported(log, tmp_path)
    assert numbers(page, "reasons") == {"max_age": [1, 3], "max_age_if_idle": [2, 2]}
    age, idle, upcoming = (numbers(page, key) for key in ("age", "idle", "upcoming"))
    (due_now,) = upcoming.pop("already due")
    due = review.upcoming(log, report.AHEAD, now()).due
    assert due_now + sum(n for (n,) in upcoming.values()) == len(due)
    listed = review.runs(log, now()).runs[-2].listed
    assert sum(n for (n,) in age.values()) == sum(n for (n,) in idle.values()) == listed
    assert "max_age_if_idle 7 d, max_age 14 d" in chart(page, "age")
    assert "max_age 14d" in chart(page, "age").partition("<svg")[2]
    assert "idle_after 4h" in chart(page, "idle").partition("<svg")[2]


def test_every_drawing_has_a_title_a_description_and_follows_the_colours_of_the_page(
    log: AuditRecords, tmp_path: Path
) -> None:
    page = reported(log, tmp_path)
    drawings = re.findall(r"<svg.*?</svg>", page.text, re.DOTALL)
    assert len(drawings) == 6
    for drawing in drawings:
        assert re.match(r'<svg [^>]*role="img" aria-labelledby="\S+ \S+"><title id=.+?</title><desc id=', drawing)
        assert "var(--acted)" in drawing
        assert "#a1b0" not in drawing


def test_names_stay_text(log: AuditRecords, tmp_path: Path) -> None:
    page = reported(log, tmp_path)
    assert page.text.count("<script>") == 1
    assert {f"terra-1/{SCRIPT}", f"terra-2/{QUOTED}"} <= {row["Runtime"] for row in page.rows("acts")}


def test_words_that_a_chart_shows_stay_text_too(tmp_path: Path) -> None:
    reason = "--><script>$x^{$"
    records = [Record(event="runtime_audited", run_id="r", reason=reason, outcome="would_delete")]
    page = reported(records, tmp_path)
    assert page.text.count("<script>") == 1
    assert "--&gt;&lt;script&gt;$x^{$" in chart(page, "reasons").partition("<svg")[2].partition("</svg")[0]


def test_a_whole_log_is_said_to_be_whole_and_another_is_not(log: AuditRecords, tmp_path: Path) -> None:
    assert "The log is whole: nothing is off in 4 runs." in reported(log, tmp_path).text
    (file,) = AuditFiles([tmp_path]).files
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:3], *lines[4:], lines[0].replace('"dry_run":true', '"dry_run":false')]))
    page = reported(log, tmp_path)
    assert "The log is not whole: 1 run of 4 off, 1 fault in the files." in page.text
    assert "is here with other content than before" in page.text
    assert "1 record missing: seq 3" in page.text


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
    assert [(r["Job"], r["Acted"]) for r in page.rows("runs")] == [("check-autopause", "1")]
    assert "runs-over-time" in page.ids
    assert not {"age", "idle", "upcoming", "reasons"} & {*page.ids}


def test_a_project_that_could_not_be_listed_is_a_failure(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "unread.jsonl"
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", project="terra-2", status=403)]) as server:
        run(*delete(server, "--project", "terra-1", "--project", "terra-2"), "--audit-file", str(file))
    (row,) = reported(AuditRecords(AuditFiles([file])), tmp_path).rows("failures")
    assert (row["Runtime"], row["Outcome"]) == ("terra-2", "project unreadable")


def test_of_very_many_acts_the_newest_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    start = now()
    records = [
        Record(event="runtime_audited", run_id="r", name=str(n), outcome="failed", time=start + timedelta(seconds=n))
        for n in range(report.MOST_ACTS + 7)
    ]
    page = reported(records[::-1], tmp_path)
    acts, failures = page.rows("acts"), page.rows("failures")
    assert (len(acts), len(failures)) == (report.MOST_ACTS, report.MOST_FAILURES)
    assert (acts[0]["Runtime"], acts[-1]["Runtime"]) == ("?/5006", "?/7")
    assert "The newest are shown; 7 acts more." in page.text
    assert "The newest are shown; 4,007 failures more." in page.text


# in a browser

PROBE = """<script>
const input = document.getElementById("words");
input.value = "ALL-OF-US-7 deletion_accepted";
input.dispatchEvent(new Event("input"));
document.body.dataset.shown = document.querySelectorAll("#acts tbody tr:not([hidden])").length;
document.body.dataset.found = document.getElementById("found").value;
document.body.dataset.scripts = document.scripts.length;
document.body.dataset.ink = getComputedStyle(document.body).color;
document.body.dataset.bar = getComputedStyle(document.querySelector("#age svg [style*='--acted']")).fill;
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
        [str(CHROMIUM), *QUIET, profile, *how, "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (body,) = re.findall(r"<body ([^>]*)>", ended.stdout)[:1]
    return dict(re.findall(r'data-(\w+)="([^"]*)"', body))


@in_a_browser
def test_in_a_browser_the_names_stay_text_the_search_works_and_a_phone_does_not_scroll_sideways(
    log: AuditRecords, tmp_path: Path
) -> None:
    page = reported(log, tmp_path)
    found = seen(tmp_path / "report.html")
    assert found["scripts"] == "2"  # the page's own and the probe
    assert (found["shown"], found["found"]) == ("1", f"1 of {len(page.rows('acts'))} shown")
    assert found["phone"] == "390 of 390"
    dark = seen(tmp_path / "report.html", "--blink-settings=preferredColorScheme=0")
    assert dark["ink"] != found["ink"]
    assert dark["bar"] != found["bar"]


def test_the_command_writes_the_report_and_says_where(run: Callable[..., Ended], tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*delete(server, "--audit-file", "audit/run.jsonl"))
    ended = run("review-audit-log", "report", "--from", "audit", "--html", "report.html")
    assert (ended.code, ended.out) == (0, "the report is in report.html\n")
    assert "terra-1/all-of-us-1" in (tmp_path / "report.html").read_text()


def test_the_command_says_in_one_line_what_it_lacks(run: Callable[..., Ended]) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*delete(server, "--audit-file", "audit/run.jsonl"))
    for arguments, fault in (
        (("report", "--from", "audit"), "--html FILE goes with report, and with nothing else"),
        (("runs", "--from", "audit", "--html", "x"), "--html FILE goes with report, and with nothing else"),
        (("report", "--from", "none", "--html", "x"), "from: none cannot be read: No such file or directory"),
        (("report", "--from", "audit", "--html", "no/x"), "report: no/x: No such file or directory"),
    ):
        ended = run("review-audit-log", *arguments)
        assert (ended.code, ended.err) == (2, f"leo-lifecycle: {fault}\n")
