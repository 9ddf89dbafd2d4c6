"""A forked process is told what a started one is told, and says what it says."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, finish, script, start
from tests.forked import LEO, Program, origin

TOLD = """
import json, os, sys, threading
threading.Thread(target=sys.stdin.read).start()
streams = [(s.encoding, s.errors, s.line_buffering, s is o) for s, o in ((sys.stdin, sys.__stdin__),
    (sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__))]
print(json.dumps([sys.argv, dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid(), os.getppid(), streams,
    [os.readlink(f"/proc/self/fd/{n}") for n in (0, 2)], __name__]))
sys.exit(7)
"""


def started(*words: str) -> Ended:
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_it_is_told_the_same(tmp_path: Path) -> None:
    how: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {"LIFECYCLE_X": "é"}, "start_new_session": True}
    how |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    words = [*script(TOLD), "a", "--b"]
    told: list[subprocess.Popen[str]] = [Program(words, **how), subprocess.Popen(words, **how)]
    forked, by_itself = (finish(process) for process in told)
    assert json.loads(forked.out) == json.loads(by_itself.out)
    assert forked.code == by_itself.code == 7


@pytest.mark.parametrize("words", [("--version",), ("-x",), ("delete-old-runtimes", "--help"), ("sandbox", "-x")])
def test_it_says_the_same(words: tuple[str, ...]) -> None:
    assert finish(start(*words)) == started(LEO, *words)


def test_it_is_forked_where_it_can_be() -> None:
    modules = script("import sys; print('core.run.sweep' in sys.modules)")
    assert finish(start(program=modules)).out == "True\n"
    assert finish(start(program=modules, env=os.environ | {"PYTHONPATH": "/"})).out == "False\n"
    assert origin() is origin()


def test_a_bug_and_a_signal_are_told_as_ever() -> None:
    wrong = script("import sys; print(1); 1 / 0")
    assert (finish(start(program=wrong)).code, finish(start(program=wrong)).out) == (1, "1\n")
    assert "ZeroDivisionError" in finish(start(program=wrong)).err
    process = start(program=script("import threading; print(1, flush=True); threading.Event().wait()"))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    assert finish(process).code == -signal.SIGKILL
