"""What the command itself holds settings to, whatever else is said of them; whether it is said lives in `reading`.

On the standard library alone: the variables that a library would obey are dropped before one is imported.
"""

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from core.settings.faults import PREFIX, UsageError

FLAG = "--pin"
KEPT_PREFIXES = (PREFIX, "CLOUD_RUN_", "LC_")
KEPT = ("TZ", "LANG", "TERM")


class Pin(NamedTuple):
    """A setting and its value as it was written; nothing is unset, which is the setting's default."""

    name: str
    text: str


Pins = Sequence[Pin]


def take_pins(words: Sequence[str]) -> tuple[list[Pin], list[str]]:
    """The pins in front of a job's name, and the words from there on. Raises UsageError."""
    rest = list(words)
    pins = []
    while rest and (rest[0] == FLAG or rest[0].startswith(f"{FLAG}=")):
        flag, inline, text = rest.pop(0).partition("=")
        if not inline and not rest:
            raise UsageError(f"{flag}: give NAME=VALUE")
        name, told, value = (text if inline else rest.pop(0)).partition("=")
        if not (name and told):
            raise UsageError(f"{flag}: {name!r} is not NAME=VALUE (nothing behind the = is unset)")
        pins.append(Pin(name.lower().replace("-", "_"), value))
    return pins, rest


def drop_variables(pins: Pins, environment: MutableMapping[str, str]) -> None:
    """Where Leonardo's address is pinned, so is the way there.

    No variable may name a proxy, an authority, a metadata server or a key that a library would use on its own.
    """
    if any(pin.name == "leonardo_url" for pin in pins):
        for name in [*environment]:
            if name not in KEPT and not name.startswith(KEPT_PREFIXES):
                del environment[name]
