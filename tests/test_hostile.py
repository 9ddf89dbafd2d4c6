"""Whatever text, number or date a list holds, it stays in its URL segment, log line, table cell and HTML cell."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from core.report import page as report_module
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import serving
from jobs.__main__ import main
from tests.conftest import Ended, a_machine, calls, delete

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
LIVE = "--no-dry-run"
TEMPLATE = Path(report_module.__file__).with_name("page.html.j2")
HOSTILE = {
    "slashes": "a/b//c/",
    "climbing": "../../v2/x",
    "one dot": ".",
    "two dots": "..",
    "escaped": "%2e%2e%2fx%00",
    "query": "a?b=c#d&e;f",
    "spaces": "  a  b ",
    "quotes": "a'b\"c`d\\e",
    "lines": "a\r\nb\nc\u2028d\u0085e",
    "header": "x HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9b",
    "terminal": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "markup": "<script>alert(1)</script><!--]]>&lt;",
    "rich": "[bold red]x[/] :smile: [link=https://example.org]y[/link]",
    "right to left": "\u202eabc\u2066\u200f",
    "template": "{{ 7*7 }}{% raw %}${x}%s{0}",
    "format": "{act}{path}{status}",
    "wide": "\u0e33\U0001f468\u200d\U0001f469\u200d\U0001f467" + "e" + "\u0301" * 50,
    "long": "x" * 1000,
    "formula": "=cmd|' /C calc'!A0",
    "nothing seen": "\u200b\ufeff",
}


def a_hostile_machine(text: str, number: int = 1) -> Machine:
    return a_machine(number, name=text, project=text, creator=text, labels={text: text, "k": text})


LAX = ("--max-age", "30d", "--max-age-if-idle", "25d")


def exempting_nobody(path: Path) -> Path:
    """For reasons of all kinds."""
    until = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    entries = [{"match": {"name": "nobody"}, "until": until, "reason": text[:50]} for text in HOSTILE.values()]
    path.write_text(yaml.safe_dump(entries))
    return path


class Page(HTMLParser):
    """The elements that an HTML page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.elements[tag] += 1


UNSEEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What would steer a terminal."""


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_text_stays_where_it_belongs(what: str, run: Run, tmp_path: Path) -> None:
    text = HOSTILE[what]
    audit_file = tmp_path / "audit.jsonl"
    with serving(Leonardo([a_hostile_machine(text), a_machine(2), a_machine(3, days=1)])) as server:
        shown = run(*delete(server, "--output", "table"))
        ended = run(*delete(server, LIVE, "--audit-file", str(audit_file)))
        asked = [r.raw_path for r in server.requests]

    # its URL segment
    prefix = "/api/google/v1/runtimes"
    assert all(path.startswith(prefix) and re.fullmatch(r"[A-Za-z0-9_.~%/-]+", path) for path in asked)
    segments = [path.removeprefix(prefix).split("/")[1:] for path in asked]
    assert max(map(len, segments)) == 2
    assert {unquote(one) for path in segments for one in path} == {text, "terra-2", "all-of-us-2"}
    assert not {".", ".."} & {one for path in segments for one in path}

    # its log line
    assert len(ended.audited) == 3
    assert ended.audited["terra-2/all-of-us-2"]["outcome"] == "deletion_accepted"
    first = next(r for r in ended.events("runtime_audited") if r["runtime_id"] == "1")
    assert first["name"] == text
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", ended.out)

    # its table cell
    assert not UNSEEN.search(shown.out)
    assert "all-of-us-2" in shown.out
    assert len(shown.out) < 4500
    for question in (("runs",), ("run", "latest"), ("verify",), ("upcoming",), ("why", "terra-2/all-of-us-2")):
        told = run("review-audit-log", *question, "--from", str(audit_file), "--output", "table")
        assert not UNSEEN.search(told.out), question


def test_hostile_texts_stay_in_their_html_cells(run: Run, tmp_path: Path) -> None:
    audit_file, report = tmp_path / "audit.jsonl", tmp_path / "report.html"
    fleet = [a_hostile_machine(text, number=n) for n, text in enumerate(HOSTILE.values(), 1)]
    recorded = ("--max-act-share", "1", "--audit-file", str(audit_file))
    exempting = ("--exemptions", str(exempting_nobody(tmp_path / "exemptions.yaml")))
    with serving(Leonardo(fleet)) as server:
        rehearsals = [run(*delete(server, *recorded, *policy)) for policy in (LAX, exempting)]
    assert [len(rehearsal.audited) for rehearsal in rehearsals] == [len(fleet)] * 2
    run_ids = [rehearsal.records[0]["run_id"] for rehearsal in rehearsals]
    told = run("review-audit-log", "diff", *run_ids, "--from", str(audit_file), "--output", "table")
    assert not UNSEEN.search(told.out)
    assert run("review-audit-log", "report", *run_ids, "--html", str(report), "--from", str(audit_file)).code == 0
    page = Page()
    page.feed(report.read_text())
    assert 'id="only-B"' in report.read_text()
    own = len(re.findall(r'<h3 id="[a-zA-Z-]+-heading">', report.read_text()))
    assert (page.elements["h1"], page.elements["main"], page.elements["h3"]) == (1, 1, own)
    assert page.elements["script"] == TEMPLATE.read_text().count("<script")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", report.read_text())


def test_hostile_names_that_share_a_prefix_are_told_apart_by_their_ids(run: Run) -> None:
    fleet = [a_machine(n, name="x" * 999 + str(n), project="terra-1") for n in (1, 2)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*delete(server, LIVE))
        assert {r.name for r in server.requests if r.call == "delete"} == {machine.name for machine in fleet}
    assert sorted(r["runtime_id"] for r in ended.events("runtime_audited")) == ["1", "2"]


# ids, dates, rows


def row(number: int = 9, **changes: Any) -> dict[str, Any]:
    return a_machine(number).list_item() | changes


def dated(created: str | None, accessed: str | None = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"auditInfo": {"creator": "x", "createdDate": created, "dateAccessed": accessed}}


READ = "delete"
ODD_ROWS: list[tuple[object, str]] = [
    (row(id="1"), "malformed"),
    (row(id=1.5), "malformed"),
    (row(id=1e300), "malformed"),
    (row(id=True), "malformed"),
    (row(id=None), "malformed"),
    (row(id=[1]), "malformed"),
    (row(id=-1), READ),
    (row(id=2**63), READ),
    (row(id=2**64 + 1), READ),
    (row(runtimeName=7), "malformed"),
    (row(runtimeName=""), "malformed"),
    (row(cloudContext={"cloudProvider": "GCP", "cloudResource": ["x"]}, googleProject=None), "malformed"),
    (row(cloudContext="GCP"), "cloud_not_supported"),
    (row(status=["Running"]), "status_unknown"),
    (row(status="running"), "status_unknown"),
    (row(status="Running\x00"), "status_unknown"),
    (row(auditInfo=None), "undated"),
    (row(**dated("0001-01-01T00:00:00Z")), "undated"),
    (row(**dated("9999-12-31T23:59:59Z")), "undated"),
    (row(**dated("9999-12-31T23:59:59-23:59")), "undated"),
    (row(**dated("0001-01-01T00:00:00+23:59")), "undated"),
    (row(**dated("2016-12-31T23:59:60Z")), "undated"),
    (row(**dated("2026-01-01T00:00:00")), "undated"),
    (row(**dated("2026-01-01")), "undated"),
    (row(**dated("1767225600")), "undated"),
    (row(**dated("")), "undated"),
    (row(**dated(None)), "undated"),
    (row(**dated("2026-01-01T00:00:00+05:30")), READ),
    (row(**dated("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z")), "undated"),
    (row(**dated("2026-01-01T00:00:00Z", "9999-01-01T00:00:00Z")), "future_dated"),
    (row(labels=[1, 2]), READ),
    (row(runtimeConfig="x"), READ),
    (row(autopauseThreshold=2**70), READ),
    ([], "malformed"),
    (None, "malformed"),
    ("text", "malformed"),
    (7, "malformed"),
]


@pytest.mark.parametrize(("odd", "reason"), ODD_ROWS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_odd_row_costs_only_itself(odd: object, reason: str, run: Run) -> None:
    raw = [(None, json.dumps(odd).encode())]
    with serving(Leonardo([a_machine(1), a_machine(2, days=1)], raw_rows=raw)) as server:
        ended = run(*delete(server, LIVE))
    records = {(r["runtime_id"], r["name"]): r for r in ended.events("runtime_audited")}
    assert records.pop(("1", "all-of-us-1"))["outcome"] == "deletion_accepted"
    assert records.pop(("2", "all-of-us-2"))["outcome"] == "kept"
    ((_, record),) = records.items()
    assert (record["action"], record["reason"]) == (("delete", "max_age") if reason == READ else ("keep", reason))
    assert (record["outcome"], ended.code) == ("gone" if reason == READ else "kept", int(reason == "malformed"))


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.chaos)])
def test_one_row_that_is_no_object_among_very_many_costs_only_itself(count: int, tmp_path: Path) -> None:
    rows = [
        json.dumps(row(n, status="Stopped", **dated("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"))).encode()
        for n in range(2)
    ]
    raw = [(None, rows[1].replace(b'"id": 1,', b'"id": %d,' % n)) for n in range(10, 10 + count)]
    raw.insert(count // 2, (None, b"null"))
    audit_file = tmp_path / "audit.jsonl"
    as_of = ("--as-of", "2026-11-02", "--audit-file", str(audit_file))
    with serving(Leonardo([], raw_rows=raw)) as server:
        assert main(delete(server, *as_of)) == 1
    *_, last = audit_file.read_text().splitlines()
    assert json.loads(last)["reasons"] == {"within_policy": count, "malformed": 1}


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_row_that_nests_without_end_is_an_unread_inventory(opening: str, run: Run) -> None:
    raw = [(None, (opening * 10_000).encode())]
    with serving(Leonardo([a_machine(1)], raw_rows=raw)) as server:
        ended = run(*delete(server, LIVE))
        assert calls(server) == ["list"]
    assert (ended.code, ended.finished["failed"]) == (4, ["the list of all runtimes"])
