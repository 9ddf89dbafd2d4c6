"""What a shell completes once it has read the script: the real bash asks it, as it does for somebody who types."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.settings.faults import flag_of
from jobs.__main__ import JOBS
from jobs.start import FLAGS, STARTED
from tests.conftest import finish, start

SWITCHES = ["dry-run", "sandbox", "spare-possibly-busy", "delete-errored", "allow-empty", "allow-shrunken"]
ASK = """\
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
complete -p leo-lifecycle | { read -r words; [[ $words == *"-F _shtab_leo_lifecycle leo-lifecycle" ]]; } || exit 1
_shtab_leo_lifecycle "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "leo-lifecycle"
    path.write_text(printed("bash"))
    return path


def printed(shell: str) -> str:
    return finish(start("completion", shell)).out


def completed(script: Path, *words: str) -> list[str]:
    asked = ["bash", "--norc", "-c", ASK, "bash", str(script), "leo-lifecycle", *words]
    ended = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.split()


def test_jobs_their_flags_and_the_choices_of_flags_are_completed(script: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.jsonl").touch()
    assert completed(script, "") == list(JOBS)
    assert completed(script, "del") == ["delete-old-runtimes"]
    assert completed(script, "delete-old-runtimes", "--max-age") == ["--max-age", "--max-age-if-idle"]
    assert completed(script, "delete-old-runtimes", "--no-") == [f"--no-{name}" for name in SWITCHES]
    assert completed(script, "check-autopause", "--output", "") == ["auto", "json", "table"]
    assert completed(script, "confirm-deletions", "--auth", "g") == ["google"]
    assert completed(script, "delete-old-runtimes", "--plan", "pl") == ["plan.jsonl"]
    assert completed(script, "review-audit-log", "w") == ["why"]
    assert completed(script, "start", "c") == [job for job in STARTED if job.startswith("c")]
    assert set(completed(script, "start", "check-autopause", "--")) >= set(map(flag_of, FLAGS))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_every_job_and_loads_no_library_while_somebody_types(shell: str) -> None:
    script = printed(shell)
    assert all(job in script for job in JOBS)
    assert "--max-act-share" in script.replace("-l max-act-share", "--max-act-share")
    assert "python" not in script.lower()


def test_without_the_library_it_is_a_usage_error() -> None:
    without = "import sys; sys.modules['shtab'] = None; from jobs.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", without, "completion", "bash"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (
        ended.stderr == "leo-lifecycle: completion: shtab is not installed; in the checkout: pip install '.[console]'\n"
    )
