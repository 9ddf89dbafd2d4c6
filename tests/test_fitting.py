"""Records that would be too long for one log entry: shortened, still records, and honest about it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records.events import MOST_NAMES
from core.records.fitting import LARGEST, fitted
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, delete

Run = Callable[..., Ended]
KNOWN_BY = {"event": "run_finished", "run_id": "r", "logging.googleapis.com/insertId": "r-0-1", "truncated": None}


def shortened(**fields: Any) -> tuple[int, dict[str, Any]]:
    line = fitted(msgspec.json.encode(KNOWN_BY | fields) + b"\n")
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    return len(line), json.loads(line)


def test_the_longest_field_is_shortened_first_and_named() -> None:
    size, record = shortened(failed=["x" * 900] * 100, message="y" * 1000)
    assert LARGEST - 2000 < size <= LARGEST
    assert record["truncated"] == ["failed"]
    assert record["failed"] == ["x" * 900] * len(record["failed"])
    assert record["message"] == "y" * 1000


def test_a_text_says_that_it_goes_on() -> None:
    size, record = shortened(message="é" * 60_000)
    assert LARGEST - 2000 < size <= LARGEST
    assert record["message"].endswith("é…")
    assert record["truncated"] == ["message"]


@pytest.mark.unmeasured
@given(
    texts=st.lists(st.text(alphabet="aé😀\n", max_size=40), max_size=30),
    times=st.integers(1, 3000),
    words=st.text(alphabet="ab😀", max_size=300),
)
def test_whatever_is_long_fits_in_the_end_and_what_a_record_is_known_by_stays(
    texts: list[str], times: int, words: str
) -> None:
    size, record = shortened(failed=texts * times, message=words * times, exemptions=[{"reason": words}] * (times // 9))
    assert size <= LARGEST
    assert {name: record[name] for name in KNOWN_BY if name != "truncated"} == {
        name: value for name, value in KNOWN_BY.items() if name != "truncated"
    }


@pytest.mark.parametrize("beyond", [0, 1])
def test_only_a_line_beyond_the_limit_is_touched(beyond: int) -> None:
    empty = len(msgspec.json.encode({**KNOWN_BY, "message": ""})) + 1
    size, record = shortened(message="x" * (LARGEST - empty + beyond))
    assert size == LARGEST if not beyond else size <= LARGEST
    assert record["truncated"] == (["message"] if beyond else None)


@pytest.mark.unmeasured
def test_a_run_whose_closing_record_is_too_long_says_so_and_is_still_whole(run: Run, tmp_path: Path) -> None:
    names = [f"{number:03}-" + "é" * 900 for number in range(MOST_NAMES)]
    fleet = [a_machine(number + 1, project="terra-1", name=name) for number, name in enumerate(names)]
    faults = [Fault(call="get", status=400, times=None)]
    with serving(Leonardo(fleet), faults=faults) as server:
        ended = run(*delete(server, "--max-act-share", "1", "--audit-file", "audit/a.jsonl"))
    assert (ended.code, ended.finished["outcomes"]) == (1, {"failed": MOST_NAMES})
    assert ended.finished["truncated"] == ["failed"]
    assert 20 < len(ended.finished["failed"]) < MOST_NAMES
    assert max(map(len, (tmp_path / "audit/a.jsonl").read_bytes().splitlines())) < LARGEST
    verified = run("review-audit-log", "verify", "--from", "audit", "--output", "json")
    assert (verified.code, json.loads(verified.out)["runs"][0]["findings"]) == (0, [])


def test_exemptions_that_do_not_fit_on_record_make_a_run_that_cannot_be_judged_again(run: Run, tmp_path: Path) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    entry = {"match": {"project": "é" * 128, "name": "é" * 128}, "until": until, "reason": "é" * 200}
    (tmp_path / "exemptions.yaml").write_text(json.dumps([entry] * 100))
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--exemptions", "exemptions.yaml", "--audit-file", "audit/a.jsonl"))
    assert ended.records[0]["truncated"] == ["exemptions"]
    verified = run("review-audit-log", "verify", "--from", "audit", "--output", "json")
    (verdict,) = json.loads(verified.out)["runs"]
    assert (verified.code, [finding["message"] for finding in verdict["findings"]]) == (
        1,
        ["seq 0 (run_started) no decision can be judged again: its exemptions were too long for one record"],
    )


def test_what_cannot_be_cut_any_further_stays_as_it_is() -> None:
    size, record = shortened(message="finished", warnings=["x" * 2 * LARGEST])
    assert (size > LARGEST, record["message"], record["warnings"]) == (True, "f…", ["x" * 2 * LARGEST])
