"""Pins: what the command holds settings to, whatever somebody says who can set its arguments, variables and files."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from core.sandbox.google_cloud import environment_file
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from core.settings.faults import UsageError
from core.settings.pins import Pin, drop_variables, take_pins
from jobs.__main__ import JOBS, main
from tests.conftest import DRY, Ended, a_machine, calls, read_records, variables_alone

Run = Callable[..., Ended]
ROOT = Path(__file__).parents[1]
PINNED = "is pinned to another value by the command itself"
SWEEP = ("delete-old-runtimes", "--output", "json")


@pytest.fixture(autouse=True)
def _variables_are_given_back() -> Iterator[None]:
    """Those that a command drops which runs inside this process."""
    before = dict(os.environ)
    yield
    os.environ.update(before)


# How they are written


def test_pins_stand_in_front_of_the_job_in_two_spellings_each() -> None:
    words = ["--pin", "dry-run=yes", "--pin=LEONARDO_URL=https://l/?a=b", "--pin", "plan=", "sandbox", "--pin", "x=y"]
    assert take_pins(words) == (
        [Pin("dry_run", "yes"), Pin("leonardo_url", "https://l/?a=b"), Pin("plan", "")],
        ["sandbox", "--pin", "x=y"],
    )


@pytest.mark.parametrize("words", [["--pin"], ["--pin", "dry-run"], ["--pin", "=yes"], ["--pin="], ["--pin", ""]])
def test_a_pin_has_a_name_and_perhaps_nothing_behind_it(words: list[str]) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        take_pins(words)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--pin", "dry-rum=yes"), "--pin dry-rum: unknown setting; did you mean dry_run?"),
        (("--pin", "max-age=14"), "--pin max-age: '14' is no duration: write 14d, 4h, 30m, 36s, or ISO 8601"),
        (("--pin", "dry-run=yes", "--pin", "dry-run=no"), f"--pin dry-run: dry-run {PINNED}"),
        (("--pin", "auth=none", "--pin", "auth="), f"--pin auth: auth {PINNED}"),
        (("--pin", "leonardo-url=ftp://l"), "--pin leonardo-url: it must be an http or https URL"),
    ],
)
def test_a_pin_that_cannot_be_is_a_usage_error(run: Run, words: tuple[str, ...], fault: str) -> None:
    ended = run(*words, *SWEEP)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"leo-lifecycle: {fault}")


def test_behind_the_jobs_name_there_is_no_pin(run: Run) -> None:
    assert run(*SWEEP, "--sandbox", "--pin", "dry-run=yes").err.startswith("leo-lifecycle: --pin: unknown argument\n")


# What they are held against


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
@pytest.mark.parametrize(
    ("pin", "same", "other"),
    [
        ("max-age=14d", "P14D", "15d"),
        ("dry-run=yes", "true", "no"),
        ("max-acts=500", "500", "499"),
        ("projects=terra-1,terra-2", "terra-1, terra-2", "terra-1"),
        ("plan=", None, "x"),
        ("auth=", "google", "none"),
        ("exemptions=[]", "[]", '[{"match": {"name": "a"}, "until": "2026-12-01", "reason": "x"}]'),
    ],
)
def test_whoever_says_otherwise_is_refused_and_values_count_as_parsed(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: str, pin: str, same: str | None, other: str
) -> None:
    name = pin.partition("=")[0].replace("-", "_")

    def told(value: str) -> Ended:
        flags: tuple[str, ...] = ()
        if source == "variable":
            monkeypatch.setenv(f"LIFECYCLE_{name.upper()}", value)
        elif source == "file":
            Path("config.yaml").write_text(json.dumps({name: value}))
            flags = ("--config", "config.yaml")
        elif name == "dry_run":
            flags = ("--dry-run" if value == "true" else "--no-dry-run",)
        else:
            flags = (f"--{'project' if name == 'projects' else pin.partition('=')[0]}={value}",)
        return run("--pin", pin, *SWEEP, "--sandbox", *flags, "--show-config")

    refused = told(other)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.endswith(f": {name.replace('_', '-')} {PINNED}\n")
    if same is not None:
        assert (told(same).code, told(same).err) == (0, "")


def test_a_contradiction_is_told_before_any_other_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAX_AGEE", "3d")
    ended = run("--pin", "dry-run=yes", *SWEEP, "--no-dry-run", "--max-acts", "0", "--config", "nowhere")
    assert ended.err == f"leo-lifecycle: --dry-run: dry-run {PINNED}\n"


@pytest.mark.unmeasured
def test_a_pinned_value_is_what_the_run_goes_by_and_what_is_shown(run: Run) -> None:
    ended = run("--pin", "max-age=20d", "--pin", "sandbox=yes", *SWEEP)
    assert ended.records[0]["policy"]["max_age_s"] == 20 * 86_400
    shown = run("--pin", "max-age=20d", "--pin", "sandbox=yes", *SWEEP, "--show-config").out.splitlines()
    assert [line.split() for line in shown if "--pin" in line] == [
        ["sandbox:", "true", "#", "--pin", "sandbox"],
        ["max_age:", "20d", "#", "--pin", "max-age"],
    ]


@pytest.mark.parametrize("job", JOBS)
def test_no_job_gets_round_a_pin(run: Run, monkeypatch: pytest.MonkeyPatch, job: str) -> None:
    monkeypatch.setenv("LIFECYCLE_AUDIT_CLOUD_LOG", "projects/p/logs/another")
    ended = run("--pin", "audit-cloud-log=projects/p/logs/n", job)
    fault = f"leo-lifecycle: LIFECYCLE_AUDIT_CLOUD_LOG: audit-cloud-log {PINNED}\n"
    assert (ended.code, ended.out, ended.err) == (2, "", fault)


def test_a_google_that_runs_jobs_is_not_served_by_a_command_with_pins(run: Run) -> None:
    ended = run("--pin", "dry-run=yes", "sandbox", "--port", "0", "--google-port", "0")
    assert (ended.code, ended.out) == (2, "")
    assert "what this command pins would not hold" in ended.err


def test_a_review_reads_the_log_that_is_pinned_and_no_other(run: Run) -> None:
    folder = str(ROOT / "deploy/environments")
    review = ("review-audit-log", "runs", "--env", "prod", "--environments", folder)
    for pin in ("audit-cloud-log=projects/p/logs/n", "environment=test"):
        ended = run("--pin", pin, *review)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.endswith(f"{pin.partition('=')[0]} {PINNED}\n")


# Start


@pytest.fixture
def checkout(tmp_path: Path) -> None:
    shutil.copy(ROOT / "cron.yaml", tmp_path)
    (tmp_path / "deploy/environments").mkdir(parents=True)
    (tmp_path / "deploy/environments/test.yaml").write_text(environment_file("http://127.0.0.1:1"))


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("pin", "fault"),
    [
        ("dry-run=yes", f"--dry-run: dry-run {PINNED}"),
        ("leonardo-url=https://l.example.org", f"leonardo_url in deploy/environments/test.yaml: leonardo-url {PINNED}"),
        ("environment=prod", f"environment in deploy/environments/test.yaml: environment {PINNED}"),
        ("plan=y", f"--plan: plan {PINNED}"),
        ("log-level=DEBUG", "--pin log-level: a start cannot hold an execution to it"),
    ],
)
def test_a_start_that_a_pin_forbids_starts_nothing(run: Run, pin: str, fault: str) -> None:
    live = ("start", SWEEP[0], "--env", "test", "--no-dry-run", "--plan", "x", "--yes-i-mean", "test")
    ended = run("--pin", pin, *live)
    assert (ended.code, ended.out, ended.err) == (2, "", f"leo-lifecycle: {fault}\n")


# A stranger who would like to be asked


class Stranger:
    """Somebody on loopback who counts those that knock."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._listener.setblocking(False)
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"

    @property
    def asked(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Stranger(listener)


@pytest.fixture
def leonardo() -> Iterator[SandboxServer]:
    with serving(Leonardo([a_machine(1)])) as server:
        yield server


def deployed(
    server: SandboxServer,
    *arguments: str,
    auth: str = "none",
    variables: Mapping[str, str] | None = None,
    program: Run | None = None,
) -> Ended:
    """A rehearsal with these arguments and variables, by the command as it is deployed, or inside this process."""
    pins = {
        "dry-run": "yes",
        "leonardo-url": server.url,
        "auth": auth,
        "impersonate-service-account": "",
        "audit-cloud-log": "",
        "environment": "test",
        "google-emulator": "",
    }
    words = [word for name, value in pins.items() for word in ("--pin", f"{name}={value}")]
    told = (*words, *SWEEP, *arguments)
    if program is not None:
        with variables_alone(**os.environ | (variables or {})):
            return program(*told)
    command, environment = [sys.executable, "-I", "-m", "jobs", *told], os.environ | (variables or {})
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_the_command_as_deployed_sweeps_whom_it_pins(leonardo: SandboxServer) -> None:
    ended = deployed(leonardo)
    assert (ended.code, ended.err) == (0, "")
    assert read_records(ended.out.splitlines())[-1]["outcomes"] == {"would_delete": 1}


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("leonardo_url", "http://{stranger}"),
        ("leonardo_url", "http://localhost:{port}"),
        ("google_emulator", "{stranger}"),
        ("audit_cloud_log", "projects/p/logs/another"),
        ("impersonate_service_account", "owner@p.iam.gserviceaccount.com"),
        ("environment", "prod"),
        ("auth", "none"),
        ("dry_run", "no"),
    ],
)
@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_nobody_else_can_be_named_to_it(
    leonardo: SandboxServer,
    stranger: Stranger,
    run: Run,
    request: pytest.FixtureRequest,
    source: str,
    name: str,
    value: str,
) -> None:
    program = None if request.config.getoption("--as-processes") else run
    value = value.format(stranger=stranger.address, port=stranger.address.rpartition(":")[2])
    Path("config.yaml").write_text(json.dumps({name: value}))
    flag = "--no-dry-run" if name == "dry_run" else f"--{name.replace('_', '-')}={value}"
    arguments = {"flag": (flag,), "variable": (), "file": ("--config", "config.yaml")}[source]
    variables = {f"LIFECYCLE_{name.upper()}": value} if source == "variable" else {}
    ended = deployed(leonardo, *arguments, auth="google", program=program, variables=variables)
    assert (ended.code, ended.out) == (2, "")
    assert f"{name.replace('_', '-')} {PINNED}" in ended.err
    assert (calls(leonardo), stranger.asked) == ([], False)


def test_its_own_variables_are_no_config_file(leonardo: SandboxServer, stranger: Stranger) -> None:
    slipped_in = {"LANG": f"C\nleonardo_url: http://{stranger.address}\n"}
    ended = deployed(leonardo, "--config", "/proc/self/environ", variables=slipped_in)
    assert (ended.code, ended.out) == (2, "")
    assert (calls(leonardo), stranger.asked) == ([], False)


@pytest.mark.parametrize(
    "names",
    [
        ("HTTP_PROXY", "http_proxy"),
        ("HTTPS_PROXY", "https_proxy"),
        ("ALL_PROXY", "all_proxy"),
        ("SSL_CERT_FILE", "SSL_CERT_DIR"),
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        ("OPENSSL_CONF", "SSLKEYLOGFILE"),
    ],
)
def test_variables_that_libraries_obey_do_nothing(
    leonardo: SandboxServer, stranger: Stranger, names: tuple[str, ...]
) -> None:
    value = f"http://{stranger.address}" if "PROXY" in names[0] else "/dev/null"
    ended = deployed(leonardo, variables=dict.fromkeys(names, value))
    assert (ended.code, ended.err, stranger.asked) == (0, "", False)
    assert calls(leonardo) == ["list", "get terra-1/all-of-us-1"]


def test_no_key_and_no_metadata_server_can_be_slipped_in(leonardo: SandboxServer, stranger: Stranger) -> None:
    key = {
        "type": "authorized_user",
        "client_id": "x",
        "client_secret": "x",
        "refresh_token": "x",
        "token_uri": f"http://{stranger.address}/token",
    }
    Path("key.json").write_text(json.dumps(key))
    Path("application_default_credentials.json").write_text(json.dumps(key))
    for variables in (
        {"GOOGLE_APPLICATION_CREDENTIALS": "key.json"},
        {"CLOUDSDK_CONFIG": "."},
        {"GCE_METADATA_HOST": stranger.address, "GCE_METADATA_ROOT": stranger.address},
        {"GCE_METADATA_IP": stranger.address, "GCE_METADATA_HOST": stranger.address},
    ):
        ended = deployed(leonardo, auth="google", variables=variables)
        assert ended.code == 2
        assert ended.err.startswith("leo-lifecycle: auth: no Google credentials: ")
        assert (calls(leonardo), stranger.asked) == ([], False)


def test_no_code_runs_that_a_variable_names(leonardo: SandboxServer, tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("open('ran', 'w')\n")
    (tmp_path / "sitecustomize.py").write_text("open('ran', 'w')\n")
    variables = {
        "PYTHONWARNINGS": "all:0:antigravity.x:0:0",
        "BROWSER": "/bin/sh -c 'touch ran' %s",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "httpx.py"),
    }
    ended = deployed(leonardo, variables=variables)
    assert (ended.code, ended.err, (tmp_path / "ran").exists()) == (0, "", False)


def test_what_is_no_setting_and_no_matter_of_language_or_cloud_run_is_dropped() -> None:
    kept = {"LIFECYCLE_MAX_AGE": "1d", "CLOUD_RUN_JOB": "x", "TZ": "UTC", "LANG": "C", "LC_ALL": "C", "TERM": "dumb"}
    others = {"PATH": "/bin", "HOME": "/root", "K_SERVICE": "x", "LANGUAGE": "de", "TZDIR": "/", "TERMINFO": "/"}
    environment = kept | others
    drop_variables([Pin("dry_run", "yes")], environment)
    assert environment == kept | others
    drop_variables([Pin("leonardo_url", "")], environment)
    assert environment == kept


@pytest.mark.usefixtures("checkout")
def test_the_dry_run_command_starts_no_live_run() -> None:
    live = ("start", SWEEP[0], "--env", "test", "--no-dry-run", "--plan", "x", "--yes-i-mean", "test")
    ended = subprocess.run([DRY, *live], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"leo-lifecycle: --dry-run: dry-run {PINNED}\n"
    again = subprocess.run([DRY, "--pin", "dry-run=no", *SWEEP, "--sandbox"], capture_output=True, check=False)
    assert (again.returncode, again.stdout) == (2, b"")


def test_help_and_version_need_no_settings_whatever_is_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["--pin", "dry-run=yes", word]) for word in ("--help", "--version")] == [0, 0]
    assert capsys.readouterr().err == ""
