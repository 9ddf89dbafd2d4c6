"""What Leonardo and Google entrust to a run is nowhere to be found afterwards, whatever went wrong."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from core.sandbox.app import TOKEN
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, finish, on_google, start

Run = Callable[..., Ended]
ENTRUSTED = "a-users-secret-for-all-we-know"
"""The sandbox's customEnvironmentVariables."""
COOKIE = {"Set-Cookie": f"LeoToken={TOKEN}; Path=/", "X-Echo": f"Bearer {TOKEN}"}
SECRETS = (TOKEN, ENTRUSTED, "LeoToken", *COOKIE)
TOLD = json.dumps({"message": f"you sent Bearer {TOKEN}", "exceptionClass": f"class x.{TOKEN}"})
SPELT = TOLD.replace(TOKEN, "".join(f"\\u{ord(letter):04x}" for letter in TOKEN))


def indiscretions() -> Iterator[Fault]:
    """Answers that hand back what they were sent, in every place that an answer has."""
    yield Fault(status=500, body=TOLD, headers=COOKIE)
    yield Fault(status=403, body=SPELT, headers=COOKIE)
    yield Fault(status=401, body=f"<title>{TOKEN}</title>", content_type="text/html", headers=COOKIE)
    yield Fault(status=404, body=json.dumps(f"no such thing for {TOKEN}"))
    yield Fault(status=307, headers={**COOKIE, "Location": f"/?access_token={TOKEN}"})
    yield Fault(status=429, headers={**COOKIE, "Retry-After": TOKEN})
    yield Fault(status=200, body=f'{{"id": 1, "{TOKEN}": ', headers=COOKIE)
    yield Fault(raw=f"HTTP/1.1 {TOKEN}\r\n\r\n")
    yield Fault(raw=f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n")
    yield Fault(truncate=0.5, headers=COOKIE)
    yield Fault(reset=True)


def assert_discreet(left_behind: Mapping[str, str]) -> None:
    """No secret stands in these texts, each with its name."""
    for secret in SECRETS:
        assert [place for place, text in left_behind.items() if secret.lower() in text.lower()] == [], secret


def test_no_secret_is_in_anything_that_a_run_leaves_behind(run: Run, tmp_path: Path) -> None:
    faults = [*indiscretions()]
    fleet = [a_machine(n, days=90 - n) for n in range(1, 3 * len(faults) + 3)]
    befalls = [
        *(Fault(call="list", status=500, body=TOLD, headers=COOKIE) for _ in range(2)),
        *(replace(fault, call="get", name=f"all-of-us-{3 * n}", times=None) for n, fault in enumerate(faults, 1)),
        *(
            replace(fault, call="delete", name=f"all-of-us-{3 * n + 1}", times=None)
            for n, fault in enumerate(faults, 1)
        ),
        Fault(call="project_list", status=403, body=TOLD, headers=COOKIE, times=3),
    ]
    audit_file, report = tmp_path / "audit.jsonl", tmp_path / "report.html"
    with serving(Leonardo(fleet, deletion_takes=timedelta(0)), faults=befalls) as server:
        options = ("--no-dry-run", "--leonardo-url", server.url, "--max-act-share", "1", "--log-level", "DEBUG")
        process = start(
            *("delete-old-runtimes", *options, "--audit-file", str(audit_file), "--request-timeout", "5s"),
            *("--write-concurrency", "1"),
            env=on_google(server.url, tmp_path),
        )
        ended = finish(process)
        assert all(r.authorization for r in server.requests if r.call not in ("metadata", "token", None))

    assert ended.code == 1
    assert len([r for r in ended.audited.values() if r["error"]]) >= len(faults)
    assert '"call": "delete"' in ended.err
    reported = run("review-audit-log", "report", "--html", str(report), "--from", str(audit_file))
    assert_discreet(
        {
            "stdout": ended.out,
            "stderr": ended.err,
            "audit file": audit_file.read_text(),
            "report": report.read_text() + reported.out + reported.err,
        }
    )
