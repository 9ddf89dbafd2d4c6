"""Runs as tasks of Cloud Run: who they are, what their share is, and when one steps back before another."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from google.cloud import run_v2
from hypothesis import example, given
from hypothesis import strategies as st

from core.google.api import GoogleError
from core.google.executions import CloudRunJob
from core.google.region import Place, place_of
from core.run.task import Task, this_task
from core.sandbox.google_cloud import Google, GoogleFault, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, calls, delete, finish, start

Run = Callable[..., Ended]
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
JOB = "projects/p/locations/us-central1/jobs/delete-old-runtimes"
DEADLINE = timedelta(minutes=45)


@pytest.fixture
def google() -> Iterator[Google]:
    with serving_google(Google()) as google:
        yield google


# Which task


def test_outside_cloud_run_a_process_is_the_only_task() -> None:
    assert this_task({}) == Task(job=None, execution=None, index=0, count=1)
    assert not Task().shared


def test_a_task_reads_what_cloud_run_says() -> None:
    variables = {
        "CLOUD_RUN_JOB": "delete-old-runtimes",
        "CLOUD_RUN_EXECUTION": "delete-old-runtimes-x7k2p",
        "CLOUD_RUN_TASK_INDEX": "2",
        "CLOUD_RUN_TASK_COUNT": "3",
        "CLOUD_RUN_TASK_ATTEMPT": "0",
    }
    assert this_task(variables) == Task(
        job="delete-old-runtimes", execution="delete-old-runtimes-x7k2p", index=2, count=3
    )


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"INDEX": "x"}, "CLOUD_RUN_TASK_INDEX: 'x' is no number"),
        ({"COUNT": "-1"}, "CLOUD_RUN_TASK_COUNT: '-1' is no number"),
        ({"INDEX": "3", "COUNT": "3"}, "CLOUD_RUN_TASK_INDEX: 3 is not below CLOUD_RUN_TASK_COUNT 3"),
        ({"COUNT": "0"}, "CLOUD_RUN_TASK_INDEX: 0 is not below CLOUD_RUN_TASK_COUNT 0"),
        (
            {"ATTEMPT": "1"},
            "CLOUD_RUN_TASK_ATTEMPT: 1: this job must not be retried, set its max retries to 0",
        ),
    ],
)
def test_odd_variables_and_a_second_attempt_are_usage_errors_and_nothing_is_called(
    run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], fault: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CLOUD_RUN_TASK_{name}", value)
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--no-dry-run"))
        assert (ended.code, ended.out, ended.err) == (2, "", f"leo-lifecycle: {fault}\n")
        assert calls(server) == []


# Its share


@given(projects=st.lists(st.text(min_size=1), unique=True), count=st.integers(1, 200))
@example(projects=["terra-\udfff", "terra-1"], count=2)
def test_every_project_belongs_to_exactly_one_task(projects: list[str], count: int) -> None:
    shares = [Task(index=index, count=count).share(projects) for index in range(count)]
    assert Counter(project for share in shares for project in share) == Counter(projects)


def test_a_project_keeps_its_task_in_every_process_and_version() -> None:
    projects = [f"terra-{number}" for number in range(8)]
    assert [Task(index=index, count=3).share(projects) for index in range(3)] == SHARES


SHARES = [
    ("terra-1", "terra-5"),
    ("terra-0", "terra-6"),
    ("terra-2", "terra-3", "terra-4", "terra-7"),
]
"""Noted once: whoever counts differently would sweep a project twice, or never, in the run after."""


@pytest.mark.unmeasured
def test_tasks_share_the_projects_and_the_cap_and_one_may_have_nothing_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = [a_machine(n) for n in range(1, 5)]
    monkeypatch.setenv("CLOUD_RUN_EXECUTION", "delete-old-runtimes-x")
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "40")
    swept: list[str] = []
    codes = set()
    with serving(Leonardo(fleet)) as server:
        for index in range(40):
            monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", str(index))
            arguments = ("--projects-file", "projects", "--max-acts", "100", "--expect-at-least", "9")
            _write_projects(4)
            ended = run(*delete(server, *arguments))
            codes.add(ended.code)
            swept += ended.audited
            assert {(r["run_id"], r["task_index"], r["task_count"]) for r in ended.records} == {
                ("delete-old-runtimes-x", index, 40)
            }
            assert ended.records[0]["limits"]["max_acts"] == 3
            assert ended.records[0]["scope"]["project_count"] == 4
            assert ended.records[1]["logging.googleapis.com/insertId"] == f"delete-old-runtimes-x-{index}-1"
        assert sorted(call for call in calls(server) if call.startswith("project_list")) == [
            f"project_list terra-{n}" for n in range(1, 5)
        ]
    assert sorted(swept) == [f"terra-{n}/all-of-us-{n}" for n in range(1, 5)]
    assert codes == {0}


def _write_projects(count: int) -> None:
    with open("projects", "w") as file:  # noqa: PTH123 - beside the run, which reads it by this name
        file.writelines(f"terra-{number}\n" for number in range(1, count + 1))


def test_single_runtimes_are_shared_by_their_projects(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "3")
    judged: list[str] = []
    with serving(Leonardo([a_machine(n) for n in range(1, 4)])) as server:
        for index in range(3):
            monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", str(index))
            only = [word for n in range(1, 4) for word in ("--only", f"terra-{n}/all-of-us-{n}")]
            judged += run(*delete(server, *only)).audited
    assert sorted(judged) == [f"terra-{n}/all-of-us-{n}" for n in range(1, 4)]


def test_several_tasks_without_a_list_of_projects_are_a_usage_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "4")
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server))
        assert (ended.code, calls(server)) == (2, [])
    assert ended.err == "leo-lifecycle: projects: a list is needed where 4 tasks share it (CLOUD_RUN_TASK_COUNT)\n"


# In which place


METADATA = {"project/project-id": "all-of-us-rw-prod", "instance/region": "projects/123/regions/us-central1"}


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = METADATA.get(self.path.removeprefix("/computeMetadata/v1/"))
        known = text is not None and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("metadata")
def test_what_no_setting_says_of_the_place_the_metadata_server_does() -> None:
    assert place_of(None, None) == Place("all-of-us-rw-prod", "us-central1")
    assert place_of("mine", "europe-west1") == Place("mine", "europe-west1")


def test_a_place_that_nobody_tells_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    with pytest.raises(OSError, match=r"^the metadata server does not tell instance/region: .+$"):
        place_of("mine", None)


@pytest.mark.parametrize("answer", ["", "<html>a page</html>", "two\nlines", "x" * 101])
@pytest.mark.usefixtures("metadata")
def test_an_answer_that_is_no_name_is_an_error_in_one_line(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METADATA, "instance/region", answer)
    with pytest.raises(OSError, match=r"^the metadata server does not tell instance/region: '.{,50}' is no name$"):
        place_of("mine", None)


@pytest.mark.parametrize("host", ["[::1]evil.com", "127.0.0.1:x", "127.0.0.1:99999"])
def test_a_metadata_server_at_no_address_is_an_error_in_one_line(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    with pytest.raises(OSError, match=r"^the metadata server does not tell instance/region: .+$"):
        place_of("mine", None)


# Before whom it steps back


def container(*arguments: str, **variables: str) -> run_v2.Container:
    return run_v2.Container(
        args=["delete-old-runtimes", *arguments],
        env=[run_v2.EnvVar(name=name, value=value) for name, value in variables.items()],
    )


LIVE = container("--no-dry-run")


def older(google: Google, own: str = "own") -> str | None:
    job = CloudRunJob("p", "us-central1", "delete-old-runtimes", emulator=google.address)
    return job.older_live_execution(own, NOW, DEADLINE)


def test_the_oldest_live_execution_that_goes_on_is_told(google: Google) -> None:
    google.add_execution(f"{JOB}/executions/own", LIVE, created=NOW)
    assert older(google) is None
    for name, created in (("younger", NOW + MINUTE), ("old", NOW - MINUTE), ("older", NOW - 2 * MINUTE)):
        google.add_execution(f"{JOB}/executions/{name}", LIVE, created=created)
    assert older(google) == "older"


def test_of_two_that_began_at_once_only_one_steps_back(google: Google) -> None:
    for name in ("a", "b"):
        google.add_execution(f"{JOB}/executions/{name}", LIVE, created=NOW)
    assert (older(google, "a"), older(google, "b")) == (None, "a")


def test_an_execution_that_is_not_listed_yet_is_the_youngest(google: Google) -> None:
    google.add_execution(f"{JOB}/executions/other", LIVE, created=NOW)
    assert older(google) == "other"


@pytest.mark.parametrize(
    ("told", "live"),
    [
        (container("--no-dry-run"), True),
        (container("--no-dry-run", "--dry-run"), False),
        (container("--dry-run", "--no-dry-run"), True),
        (container(), False),
        (container(LIFECYCLE_DRY_RUN="false"), True),
        (container(LIFECYCLE_DRY_RUN="OFF"), True),
        (container(LIFECYCLE_DRY_RUN=""), False),
        (container(LIFECYCLE_DRY_RUN="true"), False),
        (container(LIFECYCLE_DRY_RUN="banana"), False),
        (container("--dry-run", LIFECYCLE_DRY_RUN="false"), False),
    ],
)
def test_only_an_execution_that_may_act_counts(google: Google, told: run_v2.Container, *, live: bool) -> None:
    google.add_execution(f"{JOB}/executions/other", told, created=NOW - MINUTE)
    assert older(google) == ("other" if live else None)


def test_what_has_ended_belongs_to_another_job_or_cannot_be_alive_any_more_does_not_count(google: Google) -> None:
    ended = google.add_execution(f"{JOB}/executions/ended", LIVE, created=NOW - MINUTE)
    ended.message.completion_time = NOW  # type: ignore[assignment] # proto-plus takes a datetime
    google.add_execution(f"{JOB}-dry-run/executions/rehearsal", LIVE, created=NOW - MINUTE)
    google.add_execution(f"{JOB}/executions/lost", LIVE, created=NOW - DEADLINE - HOUR)
    assert older(google) is None
    google.add_execution(f"{JOB}/executions/late", LIVE, created=NOW - DEADLINE - HOUR + MINUTE)
    assert older(google) == "late"


def test_a_read_is_tried_again_and_a_refusal_is_told_in_one_line(google: Google) -> None:
    google.faults.append(GoogleFault(method="ListExecutions", times=2))
    assert older(google) is None
    assert google.calls["ListExecutions"] == 3
    google.faults.append(GoogleFault(method="ListExecutions", code=grpc.StatusCode.PERMISSION_DENIED))
    with pytest.raises(GoogleError, match=rf"^{JOB}: PERMISSION_DENIED: a fault of the sandbox$"):
        older(google)


def on_cloud_run(monkeypatch: pytest.MonkeyPatch, google: Google, execution: str) -> None:
    for name, value in {
        "CLOUD_RUN_JOB": "delete-old-runtimes",
        "CLOUD_RUN_EXECUTION": execution,
        "LIFECYCLE_GOOGLE_PROJECT": "p",
        "LIFECYCLE_GOOGLE_REGION": "us-central1",
        "LIFECYCLE_GOOGLE_EMULATOR": google.address,
    }.items():
        monkeypatch.setenv(name, value)


def test_a_live_run_steps_back_before_an_older_one_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, google: Google
) -> None:
    now = datetime.now(UTC)
    google.add_execution(f"{JOB}/executions/first", LIVE, created=now - MINUTE)
    google.add_execution(f"{JOB}/executions/second", LIVE, created=now)
    on_cloud_run(monkeypatch, google, "second")
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--no-dry-run", "--audit-file", "audit/a.jsonl"))
        assert (ended.code, calls(server)) == (0, [])
        assert [r["event"] for r in ended.records] == ["run_started", "run_skipped", "run_finished"]
        (skipped,) = ended.events("run_skipped")
        assert (skipped["older_execution"], skipped["severity"], skipped["run_id"]) == ("first", "NOTICE", "second")
        assert skipped["message"] == "skipped: first, an older run of this job, is still going"
        assert (ended.finished["listed"], ended.finished["exit_code"], ended.finished["refused_by"]) == (0, 0, [])
        assert run("review-audit-log", "verify", "--from", "audit", "--output", "json").code == 0
        monkeypatch.setenv("CLOUD_RUN_EXECUTION", "first")
        assert run(*delete(server, "--no-dry-run")).finished["outcomes"] == {"deletion_accepted": 1}


def test_a_dry_run_asks_nobody_and_steps_back_before_nobody(
    run: Run, monkeypatch: pytest.MonkeyPatch, google: Google
) -> None:
    google.add_execution(f"{JOB}/executions/first", LIVE, created=datetime.now(UTC) - MINUTE)
    on_cloud_run(monkeypatch, google, "second")
    with serving(Leonardo([a_machine(1)])) as server:
        assert run(*delete(server)).finished["outcomes"] == {"would_delete": 1}
    assert google.calls == {}


def test_where_nobody_tells_of_older_runs_a_live_run_says_so_and_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, google: Google
) -> None:
    on_cloud_run(monkeypatch, google, "second")
    google.faults.append(GoogleFault(method="ListExecutions", code=grpc.StatusCode.PERMISSION_DENIED))
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--no-dry-run"))
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1})
    assert "cannot tell whether an older run is still going: going on" in ended.err
    assert "PERMISSION_DENIED" in ended.err


def without_containers(google: Google) -> None:
    google.executions[f"{JOB}/executions/first"].message.template = run_v2.TaskTemplate()


def in_the_year_zero(google: Google) -> None:
    message = run_v2.Execution.pb(google.executions[f"{JOB}/executions/first"].message)
    message.create_time.seconds = -(10**11)


@pytest.mark.parametrize("odd", [without_containers, in_the_year_zero])
def test_an_answer_about_older_runs_that_makes_no_sense_is_told_and_the_run_goes_on(
    odd: Callable[[Google], None], run: Run, monkeypatch: pytest.MonkeyPatch, google: Google
) -> None:
    google.add_execution(f"{JOB}/executions/first", LIVE, created=datetime.now(UTC) - MINUTE)
    odd(google)
    on_cloud_run(monkeypatch, google, "second")
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--no-dry-run"))
    assert (ended.code, ended.finished["outcomes"]) == (0, {"deletion_accepted": 1})
    assert "cannot tell whether an older run" in ended.err


def test_an_execution_without_a_container_hides_no_other(google: Google) -> None:
    for name, created in (("first", NOW - 2 * MINUTE), ("second", NOW - MINUTE)):
        google.add_execution(f"{JOB}/executions/{name}", LIVE, created=created)
    without_containers(google)
    assert older(google) == "second"


def test_two_live_runs_at_once_delete_each_runtime_once() -> None:
    fleet = [a_machine(n) for n in range(1, 31)]
    with serving(Leonardo(fleet), latency=0.01) as server:
        both = [start(*delete(server, "--no-dry-run", "--max-act-share", "1")) for _ in range(2)]
        first, second = (finish(process) for process in both)
        deleted = Counter(r.name for r in server.requests if r.call == "delete" and r.status == 202)
        assert deleted == {f"all-of-us-{n}": 1 for n in range(1, 31)}
        assert all(m.status in (TrueStatus.DELETING, TrueStatus.DELETED) for m in server.leonardo.everything())
    assert {first.code, second.code} == {0}
    outcomes = Counter(first.finished["outcomes"]) + Counter(second.finished["outcomes"])
    assert outcomes["deletion_accepted"] == 30
    assert set(outcomes) <= {"deletion_accepted", "already_deleting", "spared", "kept", "gone", "conflict"}
