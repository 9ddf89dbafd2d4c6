"""Audit logs read back from files: compressed, enveloped, torn, repeated, foreign, of other versions."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.records.files import AuditFiles
from core.records.reader import AuditRecords, Fault, Record
from core.records.selection import EVERYTHING, Match, Only
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from core.verify import verify
from tests.conftest import Ended, a_machine, delete
from tests.test_review import INSERT_ID

Run = Callable[..., Ended]
Line = dict[str, Any]
LIFTED = ("severity", "time", "logging.googleapis.com/labels", "logging.googleapis.com/insertId")


@pytest.fixture
def lines(run: Run) -> list[Line]:
    """The records of a dry run over three runtimes."""
    with serving(Leonardo([a_machine(1), a_machine(2, days=2), a_machine(3, days=8)])) as server:
        return run(*delete(server)).records


def as_doubles(value: Any) -> Any:
    """JSON as Cloud Logging gives it back: every number is a double."""
    if isinstance(value, dict):
        return {key: as_doubles(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_doubles(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def entry(line: Line) -> Line:
    """What a Cloud Logging sink makes of a line."""
    return {
        "insertId": line["logging.googleapis.com/insertId"],
        "jsonPayload": as_doubles({name: value for name, value in line.items() if name not in LIFTED}),
        "labels": {**line["logging.googleapis.com/labels"], "run.googleapis.com/execution_name": "x"},
        "logName": "projects/p/logs/run.googleapis.com%2Fstdout",
        "receiveTimestamp": "2026-11-20T03:00:00.123456789Z",
        "resource": {"type": "cloud_run_job", "labels": {"project_id": "p"}},
        "severity": line["severity"],
        "timestamp": line["time"],
    }


def written(lines: list[Line]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def read(*places: Path) -> tuple[list[Record], AuditRecords]:
    files = AuditRecords(AuditFiles(places))
    return list(files), files


def whats(files: AuditRecords) -> list[str]:
    return [fault.what for fault in files.faults]


def test_a_file_a_compressed_file_and_a_folder_give_the_same_records(lines: list[Line], tmp_path: Path) -> None:
    plain, packed, folder = tmp_path / "a.jsonl", tmp_path / "b" / "a.json.gz", tmp_path / "b"
    folder.mkdir()
    plain.write_bytes(written(lines))
    packed.write_bytes(gzip.compress(written(lines)))
    (folder / "README.md").write_text("no log")
    for place in (plain, packed, folder):
        records, files = read(place)
        assert sorted(record.seq for record in records) == [line["seq"] for line in lines]
        assert (files.faults, files.torn, files.foreign, files.repeated) == ([], [], 0, 0)


def test_an_entry_of_cloud_logging_is_the_same_record_as_its_line(lines: list[Line], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(written(lines))
    (tmp_path / "b.json").write_bytes(written([entry(line) for line in lines]))
    bare, _ = read(tmp_path / "a.jsonl")
    entries, _ = read(tmp_path / "b.json")
    assert [(r.seq, r.time, r.severity, r.outcomes) for r in bare] == [
        (r.seq, r.time, r.severity, r.outcomes) for r in entries
    ]
    both, files = read(tmp_path)
    assert (len(both), files.repeated, files.faults) == (len(lines), len(lines), [])


def test_the_records_that_open_and_close_runs_come_first_whatever_the_order(lines: list[Line], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(written(lines[::-1]))
    records, files = read(tmp_path)
    assert [record.event for record in records] == ["run_started", "run_finished", *["runtime_audited"] * 3]
    assert (len(records), files.repeated) == (len(lines), 0)


def test_what_opens_and_closes_the_runs_of_an_environment_is_found_without_reading_the_rest(
    lines: list[Line], tmp_path: Path
) -> None:
    def of(environment: str, day: int) -> list[Line]:
        common = {"environment": environment, "run_id": f"{environment}-{day}", "time": f"2026-11-{day}T03:00:00Z"}
        return [{name: value for name, value in (line | common).items() if "/" not in name} for line in lines[::4]]

    early, late, other = (of(*which) for which in (("prod", 10), ("prod", 20), ("test", 20)))
    garbled = b'{"event":"runtime_audited","message":"\xff'
    backwards = [dict(reversed(line.items())) for line in late]  # as a sink orders the keys
    (tmp_path / "a.jsonl").write_bytes(written([*early, *other]) + garbled + b"\n" + written(lines[1:-1] + backwards))
    (tmp_path / "b.jsonl").write_bytes(written(late) + written([{**lines[1], "name": "run_started"}]))
    files = AuditRecords(AuditFiles([tmp_path]), environment="prod")
    found = files.runs(datetime(2026, 11, 20, 3, tzinfo=UTC))
    assert [(record.run_id, record.event) for record in found] == [
        ("prod-20", "run_started"),
        ("prod-20", "run_finished"),
    ]
    assert (files.elsewhere, files.repeated, files.faults) == ({"test"}, 2, [])
    assert [record.run_id for record in files.runs()] == ["prod-10", "prod-10", "prod-20", "prod-20"]


def test_what_opens_and_closes_a_large_run_takes_no_memory_for_what_is_between(
    lines: list[Line], tmp_path: Path
) -> None:
    """A closing record's number is that of the run's lines; a gap would take 32 bytes for each."""
    opening, closing = lines[0], lines[-1] | {"seq": 900_000, INSERT_ID: f"{lines[0]['run_id']}-0-900000"}
    (tmp_path / "log.jsonl").write_bytes(written([opening, closing]))
    for given in (lambda log: log.runs(), list):
        log = AuditRecords(AuditFiles([tmp_path]), may_repeat=True)
        tracemalloc.start()
        assert [record.event for record in given(log)] == ["run_started", "run_finished"]
        assert tracemalloc.get_traced_memory()[1] < 2**21
        tracemalloc.stop()
        assert (log.records, log.repeated) == (2, 0)


def test_who_asks_for_one_event_alone_is_told_nothing_of_others(lines: list[Line], tmp_path: Path) -> None:
    garbled = b"".join(b'{"event":"%b",, nonsense}\n' % event for event in (b"notice_sent", b"run_refused"))
    (tmp_path / "a.jsonl").write_bytes(written(lines) + garbled + written(lines[:2]))
    for event, count, unread in (("runtime_audited", 3, 0), ("notice_sent", 0, 1), ("run_refused", 0, 1)):
        files = AuditRecords(AuditFiles([tmp_path]))
        found = [record.event for record in files.alone((Match(events=(event,)),))]
        assert (found, len(files.faults)) == ([event] * count, unread)
        assert files.repeated == (event == "runtime_audited")
    garbled = b'{"event":"runtime_audited","run_id":"%b",, nonsense}\n'
    (tmp_path / "a.jsonl").write_bytes(written(lines) + garbled % b"another" + garbled % lines[0]["run_id"].encode())
    files = AuditRecords(AuditFiles([tmp_path]))
    of_run = Match(events=("runtime_audited",), run_ids=(lines[0]["run_id"],))
    assert len([record.seq for record in files.alone((of_run,))]) == 3
    assert [fault.place for fault in files.faults] == [f"{tmp_path / 'a.jsonl'}:7"]


def test_a_torn_opening_is_told_to_who_asks_for_runs_alone(lines: list[Line], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(written(lines) + written(lines[:1])[:-50])
    files = AuditRecords(AuditFiles([tmp_path]))
    assert [record.event for record in files.runs()] == ["run_started", "run_finished"]
    assert [torn.place for torn in files.torn] == [f"{tmp_path / 'a.jsonl'}:6"]


def test_the_same_file_twice_counts_once(lines: list[Line], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(written(lines))
    (tmp_path / "b.jsonl").write_bytes(written(lines[:2]))
    records, files = read(tmp_path, tmp_path / "a.jsonl", tmp_path)
    assert len(AuditFiles([tmp_path, tmp_path / "a.jsonl"]).files) == 2
    assert (len(records), files.repeated, files.faults) == (len(lines), 2, [])


def test_iterating_again_reads_again(lines: list[Line], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(written([*lines, lines[1]]))
    files = AuditRecords(AuditFiles([tmp_path]))
    assert [len(list(files)) for _ in range(2)] == [len(lines)] * 2
    assert files.repeated == 1


def test_the_same_insert_id_with_other_content_is_a_fault(lines: list[Line], tmp_path: Path) -> None:
    changed = {**lines[1], "status": "Stopped" if lines[1]["status"] == "Running" else "Running"}
    opening = {**lines[0], "actor": "somebody else"}
    (tmp_path / "a.jsonl").write_bytes(written([*lines, changed, opening]))
    records, files = read(tmp_path)
    assert len(records) == len(lines)
    run_id = lines[0]["run_id"]
    assert sorted(whats(files)) == [f"record {run_id}-0-{n} is here with other content than before" for n in (0, 1)]
    assert {fault.place for fault in files.faults} == {f"{tmp_path / 'a.jsonl'}:{len(lines) + n}" for n in (1, 2)}


def test_an_insert_id_or_a_label_that_is_not_the_records_own_is_a_fault(lines: list[Line], tmp_path: Path) -> None:
    lines[1]["logging.googleapis.com/insertId"] = "another"
    lines[2]["logging.googleapis.com/labels"]["environment"] = "another"
    (tmp_path / "a.jsonl").write_bytes(written(lines))
    _, files = read(tmp_path)
    run_id = lines[0]["run_id"]
    assert whats(files) == [
        f"record {run_id}-0-1 has an insertId that is not its own",
        f"record {run_id}-0-2 has another label environment",
    ]


def test_a_torn_last_line_is_told_and_no_fault(lines: list[Line], tmp_path: Path) -> None:
    whole = written(lines)
    for cut in (1, 20, 300):
        (tmp_path / "a.jsonl").write_bytes(whole[: -cut - 1])
        records, files = read(tmp_path)
        assert (len(records), files.faults) == (len(lines) - 1, [])
        (torn,) = files.torn
        assert (torn.place, torn.what) == (
            f"{tmp_path / 'a.jsonl'}:{len(lines)}",
            "the line is torn: its writer was cut off",
        )


def test_a_last_line_without_its_end_of_line_is_whole(lines: list[Line], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(written(lines).rstrip())
    records, files = read(tmp_path)
    assert (len(records), files.torn, files.faults) == (len(lines), [], [])


def test_a_torn_line_that_the_next_run_left_behind_it_is_no_fault_either(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    with serving(Leonardo([a_machine(1)])) as server:
        run(*delete(server, "--audit-file", str(log)))
        log.write_bytes(log.read_bytes()[:-100])
        run(*delete(server, "--audit-file", str(log)))
    records, files = read(log)
    assert ([fault.place for fault in files.torn], files.faults) == ([f"{log}:3"], [])
    assert len(records) == 2 + 3


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "damage", [b"\0\0\0\0", b'{"event": "runtime_audited"', b"x", b"\xff\xfe", b'{"x":' + b"[" * 20_000]
)
def test_any_other_line_that_cannot_be_read_is_a_fault(lines: list[Line], tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(written(lines[:2]) + damage + b"\n\n" + written(lines[2:]))
    records, files = read(tmp_path)
    assert (len(records), files.torn) == (len(lines), [])
    (fault,) = files.faults
    assert fault.place == f"{tmp_path / 'a.jsonl'}:3"
    assert fault.what.startswith("the line is not readable as a record: ")


def test_a_field_of_a_wrong_kind_is_a_fault_in_a_record_and_nothing_in_other_lines(
    lines: list[Line], tmp_path: Path
) -> None:
    lines[1]["age_s"] = "old"
    lines[0]["now"] = "2026-11-20"
    others: list[Line] = [
        {"severity": "INFO", "status": 200},
        {"message": "started"},
        {**lines[2], "schema": "another/v1"},
    ]
    (tmp_path / "a.jsonl").write_bytes(written([*lines, *others, entry(lines[1]), {"jsonPayload": {"status": 1}}]))
    records, files = read(tmp_path)
    assert (len(records), files.foreign) == (len(lines) - 2, 4)
    assert [fault.place.rpartition(":")[2] for fault in files.faults] == ["1", "2", str(len(lines) + 4)]


def test_fields_that_are_missing_or_unknown_are_no_fault(lines: list[Line], tmp_path: Path) -> None:
    for line in lines:
        for name in ("plan", "trace_id", "would_be_refused_by", "disk", "severity"):
            line.pop(name, None)
        line["a_later_field"] = {"x": 1}
    (tmp_path / "a.jsonl").write_bytes(written(lines))
    records, files = read(tmp_path)
    assert (len(records), files.faults) == (len(lines), [])


def test_a_compressed_file_that_ends_early_or_is_damaged_is_a_fault(lines: list[Line], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    packed = gzip.compress(written(lines * 50))
    file.write_bytes(packed[:-20])
    records, files = read(tmp_path)
    assert (len(records), files.torn, files.faults) == (5, [], [Fault(str(file), "the compressed file ends early")])
    file.write_bytes(packed[:200] + bytes(20) + packed[220:])
    _, files = read(tmp_path)
    assert whats(files)[0].startswith("the file is not readable: ")


def test_a_place_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no log"):
        AuditRecords(AuditFiles([tmp_path]))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        AuditRecords(AuditFiles([tmp_path / "nowhere"]))


def test_runs_of_another_time_and_runtimes_of_others_are_left_out_and_what_names_nobody_is_counted(
    run: Run, tmp_path: Path
) -> None:
    log = tmp_path / "a.jsonl"
    with serving(Leonardo([a_machine(1), a_machine(2, creator="b@example.org")])) as server:
        first, second = (run(*delete(server, "--audit-file", str(log))).records for _ in range(2))
    began = [datetime.fromisoformat(records[0]["time"]) for records in (first, second)]
    for only, runs in (
        (Only(), [first, second]),
        (Only(since=began[0]), [first, second]),
        (Only(since=began[0] + timedelta(microseconds=1)), [second]),
        (Only(until=began[1]), [first]),
        (Only(until=began[0]), []),
        (Only(since=began[1], until=began[1]), []),
    ):
        for wanted in (None, lambda _: EVERYTHING):
            files = AuditRecords(AuditFiles([log]), wanted, only=only)
            assert {record.run_id for record in files} == {records[0]["run_id"] for records in runs}
            assert (files.records, files.repeated) == (sum(map(len, runs)), 0)
            assert verify(AuditRecords(AuditFiles([log]), wanted, only=only), began[1] + timedelta(hours=9)) == [
                verdict
                for verdict in verify(AuditRecords(AuditFiles([log])), began[1] + timedelta(hours=9))
                if verdict.run_id in {records[0]["run_id"] for records in runs}
            ]
    theirs = AuditRecords(AuditFiles([log]), only=Only(creator="b@example.org"))
    assert [record.name for record in theirs if record.event == "runtime_audited"] == ["all-of-us-2"] * 2
    assert theirs.unnamed == 0
    with serving(Leonardo([a_machine(1)])) as server:
        run(*delete(server, "--audit-file", str(log), "--audit-creator", "omit"))
    asked = ("review-audit-log", "upcoming", "--creator", "b@example.org", "--from", str(log))
    ended = run(*asked)
    assert (ended.code, json.loads(ended.out)["due"]) == (1, [])
    assert ended.err == (
        "narrowed to creator b@example.org\nof 1 record no creator is named: it may be b@example.org\n"
    )
    for words, said in (
        (("runs", "--since", "3000d"), ""),
        (("runs", "--since", "soon"), "leo-lifecycle: --since: 'soon' is no date or instant, and no duration"),
        (("runs", "--until", "2015-01-01"), "leo-lifecycle: from: there is no audit record of a run that began then"),
        (
            ("runs", "--creator", "b"),
            "leo-lifecycle: --creator goes with why, run, diff",
        ),
    ):
        ended = run("review-audit-log", *words, "--from", str(log))
        assert (ended.code, ended.err[: len(said)]) == (2 if said else 0, said)
