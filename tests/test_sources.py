"""The same questions of files and of Cloud Logging: the same answers, and no more read than is needed."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.records.reader import AuditRecords
from core.review.sources import open_places
from core.sandbox.faults import Fault
from core.sandbox.google_cloud import Google, GoogleFault, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.log_query import parse
from core.sandbox.server import SandboxServer, serving
from core.settings.reading import load_google_settings
from jobs.__main__ import main
from tests.conftest import Ended, a_machine, calls, delete, variables_alone

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
LOG = "projects/p/logs/leo-lifecycle-audit"
FIRST = "terra-1/all-of-us-1"
IN_CLOUD = ("--from", "cloud-logging")
IN_FILES = ("--from", "audit")
CONFIRMING = ("--auth", "none", "--output", "json", *IN_CLOUD)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """A Google that is known to every command, and the log that it keeps."""
    with serving_google(Google()) as google:
        monkeypatch.setenv("LIFECYCLE_GOOGLE_EMULATOR", google.address)
        monkeypatch.setenv("LIFECYCLE_AUDIT_CLOUD_LOG", LOG)
        yield google


def keeping_twice(server: SandboxServer, name: str, *arguments: str) -> tuple[str, ...]:
    """Of a deletion run whose records go to a file too."""
    return delete(server, "--max-act-share", "1", "--audit-file", f"audit/{name}.jsonl", *arguments)


def kept_twice(run: Run, server: SandboxServer, name: str, *arguments: str) -> Ended:
    return run(*keeping_twice(server, name, *arguments))


def review(run: Run, *words: str) -> Any:
    ended = run("review-audit-log", *words, "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A dry run, a live run with a failure, and a dry run behind it, kept in files and in Cloud Logging."""
    folder = tmp_path_factory.mktemp("recorded")
    fleet = [*(a_machine(n) for n in range(1, 6)), *(a_machine(n, days=1) for n in range(6, 30))]
    with (
        chdir(folder),
        serving_google(Google()) as google,
        serving(Leonardo(fleet)) as server,
        variables_alone(LIFECYCLE_GOOGLE_EMULATOR=google.address, LIFECYCLE_AUDIT_CLOUD_LOG=LOG),
    ):
        assert main(keeping_twice(server, "dry")) == 0
        server.faults.add(Fault(call="delete", name="all-of-us-3", status=403))
        assert main(keeping_twice(server, "live", "--no-dry-run")) == 1
        assert main(keeping_twice(server, "behind")) == 0
    return folder, google.entries


@pytest.fixture
def runs(recorded: tuple[Path, list[Any]], google: Google) -> list[str]:
    """Their ids, once they are kept where this test looks."""
    folder, entries = recorded
    shutil.copytree(folder / "audit", "audit")
    google.entries += deepcopy(entries)
    lines = [Path(f"audit/{name}.jsonl").read_text().partition("\n")[0] for name in ("dry", "live", "behind")]
    return [json.loads(line)["run_id"] for line in lines]


@pytest.mark.parametrize(
    "question",
    [
        ["runs"],
        ["run", "latest"],
        ["run", "{1}"],
        ["why", FIRST],
        ["why", "terra-3/all-of-us-3"],
        ["why", "terra-*/all-of-us-[13]"],
        ["why", "researcher@example.org"],
        ["why", "1"],
        ["diff", "{0}", "{2}"],
        ["diff", "{0}", "latest"],
        ["verify"],
        ["verify", "{1}"],
        ["upcoming", "--within", "20d"],
    ],
    ids=" ".join,
)
def test_cloud_logging_answers_as_files_do(run: Run, runs: list[str], question: list[str]) -> None:
    words = [word.format(*runs) for word in question]
    from_cloud, from_files = review(run, *words, *IN_CLOUD), review(run, *words, *IN_FILES)
    if words[0] == "verify":  # of a run's own records; beside them there are the first records of all others
        from_cloud.pop("records"), from_files.pop("records")
        from_cloud["runs"] = [verdict for verdict in from_cloud["runs"] if verdict["run_id"] in (words[1:] or runs)]
    if words[0] == "upcoming":
        from_cloud.pop("until"), from_files.pop("until")
    assert from_cloud == from_files


@pytest.mark.parametrize(
    ("question", "read"),
    [
        (["why", FIRST], 6 + 4),
        (["run", "{0}"], 6 + 31),
        (["runs"], 6 + 2 * 3 + 1 + 4),
        (["diff", "{0}", "{2}"], 6 + 2 * 31 + 4),
    ],
    ids=["why", "run", "runs", "diff"],
)
def test_the_server_filters(run: Run, google: Google, runs: list[str], question: list[str], read: int) -> None:
    before = google.calls["ListLogEntries"]  # each run has asked for the runs before it
    google.queries.clear()
    review(run, *(word.format(*runs) for word in question), *IN_CLOUD)
    assert google.calls["ListLogEntries"] == before + 2
    matching = [sum(parse(query)(shown) for _, shown in google.entries) for query in google.queries]
    assert sum(matching) == read


def test_the_report_is_made_of_cloud_logging_too(run: Run, runs: list[str], tmp_path: Path) -> None:
    ended = run("review-audit-log", "report", "--html", "report.html", *IN_CLOUD)
    assert (ended.code, ended.out) == (0, "the report is in report.html\n")
    page = (tmp_path / "report.html").read_text()
    assert all(run_id in page for run_id in runs)


def test_what_is_older_than_since_is_not_read(run: Run, google: Google, runs: list[str]) -> None:
    for entry, shown in google.entries:
        if shown["labels"]["run_id"] == runs[0]:
            entry.timestamp.FromDatetime(entry.timestamp.ToDatetime() - timedelta(days=8))
            shown["timestamp"] = entry.timestamp.ToJsonString()
    assert [line["run_id"] for line in review(run, "runs", *IN_CLOUD)["runs"]] == runs[1:]
    assert [line["run_id"] for line in review(run, "runs", *IN_CLOUD, "--since", "9d")["runs"]] == runs


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (
            ["runs", "--from", "audit", *IN_CLOUD],
            "from: cloud-logging goes with no other place",
        ),
        (["runs", *IN_CLOUD, "--env", "prod"], "from: there is no audit record of environment prod"),
        (["runs", *IN_CLOUD, "--job", "sandbox"], "--job says of which job the run is that is called latest"),
        (
            ["runs", "--env", "prod"],
            "--env: no environment is described in deploy/environments: run this in a checkout, or name one's folder by"
            " --environments",
        ),
        (
            ["runs", *IN_CLOUD, "--since", "2"],
            "--since: '2' is no date or instant, and no duration such as 7d",
        ),
        (["runs", *IN_CLOUD], "from: there is no audit record"),
        (["run", "latest", *IN_CLOUD], "from: there is no audit record"),
        (
            ["runs", *IN_CLOUD, "--audit-cloud-log", "audit"],
            "--audit-cloud-log: 'audit' is not projects/P/logs/NAME (a slash inside NAME is written %2F)",
        ),
        (
            ["runs", *IN_CLOUD, "--google-emulator", "example.org:80"],
            "--google-emulator: 'example.org:80' is not HOST:PORT on loopback",
        ),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(run: Run, arguments: list[str], fault: str) -> None:
    ended = run("review-audit-log", *arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"leo-lifecycle: {fault}\n")


def test_a_log_without_a_name_is_asked_for(run: Run) -> None:
    ended = run("review-audit-log", "runs", *IN_CLOUD)
    assert ended.err == "leo-lifecycle: audit-cloud-log: which log is to be read? projects/P/logs/NAME\n"


def test_a_misspelt_variable_is_told_to_who_asks_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_AUDIT_CLOUDLOG", LOG)
    ended = run("review-audit-log", "runs", *IN_CLOUD)
    assert (ended.code, ended.err) == (
        2,
        "leo-lifecycle: LIFECYCLE_AUDIT_CLOUDLOG: unknown setting; did you mean LIFECYCLE_AUDIT_CLOUD_LOG?\n",
    )


def test_a_log_that_may_not_be_read_is_told_in_one_line(run: Run, google: Google) -> None:
    google.faults.append(GoogleFault(method="ListLogEntries", code=grpc.StatusCode.PERMISSION_DENIED))
    ended = run("review-audit-log", "runs", *IN_CLOUD)
    assert (ended.code, ended.err) == (
        2,
        f"leo-lifecycle: from: {LOG} cannot be read: PERMISSION_DENIED: a fault of the sandbox\n",
    )


def test_what_opens_and_closes_the_runs_of_an_environment_is_one_query(google: Google, runs: list[str]) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    settings = load_google_settings({})
    log = AuditRecords(open_places(["cloud-logging"], since, settings), environment="local")
    assert sorted((record.run_id, record.event) for record in log.runs(since)) == sorted(
        (run_id, event) for run_id in runs for event in ("run_started", "run_finished")
    )
    elsewhere = AuditRecords(open_places(["cloud-logging"], since, settings), environment="prod")
    assert elsewhere.runs(since) == []
    assert [query.partition(" AND timestamp")[2].partition(" AND ")[2] for query in google.queries] == [
        f'((jsonPayload.event=("run_started" OR "run_finished") AND labels.environment=("{environment}")))'
        for environment in ("local", "prod")
    ]


# Environments, jobs and runs that are not over


@pytest.fixture
def environments(run: Run, google: Google) -> dict[str, str]:  # noqa: ARG001 - its log is written too
    """The last runs of two environments whose runtimes have the same names and ids, in one folder and in one log."""
    run_ids = {}
    for environment, days in (("prod", 13), ("test", 12)):
        with serving(Leonardo([a_machine(1, days=days), a_machine(2, days=20)])) as server:
            ended = kept_twice(run, server, environment, "--environment", environment)
            run_ids[environment] = ended.records[0]["run_id"]
    return run_ids


@pytest.mark.parametrize("place", [IN_FILES, IN_CLOUD], ids=["files", "cloud"])
@pytest.mark.parametrize(
    "question",
    [["upcoming", "--within", "9d"], ["run", "latest"], ["why", FIRST], ["report", "--html", "r.html"]],
    ids=lambda words: words[0],
)
def test_what_is_about_one_environment_asks_which_and_leaves_the_others_out(
    run: Run, environments: dict[str, str], question: list[str], place: tuple[str, ...]
) -> None:
    ended = run("review-audit-log", *question, *place)
    assert (ended.code, ended.out, ended.err) == (
        2,
        "",
        "leo-lifecycle: there are records of several environments (prod, test): name one by --env\n",
    )
    for environment, other in (("prod", "test"), ("test", "prod")):
        ended = run("review-audit-log", *question, *place, "--env", environment)
        shown = Path("r.html").read_text() if question[0] == "report" else ended.out
        assert (ended.code, ended.err) == (0, "")
        assert environments[environment] in shown
        assert environments[other] not in shown


def test_runs_of_several_environments_are_listed_and_verified_together(run: Run, environments: dict[str, str]) -> None:
    for question in ("runs", "verify"):
        told = review(run, question, *IN_FILES)["runs"]
        assert {line["environment"]: line["run_id"] for line in told} == environments
        (line,) = review(run, question, *IN_FILES, "--env", "test")["runs"]
        assert line["run_id"] == environments["test"]


def test_runs_of_two_environments_are_not_compared(run: Run, environments: dict[str, str]) -> None:
    ended = run("review-audit-log", "diff", *environments.values(), *IN_FILES)
    assert ended.code == 2
    assert "several environments (prod, test)" in ended.err


@pytest.mark.usefixtures("environments")
def test_an_environment_without_a_record_is_told_beside_those_that_have_some(run: Run) -> None:
    ended = run("review-audit-log", "runs", *IN_FILES, "--env", "prd")
    told = "leo-lifecycle: from: there is no audit record of environment prd, only of prod and test\n"
    assert (ended.code, ended.err) == (2, told)
    ended = run("review-audit-log", "runs", *IN_CLOUD, "--env", "prd")
    assert (ended.code, ended.err) == (2, "leo-lifecycle: from: there is no audit record of environment prd\n")


def test_the_latest_run_is_of_the_job_that_is_named(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        deletion = kept_twice(run, server, "a").records[0]["run_id"]
        check = run(
            "check-autopause",
            *("--leonardo-url", server.url, "--auth", "none", "--output", "json", "--audit-file", "audit/b.jsonl"),
        )
    for job, run_id in (("delete-old-runtimes", deletion), ("check-autopause", check.records[0]["run_id"])):
        assert review(run, "run", "latest", "--job", job, *IN_FILES)["run"]["run_id"] == run_id
    assert review(run, "upcoming", *IN_FILES)["run"]["run_id"] == deletion
    ended = run("review-audit-log", "run", "latest", "--job", "another", *IN_FILES)
    assert (ended.code, ended.err) == (2, "leo-lifecycle: there is no such run in the records\n")


@pytest.mark.parametrize(("ago", "told"), [(0, "is still going"), (1, "was cut off: it has no closing record")])
def test_a_run_that_has_not_finished_is_told_and_is_not_the_latest(
    run: Run, tmp_path: Path, ago: int, told: str
) -> None:
    with serving(Leonardo([a_machine(1, days=13)])) as server:
        whole, killed = (kept_twice(run, server, name).records for name in "ab")
    for name, records, hours in (("a", whole, ago + 1), ("b", killed[:-1], ago)):
        time = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        text = "".join(json.dumps(record | {"time": time}) + "\n" for record in records)
        (tmp_path / "audit" / f"{name}.jsonl").write_text(text)
    finished, going = whole[0]["run_id"], killed[0]["run_id"]
    sentence = f"run {going} (delete-old-runtimes, local) {told}"
    said = "" if ago else f"{sentence}\n"
    for question in (["upcoming"], ["run", "latest"], ["diff", going, "latest"], ["why", FIRST], ["runs"]):
        ended = run("review-audit-log", *question, *IN_FILES)
        assert (ended.code, ended.err) == (0, said)
        answer = json.loads(ended.out)
        if question[0] in ("upcoming", "run"):
            assert (answer["run"]["run_id"], answer["remarks"]) == (finished, [f"newer, but not taken: {sentence}"])
    assert run("review-audit-log", "report", "--html", "r.html", *IN_FILES).err == said


# What other jobs read there


def test_a_live_run_is_held_to_a_plan_by_its_run_id(run: Run, google: Google) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, days=13.999, idle_hours=1)])) as server:
        plan = run(*delete(server, "--max-act-share", "1")).records[0]["run_id"]
        run(*delete(server, "--max-act-share", "1"))  # another one behind it
        server.leonardo.machine("terra-2", "all-of-us-2").created -= timedelta(days=1)
        live = run(*delete(server, "--no-dry-run", "--max-act-share", "1", "--plan", plan))
    assert live.code == 0
    assert {path: live.outcome(path)[2] for path in live.audited} == {
        FIRST: "deletion_accepted",
        "terra-2/all-of-us-2": "not_in_plan",
    }
    assert live.records[0]["plan"]["run_id"] == plan
    assert [f'labels.run_id=("{plan}")' in query for query in google.queries] == [False, False, False, True, False]


def test_a_plan_that_lacks_a_record_in_cloud_logging_is_refused(run: Run, google: Google) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        plan = run(*delete(server)).records[0]["run_id"]
        google.entries = [pair for pair in google.entries if pair[1]["jsonPayload"]["event"] != "runtime_audited"]
        live = run(*delete(server, "--no-dry-run", "--plan", plan))
        assert live.code == 3
        assert "delete" not in {request.call for request in server.requests}
    assert "its records are not whole" in live.events("run_refused")[0]["detail"]


def test_a_run_id_that_no_record_has_is_a_usage_error(run: Run, google: Google) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server, "--no-dry-run", "--plan", "nobody"))
        assert (ended.code, calls(server)) == (2, [])
        assert ended.err == ("leo-lifecycle: plan: nobody: no such run is on record\n")
        google.faults.append(GoogleFault(method="ListLogEntries", code=grpc.StatusCode.PERMISSION_DENIED))
        ended = run(*delete(server, "--no-dry-run", "--plan", "nobody"))
    assert ended.err == f"leo-lifecycle: plan: {LOG} cannot be read: PERMISSION_DENIED: a fault of the sandbox\n"


def test_deletions_are_confirmed_out_of_cloud_logging(run: Run, google: Google) -> None:
    fleet = [*(a_machine(n) for n in range(1, 4)), *(a_machine(n, days=1) for n in range(4, 40))]
    with serving(Leonardo(fleet, deletion_takes=timedelta(0))) as server:
        run(*delete(server, "--no-dry-run"))
        google.queries.clear()
        ended = run("confirm-deletions", "--leonardo-url", server.url, *CONFIRMING)
        assert (ended.code, ended.finished["outcomes"]) == (0, {"confirmed": 3})
        again = run("confirm-deletions", "--leonardo-url", server.url, *CONFIRMING)
        assert again.finished["outcomes"] == {}
    (since,) = set(re.findall(r'timestamp>="([^"]+)"', google.queries[1]))
    assert abs(datetime.now(UTC) - timedelta(days=30) - datetime.fromisoformat(since)) < timedelta(minutes=5)
    assert "deletion_requested" in google.queries[1]


def test_each_task_confirms_its_share(run: Run, monkeypatch: pytest.MonkeyPatch, google: Google) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 9)], deletion_takes=timedelta(0))) as server:
        run(*delete(server, "--no-dry-run"))
        names: list[str] = []
        monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "3")
        for index in range(3):
            monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", str(index))
            ended = run(
                "confirm-deletions", "--leonardo-url", server.url, "--auth", "none", "--output", "json", *IN_CLOUD
            )
            assert ended.code == 0
            names += [record["name"] for record in ended.events("deletion_confirmed")]
            google.entries = [e for e in google.entries if e[1]["jsonPayload"]["event"] != "deletion_confirmed"]
    assert sorted(names) == [f"all-of-us-{n}" for n in range(1, 9)]
