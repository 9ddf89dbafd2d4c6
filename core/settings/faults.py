"""How settings are named, and what is wrong with them, a line per fault; where they come from lives in `reading`."""

from collections.abc import Iterable
from typing import Any

PREFIX = "LIFECYCLE_"
CLOSE = 0.75
"""How alike a misspelt name must be to one that there is, to be asked about."""
REPEATED_FLAGS = {"projects": "--project", "only": "--only", "except": "--except"}


class UsageError(Exception):
    """Settings that cannot be used; one line per fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def flag_of(name: str) -> str:
    return REPEATED_FLAGS.get(name, "--" + name.replace("_", "-"))


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """The end of a sentence about a name that there is not; empty where none is like it, behind the prefix of all."""
    from difflib import get_close_matches  # noqa: PLC0415 - most spell everything right

    close = get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], 1, CLOSE)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def not_installed(what: str, error: ImportError, extra: str) -> UsageError:
    """What the extra would bring, which pyproject.toml in the checkout has: no public index does."""
    return UsageError(f"{what}: {error.name} is not installed; in the checkout: pip install '.[{extra}]'")


def where_and_why(error: Any) -> str:
    """One of pydantic's errors: by which names it is reached, a dash where it is the whole, and the reason."""
    return f"{'.'.join(str(part) for part in error['loc']) or '-'}: {reason_of(error)}"


def reason_of(error: Any) -> str:
    """What is wrong, and with which value where pydantic's own sentence does not quote it."""
    message = str(error["msg"])
    if error["type"] == "value_error":
        return message.removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return "it is not known here: is it spelt right?"
    value = error["input"]
    return f"{message[:1].lower()}{message[1:]}" + (f", not {value!r}" if isinstance(value, str | int | float) else "")
