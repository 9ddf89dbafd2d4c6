"""Whom a question is about, and that nothing of theirs is left out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.records.reader import Record
from core.review.about import About, NobodyError, about_whom
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, delete
from tests.test_review_answers import NOW, closing, kept, opening, record

Run = Callable[..., Ended]
ADA = "Ada.Lovelace@example.org"


def meant(about: About, *records: Record) -> list[str]:
    return [f"{r.event} {r.runtime_id or r.run_id}" for r in about.of(records)]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("terra-1/a", [1]),
        ("terra-*/a", [1, 2]),
        ("*/b", [3]),
        ("TERRA-1/a", []),
        ("2", [2]),
        ("ada.lovelace@example.org", [1, 3]),
        ("*@example.org", [1, 2, 3]),
        ("ada@example.org", []),
    ],
)
def test_whom_a_name_a_glob_an_id_and_an_e_mail_mean(words: str, numbers: list[int]) -> None:
    grace = "grace@example.org"
    records = [
        kept("r", 1, creator=ADA),
        kept("r", 2, creator=grace),
        kept("r", 3, creator=ADA, name="b"),
        kept("r", 4, creator=None, project="other", name="c"),
    ]
    assert meant(about_whom(words), *records) == [f"runtime_audited {n}" for n in numbers]


def test_a_name_that_looks_like_a_glob_is_found_as_it_stands() -> None:
    assert meant(about_whom("terra-1/[a]"), kept("r", name="[a]"), kept("r", 2, project="terra-1", name="a")) == [
        "runtime_audited 1",
        "runtime_audited 2",
    ]


@pytest.mark.parametrize("words", ["name", "", "/", "a/", "/a", "1.5"])
def test_other_words_mean_nobody(words: str) -> None:
    with pytest.raises(NobodyError):
        about_whom(words)


def test_what_names_no_creator_is_of_the_one_whose_the_runtime_is() -> None:
    told = [
        opening("r"),
        record("r", "deletion_requested", 1, creator=None),
        record("r", "deletion_requested", 2, creator=None),
        record("r", number=1, creator=ADA),
        record("r", number=2),
        record("r", "deletion_confirmed", 1, creator=None),
        record("r", "deletion_confirmed", 2, creator=None),
        kept("r", 1, creator=None),
        closing("r"),
    ]
    assert meant(About(creator=ADA), *told) == [
        "run_started r",
        "deletion_requested 1",
        "runtime_audited 1",
        "deletion_confirmed 1",
        "run_finished r",
    ]
    stuck = [*told[:-1], record("r", "deletion_confirmed", 1, creator=None, outcome="stuck")]
    assert meant(About(creator=ADA, outcome="stuck"), *stuck) == ["run_started r", "deletion_confirmed 1"]


def test_an_outcome_and_a_project_narrow_what_is_about_runtimes_and_leave_what_is_about_runs() -> None:
    told = [
        opening("r"),
        record("r", number=1, outcome="failed"),
        record("r", number=2, outcome="failed"),
        record("r", number=1),
        Record(event="project_unreadable", run_id="r", environment="prod", project="terra-9", time=NOW),
    ]
    assert meant(About(outcome="failed", project="terra-1*"), *told) == [
        "run_started r",
        "runtime_audited 1",
        "project_unreadable r",
    ]


@pytest.fixture
def log(run: Run, tmp_path: Path) -> str:
    """A live run over the runtimes of two creators."""
    file = tmp_path / "log.jsonl"
    fleet = [a_machine(1, creator=ADA), a_machine(2, creator=ADA, days=1), a_machine(3), a_machine(4, creator=ADA)]
    with serving(Leonardo(fleet)) as server:
        run(*delete(server, "--no-dry-run", "--audit-file", str(file)))
    return str(file)


def test_an_e_mail_answers_why_for_each_of_their_runtimes_and_narrows_the_other_questions(run: Run, log: str) -> None:
    def ask(*words: str) -> Ended:
        ended = run("review-audit-log", *words, "--from", log, "--output", "json")
        assert ended.code == 0
        return ended

    answer = json.loads(ask("why", ADA.lower()).out)
    assert [i["path"] for i in answer["incarnations"]] == [f"terra-{n}/all-of-us-{n}" for n in (1, 2, 4)]
    assert [len(i["entries"]) for i in answer["incarnations"]] == [2, 1, 2], "what was announced too"
    told = ask("run", "latest", "--creator", ADA, "--project", "terra-[12]")
    assert [act["name"] for act in json.loads(told.out)["acts"]] == ["all-of-us-1"]
    assert told.err == f"narrowed to creator {ADA}, project terra-[12]\n"
    assert json.loads(ask("run", "latest", "--outcome", "deletion_accepted").out)["counts"] == [
        {"outcome": "deletion_accepted", "reason": "max_age", "count": 3}
    ]
    (due,) = json.loads(ask("upcoming", "--within", "30d", "--creator", ADA).out)["due"]
    assert due["name"] == "all-of-us-2"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("why", "name"), "why: 'name' is not PROJECT/NAME, a glob of it, a runtime's id or an e-mail"),
        (("why", "nobody@example.org"), "there is no record about nobody@example.org"),
        (("runs", "--creator", "a@b"), "--creator goes with why, run, diff, upcoming, simulate and disks"),
        (("run", "latest", "--outcome", "stuk"), "--outcome: there is no 'stuk'; did you mean stuck?"),
    ],
    ids=str,
)
def test_what_cannot_be_narrowed_so_is_said_in_a_line(run: Run, log: str, words: tuple[str, ...], fault: str) -> None:
    ended = run("review-audit-log", *words, "--from", log)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"leo-lifecycle: {fault}")
    assert ended.err.count("\n") == 1
