"""Settings from flags, environment and config file, in this order, and held to pins; what they are is in `fields`."""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from core.rules.exemptions import LONGEST
from core.settings.faults import PREFIX, UsageError, did_you_mean, flag_of, reason_of
from core.settings.fields import GoogleSettings, Settings
from core.settings.pins import FLAG, Pins
from core.settings.yaml_text import load_yaml, read_text

S = TypeVar("S", bound=GoogleSettings)
NARROWING = frozenset({"plan", "only", "except", "at_most", "projects", "projects_file", "exemptions"})
"""Settings whose empty value could be taken for everything."""
VARIABLES = {PREFIX + name.upper(): name for name in Settings.model_fields}


class Said(NamedTuple):
    """What is said of a setting, and where a person finds it said."""

    origin: str
    value: Any


Source = Mapping[str, Said]
"""What one source says, by the names of settings."""
SILENT: Source = {}


def load_settings(
    flags: Mapping[str, object],
    config: Path | None,
    now: datetime,
    *,
    deployed: Source = SILENT,
    pins: Pins = (),
    shown: bool = False,
) -> Settings:
    """Flags over what is deployed over the environment over the config file over the defaults.

    What is only shown need not say yet where runtimes come from. Raises UsageError with every fault found; where one
    contradicts a pin, with those that do, before all else.
    """
    said = _collect(flags, config, deployed, pins)
    faults = list(_unknown_variables(os.environ))
    settings = _read(Settings, said, faults)
    faults += [
        f"exemptions: {exemption.reason!r} lasts until {exemption.until:%Y-%m-%d}, more than {LONGEST.days} days ahead"
        for exemption in settings.exemptions
        if exemption.until > now + LONGEST
    ]
    if not (shown or settings.leonardo_url or settings.sandbox or settings.inventory):
        faults.append("leonardo-url is missing (or use --sandbox)")
    if faults:
        raise UsageError(*faults)
    return settings


def check_variables() -> None:
    """For a command without settings. Raises UsageError where a variable is of no setting at all."""
    if faults := list(_unknown_variables(os.environ)):
        raise UsageError(*faults)


def load_google_settings(flags: Mapping[str, object], *, deployed: Source = SILENT, pins: Pins = ()) -> GoogleSettings:
    """The same for a command that runs no job itself. Raises UsageError."""
    said = _collect(flags, None, deployed, pins)
    known = {name: said[name] for name in said if name in GoogleSettings.model_fields}
    faults = list(_unknown_variables(os.environ))
    settings = _read(GoogleSettings, known, faults)
    if faults:
        raise UsageError(*faults)
    return settings


def origins(
    flags: Mapping[str, object], config: Path | None = None, *, deployed: Source = SILENT, pins: Pins = ()
) -> Mapping[str, str]:
    """Where the value of each setting comes from that is not at its default. Raises UsageError."""
    return {name: said.origin for name, said in _collect(flags, config, deployed, pins).items()}


def from_file(path: Path, values: Mapping[str, object]) -> Source:
    return {name: Said(f"{name} in {path}", value) for name, value in values.items()}


def check_pins(pins: Pins) -> None:
    """Raises UsageError where a pin cannot be, or where another one or a variable contradicts it."""
    _hold_to(_read_pins(pins), (_variables(os.environ),))


def _read_pins(pins: Pins) -> Source:
    """What the pins say. Raises UsageError where there is no such setting or value, or where two disagree."""
    said = [(name, Said(f"{FLAG} {flag_of(name).removeprefix('--')}", text)) for name, text in pins]
    unknown = [
        f"{origin}: unknown setting{did_you_mean(name, Settings.model_fields)}"
        for name, (origin, _) in said
        if name not in Settings.model_fields
    ]
    if unknown:
        raise UsageError(*unknown)
    source = dict(said)
    for name, (origin, text) in said:
        try:
            _parse_value(name, text)
        except ValidationError as error:
            raise UsageError(f"{origin}: {reason_of(error.errors()[0])}") from None
    _hold_to(source, ({name: one} for name, one in said))
    return source


def _collect(flags: Mapping[str, object], config: Path | None, deployed: Source, pins: Pins) -> dict[str, Said]:
    """By whom it is said that outdoes the others. Raises UsageError."""
    held = _read_pins(pins)
    variables = _variables(os.environ)
    typed = {name: Said(flag_of(name), value) for name, value in flags.items()}
    _hold_to(held, (variables, deployed, typed))
    try:
        in_file = {} if config is None else from_file(config, config_values(config))
    except ValueError as error:
        raise UsageError(*_unknown_variables(os.environ), f"config: {error}") from None
    _hold_to(held, (in_file,))
    return {**in_file, **variables, **deployed, **typed, **{name: one for name, one in held.items() if one.value}}


def _hold_to(held: Source, sources: Iterable[Source]) -> None:
    """Raises UsageError where a source says of a setting anything else than its pin."""
    faults = [
        f"{origin}: {name.replace('_', '-')} is pinned to another value by the command itself"
        for source in sources
        for name, (origin, value) in source.items()
        if name in held and not _is_same(name, value, held[name].value)
    ]
    if faults:
        raise UsageError(*faults)


def _is_same(name: str, value: Any, text: str) -> bool:
    try:
        return bool(_parse_value(name, value) == _parse_value(name, text))
    except ValidationError:
        return False


def _parse_value(name: str, value: Any) -> Any:
    """As it is parsed. Raises ValidationError."""
    info = Settings.model_fields[name]
    if value == "":
        return info.default
    kind: Any = Annotated[(info.annotation, info.description, *info.metadata)]
    return TypeAdapter(kind).validate_python(value)


def _read(kind: type[S], said: Source, faults: list[str]) -> S:
    """Raises UsageError with the faults found before, and those of the values."""
    empty = [name for name in said if name in NARROWING and said[name].value == ""]
    faults += [f"{said[name].origin}: it is empty, which never means all: say which, or leave it out" for name in empty]
    variables = [name for name in said if said[name].origin == PREFIX + name.upper()]  # pydantic-settings reads them
    try:
        return kind(**{name: said[name].value for name in said if name not in (*variables, *empty)})
    except ValidationError as error:
        raise UsageError(*faults, *(_describe_fault(e, said) for e in error.errors())) from None
    except UsageError as error:
        raise UsageError(*faults, *error.faults) from None


def _variables(environment: Mapping[str, str]) -> Source:
    return {
        name: Said(variable, environment[variable])
        for variable, name in VARIABLES.items()
        if variable in environment and _counts_as_set(name, environment[variable])
    }


def _counts_as_set(name: str, value: object) -> bool:
    """An empty variable or key counts as unset, except for what narrows a run."""
    return value != "" or name in NARROWING


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    for variable in sorted(name for name, value in environment.items() if value):
        if variable.upper().startswith(PREFIX) and variable not in VARIABLES:
            yield f"{variable}: unknown setting{did_you_mean(variable.upper(), VARIABLES, prefix=PREFIX)}"


def config_values(path: Path) -> dict[str, Any]:
    """What a config file sets, by name. Raises ValueError."""
    values = load_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings: it must be a mapping of names to values")  # noqa: TRY004 - a bad file
    named = {str(key).lower().replace("-", "_"): value for key, value in values.items()}
    if len(named) < len(values):
        raise ValueError(f"{path} gives a setting twice")
    return {name: value for name, value in named.items() if _counts_as_set(name, value)}


def _describe_fault(error: Any, said: Source) -> str:
    name = str(error["loc"][0])
    came_from = said[name].origin
    if error["type"] == "extra_forbidden":
        return f"{came_from}: unknown setting{did_you_mean(name, Settings.model_fields)}"
    return f"{came_from}: {reason_of(error)}"
