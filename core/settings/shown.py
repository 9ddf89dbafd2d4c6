"""The effective settings as a config file that says where each came from; reading them lives in `reading`."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from core.rules.exemptions import Exemption
from core.settings.durations import format_duration
from core.settings.fields import GoogleSettings


def show_settings(settings: GoogleSettings, names: Iterable[str], origins: Mapping[str, str]) -> str:
    """These settings, one a line, to be read by a person or as `--config` again. None of them is ever a secret."""
    lines = ((_line(name, getattr(settings, name)), origins.get(name, "default")) for name in names)
    return "".join(f"{line:<40}  # {' '.join(came_from.split())}\n" for line, came_from in lines)


def _line(name: str, value: object) -> str:
    """Whatever it holds; a comment for what is not set."""
    if value is None:
        return f"# {name}:"
    return f"{name}: {_write_value(value)}"


class _OneLine(yaml.SafeDumper):
    """Writes line breaks as escapes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_OneLine.add_representer(str, _OneLine.represent_text)


def _write_value(value: object) -> str:
    written = yaml.dump([_plain(value)], Dumper=_OneLine, default_flow_style=True, width=float("inf"), sort_keys=False)
    return str(written).strip()[1:-1]


def _plain(value: object) -> Any:
    match value:
        case timedelta():
            return format_duration(value)
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case Exemption():
            fields = {name: getattr(value, name) for name in ("project", "name", "creator", "label")}
            match_ = {name: _plain(field) for name, field in fields.items() if field}
            return {"match": match_, "until": value.until.isoformat(), "reason": value.reason}
        case tuple():
            return [_plain(one) for one in value]
        case _:
            return value
