"""The command lines and files that the plan gives to Cloud Run, on the real program, and what would turn them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from core.settings.deployment import read_cron, read_environment
from core.settings.durations import parse_duration
from tests.conftest import Ended, a_machine, variables_alone
from tests.terraform import DEPLOYED, ROOT, Tree, copied, initialised, needs_terraform

pytestmark = [needs_terraform, pytest.mark.unmeasured]

PYTHON = "/opt/leo-lifecycle/bin/python"
MOUNTED_AT = "/settings"
WORKSHOP = """\
- match: {project: "terra-workshop-*", label: "purpose=teaching*"}
  until: 2026-12-01
  reason: genomics workshop
"""


@dataclass
class Planned:
    """The jobs of an environment, and the folder that stands in for the bucket which they see."""

    tasks: dict[str, dict[str, Any]]
    folder: Path
    alerts: set[str]

    program: Callable[..., Ended] | None
    """That of this process, where not each execution is to be a process of its own."""

    def run(self, job: str, *overriding: str, usual: bool = True, **variables: str) -> Ended:
        """As an execution would, with overridden arguments behind or instead of its own, and variables."""
        (container,) = self.tasks[job]["containers"]
        words = [*container["command"], *(container["args"] or () if usual else ()), *overriding]
        here = [word.replace(PYTHON, sys.executable).replace(MOUNTED_AT, str(self.folder)) for word in words]
        if self.program is not None and "/proc/self/environ" not in words:
            assert words[:4] == [PYTHON, "-I", "-m", "jobs"]
            with variables_alone(**variables):
                return self.program(*here[4:])
        ended = subprocess.run(here, env=variables, capture_output=True, text=True, check=False, timeout=60)
        return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def program(run: Callable[..., Ended], request: pytest.FixtureRequest) -> Callable[..., Ended] | None:
    return None if request.config.getoption("--as-processes") else run


def planned(tree: Tree, name: str, folder: Path, program: Callable[..., Ended] | None = None) -> Planned:
    resources = tree.planned(name)["planned_values"]["root_module"]["resources"]
    tasks: dict[str, dict[str, Any]] = {}
    for resource in resources:
        if resource["type"] == "google_cloud_run_v2_job":
            (tasks[resource["index"]],) = resource["values"]["template"][0]["template"]
        if resource["type"] == "google_storage_bucket_object":
            content = resource["values"]["content"].replace(MOUNTED_AT, str(folder))
            (folder / resource["values"]["name"]).write_text(content)
    alerts = {of["values"]["display_name"] for of in resources if of["type"] == "google_monitoring_alert_policy"}
    return Planned(tasks, folder, alerts, program)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialised(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="module")
def sweeping(new: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SandboxServer, Planned]]:
    """The jobs of test, were its Leonardo on this machine, and that Leonardo."""
    root = tmp_path_factory.mktemp("sweeping")
    (folder := root / "settings").mkdir()
    with serving(Leonardo([a_machine(1)])) as server, copied(new, root / "tree") as tree:
        path = "deploy/environments/test.yaml"
        tree.edit(path, "https://leonardo.dsde-dev.broadinstitute.org", f"{server.url}\n  auth: none")
        yield server, planned(tree, "test", folder)


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_jobs_of_an_environment_are_told_what_its_files_say(
    new: Path, tmp_path: Path, program: Callable[..., Ended] | None, name: str
) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    with copied(new, tmp_path / "tree") as tree:
        path = tree.root / f"deploy/environments/{name}.yaml"
        path.with_suffix(".projects.txt").write_text("terra-1\nterra-2\n")
        path.with_suffix(".exemptions.yaml").write_text(WORKSHOP)
        made, environment = planned(tree, name, folder, program), read_environment(path)
    jobs = [job for entry in read_cron(ROOT / "cron.yaml").cron if (job := entry.at(name)) is not None]
    assert made.tasks.keys() == {one for job in jobs for one in (job.job, job.rehearsal)}
    assert ("Owners are not told" in made.alerts) == ("notify-owners" in made.tasks)
    assert (folder / "exemptions.yaml").read_text() == WORKSHOP
    assert (folder / "projects.txt").read_text() == "terra-1\nterra-2\n"
    for job in jobs:
        for deployed, dry_run in ((job.job, "--no-dry-run" not in job.args), (job.rehearsal, True)):
            task = made.tasks[deployed]
            deadline = parse_duration(environment.settings["deadline"])
            assert parse_duration(task["timeout"]) == deadline + timedelta(minutes=2)
            (container,) = task["containers"]
            assert (container["command"][:4], container["env"]) == ([PYTHON, "-I", "-m", "jobs"], [])
            assert job.job in container["command"], "no argument can make another job of it"
            shown = made.run(deployed, "--show-config")
            assert shown.code == 0, shown.err
            told = yaml.safe_load(shown.out)
            assert told.get("dry_run", True) is dry_run, "what it does not have is a dry run"
            assert told["environment"] == name
            assert told["audit_cloud_log"] == environment.audit_log
            assert (told["google_project"], told["google_region"]) == (environment.project, environment.region)
            assert told["leonardo_url"] == environment.settings["leonardo_url"]


def test_a_hundred_thousand_projects_travel_in_no_variable_and_no_argument(new: Path, tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    with copied(new, tmp_path / "tree") as tree:
        listed = tree.root / "deploy/environments/prod.projects.txt"
        listed.write_text("# all\r\n" + "".join(f"terra-{number:06}\r\n" for number in range(100_000)))
        made = planned(tree, "prod", folder)
    refused = made.run("delete-old-runtimes-dry-run", "--deadline", "1s")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "deadline: 1s is not above" in refused.err
    shown = made.run("delete-old-runtimes-dry-run", "--show-config")
    assert f"projects_file: {folder}/projects.txt" in shown.out


STRANGER = "http://127.0.0.1:9"
TURNED = [
    ("another Leonardo", [f"--leonardo-url={STRANGER}"], {}),
    ("another Leonardo, by variable", [], {"LIFECYCLE_LEONARDO_URL": STRANGER}),
    ("another Leonardo, by file", ["--config", "{stranger}"], {}),
    ("its own variables as a file", ["--config", "/proc/self/environ"], {"LIFECYCLE_LEONARDO_URL": STRANGER}),
    ("another log", ["--audit-cloud-log", "projects/p/logs/mine"], {}),
    ("another log, by variable", [], {"LIFECYCLE_AUDIT_CLOUD_LOG": "projects/p/logs/mine"}),
    ("another receiver", [f"--notice-url={STRANGER}"], {}),
    ("another receiver, by variable", [], {"LIFECYCLE_NOTICE_URL": STRANGER}),
    ("an emulator", ["--google-emulator", "127.0.0.1:9"], {}),
    ("an emulator, by variable", [], {"LIFECYCLE_GOOGLE_EMULATOR": "127.0.0.1:9"}),
    ("another account", ["--impersonate-service-account", "a@b.iam.gserviceaccount.com"], {}),
    ("another account, by variable", [], {"LIFECYCLE_IMPERSONATE_SERVICE_ACCOUNT": "a@b.iam.gserviceaccount.com"}),
    ("other credentials", ["--auth", "google"], {}),
    ("another environment", ["--environment", "prod"], {}),
    ("a sandbox", ["--sandbox"], {}),
    ("a live run", ["--no-dry-run"], {}),
    ("a live run, by variable", [], {"LIFECYCLE_DRY_RUN": "false"}),
    ("another pin", ["--pin", f"leonardo-url={STRANGER}"], {}),
    ("another job", ["sandbox"], {}),
]


@pytest.mark.parametrize(
    ("job", "usual"),
    [
        ("delete-old-runtimes-dry-run", True),
        ("check-autopause-dry-run", True),
        ("confirm-deletions-dry-run", False),  # by arguments in place of its own
        ("check-disks-dry-run", True),
        ("notify-owners-dry-run", True),
    ],
)
def test_whoever_may_rehearse_can_turn_a_rehearsal_nowhere_else(
    sweeping: tuple[SandboxServer, Planned],
    tmp_path: Path,
    program: Callable[..., Ended] | None,
    job: str,
    usual: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    server, jobs = sweeping
    stranger = tmp_path / "stranger.yaml"
    stranger.write_text(f"leonardo_url: {STRANGER}\n")
    for what, words, variables in TURNED:
        given = [word.format(stranger=stranger) for word in words]
        turned = replace(jobs, program=program).run(job, *given, usual=usual, **variables)
        assert (turned.code, turned.out) == (2, ""), f"{what}: {turned.err}"
        assert "Traceback" not in turned.err
    assert server.requests == []


def test_variables_that_python_and_libraries_obey_run_nothing(
    sweeping: tuple[SandboxServer, Planned], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With the deadline as the one fault, everything before it has been imported and read."""
    ran = tmp_path / "ran"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\ntouch {ran}\n")
    browser.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(f"open({str(ran)!r}, 'w')\n")
    variables: dict[str, Any] = {
        "PYTHONWARNINGS": "all:0:antigravity.x:0:0",
        "BROWSER": str(browser),
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "sitecustomize.py"),
        "HTTPS_PROXY": STRANGER,
        "SSL_CERT_FILE": str(browser),
        "GCE_METADATA_HOST": "127.0.0.1:9",
        "GOOGLE_APPLICATION_CREDENTIALS": str(browser),
    }
    _, jobs = sweeping
    for job in jobs.tasks:
        if job.endswith("-dry-run") or request.config.getoption("--as-processes"):
            held = jobs.run(job, "--deadline", "1s", **variables)
            assert held.code == 2
            assert held.err.count("\n") == 1
            assert "deadline: 1s is not above" in held.err
    assert not ran.exists()
