"""The program as it is typed: commands, help, usage errors, signals, and what it prints where."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from freezegun import freeze_time

import core
from core.rules.autopause import AutopausePolicy
from core.rules.confirmation import ConfirmationPolicy
from core.rules.deletion import DeletionPolicy
from core.rules.notices import NoticePolicy
from core.run.opening import new_run_id
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from core.settings.fields import Settings
from core.settings.flags import GROUPS, group_by_subject
from jobs import check_autopause, confirm_deletions, delete_old_runtimes, notify_owners
from jobs.__main__ import JOBS, main
from jobs.review_audit_log import ARGUMENTS
from tests.conftest import DRY, LEO, Ended, a_machine, calls, delete, finish, read_records, start, wait_until

Run = Callable[..., Ended]


def test_alone_it_says_what_each_job_does(run: Run) -> None:
    for words in ((), ("--help",), ("help",)):
        ended = run(*words)
        assert (ended.code, ended.err) == (0, "")
        assert re.findall(r"(?m)^  ([a-z-]+) {2,}(.*)$", ended.out) == list(JOBS.items())


def test_it_tells_its_version(run: Run) -> None:
    assert run("--version").out == f"leo-lifecycle {version('leo-lifecycle')}\n"


def test_help_explains_each_setting_with_its_default_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["delete-old-runtimes", "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert "older than max-age (14 d): deleted" in out
    for flag, default in (
        ("--max-age DURATION", "14d"),
        ("--max-acts N", "500"),
        ("--deadline DURATION", "45m"),
        ("--project PROJECT", "none"),
        ("--dry-run, --no-dry-run", "yes"),
    ):
        assert re.search(rf"{re.escape(flag)}\s[^\[]*\[{default}\]", out), flag


@pytest.mark.parametrize("job", JOBS)
def test_the_help_of_a_job_has_three_examples_that_it_understands(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([job, "--help"])
    said = capsys.readouterr().out.partition("\nexamples:\n")[2]
    examples = [shlex.split(line, comments=True) for line in said.splitlines()]
    assert [words[:2] for words in examples] == 3 * [["leo-lifecycle", job]]
    for words in examples:
        typed = words[2 : words.index(">") if ">" in words else None]
        assert main([job, *typed, "--no-such-flag"]) == 2  # the one thing that it does not understand
        assert capsys.readouterr().err == "leo-lifecycle: --no-such-flag: unknown argument\n"


def test_the_help_shows_every_setting_in_one_of_five_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["delete-old-runtimes", "--help"])
    titles = re.findall(r"(?m)^([a-z]+):\n", capsys.readouterr().out)
    assert titles == ["options", *GROUPS, "examples"]
    assert list(GROUPS) == ["what", "policy", "guards", "connection", "output"]


def test_what_no_other_group_has_is_of_a_policy() -> None:
    limits = {
        name for kind in (DeletionPolicy, AutopausePolicy, ConfirmationPolicy, NoticePolicy) for name in kind.limits()
    }
    assert set(group_by_subject(Settings.model_fields)["policy"]) == limits | {"exemptions"}


IMPORTED = """\
import sys
for extra in ("rich", "click"):  # httpx and structlog import these where they are installed, and do without elsewhere
    sys.modules[extra] = None
from jobs.__main__ import main
code = main(sys.argv[1:])
print(*{name.partition(".")[0] for name, module in sys.modules.items() if module}, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("question", ["--help", "delete-old-runtimes", "check-autopause"])
def test_what_a_run_does_not_use_it_does_not_import(question: str) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        how = () if question == "--help" else ("--leonardo-url", server.url, "--auth", "none", "--output", "json")
        ended = subprocess.run(
            [sys.executable, "-c", IMPORTED, question, *how], capture_output=True, text=True, check=True
        )
    imported = set(ended.stderr.split())
    assert {"argparse", "jobs"} <= imported
    heavy = {"google", "grpc", "jinja2", "matplotlib", "requests", "rich", "shtab", "starlette", "uvicorn", "yaml"}
    assert imported & heavy == set()
    if question == "--help":
        assert imported & {"asyncio", "httpx", "msgspec", "pydantic", "structlog"} == set()


def test_every_setting_is_a_flag_of_some_job() -> None:
    flags = {
        flag for job in (check_autopause, confirm_deletions, delete_old_runtimes, notify_owners) for flag in job.FLAGS
    }
    assert flags == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        (
            ["delete-everything"],
            [f"there is no job 'delete-everything'; there are {', '.join(JOBS)}"],
        ),
        (["delete-old-runtime"], ["there is no job 'delete-old-runtime'; did you mean delete-old-runtimes?"]),
        (
            ["review-audit-log", "upcomming"],
            ["argument QUESTION: there is no question 'upcomming'; did you mean upcoming?"],
        ),
        (["delete-old-runtimes"], ["leonardo-url is missing (or use --sandbox)"]),
        (
            ["delete-old-runtimes", "--sandbox", "--max-agee", "3d", "--really"],
            ["--max-agee: unknown argument; did you mean --max-age?", "--really: unknown argument"],
        ),
        (["delete-old-runtimes", "--sandbox", "--max-age"], ["argument --max-age: expected one argument"]),
        (
            ["delete-old-runtimes", "--sandbox", "--max-age", "14", "--max-acts", "0"],
            [
                "--max-age: '14' is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D",
                "--max-acts: input should be greater than or equal to 1, not '0'",
            ],
        ),
        (
            ["delete-old-runtimes", "--sandbox", "--config", "nowhere"],
            ["config: 'nowhere' cannot be read: No such file or directory"],
        ),
        (
            ["delete-old-runtimes", "--sandbox", "--audit-file", "/proc/x"],
            ["audit-file: /proc/x cannot be written: No such file or directory"],
        ),
        (["sandbox", "--port", "x"], ["argument --port: invalid int value: 'x'"]),
    ],
)
def test_each_fault_is_one_line_and_nothing_is_called(run: Run, arguments: list[str], faults: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [f"leo-lifecycle: {fault}" for fault in faults]


def test_a_misspelt_variable_is_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAXAGE", "3d")
    ended = run("delete-old-runtimes", "--sandbox")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "leo-lifecycle: LIFECYCLE_MAXAGE: unknown setting; did you mean LIFECYCLE_MAX_AGE?\n"


def test_a_variable_that_is_no_setting_is_not_passed_over_by_a_command_without_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_PORT", "8081")
    ended = run("sandbox")
    assert (ended.code, ended.out, ended.err) == (2, "", "leo-lifecycle: LIFECYCLE_PORT: unknown setting\n")


def test_the_settings_of_a_job_are_shown_before_any_is_made(run: Run) -> None:
    ended = run("delete-old-runtimes", "--show-config")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"(?m)^# leonardo_url: +# default$", ended.out)


def test_a_review_that_is_asked_nothing_says_what_can_be_asked(run: Run) -> None:
    ended = run("review-audit-log")
    assert (ended.code, ended.err) == (0, "")
    assert set(ARGUMENTS) <= set(re.findall(r"(?m)^  ([a-z]+) ", ended.out))


def test_a_stranger_of_the_librarys_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").touch()
    ended = subprocess.run(
        [LEO, "--version"], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    ours = Path(core.__file__).parent
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        2,
        "",
        f"leo-lifecycle: {tmp_path / 'core'} hides {ours}: take it off Python's path (PYTHONPATH)\n",
    )


def test_no_credentials_is_a_usage_error_and_nothing_is_called(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "nowhere.json")
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run("delete-old-runtimes", "--leonardo-url", server.url)
        assert (ended.code, calls(server)) == (2, [])
    assert ended.err.startswith("leo-lifecycle: auth: no Google credentials: ")


def test_a_bug_is_told_as_one(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(JOBS, "conftest", "a job without a file")
    ended = run("conftest")
    assert ended.code == 70
    assert ended.err.splitlines()[-1] == "leo-lifecycle: this is a bug in the program, please report the lines above"


@pytest.mark.unmeasured
@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_the_dry_run_command_cannot_be_made_to_act(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "live.yaml").write_text("dry_run: false\n")
    if how == "variable":
        monkeypatch.setenv("LIFECYCLE_DRY_RUN", "false")
    extra = {"flag": ["--no-dry-run"], "variable": [], "file": ["--config", "live.yaml"]}[how]
    with serving(Leonardo([a_machine(1)])) as server:
        ended = finish(start(*delete(server, *extra), program=(DRY,)))
        assert calls(server) == []
        assert (ended.code, ended.out) == (2, "")
        told = {"flag": "--dry-run", "variable": "LIFECYCLE_DRY_RUN", "file": "dry_run in live.yaml"}[how]
        assert ended.err == f"leo-lifecycle: {told}: dry-run is pinned to another value by the command itself\n"
        assert main(delete(server, *extra)) == 0
        assert "delete terra-1/all-of-us-1" in calls(server)


def test_the_dry_run_command_and_the_module_are_the_same_program() -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        for command in ([DRY], [LEO], [sys.executable, "-m", "jobs"]):
            ended = subprocess.run([*command, *delete(server)], capture_output=True, text=True, check=False)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert read_records(ended.stdout.splitlines())[-1]["outcomes"] == {"would_delete": 1}


def test_flags_stand_above_variables_above_the_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("max-age: 30d\nmax_age_if_idle: 20d\nidle_after: 9h\nbanana: 1\n")
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--config", "config.yaml"))
        assert ended.err == "leo-lifecycle: banana in config.yaml: unknown setting\n"
        (tmp_path / "config.yaml").write_text("max-age: 30d\nmax_age_if_idle: 20d\nidle_after: 9h\n")
        monkeypatch.setenv("LIFECYCLE_MAX_AGE_IF_IDLE", "6d")
        monkeypatch.setenv("LIFECYCLE_IDLE_AFTER", "5h")
        ended = run(*delete(server, "--config", "config.yaml", "--idle-after", "PT2H"))
    policy = ended.records[0]["policy"]
    assert (policy["max_age_s"], policy["max_age_if_idle_s"], policy["idle_after_s"]) == (30 * 86400, 6 * 86400, 7200)


@pytest.mark.unmeasured
def test_a_run_is_named_by_its_cloud_run_execution_or_so_that_runs_sort_by_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with freeze_time("2026-11-20T03:00:00Z"):
        first = new_run_id()
    with freeze_time("2026-11-20T03:00:01Z"):
        second = new_run_id()
    assert re.fullmatch(r"20261120T030000-[0-9a-f]{8}", first)
    assert first < second
    monkeypatch.setenv("CLOUD_RUN_EXECUTION", "delete-old-runtimes-x7k2p")
    with serving(Leonardo([a_machine(1)])) as server:
        assert {r["run_id"] for r in run(*delete(server)).records} == {"delete-old-runtimes-x7k2p"}


# records and the places where they go


def test_every_record_is_appended_to_the_audit_file_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "audit.jsonl").write_text('{"torn": ')
    with serving(Leonardo([a_machine(1)])) as server:
        first = run(*delete(server, "--audit-file", "a/audit.jsonl"))
        second = run(*delete(server, "--audit-file", "a/audit.jsonl"))
    lines = (tmp_path / "a" / "audit.jsonl").read_text().splitlines()
    assert lines == ['{"torn": ', *first.out.splitlines(), *second.out.splitlines()]


def test_a_full_disk_stops_the_run_before_anything_is_called(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--no-dry-run", "--audit-file", "/dev/full"))
        assert calls(server) == []
    assert (ended.code, [r["event"] for r in ended.records]) == (6, ["run_started", "run_finished"])
    assert "No space left on device" in ended.err


def test_a_reader_that_goes_away_stops_the_acts() -> None:
    fleet = [a_machine(n) for n in range(1, 9)]
    with serving(Leonardo(fleet), faults=[Fault(call="list", delay=0.5)]) as server:
        process = start(*delete(server, "--no-dry-run"))
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 6
        assert "delete" not in {r.call for r in server.requests}
    assert process.stderr is not None
    assert "stdout: Broken pipe" in process.stderr.read()
    process.stderr.close()


def test_diagnostics_are_json_on_stderr_and_never_on_stdout(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--log-level", "DEBUG"))
    assert len(ended.records) == 3
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert all('"message": "exchange"' in line and '"severity": "DEBUG"' in line for line in lines)


def test_a_standard_error_that_nobody_reads_does_not_stop_the_run() -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        process = start(*delete(server, "--no-dry-run", "--log-level", "DEBUG"))
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        ended = finish(process)
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1})


# signals


def wait_for_deletes(server: SandboxServer, count: int, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: [r.call for r in list(server.requests)].count("delete") >= count, process)


def test_killed_between_intent_and_answer_the_intent_is_on_record(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="delete", hang=True)]) as server:
        process = start(*delete(server, "--no-dry-run", "--audit-file", str(audit)))
        wait_for_deletes(server, 1, process)
        process.kill()
        ended = finish(process)
    for lines in (audit.read_text().splitlines(), ended.out.splitlines()):
        assert [r["event"] for r in read_records(lines)] == ["run_started", "deletion_requested"]


# the sandbox


def test_the_sandbox_serves_until_it_is_told_to_stop() -> None:
    process = start("sandbox", "--port", "0", "--runtimes", "30", "--seed", "1")
    assert process.stdout is not None
    line = process.stdout.readline()
    url = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert url is not None
    ended = finish(start("delete-old-runtimes", "--leonardo-url", url[0], "--auth", "none", "--output", "json"))
    process.send_signal(signal.SIGTERM)
    assert (ended.code, finish(process).code) == (0, 0)
    assert ended.finished["listed"] == 30


def test_a_port_that_is_taken_is_a_usage_error(run: Run) -> None:
    with serving(Leonardo([])) as server:
        port = server.url.rpartition(":")[2]
        ended = run("sandbox", "--port", port)
    assert (ended.code, ended.err) == (2, f"leo-lifecycle: port: {port}: Address already in use\n")


@pytest.mark.unmeasured
def test_a_job_can_bring_its_own_sandbox(run: Run) -> None:
    ended = run("delete-old-runtimes", "--sandbox", "--output", "json")
    assert (ended.code, ended.finished["listed"]) == (0, 400)
