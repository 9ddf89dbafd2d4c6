"""The drills in the runbook's margin: the commands of each, on the log that it is about, show its answer."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ended
from tests.drills import DRILLS, ROOT, RUNBOOK, Drill, alert_text, lay_out

Run = Callable[..., Ended]
BOX = re.compile(r"<details><summary>Drill (\d+)</summary>\n\n```sh\n(.*?)```\n\n(.*?)\n\n\*\*Answer:\*\*", re.DOTALL)


def boxes() -> list[tuple[str, str, str, str]]:
    """Of each the section that it stands in, its number, its commands and what these show."""
    sections = {text.partition("\n")[0]: text for text in RUNBOOK.split("\n### ")}
    return [(name, *box) for name, text in sections.items() for box in BOX.findall(text)]


def test_the_runbook_has_each_drill_in_the_section_of_its_alert() -> None:
    assert [box[:2] for box in boxes()] == [(drill.alert, str(n)) for n, drill in enumerate(DRILLS, 1)]
    assert RUNBOOK.count("<details>") == len(DRILLS)


@pytest.mark.parametrize(("drill", "box"), list(zip(DRILLS, boxes(), strict=True)))
def test_what_a_drill_says_is_shown_by_its_commands_which_are_those_of_its_alert(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drill: Drill, box: tuple[str, str, str, str]
) -> None:
    _, _, commands, said = box
    folder = lay_out(drill, tmp_path / "drill")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    alert = re.sub(r"(RUN_\w+|EXECUTION) ", "", (folder / "alert.md").read_text())
    shown = f"gcloud.txt {(folder / 'gcloud.txt').read_text()}" if drill.gcloud else ""
    for command in commands.splitlines():
        program, *arguments = shlex.split(command)
        ended = run(*arguments, *(() if "csv" in arguments else ("--output", "table")))
        assert (program, ended.code) == ("leo-lifecycle", 0), ended.err
        shown += ended.out
        told = re.sub(r"(delete|confirm|notify)-[\w-]+-\w{5} ", "", command.partition(" --from audit")[0])
        assert told.replace("--since 30d", "--since 2d") in alert.replace("--since 30d", "--since 2d")
    cut_off = drill.alert == "A run ended without a word"
    assert run("review-audit-log", "verify", "--from", "audit").code == cut_off, "each log is a true one"
    plain = " ".join(shown.split())
    assert [words for words in re.findall(r"`([^`]+)`", said) if " ".join(words.split()) not in plain] == []


def test_the_text_of_an_alert_has_no_answer_in_it_and_is_in_the_environments_words() -> None:
    text = alert_text("A job has not run", "prod", "delete-old-runtimes")
    assert text.startswith("A job has not run\n")
    assert "--job delete-old-runtimes --region us-central1 --project all-of-us-rw-prod" in text
    assert not re.search(r"Drill|\bENV\b|\]\(#", text)
    assert (ROOT / ".gitignore").read_text().count("drills/") == 1
