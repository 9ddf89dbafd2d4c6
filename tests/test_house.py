"""The tree, the README and the published schema agree with the code."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from core import __version__
from core.records.events import EVENTS, schema
from core.review import schema as answers
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from core.screen.answers import parts_of
from jobs.__main__ import JOBS
from tests.conftest import Ended, a_machine, delete

pytestmark = pytest.mark.unmeasured
ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "jobs", "tests", "deploy", "benchmarks")
MODULES = sorted([*ROOT.glob("core/**/*.py"), *ROOT.glob("jobs/**/*.py"), *ROOT.glob("tests/*.py")])
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXTS = sorted(
    path
    for path in [*ROOT.glob("*"), *ROOT.glob(".*"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))]
    if re.search(r"\.(md|py|tf|toml|yaml)$|^Makefile$|^Dockerfile$|^\.editorconfig$", path.name)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_published_schema_is_that_of_the_records() -> None:
    published = json.loads((ROOT / "core/records/audit.schema.json").read_text())
    assert published == schema(), "run: make schema"


def test_every_answer_that_is_drawn_is_in_the_published_schema() -> None:
    published = json.loads((ROOT / "core/review/answers.schema.json").read_text())
    assert published == answers.schema(), "run: make schema"
    drawn = {kind for kind in parts_of.registry if kind is not object}
    assert drawn == set(answers.ANSWERS)
    names = [kind.__struct_config__.tag for kind in answers.ANSWERS]
    assert all(re.fullmatch(r"leo-lifecycle/answers/[a-z]+/v1", str(name)) for name in names)
    assert len(names) == len(set(names))


def test_every_event_stands_beside_the_schema() -> None:
    described = (ROOT / "core/records/README.md").read_text()
    for event in EVENTS:
        assert f"`{event.__struct_config__.tag}`" in described


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.read_text().strip()], ids=lambda m: str(m.relative_to(ROOT))
)
def test_every_module_opens_by_saying_what_lives_there(module: Path) -> None:
    assert (ast.get_docstring(ast.parse(module.read_text())) or "").strip()


def test_every_module_beside_the_program_is_a_job_with_a_line_of_its_own_in_the_readme() -> None:
    files = {path.stem.replace("_", "-") for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("__")}
    assert files == set(JOBS)
    told = re.findall(r"(?m)^\| `([a-z-]+)` \| .* \|$", README.partition("## The jobs")[2].partition("\n## ")[0])
    assert sorted(told) == sorted(JOBS)


def test_every_module_and_package_is_on_the_map_and_the_map_names_no_other() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", CONTRIBUTING.partition("## The map")[2], re.MULTILINE))
    assert {place for place in rows if not (ROOT / place).exists()} == set()
    in_core = [p for p in (ROOT / "core").iterdir() if not re.search(r"__|py\.typed", p.name)]
    assert {f"core/{p.name}" + ("/" if p.is_dir() else "") for p in in_core} <= set(rows)
    for package in (p for p in in_core if p.is_dir() and p.name not in ("sandbox", "settings")):
        named = set(re.findall(r"`([\w.]+)`", rows[f"core/{package.name}/"]))
        modules = {p.stem for p in package.glob("*.py")} - {"__init__"}
        assert modules - named == set(), package
        assert {name for name in named if "." not in name} - modules == set(), package


def test_core_has_few_loose_modules_and_no_package_that_holds_most() -> None:
    sizes = {p: len(p.read_text().splitlines()) for p in [*ROOT.glob("core/**/*.py"), *ROOT.glob("jobs/*.py")]}
    loose = [p.name for p in sizes if p.parent == ROOT / "core" and p.stem != "__init__"]
    assert len(loose) <= 4
    for package in {p.parent for p in sizes} - {ROOT / "core"}:
        assert sum(size for p, size in sizes.items() if p.parent == package) <= 0.15 * sum(sizes.values()), package


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """In lines, a function's without its docstring."""
    told = None if isinstance(node, ast.ClassDef) else ast.get_docstring(node, clean=False)
    return (node.end_lineno or 0) - node.lineno + 1 - len((told or "").splitlines())


def _state(node: ast.ClassDef) -> set[str]:
    return {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and ast.unparse(target.value) == "self"
    }


def test_classes_and_functions_can_be_read_at_once() -> None:
    """But for the one that writes each field of a record on a line of its own."""
    beyond: set[str] = set()
    for path in [*ROOT.glob("core/**/*.py"), *ROOT.glob("jobs/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)} {getattr(node, 'name', '')}"
            if isinstance(node, ast.ClassDef) and (_length(node) > 200 or len(_state(node)) > 12):
                beyond.add(where)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _length(node) > 40:
                beyond.add(where)
    assert beyond == {"core/records/events.py runtime_audited"}


def test_what_counts_for_no_coverage_is_not_slowed_by_it_either() -> None:
    assert sys.gettrace() is None


def test_the_clock_is_read_in_one_place() -> None:
    readers = re.compile(r"datetime\.(now|utcnow|today)|time\.time\(")
    reading = {str(p.relative_to(ROOT)) for p in MODULES if p.parts[-2] != "tests" and readers.search(p.read_text())}
    reading -= {str(p.relative_to(ROOT)) for p in ROOT.glob("core/sandbox/*.py")}
    assert reading == {"core/clock.py"}


def test_a_dry_run_is_told_apart_in_few_places() -> None:
    telling = {
        "tests",
        "records",
        "review",
        "verify",
        "report",
        "answers.py",
    }  # what a record says may be read and shown
    modules = [p for p in MODULES if not telling & {*p.parts[-2:]}]
    assert {str(path.relative_to(ROOT)) for path in modules if "dry_run" in path.read_text()} == {
        "core/rules/plan.py",
        "core/run/opening.py",
        "core/run/prepare.py",
        "core/run/account.py",
        "core/run/previous.py",
        "core/run/sweep.py",
        "core/run/treatment.py",
        "core/settings/deployment.py",
        "core/settings/fields.py",
        "core/settings/flags.py",
        "jobs/__main__.py",
        "jobs/notify_owners.py",
        "jobs/start.py",
    }


def test_no_lock_file_names_an_address() -> None:
    for path in (ROOT / "tests").glob("*constraints.txt"):
        assert not re.search(r"https?://|index-url|find-links", path.read_text())


def test_making_mutants_changes_no_version_of_what_the_tests_run_on() -> None:
    def pinned(name: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", (ROOT / "tests" / name).read_text()))

    tested, also = pinned("constraints.txt"), pinned("mutants.constraints.txt")
    assert {name: also[name] for name in tested.keys() & also} == {name: tested[name] for name in tested.keys() & also}


def test_mutants_can_ask_each_test_by_its_id(request: pytest.FixtureRequest) -> None:
    """pytest escapes an id each time it collects in one process: asked by what it was before, none is found.

    To mutmut a question that fails is a change that was noticed.
    """
    asked = PROJECT["tool"]["mutmut"]["pytest_add_cli_args_test_selection"]
    escaped = [item.nodeid for item in request.session.items if "\\" in item.nodeid]
    assert [name for name in escaped if name.startswith(tuple(asked))] == []


def test_there_is_no_module_for_what_belongs_nowhere() -> None:
    assert {path.stem for path in MODULES} & {"utils", "util", "helpers", "common", "misc", "shared", "base"} == set()


def test_the_version_stands_in_one_place_and_is_told_everywhere(run: Callable[..., Ended]) -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    stated = __version__
    assert version("leo-lifecycle") == stated
    with serving(Leonardo([a_machine(1)])) as server:
        ended = run(*delete(server))
        (agent,) = {request.user_agent for request in server.requests}
    assert ended.records[0]["version"] == stated
    assert agent == f"leo-lifecycle/{stated} (delete-old-runtimes)"
    label = re.search(r"VERSION=\"\$\((.*)\)\"", (ROOT / "deploy/Dockerfile").read_text())
    assert label is not None
    said = subprocess.run(["/bin/sh", "-c", label[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == f"{stated}\n"
    modules = (*ROOT.glob("core/**/*.py"), *ROOT.glob("jobs/*.py"))
    stating = [str(path.relative_to(ROOT)) for path in modules if stated in path.read_text()]
    assert stating == re.findall(r"The version stands in `(\S+)` alone", CONTRIBUTING) == ["core/__init__.py"]


def test_the_types_of_both_packages_are_published() -> None:
    assert all((ROOT / package / "py.typed").exists() for package in ("core", "jobs"))


def test_hooks_and_contributors_are_told_targets_that_there_are() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"].split() for hook in local["hooks"]]
    assert (local["repo"], {program for program, _ in entries}) == ("local", {"make"})
    assert {target for _, target in entries} == {"lint", "types", "contracts", "unit"}
    told = set(re.findall(r"`make ([a-z]+)`", CONTRIBUTING + README))
    assert told <= TARGETS


def test_what_contributors_are_told_to_look_at_is_there() -> None:
    told = re.findall(r"`((?:core|jobs|tests|deploy)/[\w./]+)`", CONTRIBUTING)
    assert {path for path in told if not (ROOT / path).exists()} == {"jobs/NAME.py", "deploy/environments/ENV.yaml"}


def test_texts_are_as_the_editor_configuration_wants_them() -> None:
    def off(text: str, *, tabs: bool) -> bool:
        return bool(re.search(r"[ \t]+$|\r|[^\n]\Z", text, re.MULTILINE)) or ("\t" in text and not tabs)

    texts = {str(path.relative_to(ROOT)): path.read_bytes().decode() for path in TEXTS}
    assert {name for name, text in texts.items() if off(text, tabs=name == "Makefile")} == set()


def test_the_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^(#+ .*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["# Changelog", "## [Unreleased]"]
    kinds = {"### Added", "### Changed", "### Deprecated", "### Removed", "### Fixed", "### Security"}
    assert all(heading in kinds or re.fullmatch(r"## \[.+\]( - \d{4}-\d\d-\d\d)?", heading) for heading in headings[1:])
