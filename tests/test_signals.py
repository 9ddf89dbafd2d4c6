"""A run ends in time, by the real program: signals of each kind, and sinks, terminals and servers that hang."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from core.sandbox.faults import Fault, Kind
from core.sandbox.google_cloud import Google, GoogleFault, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from tests.conftest import (
    LEO,
    Ended,
    a_machine,
    calls,
    delete,
    finish,
    on_google,
    paths,
    read_records,
    script,
    start,
    wait_until,
)
from tests.fault_table import Cell, hanging_sinks

LIVE = "--no-dry-run"
PROMISED = 9.0
"""Seconds from a signal to the end of the process, whatever hangs."""
TOLD = "told to stop: nothing more begins"
STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def wait_for(server: SandboxServer, call: Kind, count: int, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: [r.call for r in list(server.requests)].count(call) >= count, process)


def told_to_stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> dict[str, Any]:
    """Send a signal; what the program says at once."""
    process.send_signal(number)
    assert process.stderr is not None
    while line := process.stderr.readline():
        if TOLD in line:
            said: dict[str, Any] = json.loads(line)
            return said
    raise AssertionError(process.wait())


def interrupt_twice(process: subprocess.Popen[str]) -> None:
    """As somebody does who waits no longer."""
    told_to_stop(process)
    process.send_signal(signal.SIGINT)


# Signals


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_lets_acts_be_answered_and_a_storm_of_it_changes_nothing(number: signal.Signals) -> None:
    fleet = [a_machine(n, days=60 - n) for n in range(1, 4)]
    with serving(Leonardo(fleet), faults=[Fault(call="delete", delay=1)]) as server:
        process = start(*delete(server, LIVE, "--write-concurrency", "1", "--max-act-share", "1"))
        wait_for(server, "delete", 1, process)
        said = told_to_stop(process, number)
        while number != signal.SIGINT and process.poll() is None:
            process.send_signal(number)
            time.sleep(0.001)
        ended = finish(process)
    assert ended.code == 5
    assert {path: ended.audited[path]["outcome"] for path in paths(1, 2, 3)} == dict(
        zip(paths(1, 2, 3), ["deletion_accepted", "not_attempted", "not_attempted"], strict=True)
    )
    assert (said["signal"], said["waits_for"], said["at_most_s"]) == (number.name, "the answer to 1 act", 9)
    assert said.get("hint") == ("Ctrl-C again waits no longer" if number == signal.SIGINT else None)


def test_interrupted_twice_every_runtime_is_accounted_for() -> None:
    fleet = [a_machine(n, days=60 - n) for n in range(1, 7)]
    with serving(Leonardo(fleet), faults=[Fault(call="delete", hang=True, times=None)]) as server:
        process = start(*delete(server, LIVE, "--write-concurrency", "2"))
        wait_for(server, "delete", 2, process)
        interrupt_twice(process)
        ended = finish(process)
    assert ended.code == 5
    assert ended.finished["outcomes"] == {"in_doubt": 2, "not_attempted": 4}
    assert (ended.finished["listed"], ended.finished["audited"], ended.finished["exit_code"]) == (6, 6, 5)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_only_a_second_interrupt_shortens_the_wait(first: signal.Signals) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="delete", hang=True)]) as server:
        process = start(*delete(server, LIVE))
        wait_for(server, "delete", 1, process)
        told_to_stop(process, first)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert (ended.code, ended.finished["outcomes"]) == (5, {"in_doubt": 1})
    assert "interrupted again: nothing is waited for any more" in ended.err


@pytest.mark.parametrize("number", STOPPING)
def test_where_only_a_list_is_read_nothing_is_waited_for(number: signal.Signals) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", hang=True)]) as server:
        process = start(*delete(server, LIVE))
        wait_for(server, "list", 1, process)
        said = told_to_stop(process, number)
        ended = finish(process)
    assert (said["waits_for"], "at_most_s" in said) == ("nothing", False)
    assert (ended.code, ended.finished["listed"]) == (5, 0)


def ignoring(name: str, *arguments: str) -> subprocess.Popen[str]:
    """The program as nohup starts it."""
    words = ["/bin/sh", "-c", f"trap '' {name}; exec \"$@\"", "sh", LEO, *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(number: signal.Signals) -> None:
    faults = [Fault(call="delete", delay=0.5)]
    with serving(Leonardo([a_machine(1), a_machine(2)]), faults=faults) as server:
        process = ignoring(number.name.removeprefix("SIG"), *delete(server, LIVE, "--max-act-share", "1"))
        wait_for(server, "delete", 1, process)
        process.send_signal(number)
        ended = finish(process)
    assert (ended.code, ended.err) == (0, "")
    assert ended.finished["outcomes"] == {"deletion_accepted": 2}


def test_a_terminal_that_is_closed_leaves_a_closing_record(tmp_path: Path) -> None:
    audit_file = tmp_path / "audit.jsonl"
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", hang=True)]) as server:
        child, terminal = pty.fork()
        if child == 0:
            os.execv(LEO, [LEO, *delete(server, LIVE, "--yes", "--output", "table", "--audit-file", str(audit_file))])  # noqa: S606
        while not server.requests:
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            time.sleep(0.005)
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    last = read_records(audit_file.read_text().splitlines())[-1]
    assert (last["event"], last["exit_code"]) == ("run_finished", 5)


# Sinks that hang


@contextmanager
def nobody_reads() -> Iterator[tuple[int, int]]:
    """A pipe."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def wait_until_full(pipe: int, process: subprocess.Popen[str]) -> None:
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    wait_until(lambda: not poll.poll(0), process)


def fleet_with_records_for_more_than_a_pipe() -> list[Any]:
    return [*(a_machine(n) for n in (1, 2, 3)), *(a_machine(n, days=1) for n in range(4, 400))]


def test_a_standard_output_that_nobody_reads_lets_no_act_leave_and_holds_up_no_end(tmp_path: Path) -> None:
    audit_file = tmp_path / "audit.jsonl"
    with nobody_reads() as (_, writer), serving(Leonardo(fleet_with_records_for_more_than_a_pipe())) as server:
        arguments = delete(server, LIVE, "--audit-file", str(audit_file))
        process = start(*arguments, stdout=writer)
        wait_until_full(writer, process)
        interrupt_twice(process)
        ended = finish(process)
        assert "delete" not in {r.call for r in server.requests}
    last = read_records(audit_file.read_text().splitlines())[-1]
    assert (ended.code, last["event"]) == (6, "run_finished")
    assert "stdout: not kept in time" in ended.err


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_hangs_when_a_signal_comes_holds_up_the_end_no_longer_than_promised(number: signal.Signals) -> None:
    with nobody_reads() as (_, writer), serving(Leonardo(fleet_with_records_for_more_than_a_pipe())) as server:
        process = start(*delete(server, LIVE), stdout=writer)
        wait_until_full(writer, process)
        told_to_stop(process, number)
        assert finish(process, within=PROMISED).code == 6


@pytest.mark.chaos
def test_what_hangs_holds_up_the_end_no_longer_than_the_deadline() -> None:
    with nobody_reads() as (_, writer), serving(Leonardo(fleet_with_records_for_more_than_a_pipe())) as server:
        arguments = delete(server, LIVE, "--request-timeout", "1s", "--deadline", "17s")
        process = start(*arguments, stdout=writer)
        assert finish(process, within=17).code == 6


A_DISK_THAT_HANGS = """
import os, sys, threading
os.fsync = lambda _: threading.Event().wait()
from jobs.__main__ import main
sys.exit(main())
"""


def test_a_disk_that_hangs_lets_no_act_leave_and_holds_up_no_end(tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        arguments = delete(server, LIVE, "--audit-file", str(tmp_path / "audit.jsonl"))
        process = start(*arguments, program=script(A_DISK_THAT_HANGS))
        assert process.stdout is not None
        first = process.stdout.readline()
        interrupt_twice(process)
        ended = finish(process)
        assert calls(server) == []
    last = json.loads(ended.out.splitlines()[-1])
    assert (ended.code, json.loads(first)["event"], last["event"]) == (6, "run_started", "run_finished")
    assert "audit.jsonl: not kept in time" in ended.err


A_DISK_THAT_HANGS_LATER = """
import os, sys, threading
really = os.fsync
os.fsync = lambda file: threading.Event().wait() if os.path.exists("hang") else really(file)
from jobs.__main__ import main
sys.exit(main())
"""
DURING: dict[str, Kind] = {"intent": "get", "record of the act": "delete"}
"""The call in which a sink begins to hang, so that this record is the next that it is given."""
EVENTS = {"opening record": "run_started", "intent": "deletion_requested", "record of the act": "runtime_audited"}


def fill(pipe: int) -> None:
    """By an end of its own, since the process shares the other and must wait at it."""
    full = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(full, b"\n" * 4096)
    os.close(full)


@pytest.mark.chaos
@pytest.mark.parametrize("cell", hanging_sinks(), ids=str)
def test_a_sink_that_hangs_leads_to_what_the_readme_says(cell: Cell, tmp_path: Path) -> None:
    """What is told by the sink that works."""
    audit_file = tmp_path / "audit.jsonl"
    faults = [Fault(call=call, delay=1) for call in DURING.values()]
    with nobody_reads() as (_, writer), serving(Leonardo([a_machine(1)]), faults=faults) as server:

        def hang() -> None:
            if cell.fault == "disk":
                (tmp_path / "hang").touch()
            else:
                fill(writer)

        if cell.call not in DURING:
            hang()
        process = start(
            *delete(server, LIVE, "--audit-file", str(audit_file)),
            program=script(A_DISK_THAT_HANGS_LATER),
            stdout=subprocess.PIPE if cell.fault == "disk" else writer,
            cwd=tmp_path,
        )
        if cell.call in DURING:
            wait_for(server, DURING[cell.call], 1, process)
            hang()
        wait_until(lambda: audit_file.exists() and EVENTS[cell.call] in audit_file.read_text(), process)
        interrupt_twice(process)
        ended = finish(process)
        assert ("delete" in {r.call for r in server.requests}) is (cell.call == "record of the act")
    told = ended if cell.fault == "disk" else Ended(ended.code, audit_file.read_text(), ended.err)
    outcome = told.audited[paths(1)[0]]["outcome"] if told.audited else "unread"
    assert (outcome, told.code) == (cell.outcome, cell.exit_code)
    assert told.finished["exit_code"] == cell.exit_code
    assert "not kept in time" in ended.err


def test_a_log_that_never_acknowledges_lets_no_act_leave_and_holds_up_no_end() -> None:
    arrived, let = threading.Event(), threading.Event()
    google = Google()
    google.faults.append(
        GoogleFault(method="WriteLogEntries", code=None, skip=1, times=99, arrived=arrived, held_until=let)
    )
    with serving_google(google), serving(Leonardo([a_machine(1)])) as server:
        log = ("--audit-cloud-log", "projects/p/logs/audit", "--google-emulator", google.address)
        process = start(*delete(server, LIVE, *log))
        arrived.wait()
        interrupt_twice(process)
        ended = finish(process)
        let.set()
        assert calls(server) == ["list", *(f"get {path}" for path in paths(1))]
    assert (ended.code, ended.finished["outcomes"]) == (6, {"not_attempted": 1})
    assert "projects/p/logs/audit: not kept in time" in ended.err


@contextmanager
def a_server_that_never_answers() -> Iterator[tuple[str, threading.Event]]:
    """Its address, and whether somebody has asked it."""
    asked, connections = threading.Event(), []

    def serve() -> None:
        while True:
            try:
                connections.append(listening.accept())
            except OSError:
                return
            asked.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection, _ in connections:
        connection.close()


@pytest.mark.parametrize("wants", [("--auth", "google"), ("--audit-cloud-log", "projects/p/logs/audit")])
def test_a_metadata_server_that_never_answers_holds_up_no_end(wants: tuple[str, str], tmp_path: Path) -> None:
    with a_server_that_never_answers() as (url, asked), serving(Leonardo([a_machine(1)])) as server:
        process = start(*delete(server, LIVE, *wants), env=on_google(url, tmp_path))
        asked.wait()
        process.send_signal(signal.SIGTERM)
        ended = finish(process, within=PROMISED)
        assert calls(server) == []
    assert (ended.code, ended.out) == (5, "")


# What nothing else ends


STUCK = """
import sys, threading
from datetime import timedelta
from core.clock import RunClock
from core.run.signals import Ending

clock = RunClock(deadline=timedelta(seconds=float(sys.argv[1])), request_timeout=timedelta(seconds=1))
with Ending(clock) as ending:
    ending.code = int(sys.argv[2])
    threading.Event().wait()
"""


@pytest.mark.parametrize("code", [6, 1])
def test_a_process_that_is_stuck_is_ended_at_its_deadline_with_the_code_that_its_run_had_earned(code: int) -> None:
    ended = finish(start("2", str(code), program=script(STUCK)))
    assert ended.code == code
    assert "out of time: something hangs, the process ends without it" in ended.out


# Files that are lost


def test_an_audit_file_that_is_lost_ends_the_acts_and_is_not_said_to_hold_every_decision(tmp_path: Path) -> None:
    audit_file = tmp_path / "audit.jsonl"
    fleet = [a_machine(n, days=60 - n) for n in range(1, 4)]
    with serving(Leonardo(fleet), faults=[Fault(call="delete", delay=0.5)]) as server:
        held = ("--write-concurrency", "1", "--max-act-share", "1")
        process = start(*delete(server, LIVE, *held, "--audit-file", str(audit_file), "--output", "table"))
        wait_for(server, "delete", 1, process)
        audit_file.unlink()
        ended: Ended = finish(process)
        assert [call for call in calls(server) if call.startswith("delete")] == [f"delete {paths(1)[0]}"]
    assert ended.code == 6
    assert "2 not_attempted" in ended.out
    assert "1 deletion_accepted" in ended.out
    assert "Every decision is on record" not in ended.out
    told = f"Not every decision is on record: {audit_file}: it was removed during the run"
    assert told.replace(" ", "") in "".join(ended.out.split())


def test_an_audit_file_that_is_lost_at_the_very_end_is_exit_code_6(tmp_path: Path) -> None:
    audit_file = tmp_path / "audit.jsonl"
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="delete", delay=0.5)]) as server:
        process = start(*delete(server, LIVE, "--audit-file", str(audit_file)))
        wait_for(server, "delete", 1, process)
        audit_file.rename(tmp_path / "elsewhere")
        ended = finish(process)
    assert (ended.code, ended.finished["outcomes"]) == (6, {"deletion_accepted": 1})
    assert "audit.jsonl: it was removed during the run" in ended.err
