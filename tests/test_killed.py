"""A run that is killed at any of its points leaves nothing that the next runs cannot account for."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import SandboxServer, serving
from core.verify import verify
from core.verify.finding import messages
from tests.conftest import Ended, a_machine, delete, one_of_each, paths, start

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
DUE, YOUNG = paths(1, 2, 3), paths(4, 5)
REQUESTS = 7
"""One list, and a look and a DELETE for each of three."""
REQUESTED = dict(enumerate(["list", *["look", "DELETE"] * 3], 1))
RECORDS = 9
"""One that opens the run, one for each that is kept, an intent and an outcome for each of three."""
EVENTS = dict(enumerate(["opening", "kept", "kept", *["intent", "outcome"] * 3], 1))
LATER = datetime.now(UTC) + timedelta(days=1)


class Deadly(Leonardo):
    """A service that kills who asks, once: at this of its requests, before it obeys or after."""

    strikes_at: tuple[int, str] = (0, "")
    victim: subprocess.Popen[str]
    asked = 0

    def __init__(self, machines: list[Machine]) -> None:
        super().__init__(machines, deletion_takes=timedelta(0))
        self.known = threading.Event()
        """Set once it is known whom to kill."""

    def rows(self, project: str | None, parameters: Mapping[str, str]) -> Iterator[bytes]:
        self._asked()
        yield from super().rows(project, parameters)
        self._strike("after")

    def get(self, project: str, name: str) -> bytes:
        self._asked()
        answer = super().get(project, name)
        self._strike("after")
        return answer

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        self._asked()
        super().delete(project, name, delete_disk=delete_disk)
        self._strike("after")

    def _asked(self) -> None:
        self.asked += 1
        self._strike("before")

    def _strike(self, when: str) -> None:
        if (self.asked, when) == self.strikes_at:
            self.known.wait()
            os.kill(self.victim.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.victim.pid, os.WEXITED | os.WNOWAIT)


def deadly() -> Deadly:
    return Deadly([*(a_machine(n, days=60 - n) for n in (1, 2, 3)), *(a_machine(n, days=1) for n in (4, 5))])


def live(server: SandboxServer, audit_file: Path) -> tuple[str, ...]:
    return delete(server, "--no-dry-run", "--audit-file", str(audit_file), "--write-concurrency", "1")


def assert_accounted_for(server: SandboxServer, killed: Path, run: Run) -> None:
    """By its own records at once, and by those of the next runs in the end."""
    lines = killed.read_text().splitlines() if killed.exists() else []
    records = [json.loads(line) for line in lines]
    ends = {r["runtime_id"] for r in records if r["event"] == "runtime_audited"}
    intents = {f"{r['project']}/{r['name']}": r["runtime_id"] for r in records if r["event"] == "deletion_requested"}
    assert {f"{r.project}/{r.name}" for r in server.requests if r.call == "delete"} <= set(intents)

    if records:
        (verdict,) = verify(AuditRecords(AuditFiles([killed])), LATER)
        assert verdict.state == "cut_off"
        cut_off = "run_finished is missing: the run was cut off, or its last records were removed"
        assert list(messages(verdict.findings)) == [cut_off]
        assert verdict.in_doubt == [f"{path} ({number})" for path, number in intents.items() if number not in ends]

        asked = run(*confirming(server, killed))
        deleted = {str(m.id) for m in server.leonardo.everything() if m.status == "Deleted"}
        told = {r["runtime_id"]: r["outcome"] for r in asked.events("deletion_confirmed")}
        assert asked.code == 0
        assert told == {n: "confirmed" if n in deleted else "never_happened" for n in intents.values()}

    following = killed.with_name("following.jsonl")
    assert run(*live(server, following)).code == 0
    server.leonardo.settle()
    assert {f"{m.project}/{m.name}" for m in server.leonardo.everything() if m.status == "Deleted"} == set(DUE)
    in_the_end = run(*confirming(server, *([killed] if records else []), following))
    confirmed = {r["runtime_id"] for r in in_the_end.events("deletion_confirmed") if r["outcome"] == "confirmed"}
    assert (in_the_end.code, confirmed) == (0, {"1", "2", "3"})


def confirming(server: SandboxServer, *files: Path) -> tuple[str, ...]:
    places = [word for file in files for word in ("--from", str(file))]
    return ("confirm-deletions", *places, "--leonardo-url", server.url, "--auth", "none", "--output", "json")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("request_number", one_of_each(range(1, REQUESTS + 1), kind=REQUESTED.__getitem__))
def test_a_run_that_is_killed_at_a_request_is_accounted_for(
    request_number: int, when: str, run: Run, tmp_path: Path
) -> None:
    audit_file, service = tmp_path / "killed.jsonl", deadly()
    service.strikes_at = (request_number, when)
    with serving(service) as server:
        service.victim = start(*live(server, audit_file))
        service.known.set()
        service.victim.communicate(timeout=60)
        assert service.victim.returncode == -signal.SIGKILL
        assert_accounted_for(server, audit_file, run)


@pytest.mark.parametrize("count", one_of_each(range(1, RECORDS + 1), kind=EVENTS.__getitem__))
def test_a_run_that_is_killed_behind_a_record_is_accounted_for(count: int, run: Run, tmp_path: Path) -> None:
    audit_file = tmp_path / "killed.jsonl"
    with serving(deadly()) as server:
        process = start(*live(server, audit_file))
        assert process.stdout is not None
        for _ in range(count):
            process.stdout.readline()
        process.kill()
        process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:  # else it had come to its end
            assert_accounted_for(server, audit_file, run)
