"""How each fault of "What happens if" (`README.md` beside this) is done to the sandbox, and what is said of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core.sandbox.faults import Fault

TABLES = re.findall(r"(?:^\|.*\n)+", Path(__file__).with_name("README.md").read_text(), re.MULTILINE)
KINDS = {
    "list": "list",
    "project list": "project_list",
    "look": "get",
    "DELETE": "delete",
    "stop": "stop",
    "confirming list": "project_list",
    "list of disks": "project_disk_list",
    "token": "token",
}
"""The README's words for calls, and the sandbox's."""
STATUSES = (400, 401, 403, 404, 408, 409, 412, 415, 418, 429, 500, 502, 503, 504, 599)
NOT_FOUND = '{"message": "Runtime not found", "exceptionClass": "class x.RuntimeNotFoundException"}'
OF_SAM = '{"message": "AuthProvider error: no", "exceptionClass": "class x.AuthProviderException"}'
FOREIGN = '[{"id": 99, "googleProject": "terra-9", "runtimeName": "all-of-us-9", "status": "Running"}]'
FAULTS = {
    **{str(status): Fault(status=status, body='{"message": "no to SENT"}') for status in STATUSES},
    "301": Fault(status=301, headers={"Location": "ELSEWHERE"}),
    "307": Fault(status=307, headers={"Location": "ELSEWHERE"}),
    "429 come back in 1 s": Fault(status=429, headers={"Retry-After": "1"}),
    "429 come back in 11 s": Fault(status=429, headers={"Retry-After": "11"}),
    "503 come back in 1 s": Fault(status=503, headers={"Retry-After": "1"}),
    "429 come back in an hour": Fault(status=429, headers={"Retry-After": "3600"}),
    "500 after the act": Fault(status=500, act_first=True),
    "empty body": Fault(status=200),
    "HTML body": Fault(status=200, body="<html><title>Sign in with SENT</title></html>", content_type="text/html"),
    "garbage JSON": Fault(status=200, body='[{"id": 1, "SENT": }]'),
    "gzip bomb": Fault(status=200, body=" " * 1000, repeat=100_000, gzip=True),
    "100 MB": Fault(status=200, body=" " * 1000, repeat=100_000),
    "wrong content type": Fault(headers={"Content-Type": "text/html"}),
    "body cut short": Fault(truncate=0.5),
    "Content-Length too long": Fault(claims=10),
    "Content-Length too short": Fault(claims=-10),
    "no HTTP at all": Fault(raw="SSH-2.0-SENT\r\n\r\n"),
    "reset": Fault(reset=True),
    "reset after the act": Fault(reset=True, act_first=True),
    "no answer": Fault(hang=True),
    "no answer after the act": Fault(hang=True, act_first=True),
    "slow drip": Fault(drip=2),
    "connection refused": Fault(vanish=True),
    "TLS error": Fault(headers={"Connection": "close"}),
    "404 and gone": Fault(user="delete", status=404, body=NOT_FOUND),
    "404 of Sam's": Fault(status=404, body=OF_SAM),
    "500 and in Error": Fault(status=500, act_first=True),
    "empty list": Fault(status=200, body="[]"),
    "another project's item": Fault(status=200, body=FOREIGN),
}
"""SENT is the token that came with the request, ELSEWHERE another host; only the test knows them.

The last two are done to the answer before: no connection follows the one that it closes.
"""
LOST = {"connection refused", "TLS error"}
"""Those that from then on befall every call."""
SLOW = {
    *("429 come back in 1 s", "429 come back in 11 s", "503 come back in 1 s"),
    *("100 MB", "no answer", "no answer after the act", "slow drip"),
}
"""Those that take seconds."""


class Cell(NamedTuple):
    """What the program is said to do."""

    fault: str
    call: str
    stays: bool
    """Whether it befalls every such call, or the first one only."""
    outcome: str
    """Of the runtime concerned; `unread` where it has no record at all."""
    exit_code: int

    def __str__(self) -> str:
        return f"{self.call}-{self.fault}-{'stays' if self.stays else 'passes'}".replace(" ", "_")


def cells() -> list[Cell]:
    """Every cell about calls: first where a fault stays, then where it passes, then what is no fault."""
    about_calls = zip(TABLES[:3], (True, False, True), strict=True)
    return [cell for table, stays in about_calls for cell in _cells(table, stays=stays)]


def hanging_sinks() -> list[Cell]:
    """Every cell about sinks: which one hangs, and from which record on."""
    return list(_cells(TABLES[3], stays=True))


def _cells(table: str, *, stays: bool) -> Iterator[Cell]:
    (_, *calls), _, *rows = [[word.strip() for word in line.strip("|\n").split("|")] for line in table.splitlines()]
    for faults, *answers in rows:
        for fault in faults.split(", "):
            for call, answer in zip(calls, answers, strict=True):
                if answer != "-":
                    outcome, code = answer.replace("`", "").split()
                    yield Cell(fault, call, stays, outcome, int(code))
