"""Changes the rules, the review and the comparison in every small way mutmut knows; names each that no test notices.

Ends in 1 unless exactly those go unnoticed that `equivalent_mutants.yaml` lists, each with the reason why nothing comes
of it. What is changed, and which tests are asked, stands in `pyproject.toml`; arguments are those of `mutmut run`.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.yaml")


class Mutant(NamedTuple):
    """One change to a function, by the lines that differ, so that its name outlives other edits."""

    function: str
    was: str
    now: str


def mutmut(*words: str) -> str:
    """What it says; where it fails, the end of this program."""
    ended = subprocess.run(
        [sys.executable, "-m", "mutmut", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        sys.exit(ended.stdout[-10_000:] + ended.stderr)
    return ended.stdout


def mutant(name: str) -> Mutant:
    """By mutmut's name for it, such as `core.rules.plan.xǁPlanǁallows__mutmut_1`."""
    module, _, key = name.rpartition(".")
    function = re.sub("^x[_ǁ]", "", key.partition("__mutmut_")[0]).replace("ǁ", ".")
    body = mutmut("show", name).partition("\n@@")[2].splitlines()
    was, now = (" ".join(line[1:].strip() for line in body if line.startswith(sign)) for sign in "-+")
    return Mutant(f"{module}.{function}", was, now)


def listed() -> set[Mutant]:
    """The mutants that are known to change nothing."""
    by_function = yaml.safe_load(EQUIVALENT.read_text())
    return {Mutant(function, each["was"], each["now"]) for function, mutants in by_function.items() for each in mutants}


def main() -> int:
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    mutmut("run", *sys.argv[1:])
    endings = dict(re.findall(r"^ *(\S+): (.+)$", mutmut("results", "--all", "True"), re.MULTILINE))
    unnoticed = {mutant(name): name for name, ending in endings.items() if ending != "killed"}
    equivalent = listed()
    count = Counter(name.rpartition(".")[0] for name in endings)
    left = Counter(name.rpartition(".")[0] for name in unnoticed.values())
    for module, mutants in sorted(count.items()):
        print(f"{module:24} {mutants:5} mutants, {mutants - left[module]:5} noticed, {left[module]:3} not")
    for survivor in sorted(unnoticed.keys() - equivalent):
        print(f"\nno test notices, in {survivor.function} ({unnoticed[survivor]}):\n- {survivor.was}\n+ {survivor.now}")
    for gone in sorted(equivalent - unnoticed.keys()):
        print(f"\nlisted as equivalent, but noticed or not there, in {gone.function}:\n- {gone.was}\n+ {gone.now}")
    return int(unnoticed.keys() != equivalent)


if __name__ == "__main__":
    sys.exit(main())
