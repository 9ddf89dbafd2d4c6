"""The tree, the README and the published schema agree with the code."""

import ast
import json
import re
from pathlib import Path

import pytest

from core.records.events import EVENTS, schema
from jobs.__main__ import JOBS

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("core/**/*.py"), *ROOT.glob("jobs/**/*.py"), *ROOT.glob("tests/*.py")])
README = (ROOT / "README.md").read_text()


def test_the_published_schema_is_that_of_the_records() -> None:
    published = json.loads((ROOT / "core/records/audit.schema.json").read_text())
    assert published == schema(), "run: make schema"


def test_every_event_stands_in_the_readme() -> None:
    for event in EVENTS:
        assert f"`{event.__struct_config__.tag}`" in README


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.read_text().strip()], ids=lambda m: str(m.relative_to(ROOT))
)
def test_every_module_opens_by_saying_what_lives_there(module: Path) -> None:
    assert (ast.get_docstring(ast.parse(module.read_text())) or "").strip()


def test_every_job_is_a_file_and_every_file_a_job() -> None:
    files = {path.stem.replace("_", "-") for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("__")}
    assert files == set(JOBS)


def test_every_room_of_the_map_exists_and_every_room_is_on_the_map() -> None:
    rooms = set(re.findall(r"^\| `([^`]+)` \|", README.partition("## The map of the rooms")[2], re.MULTILINE))
    assert {room for room in rooms if not (ROOT / room).exists()} == set()
    in_core = {f"core/{p.name}" + ("/" if p.is_dir() else "") for p in (ROOT / "core").iterdir()}
    assert {room for room in in_core if not re.search(r"__|py\.typed", room)} <= rooms


def test_the_clock_is_read_in_one_place() -> None:
    readers = re.compile(r"datetime\.(now|utcnow|today)|time\.time\(")
    reading = {str(p.relative_to(ROOT)) for p in MODULES if p.parts[-2] != "tests" and readers.search(p.read_text())}
    reading -= {str(p.relative_to(ROOT)) for p in ROOT.glob("core/sandbox/*.py")}
    assert reading == {"core/run_clock.py"}


def test_a_dry_run_is_told_apart_in_few_places() -> None:
    rooms = [path for path in MODULES if path.parts[-2] not in ("tests", "records") and path.stem != "answers"]
    assert {str(path.relative_to(ROOT)) for path in rooms if "dry_run" in path.read_text()} == {
        "core/rules/plan.py",
        "core/deployment.py",
        "core/run.py",
        "core/settings/fields.py",
        "core/settings/flags.py",
        "core/sweep.py",
        "jobs/__main__.py",
        "jobs/start.py",
    }


def test_no_lock_file_names_an_address() -> None:
    assert not re.search(r"https?://|index-url|find-links", (ROOT / "tests/constraints.txt").read_text())
