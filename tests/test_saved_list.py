"""A dry run over a saved list: the decisions of a run that asks, and nobody is asked."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from core.sandbox.fleet import make_fleet, odd_rows
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, calls, delete

Run = Callable[..., Ended]
FIRST = "terra-1/all-of-us-1"


def saved(*arguments: str, file: str = "list.json") -> tuple[str, ...]:
    return ("delete-old-runtimes", "--inventory", file, "--output", "json", *arguments)


def save(url: str, file: str = "list.json") -> None:
    Path(file).write_bytes(httpx.get(f"{url}/api/google/v1/runtimes").content)


@pytest.mark.unmeasured
def test_a_saved_list_is_judged_as_leonardos_own_and_nobody_is_asked(run: Run) -> None:
    now = datetime.now(UTC)
    fleet = Leonardo(make_fleet(300, seed=5, now=now, due=40), raw_rows=odd_rows(now))
    as_of = ("--as-of", (now + timedelta(days=1)).isoformat())
    with serving(fleet) as server:
        save(server.url)
        server.log.reset()
        rehearsed = run(*saved(*as_of))
        assert calls(server) == []
        asked = run(*delete(server, *as_of))
    assert rehearsed.code == asked.code
    assert rehearsed.finished["reasons"] == asked.finished["reasons"]
    assert rehearsed.finished["calls"] == {"list": 0, "disks": 0, "get": 0, "delete": 0, "stop": 0}
    decided, as_well = (
        {path: (record["action"], record["reason"]) for path, record in ended.audited.items()}
        for ended in (rehearsed, asked)
    )
    assert decided == as_well
    assert rehearsed.records[0]["scope"]["inventory"] == "list.json"
    assert asked.records[0]["scope"]["inventory"] is None


def test_a_stricter_policy_is_seen_before_it_bites(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, days=12, idle_hours=1), a_machine(3, days=2)])) as server:
        save(server.url)
    run(*saved("--audit-file", "audit/today.jsonl"))
    stricter = run(*saved("--max-age", "10d", "--audit-file", "audit/stricter.jsonl"))
    assert stricter.finished["outcomes"] == {"would_delete": 2, "kept": 1}
    runs = [json.loads(line)["run_id"] for file in ("today", "stricter") for line in _lines(f"audit/{file}.jsonl")[:1]]
    told = run("review-audit-log", "diff", *runs, "--from", "audit", "--output", "json")
    (difference,) = json.loads(told.out)["differences"]
    assert (difference["path"], difference["condemned_in"], difference["why_not_in_the_other"]) == (
        "terra-2/all-of-us-2",
        runs[1],
        "policy_changed",
    )
    assert run("review-audit-log", "verify", "--from", "audit").code == 0


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def test_only_what_is_in_scope_is_judged(run: Run) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 4)])) as server:
        save(server.url)
    assert set(run(*saved("--project", "terra-2", "--project", "terra-3")).audited) == {
        "terra-2/all-of-us-2",
        "terra-3/all-of-us-3",
    }
    missing = run(*saved("--only", FIRST, "--only", "terra-1/nobody"))
    assert (missing.code, list(missing.audited)) == (1, [FIRST])


def test_a_broken_list_is_an_unread_inventory(run: Run) -> None:
    with serving(Leonardo([a_machine(n) for n in range(1, 40)])) as server:
        save(server.url)
    whole = Path("list.json").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"{}", b"<html>"):
        Path("list.json").write_bytes(broken)
        ended = run(*saved())
        assert (ended.code, [r["error"]["kind"] for r in ended.events("project_unreadable")]) == (4, ["unreadable"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (saved(), "inventory: list.json cannot be read: No such file or directory"),
        (saved(file="."), "inventory: . cannot be read: Is a directory"),
        (saved("--no-dry-run"), "inventory: a live run asks Leonardo itself"),
        (saved("--sandbox"), "inventory and sandbox: give one of them"),
        (saved("--plan", "plan.jsonl"), "inventory: a plan is held to by a fresh list"),
    ],
)
def test_what_cannot_be_is_a_usage_error(run: Run, arguments: tuple[str, ...], fault: str) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"leo-lifecycle: {fault}\n")


def test_a_run_over_a_saved_list_is_no_plan(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        save(server.url)
        run(*saved("--audit-file", "plan.jsonl"))
        live = run(*delete(server, "--no-dry-run", "--plan", "plan.jsonl"))
        assert (live.code, live.finished["refused_by"]) == (3, ["plan"])
    assert "it was made of a saved list, without a second look" in live.events("run_refused")[0]["detail"]
