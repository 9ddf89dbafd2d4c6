"""Settings from flags, environment and config file, in this order; what they are lives in `fields`."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from core.rules.exemptions import LONGEST
from core.settings.faults import PREFIX, UsageError, flag_of, reason_of
from core.settings.fields import GoogleSettings, Settings
from core.settings.yaml_text import load_yaml, read_text

S = TypeVar("S", bound=GoogleSettings)
CLOSE = 0.75
"""How alike a misspelt name must be to one that there is, to be asked about."""


def load_settings(flags: Mapping[str, object], config: Path | None, now: datetime) -> Settings:
    """Flags over the environment over the config file over the defaults. Raises UsageError with every fault found."""
    faults = list(_unknown_variables(os.environ))
    try:
        in_file = {} if config is None else config_values(config)
    except ValueError as error:
        raise UsageError(*faults, f"config: {error}") from None
    settings = _read(Settings, flags, in_file, config, faults)
    faults += [
        f"exemptions: {exemption.reason!r} lasts until {exemption.until:%Y-%m-%d}, more than {LONGEST.days} days ahead"
        for exemption in settings.exemptions
        if exemption.until > now + LONGEST
    ]
    if faults:
        raise UsageError(*faults)
    return settings


def load_google_settings(flags: Mapping[str, object]) -> GoogleSettings:
    """Flags over the environment, for a command that runs no job itself. Raises UsageError."""
    known = {name: value for name, value in flags.items() if name in GoogleSettings.model_fields}
    faults = list(_unknown_variables(os.environ))
    settings = _read(GoogleSettings, known, {}, None, faults)
    if faults:
        raise UsageError(*faults)
    return settings


def _read(
    kind: type[S], flags: Mapping[str, object], in_file: dict[str, Any], config: Path | None, faults: list[str]
) -> S:
    """Raises UsageError with the faults found before, and those of the values."""
    below_the_environment = {name: value for name, value in in_file.items() if not _is_variable(name)}
    try:
        return kind(**{**below_the_environment, **flags})
    except ValidationError as error:
        raise UsageError(*faults, *(_fault(e, flags, in_file, config) for e in error.errors())) from None
    except UsageError as error:
        raise UsageError(*faults, *error.faults) from None


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - most spell everything right

    close = get_close_matches(name, known, 1, CLOSE)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    """pydantic-settings reads the variables that it knows and is silent about a misspelt one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(name for name, value in environment.items() if value):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            yield f"{variable}: unknown setting{_did_you_mean(variable.upper(), known)}"


def config_values(path: Path) -> dict[str, Any]:
    """What a config file sets, by name. Raises ValueError."""
    values = load_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings: it must be a mapping of names to values")  # noqa: TRY004 - a bad file
    named = {str(key).lower().replace("-", "_"): value for key, value in values.items()}
    if len(named) < len(values):
        raise ValueError(f"{path} gives a setting twice")
    return {name: value for name, value in named.items() if value != ""}  # as an empty variable, it is unset


def origins(
    flags: Mapping[str, object], config: Path | None = None, *, deployed: Mapping[str, str] | None = None
) -> Callable[[str], str]:
    """Where the value of each setting comes from, by its name; `deployed` says it of those that only flags outdo."""
    told = {**(deployed or {}), **{name: flag_of(name) for name in flags}}
    otherwise = partial(_origin, flags={}, in_file={} if config is None else config_values(config), config=config)
    return lambda name: told.get(name) or otherwise(name)


def _origin(name: str, flags: Mapping[str, object], in_file: Collection[str], config: Path | None) -> str:
    if name in flags:
        return flag_of(name)
    if _is_variable(name):
        return PREFIX + name.upper()
    return f"{name} in {config}" if name in in_file else "default"


def _is_variable(name: str) -> bool:
    """Whether the environment gives this setting a value; an empty one counts as unset."""
    return PREFIX + name.upper() in {key.upper() for key, value in os.environ.items() if value}


def _fault(error: Any, flags: Mapping[str, object], in_file: Collection[str], config: Path | None) -> str:
    name = str(error["loc"][0])
    came_from = _origin(name, flags, in_file, config)
    if error["type"] == "extra_forbidden":
        return f"{came_from}: unknown setting{_did_you_mean(name, Settings.model_fields)}"
    return f"{came_from}: {reason_of(error)}"
