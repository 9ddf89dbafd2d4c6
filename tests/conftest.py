"""How the tests run the program: the real entry point against a real Leonardo on loopback."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import pytest
from _pytest.mark.structures import ParameterSet

from core.records.events import schema
from core.sandbox.google_cloud import Google
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.server import SandboxServer
from jobs.__main__ import main
from tests import IMPORTS_ARE_MEASURED
from tests.forked import DRY, LEO, Program, import_all

# A shell starts what runs in the background deaf to Ctrl-C, and nohup to a closed terminal: so would every program be
# that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

for profile, examples in {"quick": 40, "thorough": 100, "chaos": 1000}.items():
    hypothesis.settings.register_profile(  # a slow machine is no fault of the program
        profile, deadline=None, max_examples=examples
    )
hypothesis.settings.load_profile("quick")

MEASURED = 3
"""So many cells of a test are; what more of them reach counts as not covered."""
IS_MEASURED = pytest.StashKey[bool]()


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


@cache
def words_of_the_schema() -> frozenset[str]:
    words = frozenset(re.findall(r'"([^"]+)"', json.dumps(schema())))
    assert words.isdisjoint({"pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"})
    return words


def shape_of(value: Any) -> Any:
    """All that the schema asks about it: names, types, and which of the schema's own words it is."""
    match value:
        case dict():
            return tuple((name, shape_of(one)) for name, one in value.items())
        case list():
            return list, frozenset(map(shape_of, value))
        case str():
            return value if value in words_of_the_schema() else str
        case float():
            return float, value.is_integer()
        case _:
            return type(value)


shapes_that_hold: set[Any] = set()


def hold_to_the_schema(record: dict[str, Any]) -> None:
    """Each shape once: to hold each record takes longer than to write it."""
    shape = shape_of(record)
    if shape not in shapes_that_hold:
        validator().validate(record)
        shapes_that_hold.add(shape)


@dataclass(frozen=True)
class Ended:
    """What a run left behind."""

    code: int
    out: str
    err: str

    @cached_property
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
        hold_to_the_schema(record)
    assert [record["seq"] for record in records] == list(range(len(records)))
    return records


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--as-processes", action="store_true", help="run each cell of a matrix as a process of its own")


def one_of_each(
    cells: Iterable[Any], kind: Callable[[Any], Hashable], name: Callable[[Any], str] = str
) -> list[ParameterSet]:
    """The cells of a test: of each kind the first is tried always, the others with `make chaos`."""
    seen = set[Hashable]()
    params = []
    for cell in cells:
        params.append(pytest.param(cell, id=name(cell), marks=[pytest.mark.chaos] if kind(cell) in seen else []))
        seen.add(kind(cell))
    return params


def measuring(config: pytest.Config) -> Any:
    """What measures coverage in this process, if anything does."""
    plugin = config.pluginmanager.get_plugin("_cov")
    return plugin and plugin.cov_controller


def pytest_configure(config: pytest.Config) -> None:
    """End what pytest-cov began before it knew of its workers: it measures nothing, and goes on where they pause."""
    if measuring(config) and (hasattr(config, "workerinput") or config.getoption("dist") != "no"):
        measuring(config).cov.stop()


def runs_tests(config: pytest.Config) -> bool:
    """Whether this process does, and not only its workers."""
    return hasattr(config, "workerinput") or config.getoption("dist") == "no"


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Of coverage count the imports of the program, once; to find the tests would take thrice as long with it."""
    if not runs_tests(session.config):
        return (yield)
    gc.disable()  # until `pytest_collection_finish`
    measured = measuring(session.config)
    if measured is None:
        return (yield)
    if not IMPORTS_ARE_MEASURED:
        measured.pause()
    import_all()
    measured.pause()
    try:
        return (yield)
    finally:
        measured.resume()


def pytest_collection_finish() -> None:
    """What is there by now stays, and need not be gone through for garbage again and again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage, under which a test may take thrice its time, is taken where it tells something new; the long first."""
    cells = Counter[str]()
    for item in items:
        test = item.nodeid.partition("[")[0]
        cells[test] += 1
        redundant = item.get_closest_marker("unmeasured") and not item.get_closest_marker("measured")
        item.stash[IS_MEASURED] = not redundant and cells[test] <= MEASURED
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Not as pytest-cov pauses for the test alone: to set it up, and to report on it, takes time too."""
    measured = measuring(item.config)
    if measured is None or item.stash[IS_MEASURED]:
        return (yield)
    measured.pause()
    try:
        return (yield)
    finally:
        measured.resume()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.upper().startswith(("LIFECYCLE_", "CLOUD_RUN_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # the runner's own terminal is none of the program's
    monkeypatch.chdir(tmp_path)


@contextmanager
def variables_alone(**variables: str) -> Iterator[None]:
    """Within, the environment holds these and no others; it is given back whatever a command drops of it."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


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


def start(*arguments: str, program: tuple[str, ...] = (LEO,), **how: Any) -> subprocess.Popen[str]:
    """The program, or another, as a process of its own; the caller waits for it."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Program([*program, *arguments], text=True, **streams | how)


class QuickGoogle(Google):
    """One that forks the processes of its tasks."""

    start_process = Program


def script(text: str) -> tuple[str, ...]:
    """A program that begins with lines of Python of a test."""
    return (sys.executable, "-c", text)


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """As long as it runs, and leaving it the time to."""
    while not holds():
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError(process.wait(0.005))


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
    "QuickGoogle",
    "TrueStatus",
    "a_machine",
    "aged",
    "assert_acts_follow_looks",
    "calls",
    "delete",
    "finish",
    "hold_to_the_schema",
    "on_google",
    "one_of_each",
    "paths",
    "payloads",
    "read_records",
    "rewritten",
    "script",
    "start",
    "variables_alone",
    "wait_until",
]
