"""Settings from flags, environment and config file, in this order; what they are lives in `fields`."""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from core.rules.exemptions import LONGEST
from core.settings.faults import PREFIX, UsageError, flag_of, reason_of
from core.settings.fields import GoogleSettings, Settings
from core.settings.yaml_text import load_yaml, read_text

S = TypeVar("S", bound=GoogleSettings)
CLOSE = 0.75
"""How alike a misspelt name must be to one that there is, to be asked about."""
VARIABLES = {PREFIX + name.upper(): name for name in Settings.model_fields}


class Said(NamedTuple):
    """What is said of a setting, and where a person finds it said."""

    origin: str
    value: Any


Source = Mapping[str, Said]
"""What one source says, by the names of settings."""
SILENT: Source = {}


def load_settings(
    flags: Mapping[str, object], config: Path | None, now: datetime, *, deployed: Source = SILENT
) -> Settings:
    """Flags over what is deployed over the environment over the config file over the defaults.

    Raises UsageError with every fault found.
    """
    faults = list(_unknown_variables(os.environ))
    try:
        said = _said(flags, config, deployed)
    except ValueError as error:
        raise UsageError(*faults, f"config: {error}") from None
    settings = _read(Settings, said, faults)
    faults += [
        f"exemptions: {exemption.reason!r} lasts until {exemption.until:%Y-%m-%d}, more than {LONGEST.days} days ahead"
        for exemption in settings.exemptions
        if exemption.until > now + LONGEST
    ]
    if faults:
        raise UsageError(*faults)
    return settings


def load_google_settings(flags: Mapping[str, object], *, deployed: Source = SILENT) -> GoogleSettings:
    """The same for a command that runs no job itself. Raises UsageError."""
    said = _said(flags, None, deployed)
    known = {name: said[name] for name in said if name in GoogleSettings.model_fields}
    faults = list(_unknown_variables(os.environ))
    settings = _read(GoogleSettings, known, faults)
    if faults:
        raise UsageError(*faults)
    return settings


def origins(flags: Mapping[str, object], config: Path | None = None, *, deployed: Source = SILENT) -> Mapping[str, str]:
    """Where the value of each setting comes from that is not at its default."""
    return {name: said.origin for name, said in _said(flags, config, deployed).items()}


def from_file(path: Path, values: Mapping[str, object]) -> Source:
    return {name: Said(f"{name} in {path}", value) for name, value in values.items()}


def _said(flags: Mapping[str, object], config: Path | None, deployed: Source) -> dict[str, Said]:
    """By whom it is said that outdoes the others. Raises ValueError."""
    in_file = {} if config is None else from_file(config, config_values(config))
    typed = {name: Said(flag_of(name), value) for name, value in flags.items()}
    return {**in_file, **_variables(os.environ), **deployed, **typed}


def _read(kind: type[S], said: Source, faults: list[str]) -> S:
    """Raises UsageError with the faults found before, and those of the values."""
    try:
        return kind(**{name: value for name, (_, value) in said.items()})
    except ValidationError as error:
        raise UsageError(*faults, *(_fault(e, said) for e in error.errors())) from None
    except UsageError as error:
        raise UsageError(*faults, *error.faults) from None


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - most spell everything right

    close = get_close_matches(name, known, 1, CLOSE)
    return f"; did you mean {close[0]}?" if close else ""


def _variables(environment: Mapping[str, str]) -> Source:
    """An empty variable counts as unset."""
    known = {variable: environment.get(variable) for variable in VARIABLES}
    return {VARIABLES[variable]: Said(variable, value) for variable, value in known.items() if value}


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    for variable in sorted(name for name, value in environment.items() if value):
        if variable.upper().startswith(PREFIX) and variable not in VARIABLES:
            yield f"{variable}: unknown setting{_did_you_mean(variable.upper(), VARIABLES)}"


def config_values(path: Path) -> dict[str, Any]:
    """What a config file sets, by name. Raises ValueError."""
    values = load_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings: it must be a mapping of names to values")  # noqa: TRY004 - a bad file
    named = {str(key).lower().replace("-", "_"): value for key, value in values.items()}
    if len(named) < len(values):
        raise ValueError(f"{path} gives a setting twice")
    return {name: value for name, value in named.items() if value != ""}  # as an empty variable, it is unset


def _fault(error: Any, said: Source) -> str:
    name = str(error["loc"][0])
    came_from = said[name].origin
    if error["type"] == "extra_forbidden":
        return f"{came_from}: unknown setting{_did_you_mean(name, Settings.model_fields)}"
    return f"{came_from}: {reason_of(error)}"
