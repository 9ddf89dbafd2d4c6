"""How the tests run the program: the real entry point against a real Leonardo on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import pytest

from core.records.events import schema
from core.sandbox.google_cloud import Google
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.server import SandboxServer
from jobs.__main__ import main

hypothesis.settings.register_profile("untimed", deadline=None)  # a slow machine is no fault of the program
hypothesis.settings.load_profile("untimed")

LEO = str(Path(sys.executable).with_name("leo-lifecycle"))
DRY = LEO + "-dry-run"


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


@dataclass(frozen=True)
class Ended:
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record, held against the schema and against the promises that hold for every run."""
        return read_records(self.out.removesuffix("\n").split("\n") if self.out else [])  # a text may hold U+2028

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] in names]

    @property
    def audited(self) -> dict[str, dict[str, Any]]:
        return {f"{r['project']}/{r['name']}": r for r in self.events("runtime_audited")}

    @property
    def finished(self) -> dict[str, Any]:
        (record,) = self.events("run_finished")
        return record

    def outcome(self, path: str) -> tuple[str, str, str]:
        record = self.audited[path]
        return record["action"], record["reason"], record["outcome"]


def read_records(lines: list[str]) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in lines]
    for record in records:
        validator().validate(record)
    assert [record["seq"] for record in records] == list(range(len(records)))
    return records


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--as-processes", action="store_true", help="run each cell of the fault matrix as a process")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.upper().startswith(("LIFECYCLE_", "CLOUD_RUN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The program inside this process, from its arguments to its exit code."""

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return run


def delete(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    """The arguments of a deletion run against a sandbox."""
    return ("delete-old-runtimes", "--leonardo-url", server.url, "--auth", "none", "--output", "json", *arguments)


def start(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    """The program as a process of its own."""
    return subprocess.Popen(  # the caller waits for it
        [LEO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


def on_google(url: str, home: Path, *, tokens: str | None = None) -> dict[str, str]:
    """The environment of a process on Google Cloud whose metadata server is at `url`, and gives tokens at `tokens`."""
    outside = ("GOOGLE_", "GCE_", "CLOUDSDK_", "NO_GCE_CHECK")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    host, at = (place.removeprefix("http://") for place in (url, tokens or url))
    metadata = {"GCE_METADATA_IP": host, "GCE_METADATA_HOST": at, "GCE_METADATA_ROOT": at}
    return inherited | metadata | {"GCE_METADATA_DETECT_RETRIES": "1", "HOME": str(home), "CLOUDSDK_CONFIG": str(home)}


def finish(process: subprocess.Popen[str], within: float = 60) -> Ended:
    out, err = process.communicate(timeout=within)
    return Ended(process.returncode, out, err or "")


def a_machine(
    number: int = 1, *, days: float = 20, idle_hours: float = 100, project: str | None = None, **fields: Any
) -> Machine:
    """A runtime of this age, in a project of its own unless named; due by default."""
    now = datetime.now(UTC)
    return Machine(
        id=number,
        project=project or f"terra-{number}",
        name=fields.pop("name", f"all-of-us-{number}"),
        created=now - timedelta(days=days),
        accessed=now - min(timedelta(hours=idle_hours), timedelta(days=days)),
        **fields,
    )


def calls(server: SandboxServer) -> list[str]:
    """The calls that a sandbox got, in order: kind, and project or runtime."""
    return [
        " ".join(filter(None, [r.call, "/".join(filter(None, [r.project, r.name]))])) for r in list(server.requests)
    ]


def payloads(google: Google) -> list[dict[str, Any]]:
    """What its log entries say, in the order in which they came."""
    return [shown["jsonPayload"] for _, shown in google.entries]


def assert_acts_follow_looks(server: SandboxServer) -> None:
    """Each act came within the promised 10 seconds, and one for the way, after a look at its runtime."""
    looked_at: dict[tuple[str | None, str | None], float] = {}
    for request in list(server.requests):
        if request.call == "get":
            looked_at[request.project, request.name] = request.t
        elif request.call in ("delete", "stop"):
            assert request.t - looked_at[request.project, request.name] < 11


def rewritten(log: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The same log, each of its records changed."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    for record in records:
        change(record)
    log.write_text("".join(json.dumps(record) + "\n" for record in records))


def aged(log: Path, by: timedelta) -> None:
    """The same log, as if it had been written so long ago."""

    def change(record: dict[str, Any]) -> None:
        record["time"] = (datetime.fromisoformat(record["time"]) - by).isoformat()

    rewritten(log, change)


def paths(*numbers: int) -> list[str]:
    return [f"terra-{number}/all-of-us-{number}" for number in numbers]


__all__ = [
    "DRY",
    "LEO",
    "Ended",
    "TrueStatus",
    "a_machine",
    "aged",
    "assert_acts_follow_looks",
    "calls",
    "delete",
    "finish",
    "on_google",
    "paths",
    "payloads",
    "read_records",
    "rewritten",
    "start",
]
