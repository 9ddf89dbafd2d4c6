"""What a person is shown of an answer, on logs that the real program wrote."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, TrueStatus, a_machine, delete, paths

Run = Callable[..., Ended]


@pytest.fixture
def stuck(run: Run, tmp_path: Path) -> str:
    """The log of a live run whose two deletions never end, and of the run that finds them stuck."""
    log = tmp_path / "log.jsonl"
    kept = ("--audit-file", str(log))
    with serving(Leonardo([a_machine(1), a_machine(2)], deletion_takes=None)) as server:
        run(*delete(server, "--no-dry-run", "--started-by", "ada", "--approved-by", "grace", *kept))
        for number in (1, 2):
            server.leonardo.machine(f"terra-{number}", f"all-of-us-{number}").accessed -= timedelta(hours=3)
        at = ("--leonardo-url", server.url, "--auth", "none", "--output", "json")
        assert run("confirm-deletions", *at, "--from", str(log), *kept).code == 1
    return str(log)


def shown(run: Run, *words: str) -> str:
    return run("review-audit-log", *words, "--output", "table").out


def test_deletions_that_are_stuck_are_seen_in_every_answer_about_the_run_that_found_them(run: Run, stuck: str) -> None:
    told = shown(run, "run", "latest", "--from", stuck)
    for words in ("What became of earlier deletions", *paths(1, 2)):
        assert words in told
    assert told.count("Needs a person: stuck terra-") == 2
    assert "Failed:" not in told
    assert (
        "2 deletions asked about, 2 failed, 2 in need of a person;"
        " exit code 1 (done, but something failed or is in doubt) after "
    ) in " ".join(told.split())
    assert "2 stuck" in shown(run, "runs", "--from", stuck)


def test_runs_come_first_and_below_them_what_was_accepted_which_says_not_that_it_ended(
    run: Run, stuck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    out = shown(run, "runs", "--from", stuck)
    tables = [line.strip() for line in out.splitlines() if line.startswith(("Runs", "Delet"))]
    assert tables == ["Runs", *(f"Deletions accepted, by {what}" for what in ("month", "project", "creator"))]
    (confirming,) = (line.split() for line in out.splitlines() if "confirm-deletions" in line)
    assert confirming[5:9] == ["read", "only", "-", "2"], "no rehearsal, and no count of a list that it did not read"


def test_what_a_run_warns_of_is_seen_in_the_answer_about_it(run: Run, tmp_path: Path) -> None:
    log = str(tmp_path / "log.jsonl")
    with serving(Leonardo([a_machine(1, status=TrueStatus.UNKNOWN)])) as server:
        (warning,) = run(*delete(server, "--audit-file", log)).finished["warnings"]
    assert warning in shown(run, "run", "latest", "--from", log).splitlines()


def test_who_started_a_run_and_who_approved_it_stand_apart_and_are_said_to_be_typed(run: Run, stuck: str) -> None:
    out = " ".join(shown(run, "run", "latest", "--job", "delete-old-runtimes", "--from", stuck).split())
    assert "Started by ada, approved by grace (both as whoever started it typed)" in out
    assert "by ada, approved by grace" in shown(run, "runs", "--from", stuck)


def test_what_is_upcoming_stands_by_creator_the_overdue_apart_and_says_what_using_it_changes(
    run: Run, tmp_path: Path
) -> None:
    ada, grace = "ada@example.org", "grace@example.org"
    fleet = [
        a_machine(1, creator=grace),
        a_machine(2, days=8, creator=ada),
        a_machine(3, days=13, idle_hours=1, creator=ada, config_type="GceConfig"),
        a_machine(4, days=5, creator=grace),
        a_machine(5, days=2, creator=grace),
    ]
    with serving(Leonardo(fleet)) as server:
        run(*delete(server, "--audit-file", str(tmp_path / "log.jsonl")))
    out = " ".join(shown(run, "upcoming", "--from", str(tmp_path)).split())
    told = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", out).partition("exit code 0 (done) ")[2]
    assert told == (
        f"Overdue: {ada} WHEN terra-2/all-of-us-2 (Running, disk kept): if nobody uses it; else WHEN at the latest"
        f" Overdue: {grace} WHEN terra-1/all-of-us-1 (Running, disk kept): whatever anybody does"
        f" Due: {ada} WHEN terra-3/all-of-us-3 (Running, disk lost): if nobody uses it; else WHEN at the latest"
        f" Due: {grace} WHEN terra-4/all-of-us-4 (Running, disk kept): if nobody uses it; else WHEN at the latest"
        " 4 are due by WHENZ, 2 of them overdue: 1 whatever anybody does, 3 if nobody uses them."
    )


def test_what_became_of_one_persons_deletions_is_told_though_confirmations_name_nobody(run: Run, stuck: str) -> None:
    asked = ("run", "latest", "--from", stuck, "--creator")
    assert shown(run, *asked, "Researcher@example.org").count("Needs a person: stuck terra-") == 2
    assert "terra-" not in shown(run, *asked, "nobody@example.org")
