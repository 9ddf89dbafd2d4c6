"""Records in Cloud Logging: each acknowledged before its act, sent again as it was, and read back as it was written."""

import asyncio
import json
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from core.clock import RunClock
from core.google.api import GoogleError
from core.google.log_entries import PAGE, READS_A_MINUTE, CloudLogEntries
from core.google.log_entry import to_entry, to_record
from core.google.log_sink import MOST_ENTRIES, TOKEN_TRIES, CloudLog, open_log
from core.records.events import RuntimeMissing, record_of
from core.records.outcome import Severity
from core.records.selection import EVERYTHING, RUNS, Match
from core.records.writer import AuditLog, RecordNotKeptError, RunIdentity
from core.sandbox.google_cloud import Google, GoogleFault, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.log_query import parse
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, calls, delete, finish, start, wait_until

Run = Callable[..., Ended]
LOG = "projects/p/logs/leo-lifecycle-audit"
LIVE = "--no-dry-run"
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
IDENTITY = RunIdentity(job="delete-old-runtimes", run_id="run-1", environment="test", dry_run=False)
Code = grpc.StatusCode


@pytest.fixture
def google() -> Iterator[Google]:
    with serving_google(Google()) as google:
        yield google


def kept(google: Google, *more: str) -> tuple[str, ...]:
    return ("--audit-cloud-log", LOG, "--google-emulator", google.address, *more)


def missing(number: int = 1, message: str = "it is not listed") -> RuntimeMissing:
    return RuntimeMissing(severity=Severity.WARNING, message=message, project="terra-1", name=f"x-{number}")


def with_log(google: Google, work: Callable[[AuditLog, CloudLog], Awaitable[None]], *, seconds: float = 30) -> None:
    """Do the work with an audit log that is kept in Cloud Logging alone."""

    async def run() -> None:
        clock = RunClock(deadline=timedelta(seconds=seconds), request_timeout=timedelta(seconds=1))
        labels = {"run.googleapis.com/execution_name": "run-1"}
        place = {"project_id": "p", "location": "us-central1", "job_name": "delete-old-runtimes"}
        opening = open_log(LOG, emulator=google.address, cloud_run=place, labels=labels)
        async with opening as sink:
            await work(AuditLog(IDENTITY, [sink], now=clock.wall, in_time=clock.for_records), sink)

    asyncio.run(run())


# An entry


@given(message=st.text(alphabet=st.characters(exclude_categories=["Cs"])), number=st.integers(0, 10**9))
def test_a_record_comes_back_from_an_entry_as_it_was(message: str, number: int) -> None:
    event = missing(number, message)
    line = msgspec.json.encode(event)[:-1] + b"," + msgspec.json.encode(COMMON)[1:]
    assert record_of(to_record(MessageToDict(to_entry(line)))) == (event, record_of(json.loads(line))[1])


COMMON = {
    "time": "2026-11-20T03:00:00.123Z",
    "logging.googleapis.com/labels": {"job": "j", "run_id": "r", "environment": "e"},
    "logging.googleapis.com/insertId": "r-0-7",
    "schema": "leo-lifecycle/audit/v1",
    "job": "j",
    "run_id": "r",
    "environment": "e",
    "dry_run": True,
    "seq": 7,
    "task_index": 0,
    "task_count": 1,
    "truncated": ["failed"],
}


def test_an_entry_is_what_the_log_agent_would_make_of_the_line(google: Google) -> None:
    async def work(log: AuditLog, _: CloudLog) -> None:
        log.write(missing())
        await log.commit()

    with_log(google, work)
    ((_, entry),) = google.entries
    assert entry.pop("receiveTimestamp")
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "logName": LOG,
        "resource": {
            "type": "cloud_run_job",
            "labels": {"project_id": "p", "location": "us-central1", "job_name": "delete-old-runtimes"},
        },
        "insertId": "run-1-0-0",
        "severity": "WARNING",
        "labels": {
            "job": "delete-old-runtimes",
            "run_id": "run-1",
            "environment": "test",
            "run.googleapis.com/execution_name": "run-1",
        },
        "jsonPayload": {
            "event": "runtime_missing",
            "message": "it is not listed",
            "project": "terra-1",
            "name": "x-1",
            "schema": "leo-lifecycle/audit/v1",
            "job": "delete-old-runtimes",
            "run_id": "run-1",
            "environment": "test",
            "dry_run": False,
            "seq": 0,
            "task_index": 0,
            "task_count": 1,
            "truncated": None,
        },
    }


# Writing


@pytest.mark.unmeasured
def test_records_go_in_batches_and_in_order(google: Google) -> None:
    async def work(log: AuditLog, sink: CloudLog) -> None:
        for number in range(2 * MOST_ENTRIES + 1):
            assert sink.full == (number >= MOST_ENTRIES)
            log.write(missing(number))
        await log.commit()
        assert not sink.full

    with_log(google, work)
    assert google.writes == [MOST_ENTRIES, MOST_ENTRIES, 1]
    assert [entry["insertId"] for _, entry in google.entries] == [f"run-1-0-{n}" for n in range(2 * MOST_ENTRIES + 1)]


def test_a_batch_stays_below_what_one_write_may_hold(google: Google) -> None:
    async def work(log: AuditLog, _: CloudLog) -> None:
        for number in range(120):
            log.write(missing(number, "x" * 55_000))
        await log.commit()

    with_log(google, work)
    assert len(google.writes) == 2
    assert sum(google.writes) == 120


def test_those_who_wait_together_share_one_write(google: Google) -> None:
    arrived, let = threading.Event(), threading.Event()
    google.faults.append(GoogleFault(method="WriteLogEntries", code=None, arrived=arrived, held_until=let))

    async def work(log: AuditLog, _: CloudLog) -> None:
        async def announce(number: int) -> None:
            log.write(missing(number))
            await log.commit()

        first = asyncio.create_task(announce(0))
        await asyncio.to_thread(arrived.wait)
        others = [asyncio.create_task(announce(number)) for number in range(1, 10)]
        await asyncio.sleep(0)
        let.set()
        await asyncio.gather(first, *others)

    with_log(google, work)
    assert google.writes == [1, 9]


MAY_PASS = [
    Code.UNAVAILABLE,
    Code.RESOURCE_EXHAUSTED,
    Code.INTERNAL,
    Code.DEADLINE_EXCEEDED,
    Code.ABORTED,
    Code.UNKNOWN,
    Code.CANCELLED,
    Code.UNAUTHENTICATED,
]


@pytest.mark.unmeasured
@pytest.mark.parametrize("code", MAY_PASS)
@pytest.mark.parametrize("act_first", [False, True])
def test_what_may_pass_is_sent_again_as_it_was(google: Google, code: Code, *, act_first: bool) -> None:
    google.faults.append(GoogleFault(method="WriteLogEntries", code=code, times=2, act_first=act_first))

    async def work(log: AuditLog, _: CloudLog) -> None:
        log.write(missing())
        await log.commit()

    with_log(google, work)
    entries = [{**entry, "receiveTimestamp": ""} for _, entry in google.entries]
    assert entries == [entries[0]] * (3 if act_first else 1)
    shown = CloudLogEntries(LOG, datetime.now(UTC) - timedelta(hours=1), emulator=google.address)
    assert len(list(shown.lines(EVERYTHING))) == 1


@pytest.mark.parametrize("code", [Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT, Code.NOT_FOUND])
def test_a_refusal_is_not_sent_again_and_nothing_counts_as_kept(google: Google, code: Code) -> None:
    google.faults.append(GoogleFault(method="WriteLogEntries", code=code, times=9))

    async def work(log: AuditLog, _: CloudLog) -> None:
        log.write(missing())
        with pytest.raises(RecordNotKeptError):
            await log.commit()
        assert log.failure == f"{LOG}: not acknowledged: {code.name}: a fault of the sandbox"

    with_log(google, work)
    assert google.calls["WriteLogEntries"] == 1


@pytest.mark.parametrize(("times", "kept"), [(TOKEN_TRIES - 1, True), (TOKEN_TRIES, False)])
def test_a_token_that_is_refused_again_and_again_is_a_refusal(google: Google, times: int, *, kept: bool) -> None:
    google.faults.append(GoogleFault(method="WriteLogEntries", code=Code.UNAUTHENTICATED, times=times))

    async def work(log: AuditLog, _: CloudLog) -> None:
        log.write(missing())
        with nullcontext() if kept else pytest.raises(RecordNotKeptError, match="UNAUTHENTICATED"):
            await log.commit()

    with_log(google, work)
    assert (google.calls["WriteLogEntries"], len(google.entries)) == (TOKEN_TRIES, kept)


@pytest.mark.parametrize("fault", [{"times": 10**6}, {"code": None, "times": 10**6, "held_until": threading.Event()}])
def test_what_is_not_acknowledged_in_time_is_lost(google: Google, fault: dict[str, Any]) -> None:
    """Whether it is refused again and again, or never answered."""
    google.faults.append(GoogleFault(method="WriteLogEntries", **fault))

    async def work(log: AuditLog, _: CloudLog) -> None:
        log.write(missing())
        with pytest.raises(RecordNotKeptError, match=rf"^{LOG}: not kept in time$"):
            await log.commit()

    with_log(google, work, seconds=2.5)
    fault.get("held_until", threading.Event()).set()


def test_when_time_is_over_a_record_is_still_tried(google: Google) -> None:
    async def work(log: AuditLog, _: CloudLog) -> None:
        log.write(missing(2))
        await log.commit()

    with_log(google, work, seconds=1.5)
    assert [entry["jsonPayload"]["name"] for _, entry in google.entries] == ["x-2"]


# Reading


def an_entry(number: int, at: datetime, **fields: Any) -> tuple[Any, dict[str, Any]]:
    line = {**COMMON, "event": "runtime_missing", "severity": "WARNING", "message": "", "project": "p", "name": "n"}
    line |= {"time": at.isoformat(), "logging.googleapis.com/insertId": f"r-0-{number}", "seq": number, **fields}
    entry = to_entry(json.dumps(line).encode())
    entry.log_name = LOG
    return entry, MessageToDict(entry)


def reading(google: Google, **options: Any) -> CloudLogEntries:
    return CloudLogEntries(LOG, NOW - timedelta(days=7), emulator=google.address, **options)


def test_entries_come_by_pages_of_a_thousand_in_the_order_of_time(google: Google) -> None:
    count = 2 * PAGE + 500
    google.entries += [an_entry(n, NOW + timedelta(seconds=n)) for n in reversed(range(count))]
    progress: list[int] = []
    lines = list(reading(google, read=progress.append).lines(EVERYTHING))
    assert [json.loads(line.text)["jsonPayload"]["seq"] for line in lines] == list(range(count))
    assert (google.calls["ListLogEntries"], progress) == (3, [1000, 2000, 2500])
    assert lines[0].place == f"{LOG} r-0-0"


def test_what_is_older_or_of_another_log_is_not_read(google: Google) -> None:
    google.entries += [an_entry(1, NOW - timedelta(days=7, seconds=1)), an_entry(2, NOW - timedelta(days=7))]
    other, _ = an_entry(3, NOW)
    other.log_name = "projects/p/logs/other"
    google.entries.append((other, MessageToDict(other)))
    assert [line.place for line in reading(google).lines(EVERYTHING)] == [f"{LOG} r-0-2"]
    assert [line.place for line in reading(google).lines(EVERYTHING, since=NOW - timedelta(days=6))] == []


def test_the_server_leaves_out_what_is_not_wanted() -> None:
    log = CloudLogEntries(LOG, NOW, emulator="127.0.0.1:9")
    begin = f'logName="{LOG}" AND timestamp>="2026-11-20T03:00:00+00:00"'
    assert log.query(EVERYTHING, NOW) == begin
    assert log.query(RUNS, NOW) == f'{begin} AND ((jsonPayload.event=("run_started" OR "run_finished")))'
    wanted = (Match(run_ids=("a", "b")), Match(outcomes=("gone",), severities=("ERROR",)))
    assert log.query(wanted, NOW) == (
        f'{begin} AND ((labels.run_id=("a" OR "b")) OR (jsonPayload.outcome=("gone") AND severity=("ERROR")))'
    )


@pytest.mark.unmeasured
@given(
    project=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1),
    name=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1),
)
def test_no_name_can_break_out_of_its_query(project: str, name: str) -> None:
    query = CloudLogEntries(LOG, NOW, emulator="127.0.0.1:9").query((Match(path=f"{project}/{name}"),), NOW)
    wanted = parse(query)
    entry = {"logName": LOG, "timestamp": "2026-11-20T03:00:00Z", "jsonPayload": {"project": project, "name": name}}
    assert wanted(entry)
    assert not wanted({**entry, "jsonPayload": {"project": project, "name": f"{name}x"}})
    assert not wanted({**entry, "logName": "projects/p/logs/other"})


def test_reads_are_paced_below_the_quota(google: Google) -> None:
    slept: list[float] = []
    at = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        at[0] += seconds

    log = reading(google, sleep=sleep, monotonic=lambda: at[0])
    for _ in range(READS_A_MINUTE):
        list(log.lines(EVERYTHING))
        at[0] += 0.5
    assert slept == []
    for _ in range(2):
        list(log.lines(EVERYTHING))
    assert slept == [60 - READS_A_MINUTE * 0.5, 0.5]


def test_a_read_that_may_pass_is_tried_again_and_a_refused_one_is_told(google: Google) -> None:
    google.entries.append(an_entry(1, NOW))
    google.faults.append(GoogleFault(method="ListLogEntries", code=Code.RESOURCE_EXHAUSTED))
    assert len(list(reading(google).lines(EVERYTHING))) == 1
    google.faults.append(GoogleFault(method="ListLogEntries", code=Code.PERMISSION_DENIED))
    with pytest.raises(GoogleError, match=rf"^{LOG} cannot be read: PERMISSION_DENIED: a fault of the sandbox$"):
        list(reading(google).lines(EVERYTHING))


# Runs


def test_a_run_keeps_the_same_records_in_cloud_logging_as_on_standard_output(run: Run, google: Google) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 9)])) as server:
        ended = run(*delete(server, LIVE, *kept(google)))
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 8})
    assert [_dated(to_record(entry)) for _, entry in google.entries] == [_dated(record) for record in ended.records]
    resources = {entry["resource"]["type"] for _, entry in google.entries}
    assert resources == {"global"}


def _dated(record: dict[str, Any]) -> dict[str, Any]:
    """However many digits its time is written with."""
    return {**record, "time": datetime.fromisoformat(record["time"])}


@pytest.mark.unmeasured
def test_a_long_list_is_written_while_it_is_read(run: Run, google: Google) -> None:
    with serving(Leonardo([a_machine(n, days=1) for n in range(1, 3001)])) as server:
        ended = run(*delete(server, *kept(google)))
    assert ended.finished["listed"] == 3000
    assert (sum(google.writes), max(google.writes)) == (3002, MOST_ENTRIES)
    at_the_end = [1, *(6 * [MOST_ENTRIES]), 1]
    assert len(google.writes) > len(at_the_end)


def test_a_log_that_takes_no_record_lets_nothing_begin(run: Run, google: Google) -> None:
    google.faults.append(GoogleFault(method="WriteLogEntries", code=Code.PERMISSION_DENIED, times=99))
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        ended = run(*delete(server, LIVE, *kept(google)))
        assert calls(server) == []
    assert (ended.code, ended.finished["exit_code"], ended.finished["outcomes"]) == (6, 6, {})
    assert f"{LOG}: not acknowledged: PERMISSION_DENIED" in ended.err


def test_an_intent_that_is_refused_stops_the_acts(run: Run, google: Google) -> None:
    google.faults.append(GoogleFault(method="WriteLogEntries", code=Code.PERMISSION_DENIED, skip=1, times=99))
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        ended = run(*delete(server, LIVE, *kept(google)))
        assert "delete" not in {request.call for request in server.requests}
    assert (ended.code, ended.finished["outcomes"]) == (6, {"not_attempted": 2})


def test_no_credentials_for_the_log_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "nowhere.json")
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, LIVE, "--audit-cloud-log", LOG))
        assert (ended.code, ended.out, calls(server)) == (2, "", [])
    assert ended.err.startswith("leo-lifecycle: audit-cloud-log: no client for Cloud Logging: ")


def acknowledged(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def a_google(file: Path, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    """A Google as a process of its own, and where it is."""
    process = start("sandbox", "--port", "0", "--runtimes", "1", "--google-port", str(port), "--google-log", str(file))
    assert process.stdout is not None
    process.stdout.readline()
    return process, process.stdout.readline().rpartition(" ")[2].strip()


@pytest.mark.long
@pytest.mark.unmeasured
@pytest.mark.parametrize("comes_back", [True, False])
def test_killing_the_log_in_the_middle_of_a_run_leaves_no_act_without_its_acknowledged_intent(
    tmp_path: Path, *, comes_back: bool
) -> None:
    file = tmp_path / "acknowledged.jsonl"
    google, address = a_google(file)
    with serving(Leonardo([a_machine(n) for n in range(1, 201)]), latency=0.005) as server:
        log = ("--audit-cloud-log", LOG, "--google-emulator", address)
        process = start(*delete(server, LIVE, "--max-act-share", "1", *log), cwd=tmp_path)
        wait_until(lambda: sum(request.call == "delete" for request in list(server.requests)) >= 20, process)
        google.kill()
        google.communicate()
        if comes_back:
            google, _ = a_google(file, int(address.rpartition(":")[2]))
        else:
            process.send_signal(signal.SIGTERM)
        ended = finish(process)
        google.kill()
        google.communicate()
        deleted = [request.name for request in server.requests if request.call == "delete"]
    intents = [
        e["jsonPayload"]["name"] for e in acknowledged(file) if e["jsonPayload"]["event"] == "deletion_requested"
    ]
    assert len(deleted) == len(set(deleted))
    assert set(deleted) <= set(intents)
    if comes_back:
        assert (ended.code, ended.finished["outcomes"], len(deleted)) == (0, {"deletion_accepted": 200}, 200)
        assert Counter(e["insertId"] for e in acknowledged(file)).keys() == {
            record["logging.googleapis.com/insertId"] for record in ended.records
        }
    else:
        assert ended.code == 6
        assert len(deleted) < 200
        assert set(ended.finished["outcomes"]) <= {"deletion_accepted", "not_attempted", "in_doubt"}
