"""Every cell of the README's "What happens if", done over real HTTP, and what must hold in all of them."""

import json
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.records.verify import verify
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, finish, on_google, paths, start
from tests.fault_table import FAULTS, KINDS, SLOW, Cell, cells

Run = Callable[..., Ended]
LIVE = "--no-dry-run"
CONCERNED, BESIDE, YOUNG, EXEMPT = paths(1, 2, 3, 4)
BEFORE = {"look": "get", "DELETE": "get", "stop": "get", "confirming list": "delete"}
"""With the answer to which call the service must vanish so that this one is refused."""


class Witness(Leonardo):
    """A service that reads the audit file before it acts."""

    audit_file: Path
    unannounced: tuple[str, ...] = ()
    """What it was told to do without an intent on record."""

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        self._look_for("deletion_requested", name)
        super().delete(project, name, delete_disk=delete_disk)

    def stop(self, project: str, name: str) -> None:
        self._look_for("stop_requested", name)
        super().stop(project, name)

    def _look_for(self, event: str, name: str) -> None:
        records = map(json.loads, self.audit_file.read_text().splitlines())
        if not any(record["event"] == event and record["name"] == name for record in records):
            self.unannounced += (name,)


def fleet(call: str) -> list[Machine]:
    """One that is concerned, one beside it that is due as well, and two that must be left alone."""
    if call == "stop":
        return [
            a_machine(1, days=6, idle_hours=60),
            a_machine(2, days=5, idle_hours=50),
            a_machine(3, days=1, idle_hours=0),
            a_machine(4, days=6, idle_hours=60, autopause_threshold=0),
        ]
    return [a_machine(1, days=30), a_machine(2, days=20), a_machine(3, days=1), a_machine(4, days=30)]


def faults(cell: Cell, elsewhere: str) -> Iterator[Fault]:
    """The cell's fault, and what must have happened for its call to be made at all."""
    fault = FAULTS[cell.fault]
    vanishes = fault.vanish
    if cell.call == "confirming list":
        yield Fault(call="delete", name="all-of-us-1", status=500, act_first=True, vanish=vanishes)
    elif vanishes and cell.call == "look":
        yield Fault(call="list", vanish=True)
    elif vanishes:
        yield Fault(call="get", name="all-of-us-1", skip=int(cell.call == "stop"), vanish=True)
    if vanishes or cell.fault == "TLS error":
        return
    yield replace(
        fault,
        call=KINDS[cell.call],
        times=None if cell.stays else 1,
        project=None if cell.call == "list" else "terra-1",
        name="all-of-us-1" if cell.call in ("look", "DELETE", "stop") else None,
        headers={name: value.replace("ELSEWHERE", elsewhere) for name, value in fault.headers.items()},
    )


def arguments(cell: Cell, url: str, audit_file: Path) -> tuple[str, ...]:
    waits = "no answer" in cell.fault or "drip" in cell.fault or cell.call == "token"
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    exemptions = json.dumps([{"match": {"project": "terra-4"}, "until": tomorrow, "reason": "exempt"}])
    return (
        *(("check-autopause", "--stop-overdue") if cell.call == "stop" else ("delete-old-runtimes",)),
        *(() if cell.call == "stop" else ("--exemptions", exemptions)),
        *(f"--project=terra-{n}" for n in range(1, 5) if cell.call == "project list"),
        *(LIVE, "--leonardo-url", url, "--auth", "none", "--output", "json", "--audit-file", str(audit_file)),
        *("--write-concurrency", "1", "--deadline", "2m"),
        *("--request-timeout", "1s" if waits else "10s"),
    )


def nothing_listens_at() -> tuple[socket.socket, str]:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken, f"http://127.0.0.1:{taken.getsockname()[1]}"


def assert_harmless(server: SandboxServer, witness: Witness, ended: Ended) -> None:
    """What must hold whatever goes wrong."""
    assert witness.unannounced == ()
    made = defaultdict[str | None, list[str]](list)
    for request in server.requests:
        made[request.name].append(request.call or "?")
    acts = {f"{r.project}/{r.name}" for r in server.requests if r.method != "GET"}
    assert acts <= {CONCERNED, BESIDE}
    for name, of_one in made.items():
        sent = [place for place, call in enumerate(of_one) if call in ("delete", "stop")]
        assert all("get" in of_one[one:other] for one, other in pairwise(sent)), of_one
        intents = [r for r in ended.events("deletion_requested", "stop_requested") if r["name"] == name]
        assert len(intents) >= len(sent)
    for path, machine in ((f"{m.project}/{m.name}", m) for m in server.leonardo.everything()):
        if path not in (CONCERNED, BESIDE):
            assert machine.status == "Running"
    records = AuditRecords(AuditFiles([witness.audit_file]))
    (verdict,) = verify(records, datetime.now(UTC))
    assert (verdict.faults, verdict.in_doubt, records.faults) == ([], [], [])


def slow(cell: Cell) -> bool:
    return cell.fault in SLOW and not (cell.call == "DELETE" and cell.stays)


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, marks=[pytest.mark.chaos] if slow(cell) else [], id=str(cell))
        for cell in cells()
        if cell.call != "token"
    ],
)
def test_a_fault_leads_to_what_the_readme_says_and_never_to_harm(cell: Cell, run: Run, tmp_path: Path) -> None:
    witness = Witness(fleet(cell.call), deletion_takes=None)
    witness.audit_file = tmp_path / "audit.jsonl"
    taken, away = nothing_listens_at()
    with taken, serving(Leonardo(fleet(cell.call))) as elsewhere:
        with serving(witness, faults=faults(cell, elsewhere.url)) as server:
            in_lists = cell.call in ("list", "project list")
            url = away if cell.fault == "connection refused" and in_lists else server.url
            url = url.replace("http:", "https:") if cell.fault == "TLS error" else url
            ended = run(*arguments(cell, url, witness.audit_file))
            assert_harmless(server, witness, ended)
        assert elsewhere.requests == []
    outcome = ended.audited[CONCERNED]["outcome"] if CONCERNED in ended.audited else "unread"
    assert (outcome, ended.code) == (cell.outcome, cell.exit_code), ended.err
    if ended.code in (0, 1) and cell.fault != "connection refused":
        accepted = "stop_accepted" if cell.call == "stop" else "deletion_accepted"
        assert ended.audited[BESIDE]["outcome"] == accepted


QUICK_TOKENS = {"403", "empty body", "garbage JSON", "301"}
"""google-auth waits 15 s in all before it gives up on a metadata server that is out of order, and we do not."""


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, marks=[] if cell.fault in QUICK_TOKENS else [pytest.mark.chaos], id=str(cell))
        for cell in cells()
        if cell.call == "token"
    ],
)
def test_without_a_token_nothing_is_asked(cell: Cell, tmp_path: Path) -> None:
    """As a process of its own: google-auth looks once, when it is imported, for where it runs."""
    taken, away = nothing_listens_at()
    witness = Witness(fleet(cell.call), deletion_takes=None)
    witness.audit_file = tmp_path / "audit.jsonl"
    with taken, serving(witness, faults=[replace(FAULTS[cell.fault], call="token", times=None)]) as server:
        at = away if cell.fault == "connection refused" else server.url
        options = [word for word in arguments(cell, server.url, witness.audit_file) if word not in ("--auth", "none")]
        ended = finish(start(*options, env=on_google(server.url, tmp_path, tokens=at)), within=120)
        assert {request.call for request in server.requests} <= {"metadata", "token", None}
        assert_harmless(server, witness, ended)
    assert (ended.audited, ended.code) == ({}, cell.exit_code), ended.err
    (unreadable,) = ended.events("project_unreadable")
    assert unreadable["error"]["kind"] in ("denied", "unavailable")
