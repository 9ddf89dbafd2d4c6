"""A look that grew too old is taken again: by the real program and the real clock; by a pushed one in `test_client`."""

import signal
import subprocess
from pathlib import Path

import pytest

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from tests.conftest import (
    LEO,
    a_machine,
    assert_acts_follow_looks,
    calls,
    delete,
    finish,
    paths,
    script,
    start,
    wait_until,
)

pytestmark = pytest.mark.chaos
TOO_LONG = 10.5
A_DISK_THAT_WAITS = """
import os, sys, time
really = os.fsync
def fsync(file):
    while os.path.exists("hang"):
        time.sleep(0.01)
    really(file)
os.fsync = fsync
from jobs.__main__ import main
sys.exit(main())
"""


def live(server: SandboxServer, program: tuple[str, ...] = (LEO,)) -> subprocess.Popen[str]:
    return start(*delete(server, "--no-dry-run", "--audit-file", "log.jsonl"), program=program)


def stop_for_too_long(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=TOO_LONG)


def assert_looked_twice(server: SandboxServer, process: subprocess.Popen[str]) -> None:
    ended = finish(process)
    of_one = [f"get {path}" for path in paths(1, 1)] + [f"delete {path}" for path in paths(1)]
    assert calls(server) == ["list", *of_one]
    assert_acts_follow_looks(server)
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1})


def test_a_look_that_drips_for_longer_than_it_is_fresh() -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="get", drip=TOO_LONG / 3)]) as server:
        assert_looked_twice(server, live(server))


def test_a_process_that_is_stopped_while_the_look_lies_in_its_socket() -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="get", delay=0.5)]) as server:
        process = live(server)
        wait_until(lambda: "get" in {request.call for request in list(server.requests)}, process)
        stop_for_too_long(process)
        process.send_signal(signal.SIGCONT)
        assert_looked_twice(server, process)


def test_a_process_that_is_stopped_between_its_intent_and_the_delete() -> None:
    log, hang = Path("log.jsonl"), Path("hang")
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="get", delay=0.5)]) as server:
        process = live(server, script(A_DISK_THAT_WAITS))
        wait_until(lambda: "get" in {request.call for request in list(server.requests)}, process)
        hang.touch()
        wait_until(lambda: "deletion_requested" in log.read_text(), process)
        stop_for_too_long(process)
        hang.unlink()
        process.send_signal(signal.SIGCONT)
        assert_looked_twice(server, process)
