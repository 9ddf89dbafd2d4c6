"""Jobs that are started on Cloud Run from elsewhere: what is started, by whose leave, and what is seen of it."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.clock import utc_now
from core.google.executions import CloudRunJob
from core.google.follow import EVERY, LAST_ENTRIES, Following
from core.google.log_entries import CloudLogEntries
from core.records.events import Common, Event
from core.sandbox.faults import Fault
from core.sandbox.google_cloud import PROJECT, Google, GoogleFault, environment_file, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from core.settings.fields import GoogleSettings, Settings
from core.settings.flags import GROUPS
from jobs.start import NOT_PASSED_ON, PASSED_ON
from jobs.start import _exit_code as end_of
from tests.conftest import LEO, Ended, QuickGoogle, a_machine, calls, finish, payloads, read_records, start
from tests.forked import Program

Run = Callable[..., Ended]
ROOT = Path(__file__).parents[1]
LOG = f"projects/{PROJECT}/logs/leo-lifecycle-audit"
FIRST, SECOND = "terra-1/all-of-us-1", "terra-2/all-of-us-2"
DELETION = "delete-old-runtimes"


@contextmanager
def deployed(
    fleet: Leonardo, monkeypatch: pytest.MonkeyPatch, **variables: str
) -> Iterator[tuple[SandboxServer, Google]]:
    """A Leonardo, and a Google on which the jobs are deployed that sweep it; a checkout says so."""
    with serving(fleet) as server:
        container = {"LIFECYCLE_LEONARDO_URL": server.url, "LIFECYCLE_AUTH": "none", "LIFECYCLE_ENVIRONMENT": "test"}
        with serving_google(QuickGoogle(container | {"LIFECYCLE_MAX_ACT_SHARE": "1"} | variables)) as google:
            monkeypatch.setenv("LIFECYCLE_GOOGLE_EMULATOR", google.address)
            shutil.copy(ROOT / "cron.yaml", ".")
            Path("deploy/environments").mkdir(parents=True)
            Path("deploy/environments/test.yaml").write_text(environment_file(server.url))
            yield server, google


def starting(*arguments: str, job: str = DELETION) -> tuple[str, ...]:
    return ("start", job, "--env", "test", *arguments)


def test_every_setting_is_handed_on_or_named_among_those_that_are_not() -> None:
    assert set(NOT_PASSED_ON) < set(Settings.model_fields)
    assert set(PASSED_ON) == set(Settings.model_fields) - set(NOT_PASSED_ON)
    of_this_machine = {name for name, info in Settings.model_fields.items() if "Path" in str(info.annotation)}
    of_the_deployment = {*GROUPS["connection"][1], *GROUPS["output"][1], *GoogleSettings.model_fields}
    told_anew = {"read_concurrency", "write_concurrency", "started_by", "approved_by"}
    assert of_this_machine | of_the_deployment - told_anew <= set(NOT_PASSED_ON)
    assert set(NOT_PASSED_ON) - of_this_machine - of_the_deployment == {"leonardo_url", "sandbox", "exemptions"}


def started(google: Google) -> list[tuple[str, list[str]]]:
    """The Cloud Run jobs that were started, and with which arguments."""
    return [
        (execution.message.job, list(execution.message.template.containers[0].args))
        for execution in google.executions.values()
    ]


def as_run(ended: Ended) -> list[dict[str, Any]]:
    return read_records(ended.out.splitlines())


# The whole path


def test_from_the_laptop_to_the_answer_why(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Leonardo([a_machine(1), a_machine(2), a_machine(3, days=1)])
    with deployed(fleet, monkeypatch) as (server, google):
        rehearsed = run(*starting("--project", "terra-1", "--project", "terra-3", "--started-by", "ada"))
        assert (rehearsed.code, calls(server)) == (
            0,
            ["project_list terra-1", "project_list terra-3", f"get {FIRST}"],
        )
        dry = as_run(rehearsed)
        plan = dry[0]["run_id"]
        assert (dry[0]["started_by"], dry[0]["approved_by"], dry[0]["environment"]) == ("ada", None, "test")
        assert dry[-1]["outcomes"] == {"would_delete": 1, "kept": 1}
        live = run(
            *starting("--no-dry-run", "--plan", plan, "--yes-i-mean", "test"),
            *("--started-by", "ada", "--approved-by", "grace"),
        )
        assert live.code == 0
        records = as_run(live)
        assert (records[0]["started_by"], records[0]["approved_by"]) == ("ada", "grace")
        assert records[0]["plan"]["run_id"] == plan
        assert records[-1]["outcomes"] == {"deletion_accepted": 1, "not_in_plan": 1, "kept": 1}
        assert [call for call in calls(server) if call.startswith("delete")] == [f"delete {FIRST}"]
        assert started(google) == [
            (
                "delete-old-runtimes-dry-run",
                [DELETION, "--project=terra-1", "--project=terra-3", "--started-by=ada"],
            ),
            (
                DELETION,
                [DELETION, "--no-dry-run", f"--plan={plan}", "--started-by=ada", "--approved-by=grace"],
            ),
        ]
        assert plan.startswith("delete-old-runtimes-dry-run-")
        monkeypatch.setenv("LIFECYCLE_AUDIT_CLOUD_LOG", "projects/another-one/logs/audit")  # of another day's work
        review = ("--env", "test", "--output", "json")
        ((told,),) = (
            i["entries"][-1:] for i in json.loads(run("review-audit-log", "why", FIRST, *review).out)["incarnations"]
        )
        assert told["outcome"] == "deletion_accepted"
        assert told["last_run_id"] == records[0]["run_id"]
        assert run("review-audit-log", "verify", *review).code == 0


def test_what_is_pinned_holds_for_the_execution_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([a_machine(1)]), monkeypatch) as (_, google):
        pins = ("dry-run=yes", "max-age=20d", "allow-empty=yes", "started-by=", "environment=test", "stop-overdue=yes")
        words = [word for pin in pins for word in ("--pin", pin)]
        ended = run(*words, *starting("--project=terra-1", "--max-age=480h"))
        assert ended.code == 0
        assert started(google) == [
            (
                "delete-old-runtimes-dry-run",
                [DELETION, "--max-age=480h", "--allow-empty", "--project=terra-1"],
            )
        ]


def test_records_are_shown_in_the_order_in_which_they_were_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([a_machine(n, days=1) for n in range(1, 13)]), monkeypatch):
        shown = run(*starting("--output", "json")).records
    assert [record["seq"] for record in shown] == list(range(14))


def test_a_reader_that_has_seen_enough_does_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([a_machine(1)]), monkeypatch):
        read, write = os.pipe()
        os.close(read)
        ended = finish(start(*starting(), stdout=write))
        os.close(write)
    assert ended.code == 0
    started, end = ended.err.splitlines()
    run_id = started.split()[2]
    assert end == (
        f"leo-lifecycle: {run_id} has ended with exit code 0 (done); to apply it:"
        f" leo-lifecycle start delete-old-runtimes --env test --no-dry-run --plan {run_id}"
    )


def test_a_person_sees_the_table_of_a_local_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    middle_of_a_minute = 20 + 28.5 / 24 / 60
    fleet = Leonardo([a_machine(1, days=middle_of_a_minute), a_machine(2, days=1)])
    with deployed(fleet, monkeypatch) as (server, _):
        remote = run(*starting("--output", "table"))
        connection = ("--leonardo-url", server.url, "--auth", "none", "--audit-file", "a.jsonl")
        local = run(DELETION, *connection, "--max-act-share", "1", "--output", "table")
    assert (remote.code, local.code) == (0, 0)
    assert remote.out.partition("Exit code")[0] == local.out.partition("Exit code")[0]
    assert "2 listed: 1 kept, 1 would_delete. The oldest is 20 d" in " ".join(remote.out.split())
    assert f"Every decision is on record in {LOG}" in " ".join(remote.out.split())
    assert remote.err.startswith("leo-lifecycle: started delete-old-runtimes-dry-run-")


@pytest.mark.unmeasured
def test_each_job_can_be_started_and_its_exit_code_is_the_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([a_machine(1), a_machine(2)], deletion_takes=None), monkeypatch) as (server, google):
        checking = ("--stop-overdue", "--only", FIRST)
        checked = run(*starting(*checking, job="check-autopause"))
        assert (checked.code, as_run(checked)[-1]["outcomes"]) == (0, {"would_stop": 1})
        held = ("--no-dry-run", "--yes-i-mean", "test", "--plan")
        stopped = run(*starting(*checking, *held, as_run(checked)[0]["run_id"], job="check-autopause"))
        assert (stopped.code, as_run(stopped)[-1]["outcomes"]) == (0, {"stop_accepted": 1})
        plan = as_run(run(*starting("--only", SECOND)))[0]["run_id"]
        assert run(*starting("--only", SECOND, *held, plan)).code == 0
        server.leonardo.machine("terra-2", "all-of-us-2").accessed -= timedelta(hours=9)
        confirmed = run(*starting(job="confirm-deletions"))
        assert (confirmed.code, as_run(confirmed)[-1]["outcomes"]) == (1, {"stuck": 1})
        assert [job for job, _ in started(google)] == [
            "check-autopause-dry-run",
            "check-autopause",
            "delete-old-runtimes-dry-run",
            DELETION,
            "confirm-deletions-dry-run",
        ]


def test_a_job_that_takes_no_plan_is_started_live_by_the_environments_name_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Leonardo([])) as mailer:
        variables = {"LIFECYCLE_NOTICE_URL": f"{mailer.url}/notices", "LIFECYCLE_NOTICE_PERIOD": "24h"}
        with deployed(Leonardo([a_machine(1)]), monkeypatch, **variables) as (_, google):
            assert run(*starting()).code == 0
            rehearsed = run(*starting(job="notify-owners"))
            live = ("start", "notify-owners", "--env", "test", "--no-dry-run")
            assert rehearsed.err.endswith(f"(done); to apply it: leo-lifecycle {' '.join(live)}\n")
            assert (run(*live).code, run(*live, "--yes-i-mean", "prod").code) == (2, 2)
            assert not mailer.requests
            ended = run(*live, "--yes-i-mean", "test", "--output", "json")
            assert ended.err.startswith("leo-lifecycle: Tell owners what will be deleted of theirs, and when.\n")
            assert (ended.code, as_run(ended)[-1]["outcomes"]) == (0, {"notice_requested": 1, "notice_sent": 1})
            assert calls(mailer) == ["notice"]
            assert run(*live, "--plan", "x").err == "leo-lifecycle: --plan: notify-owners has no such setting\n"
            for nothing_to_apply in ("confirm-deletions", "check-disks"):
                assert "to apply it" not in run(*starting(job=nothing_to_apply)).err
            assert [job for job, _ in started(google)][2:3] == ["notify-owners"]


def test_a_run_that_ends_without_a_record_is_told_by_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([]), monkeypatch, LIFECYCLE_MAX_AGE="banana") as (_, google):
        following = _following(google, "delete-old-runtimes-dry-run")
        state = following.to_the_end()
        assert (state.verdict, following.finished) == ("1 failed", [])
        job = CloudRunJob(PROJECT, "us-central1", "delete-old-runtimes-dry-run", emulator=google.address)
        assert job.exit_codes(state.name) == [2]


def _following(google: Google, name: str, seen: Callable[[Event, Common], None] = lambda *_: None) -> Following:
    """An execution that is followed by a clock of its own."""
    at = [0.0]

    def sleep(seconds: float) -> None:
        at[0] += seconds
        for execution in google.executions.values():
            for process in execution.processes:
                process.wait()

    job = CloudRunJob(PROJECT, "us-central1", name, emulator=google.address)
    log = CloudLogEntries(LOG, utc_now(), emulator=google.address)
    execution = job.start(job.arguments())
    return Following(job, execution, log, utc_now(), seen, sleep=sleep, monotonic=lambda: at[0])


# What is refused


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (
            ["--no-dry-run"],
            "plan: by hand a live run is started only with --plan RUN_ID, the run id of a dry run",
        ),
        (
            ["--no-dry-run", "--plan", "x"],
            "not started: type the environment's name, or give --yes-i-mean test",
        ),
        (
            ["--no-dry-run", "--plan", "x", "--yes-i-mean", "prod"],
            "not started: type the environment's name, or give --yes-i-mean test",
        ),
        (["--stop-overdue"], "--stop-overdue: delete-old-runtimes has no such setting"),
        (["--max-age", "14"], "--max-age: '14' is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D"),
        (["--max-age", "2d"], "max-age-if-idle 7d is above max-age 2d"),
        (["--no-dry-run", "--plan", "x", "--as-of", "2026-11-20"], "as-of: a live run judges by the clock only"),
        (["--leonardo-url", "https://example.org"], "--leonardo-url: unknown argument"),
    ],
)
def test_what_must_not_be_started_is_told_and_nobody_is_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fault: str
) -> None:
    with deployed(Leonardo([]), monkeypatch) as (_, google):
        ended = run(*starting(*arguments))
        assert (ended.code, ended.out) == (2, "")
        assert f"leo-lifecycle: {fault}\n" in ended.err
        assert google.calls == {}


def test_a_plan_is_read_before_anything_is_started(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    live = ("--no-dry-run", "--yes-i-mean", "test", "--plan")
    with deployed(Leonardo([a_machine(1), a_machine(2, config_type="GceConfig")]), monkeypatch) as (_, google):
        mistyped = run(*starting(*live, "nobody"))
        assert (mistyped.code, mistyped.err) == (2, "leo-lifecycle: plan: nobody: no such run is on record\n")
        plan = as_run(run(*starting("--started-by", "grace@example.org")))[0]["run_id"]
        shown = run(*starting(*live, plan)).err.splitlines()[0]
        assert re.sub("org .* ago", "org … ago", shown) == (
            f"leo-lifecycle: plan {plan} for test, made by grace@example.org … ago: delete what is older than 14 d,"
            " or older than 7 d and not accessed for 4 h; 2 runtimes (disk lost: 1)"
        )
        acted = as_run(run(*starting(*live, plan)))[0]["run_id"]
        used = run(*starting(*live, acted))
        assert used.err.splitlines()[0] == f"leo-lifecycle: plan {acted} cannot be used: it was a live run"
        assert (used.code, google.calls["RunJob"]) == (2, 3)


def test_an_environment_that_there_is_not_is_a_usage_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with deployed(Leonardo([]), monkeypatch):
        nowhere = run("start", DELETION, "--env", "moon")
        assert nowhere.err == ("leo-lifecycle: --env: there is no environment 'moon'; there are test\n")
        misspelt = run("start", DELETION, "--env", "tset")
        assert misspelt.err == "leo-lifecycle: --env: there is no environment 'tset'; did you mean test?\n"
        monkeypatch.chdir(tmp_path / "..")
        assert run("start", DELETION, "--env", "prod").err == (
            "leo-lifecycle: --env: no environment is described in deploy/environments:"
            " run this in a checkout, or name one's folder by --environments\n"
        )


def test_what_cannot_be_scheduled_is_not_started(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([]), monkeypatch):
        assert run(*starting(job="sandbox")).err == (
            "leo-lifecycle: sandbox does not run on Cloud Run:"
            " cron.yaml has delete-old-runtimes, check-autopause, confirm-deletions, check-disks, notify-owners\n"
        )


def test_what_is_skipped_in_an_environment_is_not_started_and_the_schedule_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployed(Leonardo([]), monkeypatch) as (_, google):
        Path("deploy/environments/test.yaml").rename("deploy/environments/local.yaml")
        ended = run("start", DELETION, "--env", "local")
        assert (ended.code, google.calls) == (2, {})
        assert ended.err == (
            "leo-lifecycle: delete-old-runtimes is not deployed in local: a developer starts it by hand;"
            " the scheduled runs of test sweep the same Leonardo\n"
        )
        Path("cron.yaml").unlink()
        ended = run("start", DELETION, "--env", "local")
        assert ended.err == "leo-lifecycle: 'cron.yaml' cannot be read: No such file or directory\n"


def test_what_google_refuses_is_told_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([]), monkeypatch) as (_, google):
        google.faults.append(GoogleFault(method="RunJob", code=grpc.StatusCode.PERMISSION_DENIED))
        ended = run(*starting())
        assert (ended.code, google.calls["RunJob"]) == (2, 1)
        path = f"projects/{PROJECT}/locations/us-central1/jobs/delete-old-runtimes-dry-run"
        assert ended.err == (
            f"leo-lifecycle: {path} was not started, or nobody knows: PERMISSION_DENIED: a fault of the sandbox\n"
        )
        google.faults.append(GoogleFault(method="RunJob"))
        assert run(*starting()).code == 2
        assert google.calls["RunJob"] == 2, "a second try could have started a second execution"


# A person at the terminal


class Terminal:
    """`leo-lifecycle` with a terminal as its standard input."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = os.openpty()
        self.process: subprocess.Popen[bytes] = Program(
            [LEO, *arguments], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        os.close(theirs)

    def read_until(self, words: bytes) -> None:
        """What it says on standard output, up to these words."""
        assert self.process.stdout is not None
        said = b""
        while words not in said:
            byte = self.process.stdout.read(1)
            assert byte, said
            said += byte

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ends(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=60)
        os.close(self._ours)
        return self.process.returncode, err.decode()


@pytest.mark.unmeasured
@pytest.mark.parametrize(("typed", "code"), [("test", 0), ("prod", 2), ("", 2)])
def test_a_live_run_begins_when_the_environments_name_is_typed(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    with deployed(Leonardo([a_machine(1)]), monkeypatch) as (server, google):
        plan = as_run(run(*starting()))[0]["run_id"]
        terminal = Terminal(*starting("--no-dry-run", "--plan", plan, "--output", "json"))
        terminal.read_until(b"A live run of delete-old-runtimes. Type the environment's name to go on: ")
        terminal.type(typed)
        assert terminal.ends()[0] == code
        assert ("delete" in {request.call for request in server.requests}) == (code == 0)
        if code == 0:
            opening = next(p for p in payloads(google) if not p["dry_run"])
            assert opening["started_by"] == opening["approved_by"] is not None


@pytest.mark.parametrize(("typed", "cancelled"), [("y", True), ("", False)])
def test_an_interruption_asks_whether_to_cancel(
    monkeypatch: pytest.MonkeyPatch, typed: str, *, cancelled: bool
) -> None:
    fleet = Leonardo([a_machine(1)])
    with deployed(fleet, monkeypatch) as (server, google):
        server.faults.add(Fault(call="list", status=503, headers={"Retry-After": "600"}))
        terminal = Terminal(*starting("--output", "json"))
        terminal.read_until(b'"run_started"')
        terminal.interrupt()
        terminal.read_until(b"What it has not begun it will not do. [y/N] ")
        terminal.type(typed)
        code, err = terminal.ends()
        (execution,) = google.executions.values()
        assert code == 5
        assert google.calls["CancelExecution"] == cancelled
        if cancelled:
            assert [process.wait() for process in execution.processes] == [5]
            assert payloads(google)[-1]["exit_code"] == 5
        else:
            assert f"{execution.message.name.rpartition('/')[2]} goes on: leo-lifecycle review-audit-log run" in err
            assert err.endswith("--env test\n")
            assert [process.poll() for process in execution.processes] == [None]


# Following


def test_entries_that_become_visible_late_are_shown_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([a_machine(1)]), monkeypatch) as (_, google):
        shown: list[int] = []
        hidden: list[Any] = []

        def seen(_: Event, common: Common) -> None:
            shown.append(common.seq)
            if common.seq == 0 and hidden:
                google.entries.append(hidden.pop())

        following = _following(google, "delete-old-runtimes-dry-run", seen)
        (execution,) = google.executions.values()
        for process in execution.processes:
            process.wait()
        hidden.append(google.entries.pop(1))
        following.to_the_end()
        assert sorted(shown) == [0, 1, 2]


def test_what_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with deployed(Leonardo([a_machine(1)]), monkeypatch) as (_, google):
        following = _following(google, "delete-old-runtimes-dry-run")
        (execution,) = google.executions.values()
        for process in execution.processes:
            process.wait()
        google.entries.pop()
        before = google.calls["ListLogEntries"]
        following.to_the_end()
        assert following.finished == []
        assert google.calls["ListLogEntries"] - before <= LAST_ENTRIES / EVERY + 6


def test_records_of_several_tasks_are_shown_as_one_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = [a_machine(n) for n in range(1, 9)]
    projects = ",".join(f"terra-{n}" for n in range(1, 9))
    with deployed(Leonardo(fleet), monkeypatch, LIFECYCLE_PROJECTS=projects) as (_, google):
        google.tasks = 3
        ended = run(*starting("--output", "table"))
        said = " ".join(ended.out.split())
        assert ended.code == 0
        assert "8 listed: 8 would_delete. The oldest is 20 d" in said
        assert "(calls: 8 list, 8 get)" in said
        assert {(p["task_index"], p["task_count"]) for p in payloads(google)} == {(0, 3), (1, 3), (2, 3)}


@pytest.mark.parametrize("lost", [[], [1], [1, 2]])
def test_what_is_shown_is_counted_against_the_closing_record(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], lost: list[int]
) -> None:
    with deployed(Leonardo([a_machine(n, days=1) for n in (1, 2, 3)]), monkeypatch) as (_, google):
        shown: list[int] = []
        following = _following(google, "delete-old-runtimes-dry-run", lambda _, common: shown.append(common.seq))
        (execution,) = google.executions.values()
        for process in execution.processes:
            process.wait()
        for number in reversed(lost):
            google.entries.pop(number)
        state = following.to_the_end()
        job = CloudRunJob(PROJECT, "us-central1", "delete-old-runtimes-dry-run", emulator=google.address)
        code = end_of(job, state.name, following, state, "test")
        said = capfd.readouterr().err
    assert sorted(shown) == [n for n in range(5) if n not in lost]
    assert (following.missing, code) == (len(lost), 1 if lost else 0)
    assert ("INCOMPLETE" in said, "review-audit-log run" in said) == (bool(lost), bool(lost))
