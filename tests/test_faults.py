"""Every cell of "What happens if" (`README.md` beside this), done over real HTTP, and what must hold in all of them."""

import json
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.sandbox.app import TOKEN
from core.sandbox.faults import Fault, UserAct
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import SandboxServer, serving
from core.verify import verify
from tests.conftest import (
    Ended,
    a_machine,
    assert_acts_follow_looks,
    delete,
    finish,
    on_google,
    one_of_each,
    paths,
    start,
)
from tests.fault_table import FAULTS, KINDS, LOST, SLOW, Cell, cells
from tests.test_secrets import COOKIE, assert_discreet
from tests.tls import a_certificate, behind_tls, trusting

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
LIVE = "--no-dry-run"
CONCERNED, BESIDE = paths(1, 2)
USED, RESET, LABELLED = 5, 6, 7
"""Those that are due, and not any more when they are looked at again."""
DOUBTFUL = Fault(call="delete", name="all-of-us-1", status=500, act_first=True)
"""What must happen for the confirming list to be asked for."""
BEFORE = {
    "look": Fault(call="list"),
    "DELETE": Fault(call="get", name="all-of-us-1"),
    "stop": Fault(call="get", name="all-of-us-1", skip=1),
    "confirming list": DOUBTFUL,
    "list of disks": Fault(call="project_list", project="terra-1"),
}
"""With which answer the connection must be lost so that this call is the next."""


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


def leonardo(cell: Cell) -> "Witness":
    """A service in which deletions end at once where that matters, and in Error where the cell says so."""
    at_once = cell.call == "list of disks" or cell.fault in ("404 and gone", "500 and in Error")
    witness = Witness(fleet(cell.call), deletion_takes=timedelta(0) if at_once else None)
    if cell.fault == "500 and in Error":
        witness.machine("terra-1", "all-of-us-1").deletion_ends_in = "error"
    return witness


def fleet(call: str) -> list[Machine]:
    """One that is concerned, one beside it that is due as well, and others that must be left alone."""
    if call == "stop":
        return [
            a_machine(1, days=6, idle_hours=60),
            *(a_machine(n, days=5, idle_hours=50) for n in (2, USED, RESET)),
            a_machine(3, days=1, idle_hours=0),
            a_machine(4, days=6, idle_hours=60, autopause_threshold=0),
        ]
    ages = {1: 30, 2: 20, 3: 1, 4: 30, USED: 10, RESET: 20, LABELLED: 20}
    return [a_machine(n, days=days) for n, days in ages.items()]


def users(call: str) -> Iterator[Fault]:
    """What users do between the list and the look that is for the act."""
    looks_before = int(call == "stop")
    acts: dict[int, UserAct] = {USED: "touch", RESET: "reset", LABELLED: "label"}
    for number, user in acts.items():
        yield Fault(call="get", name=f"all-of-us-{number}", skip=looks_before, user=user)


def faults(cell: Cell, *, elsewhere: str, sent: str) -> Iterator[Fault]:
    """The cell's fault, and what must have happened for its call to be made at all."""
    fault = FAULTS[cell.fault]
    if cell.call == "list of disks":
        yield DOUBTFUL
    if cell.fault in LOST:
        if cell.call in BEFORE:
            yield replace(BEFORE[cell.call], vanish=fault.vanish, headers=fault.headers)
        return
    if cell.call == "confirming list":
        yield DOUBTFUL
    headers = {name: value.replace("ELSEWHERE", elsewhere) for name, value in fault.headers.items()}
    yield replace(
        fault,
        call=KINDS[cell.call],
        times=None if cell.stays else 1,
        project=None if cell.call == "list" else "terra-1",
        name="all-of-us-1" if cell.call in ("look", "DELETE", "stop") else None,
        headers={**COOKIE, **headers},
        body=fault.body.replace("SENT", sent),
        raw=fault.raw and fault.raw.replace("SENT", sent),
    )


def arguments(cell: Cell, url: str, audit_file: Path) -> tuple[str, ...]:
    waits = "no answer" in cell.fault or "drip" in cell.fault or cell.call == "token"
    long = cell.fault in ("100 MB", "gzip bomb")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    matches = ({"project": "terra-4"}, {"label": "needed=yes"})
    exemptions = json.dumps([{"match": match, "until": tomorrow, "reason": "exempt"} for match in matches])
    return (
        *(("check-autopause", "--stop-overdue") if cell.call == "stop" else ("delete-old-runtimes",)),
        *(() if cell.call == "stop" else ("--exemptions", exemptions)),
        *(f"--project=terra-{n}" for n in range(1, 8) if cell.call == "project list"),
        *(LIVE, "--leonardo-url", url, "--output", "json", "--audit-file", str(audit_file), "--log-level", "DEBUG"),
        *("--write-concurrency", "1", "--deadline", "2m"),
        *(("--read-concurrency", "1") if cell.fault in LOST else ()),
        *("--request-timeout", "1s" if waits else "10s" if long else "3s"),  # waits between tries grow with it
    )


@contextmanager
def nobody_listens() -> Iterator[str]:
    """An address at which connections are refused while this is open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def found_at(cell: Cell, url: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where the program is told that the service at `url` is, and what a process needs in its environment for that."""
    environment = on_google(url, folder)
    if cell.fault not in LOST or (cell.fault == "connection refused" and cell.call in BEFORE):
        yield url, environment
    elif cell.fault == "connection refused":
        with nobody_listens() as away:
            yield away, environment
    elif cell.call in BEFORE:
        trusted, strange = a_certificate(folder / "trusted.pem"), a_certificate(folder / "strange.pem")
        with behind_tls(url, trusted, strange) as front:
            yield front, environment | trusting(trusted, folder)
    else:
        yield url.replace("http:", "https:"), environment


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
    assert_acts_follow_looks(server)
    for machine in server.leonardo.everything():
        assert machine.id in (1, 2) or machine.status == "Running" or (machine.id == RESET and machine.destroyed)
    records = AuditRecords(AuditFiles([witness.audit_file]))
    (verdict,) = verify(records, datetime.now(UTC))
    assert (verdict.findings, verdict.in_doubt, records.faults) == ([], [], [])
    assert_discreet({"stdout": ended.out, "stderr": ended.err, "audit file": witness.audit_file.read_text()})
    assert "Traceback" not in ended.err


CELLS = [cell for cell in cells() if cell.call != "token"]
"""Each fault is tried always with each of its consequences, wherever it comes; in all of its places with chaos."""


def waits(cell: Cell) -> bool:
    return cell.fault in SLOW and not (cell.call == "DELETE" and cell.stays)


@pytest.mark.parametrize(
    "cell",
    [
        *one_of_each([cell for cell in CELLS if not waits(cell)], kind=attrgetter("fault", "outcome", "exit_code")),
        *(pytest.param(cell, marks=pytest.mark.chaos, id=str(cell)) for cell in CELLS if waits(cell)),
    ],
)
def test_a_fault_leads_to_what_the_readme_says_and_never_to_harm(
    cell: Cell, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In this process and without a token, or as a process of its own that has one and must not tell it."""
    witness = leonardo(cell)
    witness.audit_file = tmp_path / "audit.jsonl"
    needs_trust = cell.fault == "TLS error" and cell.call in BEFORE  # of certifi, which only a new process reads
    as_process = needs_trust or request.config.getoption("--as-processes")
    with serving(Leonardo(fleet(cell.call))) as elsewhere:
        fault = faults(cell, elsewhere=elsewhere.url, sent=TOKEN if as_process else "nothing")
        befalls = [*users(cell.call), *fault]
        with serving(witness, faults=befalls) as server, found_at(cell, server.url, tmp_path) as (url, environment):
            options = arguments(cell, url, witness.audit_file)
            ended = finish(start(*options, env=environment), 120) if as_process else run(*options, "--auth", "none")
            assert_harmless(server, witness, ended)
        asked = [r for r in server.requests if r.call not in ("metadata", "token", None)]
        assert all(r.authorization is as_process for r in asked)
        assert elsewhere.requests == []
    outcome = ended.audited[CONCERNED]["outcome"] if CONCERNED in ended.audited else "unread"
    assert (outcome, ended.code) == (cell.outcome, cell.exit_code), ended.err
    for_all = cell.fault in LOST or (cell.call, outcome) == ("list", "unread")
    if ended.code in (0, 1) and not for_all:
        accepted = "stop_accepted" if cell.call == "stop" else "deletion_accepted"
        assert ended.audited[BESIDE]["outcome"] == accepted
        left_alone = {path: ended.audited[path]["outcome"] for path in paths(USED, RESET)}
        assert [*left_alone.values()] == ["spared", "replaced"], left_alone


QUICK_TOKENS = {"403", "empty body", "garbage JSON", "301"}
"""google-auth waits 15 s in all before it gives up on a metadata server that is out of order, and we do not."""


def a_federation(token_url: str, folder: Path) -> str:
    """Credentials that Google gives for those of another cloud: unlike a metadata server's, over TLS."""
    (folder / "subject").write_text("a-token-of-another-cloud")
    credentials = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/elsewhere",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": token_url,
        "credential_source": {"file": str(folder / "subject")},
    }
    (folder / "federation.json").write_text(json.dumps(credentials))
    return str(folder / "federation.json")


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
    witness = Witness(fleet(cell.call), deletion_takes=None)
    witness.audit_file = tmp_path / "audit.jsonl"
    faults = [replace(FAULTS[cell.fault], call="token", times=None)]
    with nobody_listens() as away, serving(witness, faults=faults) as server:
        environment = on_google(server.url, tmp_path, tokens=away if cell.fault == "connection refused" else None)
        if cell.fault == "TLS error":
            environment["GOOGLE_APPLICATION_CREDENTIALS"] = a_federation(f"https{server.url[4:]}", tmp_path)
        options = arguments(cell, server.url, witness.audit_file)
        ended = finish(start(*options, env=environment), within=120)
        assert {request.call for request in server.requests} <= {"metadata", "token", None}
        assert_harmless(server, witness, ended)
    assert (ended.audited, ended.code) == ({}, cell.exit_code), ended.err
    (unreadable,) = ended.events("project_unreadable")
    assert unreadable["error"]["kind"] in ("denied", "unavailable")


@pytest.mark.chaos
def test_a_look_that_grew_old_because_another_was_told_to_come_back_is_repeated(tmp_path: Path) -> None:
    witness = Witness([a_machine(1, days=30), a_machine(2, days=20)])
    witness.audit_file = tmp_path / "audit.jsonl"
    befalls = [
        Fault(call="delete", name="all-of-us-1", status=429, headers={"Retry-After": "13"}),
        Fault(call="get", name="all-of-us-2", delay=1),  # its answer comes when all have to wait
    ]
    with serving(witness, faults=befalls) as server:
        ended = finish(start(*delete(server, LIVE, "--audit-file", str(witness.audit_file))))
        assert [r.call for r in server.requests if r.name == "all-of-us-2"] == ["get", "get", "delete"]
        assert_acts_follow_looks(server)
    assert (ended.code, witness.unannounced, ended.finished["outcomes"]) == (0, (), {"deletion_accepted": 2})
