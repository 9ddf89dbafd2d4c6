"""Standard streams that are closed, full, never read or of another encoding: the run's exit code stands."""

import json
import os
import pty
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import LEO, a_machine, calls, delete, finish, read_records, start, wait_until

LIVE = "--no-dry-run"
NOT_IN_LATIN_1 = "Zażółć☃"


def with_streams(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program as a shell starts it with one of its streams elsewhere."""
    words = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", LEO, *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("output", ["json", "table", "auto"])
@pytest.mark.parametrize("redirection", [">&-", "<&- >&-"])
def test_a_standard_output_that_is_closed_is_exit_code_6_and_nothing_is_called(redirection: str, output: str) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        ended = with_streams(redirection, *delete(server, LIVE, "--output", output))
        assert calls(server) == []
    assert (ended.returncode, ended.stderr) == (
        6,
        "leo-lifecycle: standard output is closed: nothing could be kept or shown\n",
    )


@pytest.mark.parametrize("redirection", [">&- 2>&-", "<&- >&- 2>&-"])
def test_without_any_stream_there_is_the_exit_code(redirection: str) -> None:
    ended = with_streams(redirection, "delete-old-runtimes", "--sandbox")
    assert (ended.returncode, ended.stdout, ended.stderr) == (6, "", "")


@pytest.mark.parametrize("redirection", ["2>&-", "<&-", "<&- 2>&-"])
def test_what_else_is_closed_changes_no_record_and_gets_into_no_file(redirection: str, tmp_path: Path) -> None:
    """The descriptor that is free must not become the audit file's or a socket's."""
    audit_file = tmp_path / "audit.jsonl"
    with serving(Leonardo([a_machine(1)])) as server:
        ended = with_streams(
            redirection, *delete(server, LIVE, "--log-level", "DEBUG", "--audit-file", str(audit_file))
        )
        assert calls(server) == ["list", "get terra-1/all-of-us-1", "delete terra-1/all-of-us-1"]
    assert ended.returncode == 0
    assert read_records(ended.stdout.splitlines()) == read_records(audit_file.read_text().splitlines())


def test_a_usage_error_without_a_standard_error_is_not_told_on_standard_output() -> None:
    ended = with_streams("2>&-", "delete-old-runtimes", "--nonsense")
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.parametrize("words", [("--version",), (), ("delete-old-runtimes", "--help"), ("--show-config",)])
def test_an_answer_whose_reader_has_gone_is_no_bug_however_python_buffers(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    reader, writer = os.pipe()
    os.close(reader)
    job = ("delete-old-runtimes", "--sandbox") if words == ("--show-config",) else ()
    ended = finish(start(*job, *words, stdout=writer))
    os.close(writer)
    assert (ended.code, ended.err) == (0, "")


def test_a_table_that_finds_the_disk_full_changes_no_exit_code(tmp_path: Path) -> None:
    audit_file = tmp_path / "audit.jsonl"
    with serving(Leonardo([a_machine(1)])) as server:
        to_the_table = ("--output", "table", "--audit-file", str(audit_file))
        ended = with_streams("> /dev/full", *delete(server, LIVE, *to_the_table))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(audit_file.read_text().splitlines()[-1])["outcomes"] == {"deletion_accepted": 1}


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_terminal_shows_what_its_encoding_has_and_the_exit_code_stands(encoding: str) -> None:
    ours, theirs = pty.openpty()
    fleet = [a_machine(n, creator=NOT_IN_LATIN_1) for n in (1, 2)]
    with serving(Leonardo(fleet)) as server:
        process = subprocess.Popen(
            [LEO, *delete(server, LIVE, "--yes", "--max-act-share", "1", "--output", "auto")],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"PYTHONIOENCODING": encoding, "TERM": "xterm", "COLUMNS": "200"},
        )
        os.close(theirs)
        seen = b"".join(until_closed(ours)).decode(encoding)
        assert process.wait(60) == 0
        assert [r.call for r in server.requests].count("delete") == 2
    assert "Traceback" not in seen
    assert "2 listed: 2 deletion_accepted." in seen
    assert (NOT_IN_LATIN_1 in seen) == (encoding == "utf-8")


def until_closed(descriptor: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(descriptor, 4096):
            yield chunk
    except OSError:
        pass  # the other side has closed the terminal
    os.close(descriptor)


def fill(pipe: int) -> None:
    """Until not another byte has room."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while os.write(pipe, b"x"):
            pass
    os.set_blocking(pipe, True)


def test_a_standard_error_that_nobody_reads_holds_up_no_run() -> None:
    reader, writer = os.pipe()
    fill(writer)
    with serving(Leonardo([a_machine(n) for n in range(1, 31)])) as server:
        arguments = delete(server, LIVE, "--max-act-share", "1", "--log-level", "DEBUG")
        process = start(*arguments, stderr=writer)
        ended = finish(process)
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 30})
    os.close(writer)
    os.close(reader)


def test_a_terminal_that_hangs_holds_up_no_act() -> None:
    """As after Ctrl-S, with the progress and the table to come."""
    ours, theirs = pty.openpty()
    with serving(Leonardo([a_machine(n) for n in range(1, 31)])) as server:
        termios.tcflow(theirs, termios.TCOOFF)
        arguments = delete(server, LIVE, "--yes", "--max-act-share", "1", "--output", "table", "--log-level", "DEBUG")
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
        wait_until(lambda: [r.call for r in list(server.requests)].count("delete") == 30, process)
        termios.tcflow(theirs, termios.TCOON)
        os.close(theirs)
        seen = b"".join(until_closed(ours)).decode()
        assert process.wait(60) == 0
    assert "30 listed: 30 deletion_accepted." in seen


def test_what_nobody_reads_at_the_very_end_changes_no_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(writer, "w") as closed:
        ended = subprocess.run(
            [LEO, "--version"], stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False, env=buffered
        )
    assert (ended.returncode, ended.stderr) == (0, b"")
