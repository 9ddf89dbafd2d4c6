"""What a person at a terminal sees."""

import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from tests.conftest import LEO, Ended, a_machine, delete, finish, read_records, start
from tests.forked import Program

Run = Callable[..., Ended]
LAPSED = '[{"match": {"name": "x"}, "until": "2026-01-01", "reason": "over"}]'
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
    assert lines[2] == "runtime creator status disk age idle reason outcome"
    assert lines[4].startswith("terra-2/all-of-us-2 researcher@example.org Running disk lost 30 d ")
    assert lines[4].endswith("max_age would_delete")
    assert lines[5].startswith("terra-1/all-of-us-1 researcher@example.org Running disk kept 16 d ")
    assert lines[6] == "3 listed: 1 kept, 2 would_delete."
    assert re.sub(r"30 d [^(]+", "30 d … ", lines[7]) == (
        "The oldest is 30 d … (terra-2/all-of-us-2, Running): 2 runtimes are above the maximum age: 2 would_delete."
    )
    assert lines[8].startswith("Exit code 0 (done) after ")
    words = " ".join(delete(server, "--output", "table"))
    assert lines[9:] == [
        f"Every decision is on record in audit/{audit.name}",
        f"To apply it: leo-lifecycle {words} --no-dry-run --plan audit/{audit.name}",
    ]
    assert len(read_records(audit.read_text().splitlines())) == 5


def test_a_plan_ends_with_the_command_that_applies_it_and_nothing_else_does(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        _, out = table(run, server, "--audit-file", "my plan.jsonl", "--max-age=15d")
        (applied,) = re.findall(r"(?m)^To apply it: leo-lifecycle (.*)$", out)
        for words in (["--as-of", "2026-12-24"], ["--max-age", "90d", "--max-age-if-idle", "80d"], ["--sandbox"]):
            one = ["delete-old-runtimes", "--output", "table", *words]
            assert "To apply it" not in (run(*one).out if "--sandbox" in words else table(run, server, *words)[1])
        ended = run(*shlex.split(applied))
        assert ended.code == 0
        assert "1 listed: 1 deletion_accepted." in ended.out
        assert "To apply it" not in ended.out


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_at_every_width_names_are_whole_every_field_is_there_and_the_verdict_is_last(
    run: Run, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    whose = "a.researcher@research.example.org"
    fleet = [
        a_machine(n, project=f"terra-vpc-sc-{n:08x}", creator=whose, config_type="GceConfig")
        for n in range(10_000, 10_020)
    ]
    with serving(Leonardo(fleet)) as server:
        _, out = table(run, server)
    lines = out.rstrip().splitlines()
    assert max(map(cell_len, lines)) <= width
    for machine in fleet:
        assert re.search(rf"^{machine.project}/{machine.name}\b", out, re.MULTILINE)
    for field in (whose, "Running", "disk lost", "20 d ", "4 d 4 h", "max_age", "would_delete"):
        assert out.partition("20 listed")[0].count(field) == 20, field
    end = " ".join(" ".join(lines[-12:]).split())
    for said in (
        "are more than max-act-share 0.25",
        "20 listed: ",
        "Exit code 0",
        "on record in audit/",
    ):
        assert said in end


@pytest.mark.unmeasured
@pytest.mark.parametrize(("width", "lines_each"), [(80, 2), (120, 1), (200, 1)])
def test_a_runtime_takes_one_line_where_it_fits_and_little_more_elsewhere(
    run: Run, monkeypatch: pytest.MonkeyPatch, width: int, lines_each: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        _, out = table(run, server)
    numbers = [number for number, line in enumerate(out.splitlines()) if line.startswith("terra-")]
    assert numbers[1] - numbers[0] == lines_each


def test_a_name_that_is_too_long_is_broken_behind_its_project(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with serving(Leonardo([a_machine(1, project="terra-" + "p" * 24, name="n" * 32)])) as server:
        _, out = table(run, server)
    assert re.search(r"^terra-p{24}/ +Running .*\n  n{32} +disk kept ", out, re.MULTILINE)


def test_a_column_that_says_nothing_is_left_out(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        _, out = table(run, server, "--audit-creator", "omit")
    assert "would_delete" in out
    assert "creator" not in out.partition("To apply it")[0]


def test_names_from_outside_are_neither_markup_nor_commands_to_the_terminal(run: Run) -> None:
    fleet = [a_machine(1, name=HOSTILE, creator=HOSTILE), a_machine(2, name=HOSTILE + "2")]
    faults = [Fault(call="get", project="terra-2", status=403, body='"\\u001b[2J no"')]
    with serving(Leonardo(fleet), faults=faults) as server:
        _, out = table(run, server)
    assert not set(out) & set("\x1b\x07\u202e")
    assert "[bold]x[/bold]�]0;owned��[31m��|" in out.replace("\n", "")


def test_what_went_wrong_is_said_beside_the_table(run: Run) -> None:
    fleet = [a_machine(n) for n in range(1, 13)]
    rows = [(None, b"[]")]
    faults = [Fault(call="project_list", project="terra-99", status=403)]
    with serving(Leonardo(fleet, raw_rows=rows), faults=faults) as server:
        code, out = table(run, server, "--exemptions", LAPSED)
        assert code == 1
        assert "lapsed exemption: over (until 2026-01-01 00:00Z)" in out
        assert "kept ?/?: the list item is malformed (the item is no object)" in out
        assert "a live run would be refused by max_act_share: 12 of 13 runtimes are more than max-act-share 0.25" in out
        assert "Failed: ?/?" in out
        code, out = table(run, server, "--no-dry-run")
        assert code == 3
        assert "refused by max_act_share: 12 of 13 runtimes are more than max-act-share 0.25" in out
        code, out = table(run, server, "--project", "terra-1", "--project", "terra-99")
        assert code == 1
        assert "1 x could not list: denied, HTTP 403: Forbidden (terra-99)" in out
        code, out = table(run, server, "--only", "terra-1/nobody")
        assert (code, "terra-1/nobody is not listed" in out) == (1, True)


def test_signs_of_other_scripts_do_not_move_what_stands_beside_them(run: Run) -> None:
    names = ["plain", "日本語のランタイム", "שלום", "party🎉❤️", "e\u0301"]
    with serving(Leonardo([a_machine(n, project="terra-1", name=name) for n, name in enumerate(names, 1)])) as server:
        _, out = table(run, server)
    rows = [line for line in out.splitlines() if "terra-1/" in line and "Running  " in line]
    assert len(rows) == len(names)
    assert len({cell_len(row.partition("Running")[0]) for row in rows}) == 1
    assert "party🎉❤ " in out, "what follows it would change how wide some terminals believe it to be"
    (hebrew,) = (row for row in rows if "שלום" in row)
    assert "\u200eterra-1/שלום\u200e " in hebrew, "or a terminal may show the numbers behind it in front of it"


def test_into_a_pipe_a_row_is_a_line_and_all_are_there() -> None:
    whose = "a.researcher.with.a.long.name@research.example.org"
    fleet = [a_machine(n, project=f"terra-vpc-sc-{n:08x}", creator=whose) for n in range(1, 121)]
    with serving(Leonardo(fleet)) as server:
        ended = finish(start(*delete(server, "--output", "table"), env={"PATH": os.environ["PATH"]}))
    rows = [line for line in ended.out.splitlines() if line.startswith("terra-")]
    assert {row.split()[0] for row in rows} == {f"{machine.project}/{machine.name}" for machine in fleet}
    assert all(whose in row and row.endswith("would_delete") for row in rows)
    assert len(rows) == 120


@pytest.mark.unmeasured
def test_what_is_refused_and_where_the_records_are_stand_below_any_number_of_remarks(run: Run) -> None:
    rows = [(None, b"[]")] * 200
    with serving(Leonardo([a_machine(n) for n in range(1, 13)], raw_rows=rows)) as server:
        code, out = table(run, server, "--no-dry-run", "--max-acts", "11")
    assert code == 3
    assert out.count("the list item is malformed") == 200
    end = out[out.rindex("the list item is malformed") :]
    for said in ("refused by max_acts: 12 acts", "Failed: ?/?, ", "212 listed: ", "on record in audit/"):
        assert said in end
    assert len(end.splitlines()) < 10


def on_a_terminal(
    server: SandboxServer,
    *arguments: str,
    lines: int = 24,
    columns: int = 80,
    expected: int = 0,
    typed: bytes = b"",
    **environment: str,
) -> str:
    """The job with a terminal as standard output and error; what the terminal got."""
    words = [word if word != "json" else "auto" for word in delete(server, *arguments)]
    return in_a_terminal(*words, lines=lines, columns=columns, expected=expected, typed=typed, **environment)


def in_a_terminal(
    *words: str,
    program: str = LEO,
    lines: int = 24,
    columns: int = 80,
    expected: int = 0,
    typed: bytes = b"",
    **environment: str,
) -> str:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (lines, columns))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment = {"TERM": "xterm-256color", **environment}
    with Program([program, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=inherited | environment) as process:
        os.close(theirs)
        os.write(ours, typed)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:
            pass  # the other side has closed the terminal
        assert process.wait() == expected
    os.close(ours)
    return seen.decode()


def test_on_a_terminal_there_is_a_table_with_progress_and_colour_unless_told_not_to() -> None:
    with serving(Leonardo([a_machine(1, config_type="GceConfig")])) as server:
        colourful = on_a_terminal(server)
        plain = on_a_terminal(server, NO_COLOR="1")
        dumb = on_a_terminal(server, TERM="dumb")
    for seen in (colourful, plain):
        assert "Due, most overdue first" in seen
        assert "listing" in seen
    assert "\x1b[1;31mdisk lost" in colourful
    assert "\x1b[1mdisk lost" in plain
    assert "disk lost" in dumb
    assert "\x1b" not in dumb


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("typed", "words", "expected", "outcome"),
    [
        (b"y\n", (), 0, "deletion_accepted"),
        (b"\n", (), 5, "not_attempted"),
        (b"\x04", (), 5, "not_attempted"),
        (b"", ("--yes",), 0, "deletion_accepted"),
        (b"", ("--plan", "plan.jsonl"), 0, "deletion_accepted"),
    ],
)
def test_whoever_acts_from_a_terminal_without_a_plan_is_shown_what_and_asked(
    run: Run, typed: bytes, words: tuple[str, ...], expected: int, outcome: str
) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, config_type="GceConfig"), a_machine(3, days=1)])) as server:
        run(*delete(server, "--audit-file", "plan.jsonl"))
        seen = on_a_terminal(server, "--no-dry-run", *words, typed=typed, columns=200, expected=expected)
        acts = sum(request.call == "delete" for request in server.requests)
    question = (
        f"Delete 2 runtimes (disk lost: 1) of local at {server.url},"
        " by the rule: delete what is older than 14 d, or older than 7 d and not accessed for 4 h? [y/N] "
    )
    assert (question in seen) == (not words)
    assert acts == (2 if outcome == "deletion_accepted" else 0)
    assert f"3 listed: 1 kept, 2 {outcome}." in seen or f"3 listed: 2 {outcome}, 1 kept." in seen


def test_the_colours_can_be_read_on_light_and_on_dark() -> None:
    fleet = [a_machine(n, config_type="GceConfig") for n in range(1, 12)]
    with serving(Leonardo(fleet, raw_rows=[(None, b"[]")]), faults=[Fault(call="list", delay=0.3)]) as server:
        seen = on_a_terminal(server, "--exemptions", LAPSED, expected=1)
    bold, red, magenta = "1", "31", "35"
    assert set(";".join(re.findall(r"\x1b\[([\d;]+)m", seen)).split(";")) == {"0", bold, red, magenta}


def test_however_many_are_due_all_are_listed_and_the_verdict_is_on_the_last_screen() -> None:
    with serving(Leonardo([a_machine(n, days=20 + n / 1000) for n in range(1, 301)])) as server:
        seen = on_a_terminal(server, "--audit-file", "log.jsonl", lines=30)
    lines = seen[seen.index("The rule: ") :].splitlines()
    numbers = [int(number) for line in lines for number in re.findall(r"^terra-(\d+)/", line)]
    assert numbers == list(range(300, 0, -1)), "the most overdue first"
    end = "\n".join(lines[-10:])
    for said in ("would be refused", "300 listed: 300 would_delete.", "log.jsonl"):
        assert said in end
    seen = in_a_terminal("review-audit-log", "run", "latest", "--from", "log.jsonl", lines=30, columns=200)
    lines = seen[seen.index("Acts") :].splitlines()
    assert len([line for line in lines if line.startswith("terra-")]) == 300
    assert "300 listed; exit code 0 (done) after " in lines[-1]


def test_what_the_program_says_of_itself_does_not_run_into_the_progress() -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", delay=0.3)]) as server:
        seen = on_a_terminal(server, "--log-level", "DEBUG")
    before = [seen[: at.start()] for at in re.finditer("event=exchange", seen)]
    assert len(before) == 2
    assert all(re.search(r"(\n|\x1b\[2K)$", drawn) for drawn in before)


@pytest.mark.parametrize("environment", [{}, {"CI": "true", "GITHUB_ACTIONS": "true"}, {"TERM": "xterm-256color"}])
def test_in_a_log_there_is_neither_progress_nor_colour(environment: dict[str, str]) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        ended = finish(start(*delete(server, "--output", "table"), env={**os.environ, **environment}))
    assert (ended.code, ended.err) == (0, "")
    assert "would_delete" in ended.out
    assert "\x1b" not in ended.out


def test_a_colour_that_is_asked_for_makes_no_progress_in_a_log() -> None:
    with serving(Leonardo([a_machine(1, config_type="GceConfig")])) as server:
        ended = finish(start(*delete(server, "--output", "table"), env={**os.environ, "FORCE_COLOR": "1"}))
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b[1;31mdisk lost" in ended.out


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


# without the extra `console`

WITHOUT_RICH = """\
import sys
sys.modules["rich"] = None
from jobs.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
MISSING = (
    "leo-lifecycle: tables that fit the terminal, colours and progress come with an extra; in the checkout:"
    " pip install '.[console]'\n"
)


def without_rich(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_RICH, *words], capture_output=True, text=True, check=False)


def test_without_rich_a_run_is_a_plain_table_and_it_is_said_what_is_missing() -> None:
    fleet = [a_machine(1, days=16, idle_hours=1), a_machine(2, days=30, creator="\x1b[31mx"), a_machine(3, days=1)]
    with serving(Leonardo(fleet)) as server:
        ended = without_rich(*delete(server, "--output", "table"))
    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (0, MISSING)
    assert lines[:2] == [
        "The rule: delete what is older than 14 d, or older than 7 d and not accessed for 4 h.",
        "Due, most overdue first",
    ]
    assert [" | ".join(re.split(" {2,}", re.sub(r"\b\d+ (ms|s|min|h)\b", "…", line))) for line in lines[2:5]] == [
        "runtime | creator | status | disk | age | idle | reason | outcome",
        "terra-2/all-of-us-2 | �[31mx | Running | disk kept | 30 d … | 4 d … | max_age | would_delete",
        "terra-1/all-of-us-1 | researcher@example.org | Running | disk kept | 16 d … | … … | max_age | would_delete",
    ]
    assert lines[5:7] == ["", "3 listed: 1 kept, 2 would_delete."]
    assert re.sub(r"30 d [^(]+", "30 d … ", lines[7]) == (
        "The oldest is 30 d … (terra-2/all-of-us-2, Running): 2 runtimes are above the maximum age: 2 would_delete."
    )
    assert lines[8].startswith("Exit code 0 (done) after ")
    assert lines[9].startswith("Every decision is on record in audit/")


@pytest.mark.unmeasured
@pytest.mark.parametrize("question", [("runs",), ("run", "latest"), ("verify",), ("upcoming",)])
def test_without_rich_the_log_answers_in_plain_lines(run: Run, question: tuple[str, ...]) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, days=13, idle_hours=1)])) as server:
        assert run(*delete(server, "--audit-file", "audit.jsonl")).code == 0
    asked = ("review-audit-log", *question, "--from", "audit.jsonl", "--output", "table")
    before, plain, after = run(*asked), without_rich(*asked), run(*asked)
    assert (plain.returncode, plain.stderr) == (0, MISSING)
    drawn = [[word for word in ended.out.split() if set(word) - {"─"}] for ended in (before, after)]
    assert plain.stdout.split() in drawn, "a minute may have passed"


def test_failures_of_one_cause_are_told_once_with_an_example(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    fleet = [a_machine(n, days=20 + n) for n in range(1, 12)]
    faults = [
        Fault(call="delete", status=500, times=99, body='"no zone: node 7"'),
        Fault(call="get", project="terra-3", status=403, times=99),
        Fault(call="project_list", project="terra-99", status=502, times=99),
    ]
    projects = [word for n in (*range(1, 12), 99) for word in ("--project", f"terra-{n}")]
    caps = ("--no-dry-run", "--max-act-share", "1", "--audit-file", "log.jsonl")
    with serving(Leonardo(fleet), faults=faults) as server:
        code, out = table(run, server, *caps, *projects)
    assert code == 3
    causes = [
        "10 x failed to delete: unavailable, HTTP 500: no zone: node 7 (such as terra-11/all-of-us-11, trace …)",
        "1 x could not list: unavailable, HTTP 502: Bad Gateway (terra-99)",
        "1 x failed to delete: denied, HTTP 403: Forbidden (terra-3/all-of-us-3, trace …)",
    ]
    for told in (out, run("review-audit-log", "run", "latest", "--from", "log.jsonl", "--output", "table").out):
        shown = [line for line in re.sub("[0-9a-f]{32}", "…", told).splitlines() if re.match(r"\d+ x ", line)]
        assert sorted(shown) == sorted(causes)
        assert shown[0] == causes[0]


def test_owners_who_could_not_be_told_and_runtimes_that_could_not_be_checked_have_a_cause_too(run: Run) -> None:
    kept = ("--audit-file", "log.jsonl")
    faults = [Fault(call="notice", status=403, times=None), Fault(call="get", status=400, times=None)]
    with serving(Leonardo([a_machine(1)]), faults=faults) as server:
        run(*delete(server, *kept))
        for job, arguments, cause in (
            ("notify-owners", ("--no-dry-run", "--notice-url", f"{server.url}/notices"), "tell its owner: denied"),
            ("check-autopause", (), "to check: refused, HTTP 400"),
        ):
            shown = run(job, *delete(server, *kept, *arguments, "--output", "table")[1:]).out
            told = run(
                "review-audit-log", "run", "latest", "--job", job, "--from", "log.jsonl", "--output", "table"
            ).out
            assert all(re.search(rf"^1 x (failed|could not) {cause}: ", text, re.MULTILINE) for text in (shown, told))


def test_records_that_go_into_a_file_leave_the_progress_on_the_terminal(tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", delay=0.3)]) as server:
        words = " ".join([LEO, *delete(server), ">", str(tmp_path / "records.jsonl")])
        seen = in_a_terminal("-c", words, program="sh")
    assert "listing 0" in seen
    assert len(read_records((tmp_path / "records.jsonl").read_text().splitlines())) == 3
