"""Names of billing projects as operators list them, in a value or in a file; which are swept is said in `fields`."""

import re
from pathlib import Path

from core.settings.yaml_text import read_text

NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
"""Google's rule for a project's id, which a billing project shares; that it has 6 characters at least is not asked."""
RULE = "1 to 30 lower-case letters, digits and hyphens, a letter first, no hyphen last"


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError where one cannot be a project's name."""
    for name in names:
        _check(name)
    return names


def read_projects(path: Path) -> list[str]:
    """The names in a text file, one a line; what follows a # is a comment. Raises ValueError."""
    names = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name = line.partition("#")[0].strip()
        if name:
            _check(name, f"line {number} of {str(path)!r}: ")
            names.append(name)
    if not names:
        raise ValueError(f"{str(path)!r} names no project")
    return names


def _check(name: str, where: str = "") -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"{where}{name!r} cannot be a project's name: {RULE}")
