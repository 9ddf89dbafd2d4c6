"""What a person at a terminal sees."""

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from tests.conftest import LEO, Ended, a_machine, delete, read_records, start

Run = Callable[..., Ended]
HOSTILE = "[bold]x[/bold]\x1b]0;owned\x07\x1b[31m\u202e\n|"


def table(run: Run, server: SandboxServer, *arguments: str) -> tuple[int, str]:
    ended = run(*delete(server, *arguments, "--output", "table"))
    return ended.code, ended.out


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_the_table_shows_what_is_due_most_overdue_first_and_where_the_records_are(run: Run, tmp_path: Path) -> None:
    fleet = [a_machine(1, days=16, idle_hours=1), a_machine(2, days=30, config_type="GceConfig"), a_machine(3, days=1)]
    with serving(Leonardo(fleet)) as server:
        code, out = table(run, server)
    lines = [" ".join(line.split()) for line in out.splitlines() if line.strip()]
    (audit,) = (tmp_path / "audit").iterdir()
    assert code == 0
    assert lines[0] == "The rule: delete what is older than 14 d, or older than 7 d and not accessed for 4 h."
    assert lines[1] == "Due, most overdue first"
    assert lines[2] == "project name creator status disk age idle reason outcome"
    assert lines[4].startswith("terra-2 all-of-us-2 researcher@example.org Running disk lost 30 d ")
    assert lines[4].endswith("max_age would_delete")
    assert lines[5].startswith("terra-1 all-of-us-1 researcher@example.org Running disk kept 16 d ")
    assert lines[6].startswith("3 listed: 1 kept, 2 would_delete. Exit code 0 after ")
    assert lines[7:] == [f"Every decision is on record in audit/{audit.name}"]
    assert len(read_records(audit.read_text().splitlines())) == 5


def test_at_eighty_columns_every_field_is_still_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with serving(Leonardo([a_machine(1)])) as server:
        _, out = table(run, server)
    assert max(len(line) for line in out.splitlines()) <= 80
    for word in ("terra-1", "all-of-us-1", "researcher@example.org", "Running", "kept", "20 d", "4 d 4 h", "max_age"):
        assert word in out


def test_names_from_outside_are_neither_markup_nor_commands_to_the_terminal(run: Run) -> None:
    fleet = [a_machine(1, name=HOSTILE, creator=HOSTILE), a_machine(2, name=HOSTILE + "2")]
    faults = [Fault(call="get", project="terra-2", status=403, body='"\\u001b[2J no"')]
    with serving(Leonardo(fleet), faults=faults) as server:
        _, out = table(run, server)
    assert not set(out) & set("\x1b\x07\u202e")
    assert "[bold]x[/bold]�]0;owned��[31m��|" in out.replace("\n", "")


def test_what_went_wrong_is_said_beside_the_table(run: Run) -> None:
    fleet = [a_machine(n) for n in range(1, 13)]
    lapsed = '[{"match": {"name": "x"}, "until": "2026-01-01", "reason": "over"}]'
    rows = [(None, b"[]")]
    leonardo = Leonardo(fleet, raw_rows=rows, foreign_projects={"terra-99"})
    with serving(leonardo) as server:
        code, out = table(run, server, "--exemptions", lapsed)
        assert code == 1
        assert "lapsed exemption: over (until 2026-01-01 00:00Z)" in out
        assert "kept ?/?: the list item is malformed (the item is no object)" in out
        assert "A live run would be refused: max_act_share." in out
        assert "Failed: ?/?" in out
        code, out = table(run, server, "--no-dry-run")
        assert code == 3
        assert "refused by max_act_share: 12 of 13 runtimes are more than max-act-share 0.25" in out
        code, out = table(run, server, "--project", "terra-1", "--project", "terra-99")
        assert code == 1
        assert "could not list terra-99: HTTP 403: " in out
        code, out = table(run, server, "--only", "terra-1/nobody")
        assert (code, "terra-1/nobody is not listed" in out) == (1, True)


def test_a_long_table_is_cut_so_that_the_verdict_stays_in_sight(run: Run) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 121)])) as server:
        _, out = table(run, server)
    assert "and 20 more" in out
    assert len(out.splitlines()) < 115


def on_a_terminal(server: SandboxServer, **environment: str) -> str:
    """The job with a terminal as standard output and error; what the terminal got."""
    ours, theirs = pty.openpty()
    arguments = [LEO, *delete(server)]
    arguments[arguments.index("json")] = "auto"
    with subprocess.Popen(arguments, stdout=theirs, stderr=theirs, env={**os.environ, **environment}) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:
            pass  # the other side has closed the terminal
        assert process.wait() == 0
    os.close(ours)
    return seen.decode()


def test_on_a_terminal_there_is_a_table_with_progress_and_colour_unless_told_not_to() -> None:
    with serving(Leonardo([a_machine(1, config_type="GceConfig")])) as server:
        colourful = on_a_terminal(server, TERM="xterm-256color")
        plain = on_a_terminal(server, TERM="xterm-256color", NO_COLOR="1")
    for seen in (colourful, plain):
        assert "Due, most overdue first" in seen
        assert "listing" in seen
    assert "\x1b[31mdisk lost" in colourful
    assert "\x1b[31m" not in plain


def test_a_reader_that_has_seen_enough_of_the_table_does_no_harm() -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 90)])) as server:
        arguments = [word if word != "json" else "table" for word in delete(server)]
        process = start(*arguments)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
