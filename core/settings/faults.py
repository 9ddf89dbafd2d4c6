"""How settings are named, and what is wrong with them, a line per fault; where they come from lives in `reading`."""

from typing import Any

PREFIX = "LIFECYCLE_"
REPEATED_FLAGS = {"projects": "--project", "only": "--only"}


class UsageError(Exception):
    """Settings that cannot be used; one line per fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def flag_of(name: str) -> str:
    return REPEATED_FLAGS.get(name, "--" + name.replace("_", "-"))


def reason_of(error: Any) -> str:
    """What is wrong, and with which value where pydantic's own sentence does not quote it."""
    message = str(error["msg"])
    if error["type"] == "value_error":
        return message.removeprefix("Value error, ")
    value = error["input"]
    return f"{message[:1].lower()}{message[1:]}" + (f", not {value!r}" if isinstance(value, str | int | float) else "")
