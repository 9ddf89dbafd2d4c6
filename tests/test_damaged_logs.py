"""Every damage of a log, fed to every question and job that reads one: none is told less than the truth."""

import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs.__main__
from core.records.files import AuditFiles
from core.records.lines import LARGEST
from core.records.selection import EVERYTHING
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from jobs.review_audit_log import ARGUMENTS
from tests.conftest import Ended, a_machine, calls, delete, finish, start
from tests.test_reader import entry, written

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
Make = Callable[[Path, bytes], object]

FIRST = "terra-1/all-of-us-1"
PROD = ("--environment", "prod")
LIVE = ("--no-dry-run", "--max-act-share", "1")
QUESTIONS = [
    ["runs"],
    ["run", "latest"],
    ["run", "{plan}"],
    ["why", FIRST],
    ["diff", "{plan}", "{live}"],
    ["verify"],
    ["verify", "{live}"],
    ["upcoming", "--within", "20d"],
    ["promise"],
    ["simulate", "--max-age", "10d"],
    ["disks"],
    ["report", "--html", "report.html"],
]
ASKED_ALL = {"in pieces", "hello", "cut"}
"""The damages about which everything is asked always."""
FEW = [["runs"], ["why", FIRST], ["verify"], ["promise"]]


@pytest.fixture(scope="module")
def plan_and_log(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The log of a dry run, and the same with those of a check of disks and of a live run behind it."""
    folder = tmp_path_factory.mktemp("logs")
    logs: list[bytes] = []
    with serving(a_fleet()) as server:
        for arguments in (delete(server), ("check-disks", *delete(server)[1:]), delete(server, *LIVE)):
            kept = folder / str(len(logs))
            assert finish(start(*arguments, "--audit-file", str(kept), *PROD, cwd=folder)).code == 0
            logs.append(kept.read_bytes())
    return logs[0], b"".join(logs)


@pytest.fixture
def plan(plan_and_log: tuple[bytes, bytes]) -> bytes:
    return plan_and_log[0]


@pytest.fixture
def log(plan_and_log: tuple[bytes, bytes]) -> bytes:
    return plan_and_log[1]


def a_fleet() -> Leonardo:
    return Leonardo([a_machine(1), a_machine(2), a_machine(3, days=1)])


@pytest.fixture
def questions(request: pytest.FixtureRequest) -> list[list[str]]:
    """What is asked about a damage; with `make chaos` everything about each."""
    all_of_them = request.node.callspec.id in ASKED_ALL or request.config.option.markexpr != "not chaos"
    return QUESTIONS if all_of_them else FEW


@pytest.fixture(scope="module")
def usual_answers() -> dict[str, Any]:
    """Those that were given over a whole log, by question."""
    return {}


@pytest.fixture
def usual(run: Run, log: bytes, tmp_path: Path, usual_answers: dict[str, Any]) -> Callable[[list[str]], Any]:
    """What is answered over the whole log."""
    file = tmp_path / "usual.jsonl"
    file.write_bytes(log)

    def usual(question: list[str]) -> Any:
        if str(question) not in usual_answers:
            ended = ask(run, question, log, file)
            assert (ended.code, ended.err) == (0, "")
            usual_answers[str(question)] = answer(ended)
        return usual_answers[str(question)]

    return usual


def ask(run: Run, question: list[str], log: bytes, *places: Path, words: tuple[str, ...] = ()) -> Ended:
    run_ids = list(dict.fromkeys(json.loads(line)["run_id"] for line in log.splitlines()))
    asked = [word.format(plan=run_ids[0], live=run_ids[-1]) for word in question]
    return run("review-audit-log", *asked, *(w for place in places for w in ("--from", str(place))), *words)


def answer(ended: Ended) -> Any:
    """But for what depends on the time of asking and on what else was met."""
    if not ended.out.startswith("{"):
        return ended.out
    told = json.loads(ended.out)
    return {key: value for key, value in told.items() if key not in ("until", "ok", "faults", "repeated", "records")}


def said_by(ended: Ended) -> str:
    """On stderr, and what a verification holds of it."""
    told = json.loads(ended.out) if ended.out.startswith("{") else {}
    return "\n".join([ended.err, *(f"{fault['place']}: {fault['what']}" for fault in told.get("faults", []))])


def file(name: str, changed: Callable[[bytes], bytes]) -> Make:
    return lambda folder, log: (folder / name).write_bytes(changed(log))


def entries(log: bytes, indent: int | None = None) -> bytes:
    """As Logs Explorer downloads them."""
    told = [entry(json.loads(line)) for line in log.splitlines()]
    return json.dumps(told, indent=indent, separators=None if indent else (",", ":")).encode()


def indented(log: bytes) -> bytes:
    """As jq prints them."""
    return b"\n".join(json.dumps(json.loads(line), indent=2).encode() for line in log.splitlines())


def with_a_line(line: bytes) -> Callable[[bytes], bytes]:
    """In the middle of the last run."""

    def changed(log: bytes) -> bytes:
        lines = log.splitlines(keepends=True)
        return b"".join([*lines[:-2], line + b"\n", *lines[-2:]])

    return changed


def garbled(text: bytes) -> bytes:
    return text.replace(b'"outcome"', b'"outcome', 1)


def as_texts(log: bytes) -> bytes:
    """As an agent keeps lines that it did not take for JSON."""
    return written([{"textPayload": line} for line in log.decode().splitlines()])


def of_a_later_schema(log: bytes) -> bytes:
    return log.replace(b'"leo-lifecycle/audit/v1"', b'"leo-lifecycle/audit/v2"')


def unlike(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """One decision of the last run with other bytes."""

    def changed(log: bytes) -> bytes:
        before, decision, behind = log.rpartition(b'{"event":"runtime_audited"')
        return before + decision + behind.replace(old, new, 1)

    return changed


def linked(folder: Path, log: bytes) -> None:
    """Behind a link, from which another leads back."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.jsonl").write_bytes(log)
    (folder / "there").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)


def in_pieces(folder: Path, log: bytes) -> None:
    """As rotation leaves them."""
    lines = log.splitlines(keepends=True)
    cut, last = len(lines) // 3, 2 * len(lines) // 3
    (folder / "audit.jsonl.2.gz").write_bytes(gzip.compress(b"".join(lines[:cut])))
    (folder / "audit.jsonl.1").write_bytes(b"".join(lines[cut:last]))
    (folder / "audit.jsonl").write_bytes(b"".join(lines[last:]))


READ = {
    "in pieces": in_pieces,
    "dated": file("audit-20261124", bytes),
    "dated behind the suffix": file("audit.jsonl-20261124.gz", gzip.compress),
    "in capitals": file("AUDIT.JSONL", bytes),
    "renamed": file("audit.log.old", bytes),
    "bzip2": file("audit.jsonl.3.bz2", bz2.compress),
    "xz": file("audit.jsonl.3.xz", lzma.compress),
    "compressed without a suffix": file("audit-20261124", gzip.compress),
    "linked": linked,
    "beside an empty file": lambda folder, log: (file("a.jsonl", bytes)(folder, log), file("b.jsonl", lambda _: b"")),
    "downloaded": file("a.json", entries),
    "downloaded and indented": file("a.json", lambda log: entries(log, 2)),
    "downloaded in two parts": file("a.json", lambda log: entries(log) + b"\n" + entries(log[:0] or log, 4)),
    "exported by a sink": file("a.json", lambda log: written([entry(json.loads(line)) for line in log.splitlines()])),
    "indented": file("a.json", indented),
    "with a byte order mark": file("a.jsonl", lambda log: b"\xef\xbb\xbf" + log),
    "with Windows' ends of lines": file("a.jsonl", lambda log: log.replace(b"\n", b"\r\n")),
}
NO_RECORD = "it holds what is no record"
NOTHING_KNOWN = {
    "UTF-16": (file("a.jsonl", lambda log: log.decode().encode("utf-16")), "the file is in UTF-16"),
    "UTF-16 without its mark": (file("a.jsonl", lambda log: log.decode().encode("utf-16-be")), "the file is in UTF-16"),
    "empty": (file("a.jsonl", lambda _: b""), "there is no audit record"),
    "compressed and empty": (file("a.jsonl.gz", lambda _: gzip.compress(b"")), "there is no audit record"),
    "hello": (file("a.jsonl", lambda _: b"hello\n"), "a.jsonl:1: the line is not readable as a record"),
    "an empty list": (file("a.json", lambda _: b"[]"), "there is no audit record"),
    "a list of nothing known": (file("a.json", lambda _: b'[{"a": 1}]'), "there is no audit record"),
    "the head of a compressed file": (
        file("a.jsonl.gz", lambda log: gzip.compress(log)[:15]),
        "a.jsonl.gz: the compressed file ends early",
    ),
    "the head of a compressed file with a date": (
        file("audit-20261124.gz", lambda log: gzip.compress(log)[:15]),
        "audit-20261124.gz: the compressed file ends early",
    ),
    "UTF-16 with a date": (file("audit-20261124", lambda log: log.decode().encode("utf-16")), "the file is in UTF-16"),
    "zstd with a date": (
        file("audit-20261124", lambda log: b"\x28\xb5\x2f\xfd" + log),
        "the file is compressed by zstd",
    ),
    "a cut head of bzip2 with a date": (file("audit-20261124", lambda _: b"BZh91AY"), "the compressed file"),
    "zstd": (file("a.jsonl.zst", lambda log: b"\x28\xb5\x2f\xfd" + log), "the file is compressed by zstd"),
    "zip": (file("a.json.zip", lambda log: b"PK\x03\x04" + log), "the file is compressed by zip"),
    "texts": (file("a.jsonl", as_texts), f"a.jsonl:1: {NO_RECORD}"),
    "an answer of the API": (
        file("a.json", lambda log: b'{"entries":%b}' % entries(log)),
        f"a.json:1: {NO_RECORD}",
    ),
    "a later schema": (file("a.jsonl", of_a_later_schema), f"a.jsonl:1: {NO_RECORD}"),
    "no log": (file("README.md", lambda _: b"hello\n"), "the folder holds no log, only "),
    "a link that leads nowhere": (lambda folder, _: (folder / "a.jsonl").symlink_to("a.jsonl"), "cannot be opened"),
}
ELSEWISE = [
    "the head of a compressed file with a date", "UTF-16 with a date", "zstd", "zip", "texts", "an answer of the API",
    "a later schema",
]  # fmt: skip
READ_IN_PART: dict[str, tuple[Make, str]] = {
    "cut": (file("b.jsonl.gz", lambda log: gzip.compress(log)[:-30]), "b.jsonl.gz: the compressed file ends early"),
    "cut bzip2": (file("b.jsonl.bz2", lambda log: bz2.compress(log)[:-30]), "b.jsonl.bz2: the compressed file ends ea"),
    "cut xz": (file("b.jsonl.xz", lambda log: lzma.compress(log)[:-30]), "b.jsonl.xz: the compressed file ends early"),
    "damaged": (
        file("b.jsonl.gz", lambda log: gzip.compress(log)[:-6] + b"\0\0" + gzip.compress(log)[-4:]),
        "b.jsonl.gz: the file is not readable: CRC check failed",
    ),
    "a cut list": (file("b.json", lambda log: entries(log)[:-300]), "b.json entry "),
    "a list cut between two entries": (
        file("b.json", lambda log: entries(log).rpartition(b',{"insertId"')[0]),
        "the list ends early",
    ),
    "a garbled entry": (file("b.json", lambda log: garbled(entries(log))), "b.json entry 2: it is no JSON"),
    "a garbled indented entry": (file("b.json", lambda log: garbled(entries(log, 2))), "b.json entry 2: it is no JSON"),
    "UTF-16": NOTHING_KNOWN["UTF-16"],
    "hello": NOTHING_KNOWN["hello"],
    **{name: NOTHING_KNOWN[name] for name in ELSEWISE},
    "the word of a schema garbled": (file("b.jsonl", unlike(b"audit/v1", b"audit/v!")), NO_RECORD),
    "the name of an event garbled": (file("b.jsonl", unlike(b'"event"', b'"evemt"')), NO_RECORD),
    "the name of a schema garbled": (file("b.jsonl", unlike(b'"schema"', b'"schemo"')), NO_RECORD),
    "garbled": (file("b.jsonl", garbled), "b.jsonl:2: the line is not readable as a record"),
    "zeros": (file("b.jsonl", with_a_line(bytes(4096))), "the line is not readable as a record"),
    "too long": (
        file("b.jsonl", with_a_line(b'{"schema":"' + b"x" * (LARGEST + 1))),
        f"the line is longer than {LARGEST:,} bytes",
    ),
    "a link that leads nowhere": NOTHING_KNOWN["a link that leads nowhere"],
}


JOBS = ["delete-old-runtimes", "check-autopause", "check-disks", "notify-owners"]
"""Those that go by earlier records where their own are kept."""
UNSEEN = [make for name, (make, _) in READ_IN_PART.items() if "garbled" in name and "entry" not in name]
"""Damages of a line that names an event which of these only check-disks goes by."""


def test_no_question_and_no_job_is_forgotten_here() -> None:
    assert {question[0] for question in QUESTIONS} == set(ARGUMENTS)
    go_by_no_log = {"start", "sandbox", "completion"}
    assert set(jobs.__main__.JOBS) - go_by_no_log == {*JOBS, "confirm-deletions", "review-audit-log"}


@pytest.mark.parametrize("make", READ.values(), ids=READ)
def test_a_log_is_read_whole_however_it_was_kept(
    run: Run, questions: list[list[str]], log: bytes, usual: Callable[[list[str]], Any], tmp_path: Path, make: Make
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder, log)
    for question in questions:
        ended = ask(run, question, log, folder)
        assert (ended.code, ended.err) == (0, ""), question
        assert answer(ended) == usual(question)


@pytest.mark.parametrize(("make", "said"), NOTHING_KNOWN.values(), ids=NOTHING_KNOWN)
def test_nothing_is_answered_where_nothing_can_be_read(
    run: Run, questions: list[list[str]], log: bytes, tmp_path: Path, make: Make, said: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder, log)
    for question in questions:
        for place in (folder,) if "holds no log" in said else (folder, *folder.iterdir()):
            ended = ask(run, question, log, place)
            assert (ended.code, ended.out) == (2, ""), question
            if not place.is_symlink():
                assert said in ended.err, question


@pytest.mark.parametrize(("make", "said"), READ_IN_PART.values(), ids=READ_IN_PART)
def test_what_could_be_read_is_answered_and_what_could_not_is_said(
    run: Run,
    questions: list[list[str]],
    log: bytes,
    usual: Callable[[list[str]], Any],
    tmp_path: Path,
    make: Make,
    said: str,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder, log)
    (folder / "c.jsonl").write_bytes(log)
    for question in questions:
        ended = ask(run, question, log, folder)
        assert ended.code == 1, question
        assert said in said_by(ended), question
        assert answer(ended) == usual(question)
    (folder / "c.jsonl").unlink()
    assert {ask(run, question, log, folder).code for question in questions if question[0] != "report"} <= {1, 2}


def test_a_line_of_the_most_bytes_is_read(run: Run, log: bytes, tmp_path: Path) -> None:
    beginning = b'{"message":"'
    longest = with_a_line(beginning + b"x" * (LARGEST - len(beginning) - 2) + b'"}')
    (tmp_path / "a.jsonl").write_bytes(longest(log))
    ended = ask(run, ["verify"], log, tmp_path / "a.jsonl")
    assert (ended.code, json.loads(ended.out)["foreign"]) == (0, 1)


def test_a_line_without_end_costs_no_more_memory_than_shows_it(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.truncate(64 * LARGEST)
    files = AuditFiles([tmp_path])
    tracemalloc.start()
    assert not list(files.lines(EVERYTHING))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [fault.what for fault in files.faults] == [f"the line is longer than {LARGEST:,} bytes"]
    assert peak < 4 * LARGEST


@pytest.mark.parametrize("make", [make for make, _ in NOTHING_KNOWN.values()], ids=NOTHING_KNOWN)
def test_no_run_is_held_to_a_plan_that_cannot_be_read(run: Run, plan: bytes, tmp_path: Path, make: Make) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder, plan)
    with serving(a_fleet()) as server:
        ended = run(*delete(server, *LIVE, *PROD, "--plan", str(folder)))
        assert (ended.code, calls(server)) == (2, [])


@pytest.mark.parametrize(("make", "said"), READ_IN_PART.values(), ids=READ_IN_PART)
def test_no_run_is_held_to_a_plan_of_which_a_part_cannot_be_read(
    run: Run, plan: bytes, tmp_path: Path, make: Make, said: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder, plan)
    (folder / "c.jsonl").write_bytes(plan)
    with serving(a_fleet()) as server:
        ended = run(*delete(server, *LIVE, *PROD, "--plan", str(folder)))
        assert ended.code == 3
        assert said in ended.events("run_refused")[0]["detail"]
        assert not [call for call in calls(server) if call.startswith("delete")]


@pytest.mark.parametrize(("make", "said"), READ_IN_PART.values(), ids=READ_IN_PART)
def test_no_job_that_goes_by_a_log_is_told_less_than_the_truth(
    run: Run, log: bytes, tmp_path: Path, make: Make, said: str
) -> None:
    """What deletions are open, what earlier runs lead to expect and have left, and who was told."""
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder, log)
    with serving(a_fleet()) as server:
        url = ("--leonardo-url", server.url, "--auth", "none", "--output", "json", *PROD)
        confirmed = run("confirm-deletions", *url, "--from", str(folder))
        assert confirmed.code in (1, 2)
        assert said in confirmed.err + confirmed.out
        (damaged,) = folder.iterdir()
        if damaged.is_symlink():
            return
        log_before = damaged.read_bytes()
        for job in JOBS if make not in UNSEEN else ["check-disks"]:
            damaged.write_bytes(log_before)  # each job adds its own records, and closes a line that was cut
            ended = run(job, *delete(server)[1:], *PROD, "--audit-file", str(damaged))
            told = str([*ended.finished["warnings"], *ended.events("run_refused")])
            assert said in told or "the file is not readable" in told, job  # with records behind its cut end


# folders


def test_what_is_no_log_is_passed_over_and_named(run: Run, log: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(log)
    names = ["README.md", "a\nb", *(f"n{n}.txt" for n in range(4))]
    for name in names:
        (folder / name).write_text("hello")
    os.mkfifo(folder / "pipe.jsonl")
    shown = [str(folder / "README.md"), repr(str(folder / "a\nb")), *(str(folder / f"n{n}.txt") for n in range(3))]
    for question in QUESTIONS:
        ended = ask(run, question, log, folder)
        assert (ended.code, ended.err) == (0, f"passed over, since they are no logs: {', '.join(shown)} and 2 more\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_must_not_be_read_is_an_error_that_names_it(run: Run, log: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "closed").mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(log)
    (folder / "b.jsonl").write_bytes(log)
    (folder / "b.jsonl").chmod(0)
    (folder / "closed").chmod(0)
    for question in QUESTIONS:
        ended = ask(run, question, log, folder)
        assert ended.code == 1
        said = said_by(ended)
        assert f"{folder / 'b.jsonl'}: the file cannot be opened: Permission denied" in said
        assert f"{folder / 'closed'}: the folder cannot be listed: Permission denied" in said
    (folder / "closed").chmod(0o700)


def test_a_pipe_is_refused_since_it_can_be_read_but_once(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ended = run("review-audit-log", "runs", "--from", str(tmp_path / "pipe"))
    assert (ended.code, ended.err) == (
        2,
        f"leo-lifecycle: from: {tmp_path / 'pipe'} cannot be read: it is a pipe, and a log is read twice: write it to a"
        " file\n",
    )
