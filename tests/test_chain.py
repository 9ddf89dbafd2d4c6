"""Each run's records end in a digest, and each run names the one before it: what was changed or removed shows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from core.google.log_entry import to_entry
from core.records.digest import without_digest
from core.records.events import Event, RunFinished
from core.records.outcome import Severity
from core.records.restoring import UnknownFieldError, restored
from core.records.writer import AuditLog
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.any_event import ANY_EVENT
from tests.conftest import Ended, a_machine, delete
from tests.test_check_autopause import check
from tests.test_review import as_tasks
from tests.test_writer import IDENTITY, Memory, missing

Run = Callable[..., Ended]
Line = dict[str, Any]
START = datetime(2026, 11, 20, 3, tzinfo=UTC)


def finished(**fields: Any) -> RunFinished:
    counts: dict[str, Any] = {"listed": 0, "audited": 0, "failed": [], "living": 0, "exit_code": 0}
    mappings: dict[str, Any] = {name: {} for name in ("actions", "reasons", "outcomes", "calls", "lists")}
    refusals: dict[str, Any] = {"refused_by": [], "would_be_refused_by": []}
    given = counts | mappings | refusals | {"duration_s": 2.0} | fields
    return RunFinished(severity=Severity.NOTICE, message="finished", **given)


def digest_by_hand(lines: list[bytes]) -> str:
    """As the contract puts it, over lines with their ends."""
    *others, closing = (line.removesuffix(b"\n") for line in lines)
    said = json.loads(closing)["records_digest"]
    unset = closing.replace(b'"records_digest":"%b"' % said.encode(), b'"records_digest":null')
    digests = (sha256(line).digest() for line in (*others, unset))
    return "sha256:" + sha256(b"".join(digests)).hexdigest()


# What is written


def test_a_closing_record_holds_the_digest_of_all_lines() -> None:
    memory = Memory()
    log = AuditLog(IDENTITY, [memory], now=lambda: START)
    log.write(missing(1), missing(2, message='"records_digest":null'))
    log.write(finished(warnings=['"records_digest":null']))
    assert json.loads(memory.lines[-1])["records_digest"] == digest_by_hand(memory.lines)


def test_a_closing_record_that_is_cut_to_fit_has_its_digest_too() -> None:
    memory = Memory()
    log = AuditLog(IDENTITY, [memory], now=lambda: START)
    log.write(missing(1), finished(warnings=["x"] * 99_000))
    closing = json.loads(memory.lines[-1])
    assert (closing["truncated"], closing["records_digest"]) == (["warnings"], digest_by_hand(memory.lines))


def test_time_does_not_run_backwards_where_the_clock_does() -> None:
    memory, seconds = Memory(), iter((5, 3, 4, 6))
    log = AuditLog(IDENTITY, [memory], now=lambda: START + timedelta(seconds=next(seconds)))
    for number in range(4):
        log.write(missing(number))
    assert [json.loads(line)["time"][-3:] for line in memory.lines] == ["05Z", "05Z", "05Z", "06Z"]


def test_whole_numbers_have_no_fraction_and_free_mappings_are_sorted() -> None:
    memory = Memory()
    log = AuditLog(IDENTITY, [memory], now=lambda: START)
    log.write(finished(outcomes={"kept": 2, "gone": 1}, duration_s=2.0, clock_skew_s=-0.25))
    log.write(finished(duration_s=1e300, warnings=["a:1.0,"]))
    log.write(finished(duration_s=2.0**53, failed=["b"]))
    told = [line.partition(b'"outcomes":')[2] for line in memory.lines]
    assert told[0].startswith(b'{"gone":1,"kept":2},')
    assert [b'"duration_s":2,' in told[0], b'"clock_skew_s":-0.25,' in told[0]] == [True, True]
    assert [b'"duration_s":1e300,' in told[1], b'"a:1.0,"' in told[1]] == [True, True]
    assert b'"duration_s":9007199254740992.0,' in told[2]


@pytest.mark.unmeasured
def test_every_run_names_the_one_that_finished_before_it_whatever_the_job(run: Run, tmp_path: Path) -> None:
    log = ("--audit-file", str(tmp_path / "log.jsonl"))
    with serving(Leonardo([a_machine(1), a_machine(2, days=1)])) as server:
        ended = [
            run(*delete(server, *log)),
            run(*check(server, *log)),
            run(*delete(server, *log, "--only", "terra-1/all-of-us-1", "--as-of", "2026-11-01")),
            run(*delete(server, *log, "--environment", "another")),
            run("confirm-deletions", "--from", log[1], "--leonardo-url", server.url, "--auth", "none", *log),
            run(*delete(server, *log, "--no-dry-run", "--max-act-share", "1")),
        ]
    runs = [one.records for one in ended]
    chain = [(lines[0]["follows"] or {}).get("run_id") for lines in runs]
    ids: list[str | None] = [lines[0]["run_id"] for lines in runs]
    assert chain == [None, ids[0], ids[1], None, ids[2], ids[4]]
    assert runs[1][0]["follows"] == {
        "run_id": ids[0],
        "finished_at": runs[0][-1]["time"],
        "records_digest": runs[0][-1]["records_digest"],
    }
    for one in ended:
        assert one.finished["records_digest"] == digest_by_hand(one.out.encode().splitlines(keepends=True))


# What a log gives back


def line_of(event: Event) -> bytes:
    memory = Memory()
    AuditLog(IDENTITY, [memory], now=lambda: START + timedelta(microseconds=123_000)).write(event)
    return memory.lines[0].removesuffix(b"\n")


def as_entry(line: bytes) -> dict[str, Any]:
    """As Cloud Logging gives it back: more labels, three digits of a second, mappings in another order."""
    entry: dict[str, Any] = MessageToDict(to_entry(line))
    entry["labels"]["run.googleapis.com/execution_name"] = "x"
    return entry | {"jsonPayload": turned(entry["jsonPayload"]), "logName": "projects/p/logs/l"}


def turned(value: Any) -> Any:
    """Mappings the other way round, and each number a double."""
    match value:
        case dict():
            return {name: turned(value[name]) for name in reversed(value)}
        case list():
            return [turned(one) for one in value]
        case int() if not isinstance(value, bool):
            return float(value)
        case _:
            return value


@pytest.mark.unmeasured
@given(event=ANY_EVENT, data=st.data())
def test_the_line_of_any_event_is_restored_byte_for_byte(event: Event, data: st.DataObject) -> None:
    line = line_of(event)
    assert restored(as_entry(line)) == line
    assert restored(json.loads(json.dumps(json.loads(line), sort_keys=True))) == line
    fields = json.loads(line)
    kept = ("event", "severity", "time", "logging.googleapis.com/labels", "logging.googleapis.com/insertId")
    newer = data.draw(st.sets(st.sampled_from(sorted(fields.keys() - set(kept)))))
    older = msgspec.json.encode({name: value for name, value in fields.items() if name not in newer})
    assert restored(as_entry(older)) == older


def test_a_field_that_is_not_known_here_leaves_no_line_to_restore() -> None:
    entry = as_entry(line_of(finished()))
    for unknown in ({"of_a_later_version": 1}, {"event": "of_a_later_version"}):
        with pytest.raises(UnknownFieldError):
            restored(entry | {"jsonPayload": entry["jsonPayload"] | unknown})
    assert without_digest(line_of(finished())).count(b'"records_digest":null') == 1


# What verify says of several runs


def three_runs(run: Run, log: Path) -> list[list[Line]]:
    kept = ("--audit-file", str(log))
    with serving(Leonardo([a_machine(1), a_machine(2), a_machine(3, days=1)])) as server:
        how = (("--only", "terra-1/all-of-us-1", "--no-dry-run"), ("--only", "terra-2/all-of-us-2", "--no-dry-run"), ())
        return [run(*delete(server, *kept, *more)).records for more in how]


def kinds(run: Run, *words: str) -> list[str]:
    """What is off in the log that is named last."""
    answer = json.loads(run("review-audit-log", "verify", *words, "--output", "json").out)
    found = [finding for verdict in answer["runs"] for finding in verdict["findings"]] + answer["findings"]
    assert answer["ok"] == (not found)
    return [f"{finding['kind']} {finding['run_id']}" for finding in found]


@pytest.mark.unmeasured
def test_a_run_that_was_removed_shows_by_the_one_that_follows_it(run: Run, tmp_path: Path) -> None:
    first, second, third = three_runs(run, tmp_path / "log.jsonl")
    log = tmp_path / "left.jsonl"
    for left, expected in (
        ([first, second, third], []),
        ([first, third], [f"predecessor {third[0]['run_id']}"]),
        ([second, third], []),
        ([third], []),
        ([third, second, first], []),
    ):
        log.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for lines in left for line in lines))
        assert kinds(run, "--from", str(log)) == expected


@pytest.mark.unmeasured
def test_one_run_of_a_log_is_held_to_its_predecessor_in_the_whole_log(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first, _, third = three_runs(run, log)
    for chosen in ([third], [first, third], [first]):
        assert kinds(run, *(lines[0]["run_id"] for lines in chosen), "--from", str(log)) == []
    log.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for lines in (first, third) for line in lines))
    assert kinds(run, third[0]["run_id"], "--from", str(log)) == [f"predecessor {third[0]['run_id']}"]


def test_the_newest_run_is_held_to_a_digest_that_was_kept(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first, _, third = three_runs(run, log)
    newest = third[-1]["records_digest"]
    for digest in (newest, newest.removeprefix("sha256:")):
        assert kinds(run, "--expect-digest", digest, "--from", str(log)) == []
    for digest in (first[-1]["records_digest"], "0" * 64):
        assert kinds(run, "--expect-digest", digest, "--from", str(log)) == [f"expected_digest {third[0]['run_id']}"]
    told = run("review-audit-log", "verify", "--expect-digest", "0" * 64, "--from", str(log), "--output", "table")
    assert (told.code, "and no run has it [expected_digest]" in " ".join(told.out.split())) == (1, True)
    for words, fault in (
        (("verify", "--expect-digest", "abc"), "--expect-digest: 'abc' is no digest"),
        (("runs", "--expect-digest", newest), "--expect-digest goes with verify, and with nothing else"),
    ):
        ended = run("review-audit-log", *words, "--from", str(log))
        assert (ended.code, fault in ended.err) == (2, True)


def test_a_whole_run_under_another_id_is_a_copy(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first, *_ = three_runs(run, log)
    copied = json.loads(json.dumps(first).replace(first[0]["run_id"], "20990101T000000-copied"))
    with log.open("ab") as file:
        file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in copied))
    assert kinds(run, "--from", str(log)) == ["copy 20990101T000000-copied"]


def test_entries_of_cloud_logging_are_verified_by_the_lines_that_they_were(run: Run, tmp_path: Path) -> None:
    three_runs(run, tmp_path / "log.jsonl")
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    entries = [as_entry(line) for line in lines]
    log = tmp_path / "entries.json"
    log.write_text(json.dumps(entries))
    assert kinds(run, "--from", str(log)) == []
    assert kinds(run, "--from", str(log), "--from", str(tmp_path / "log.jsonl")) == []
    closing = next(n for n, entry in enumerate(entries) if entry["jsonPayload"]["event"] == "runtime_audited")
    entries[closing]["jsonPayload"]["message"] = "another"
    log.write_text(json.dumps(entries))
    assert [kind.split()[0] for kind in kinds(run, "--from", str(log))] == ["digest"]
    entries[closing]["jsonPayload"]["of_a_later_version"] = 1
    log.write_text(json.dumps(entries))
    assert kinds(run, "--from", str(log)) == [], "what is not known here is no fault, and no digest is made of it"


def test_a_record_that_was_moved_to_another_task_shows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = as_tasks(run, monkeypatch, 2)
    log = tmp_path / "tasks.jsonl"
    moved = next(line for line in lines if line["event"] == "runtime_audited" and line["task_index"] == 0)
    moved.update({"task_index": 1, "seq": 99, "logging.googleapis.com/insertId": f"{moved['run_id']}-1-99"})
    log.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    found = json.loads(run("review-audit-log", "verify", "--from", str(log)).out)["runs"][0]["findings"]
    assert {"missing_record"} <= {finding["kind"] for finding in found}
    assert any("falls to task 0" in text for text in str(found).splitlines())


def test_a_task_that_was_removed_and_not_counted_any_more_shows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = as_tasks(run, monkeypatch, 2)
    left = [line | {"task_count": 1} for line in lines if line["task_index"] == 0]
    log = tmp_path / "tasks.jsonl"
    log.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in left))
    found = json.loads(run("review-audit-log", "verify", "--from", str(log)).out)["runs"][0]["findings"]
    assert [finding["kind"] for finding in found] == ["lists"]
