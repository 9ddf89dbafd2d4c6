"""What is documented is so: commands run, tables are the code's, queries find some, links lead somewhere."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from core.exit_code import ExitCode
from core.records.events import EVENTS, Common, Event, schema
from core.records.outcome import CONFIRMATIONS, Outcome
from core.rules.autopause import SENTENCES
from core.rules.decision import Reason
from core.rules.deletion import DeletionPolicy
from core.rules.guards import Guard
from core.sandbox.faults import Fault
from core.sandbox.google_cloud import ENVIRONMENT, Google, environment_file, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.log_query import parse
from core.sandbox.server import SandboxServer, serving
from core.settings.deployment import AUDIT_LOG
from core.settings.fields import Settings
from core.settings.flags import default_text
from core.settings.reference import reference
from jobs import delete_old_runtimes
from tests.conftest import Ended, QuickGoogle, a_machine, payloads, start

Run = Callable[..., Ended]
ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "jobs/README.md",
        "core/settings/README.md",
        "core/records/README.md",
        "deploy/README.md",
        "core/review/README.md",
    )
}
README = DOCUMENTS["README.md"]
RECORDS = DOCUMENTS["core/records/README.md"]
COMMANDS = [
    line.partition("#")[0].strip()
    for text in DOCUMENTS.values()
    for block in re.findall(r"(?m)^```sh\n(.*?)^```", text, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("leo-lifecycle", "make"))
]
LEONARDO = "https://notebooks.example.org"
INSPECTED = {"0", "1"}
"""Exit codes of a run that was done: the made-up fleets have their odd rows."""


def rows(heading: str, text: str = README) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = text.partition(f"# {heading}\n")[2].partition("\n## ")[0]
    table = section[section.index("\n|") :].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.strip().splitlines()[2:]]


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(README.split()) <= 1800


def test_every_link_leads_somewhere() -> None:
    texts = [path for path in ROOT.glob("**/*.md") if not set(path.relative_to(ROOT).parts) & {".venv", "mutants"}]
    lost = []
    for path in texts:
        for target, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]*))?\)", path.read_text()):
            file = path.parent / target if target else path
            if not file.exists() or (anchor and anchor not in anchors(file)):
                lost.append(f"{path.relative_to(ROOT)}: {target}#{anchor}")
    assert lost == []


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", file.read_text())
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_reference_of_settings_is_that_of_the_program() -> None:
    assert DOCUMENTS["core/settings/README.md"] == reference(), "run: make settings"
    described = re.findall(r"(?m)^\| `([\w-]+)` \| (.*) \| (.*) \|$", reference())
    assert {name: (default, meaning) for name, default, meaning in described} == {
        name.replace("_", "-"): (default_text(info), info.description) for name, info in Settings.model_fields.items()
    }
    assert len(described) == len(Settings.model_fields)


def words_in(cells: list[list[str]]) -> list[str]:
    """Of the first column."""
    return [word for first, *_ in cells for word in re.findall(r"`(\w+)`", first)]


def test_every_guard_outcome_and_finding_has_a_row() -> None:
    jobs = DOCUMENTS["jobs/README.md"]
    assert sorted(words_in(rows("Guards", jobs))) == sorted(Guard)
    assert sorted(words_in(rows("How each runtime ended", jobs))) == sorted(Outcome)
    assert sorted(words_in(rows("Confirm deletions", jobs))) == sorted(CONFIRMATIONS)
    judged_before = {"cloud_not_supported", "duplicate", "status_unknown", "undated", "future_dated"}
    assert set(words_in(rows("Check autopause", jobs))) == {*SENTENCES, *judged_before, "status_not_eligible"}


def test_the_rule_stands_in_the_same_order_in_the_readme_the_rule_and_the_help_of_its_job() -> None:
    section = README.partition("\n## The rule\n")[2].partition("\n## ")[0]
    told, judged, helped = (
        re.findall(r"(?m)^ *\* (.*(?:\n +[^* ].*)*)", text)
        for text in (section, str(DeletionPolicy.judge.__doc__), str(delete_old_runtimes.__doc__))
    )
    assert [reasons_in(bullet) for bullet in told] == [reasons_in(bullet) for bullet in judged]
    assert len(helped) == len(told)


def reasons_in(bullet: str) -> list[str]:
    return [word for word in re.findall(r"`(\w+)`", bullet) if word in set(Reason)]


def test_every_reason_that_a_record_may_give_is_explained() -> None:
    explained = re.findall(r"`(\w+)`", README + DOCUMENTS["jobs/README.md"])
    assert set(Reason) - set(explained) == set()


def test_the_fields_of_each_event_are_those_of_its_records() -> None:
    of_all = {field.encode_name for field in fields(Event)}
    told = {event.strip("`"): re.findall(r"`(\w+)`", names) for event, _, names in rows("Audit records", RECORDS)}
    assert told == {
        str(event.__struct_config__.tag): [f.encode_name for f in fields(event) if f.encode_name not in of_all]
        for event in EVENTS
    }
    common = re.findall(r"`([\w./]+)`", RECORDS.partition("On every record: ")[2].partition("All are always")[0])
    assert set(common) == of_all | {field.encode_name for field in fields(Common)} | {"event"}


def test_the_exit_codes_are_told_and_have_their_sections_in_the_runbook() -> None:
    codes = [str(code) for code in ExitCode]
    assert [code for code, _, _ in rows("How it ended")] == codes
    assert re.findall(r"(?m)^### Exit code (\d+):", (ROOT / "deploy/RUNBOOK.md").read_text()) == codes


# Its commands


def a_fleet() -> Leonardo:
    """Those that the README speaks of, among enough others; the deleted stay in sight, however slow the machine."""
    named = [a_machine(7, project="terra-12"), a_machine(8, project="terra-12", days=13, idle_hours=1)]
    others = [a_machine(n, days=2, idle_hours=0.1) for n in range(20, 40)]
    return Leonardo([*named, *others], deletion_takes=None)


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SandboxServer, Google]]:
    """An installation, a Google on which its jobs are, and a checkout and a shell with the settings for both."""
    with serving(a_fleet()) as server:
        container = {"LIFECYCLE_LEONARDO_URL": server.url, "LIFECYCLE_AUTH": "none"}
        container["LIFECYCLE_ENVIRONMENT"] = ENVIRONMENT
        with serving_google(QuickGoogle(container)) as google:
            for name, value in {**container, "LIFECYCLE_GOOGLE_EMULATOR": google.address}.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("LIFECYCLE_MAX_AGE", "12d")
            shutil.copy(ROOT / "cron.yaml", ".")
            Path("deploy/environments").mkdir(parents=True)
            Path(f"deploy/environments/{ENVIRONMENT}.yaml").write_text(environment_file(server.url))
            yield server, google


@pytest.mark.long
@pytest.mark.unmeasured
def test_every_command_runs(run: Run, monkeypatch: pytest.MonkeyPatch, deployed: tuple[SandboxServer, Google]) -> None:
    server, google = deployed
    for number, days in enumerate(("30d", "12d")):
        recorded = ("--audit-file", f"audit/{number}.jsonl", "--output", "json", "--max-age", days)
        assert run("delete-old-runtimes", *recorded).code == 0
    run_ids = [re.findall(r'"run_id":"([^"]+)"', Path(f"audit/{n}.jsonl").read_text())[0] for n in range(2)]
    for command in COMMANDS:
        program, *words = shlex.split(command)
        if program == "make":
            assert re.search(rf"(?m)^{words[0]}:.*## ", (ROOT / "Makefile").read_text()), command
            continue
        if "--sandbox" in words or "--leonardo-url" in words or words[0] == "start":
            monkeypatch.delenv("LIFECYCLE_LEONARDO_URL", raising=False)
        else:
            monkeypatch.setenv("LIFECYCLE_LEONARDO_URL", server.url)
        if words[0] == "start":
            monkeypatch.delenv("LIFECYCLE_MAX_AGE", raising=False)
        names = {LEONARDO: server.url, "RUN_A": run_ids[0], "RUN_B": run_ids[1], "RUN_ID": _rehearsed(google)}
        names["prod"] = ENVIRONMENT
        words = [names.get(word, word) for word in words]
        if words[0] == "start" and "--no-dry-run" in words:
            words += ["--yes-i-mean", ENVIRONMENT]
        ended = run(*words)
        assert str(ended.code) in INSPECTED, (command, ended.err)
        assert ended.out, command


def _rehearsed(google: Google) -> str:
    return next((str(p["run_id"]) for p in payloads(google) if p["event"] == "run_finished"), "")


@pytest.mark.long
@pytest.mark.unmeasured
def test_a_google_stands_beside_the_sandbox_when_asked_with_an_environment_to_rehearse_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = re.findall(r"`leo-lifecycle (sandbox --google-port \d+)`", DOCUMENTS["deploy/README.md"])
    sandbox = start(*command.split(), "--port", "0", "--runtimes", "40")
    assert sandbox.stdout is not None
    said = re.fullmatch(
        r"a Leonardo with 40 runtimes is at (http://127\.0\.0\.1:\d+)\n"
        r"a Google is at (127\.0\.0\.1:\d+)\n"
        r"its jobs are started with (--env sandbox --environments \S+)\n",
        "".join(sandbox.stdout.readline() for _ in range(3)),
    )
    assert said is not None
    shutil.copy(ROOT / "cron.yaml", ".")
    monkeypatch.setenv("LIFECYCLE_GOOGLE_EMULATOR", said[2])
    where = said[3].split()
    assert Path(where[-1], f"{ENVIRONMENT}.yaml").read_text() == environment_file(said[1])
    rehearsal = run("start", "delete-old-runtimes", *where).err.split()[2]
    live = ("--no-dry-run", "--plan", rehearsal, "--yes-i-mean", ENVIRONMENT)
    done = run("start", "delete-old-runtimes", *where, *live)
    assert str(done.code) in INSPECTED, done.err
    assert run("review-audit-log", "verify", *where).code == 0
    sandbox.terminate()
    sandbox.communicate()
    assert sandbox.returncode == 0
    assert not Path(where[-1]).exists()


@pytest.mark.long
def test_the_demo_runs() -> None:
    demo = [
        "make",
        "--assume-old=.venv/.installed",
        "demo",
    ]  # or an edited pyproject.toml would renew it under our feet
    ended = subprocess.run(demo, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "nothing is off" in ended.stdout


# Its queries


def queries() -> list[str]:
    (block,) = re.findall(r"(?m)^```\n(jsonPayload.*?)^```", RECORDS, re.DOTALL)
    return str(block).splitlines()


PROJECTS = ("--project", "terra-12", "--project", "terra-30")


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    """Of a live run with a failure, a refused one and one over a fleet with the runtime of the example."""
    from jobs.__main__ import main  # noqa: PLC0415 - what it prints is of no interest here

    with pytest.MonkeyPatch.context() as patch, serving_google(Google()) as google:
        patch.setenv("LIFECYCLE_GOOGLE_EMULATOR", google.address)
        patch.setenv("LIFECYCLE_AUDIT_CLOUD_LOG", f"projects/p-1/logs/{AUDIT_LOG}")
        for fleet, projects in ((a_fleet(), PROJECTS), (Leonardo([]), ())):
            with serving(fleet) as server:
                server.faults.add(Fault(call="project_list", project="terra-30", status=403))
                main(("delete-old-runtimes", "--leonardo-url", server.url, "--auth", "none", "--no-dry-run", *projects))
        return [shown for _, shown in google.entries]


def test_there_are_five_queries() -> None:
    assert len(queries()) == 5


@pytest.mark.unmeasured
@pytest.mark.parametrize("query", queries())
def test_each_query_names_fields_and_words_of_records_and_finds_some(query: str, entries: list[dict[str, Any]]) -> None:
    known = {name for definition in schema()["$defs"].values() for name in definition.get("properties", {})}
    words = {word for definition in schema()["$defs"].values() for word in definition.get("enum", ())}
    words |= {str(event.__struct_config__.tag) for event in EVENTS} | {"terra-12", "all-of-us-7"}
    assert set(re.findall(r"jsonPayload\.(\w+)", query)) <= known
    assert set(re.findall(r'"([^"]+)"', query)) <= words
    assert 0 < sum(parse(query)(entry) for entry in entries) < len(entries)
