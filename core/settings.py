"""Every knob once: environment, config file and flags are the same fields; what they steer lives elsewhere."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sized
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from core.rules.autopause import AutopauseLimits, AutopausePolicy
from core.rules.deletion import DeletionPolicy
from core.rules.exemptions import LONGEST, Exemption
from core.rules.guards import Caps, Expectations
from core.run_clock import SETTLING

PREFIX = "LIFECYCLE_"
LONGEST_DURATION = timedelta(days=36_500)
"""Nobody means more than a hundred years, and sums of such durations are still durations."""
UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class UsageError(Exception):
    """Settings that cannot be used; one line per fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def parse_duration(value: object) -> object:
    """`14d`, `4h`, `30m`, `36s` or ISO 8601 (`P14D`, `PT4H`) to a timedelta; a bare number is refused."""
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str) and (short := re.fullmatch(r"(\d{1,9})([dhms])", value)):
        duration = timedelta(**{UNITS[short[2]]: int(short[1])})
    elif isinstance(value, str) and re.fullmatch(r"-?P[\dYMWDTHS.,]+", value):
        try:
            duration = TypeAdapter(timedelta).validate_python(value)
        except ValidationError:
            raise ValueError(f"{value!r} is no ISO 8601 duration such as P14D or PT4H") from None
    else:
        raise ValueError(f"{value!r} is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D")
    if duration <= timedelta(0):
        raise ValueError(f"{value!r} is not longer than nothing")
    if duration > LONGEST_DURATION:
        raise ValueError(f"{value!r} is longer than {LONGEST_DURATION.days} days")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` reads back: 14d, 90m, 1.5s as PT1.5S."""
    for letter, unit in UNITS.items():
        count, rest = divmod(duration, timedelta(**{unit: 1}))
        if not rest and (count > 1 or unit != "days"):
            return f"{count}{letter}"
    return f"PT{duration.total_seconds():.6f}".rstrip("0") + "S"


def parse_instant(value: object) -> object:
    """An ISO 8601 instant with a zone, or a bare date, which means 00:00Z."""
    if isinstance(value, datetime):
        return value
    try:
        instant = datetime.fromisoformat(str(value))
        if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", str(value)):
            return datetime.combine(instant, time(), UTC)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{str(value)!r} is neither an instant with a zone (2026-11-20T03:00:00Z) nor a date (2026-11-20)")


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        value = [part for part in (part.strip() for part in value.split(",")) if part]
    if isinstance(value, Sized) and not value:
        raise ValueError("the list is empty")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Instant = Annotated[datetime, BeforeValidator(parse_instant)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Glob = Annotated[str, Field(min_length=1, max_length=128)]


class _Match(BaseModel):
    model_config = ConfigDict(extra="forbid")

    project: Glob | None = None
    name: Glob | None = None
    creator: Glob | None = None
    label: tuple[Glob, ...] = ()

    @field_validator("label", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("label")
    @classmethod
    def _key_and_glob(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if not label.partition("=")[0] or "=" not in label:
                raise ValueError(f"{label!r} is not key=glob")
        return labels

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.project or self.name or self.creator or self.label):
            raise ValueError("it needs project, name, creator or label: an empty match would spare everything")
        return self


class _ExemptionEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    match: _Match
    until: Instant
    reason: Annotated[str, Field(min_length=1, max_length=200)]

    def exemption(self) -> Exemption:
        return Exemption(until=self.until, reason=self.reason, **self.match.model_dump())


_exemption_entries = TypeAdapter(Annotated[list[_ExemptionEntry], Field(max_length=100)])


def _read_exemptions(value: object) -> object:
    """A YAML file's path, or the same as inline JSON (or as a list in the config file), to exemptions."""
    if isinstance(value, str):
        inline = value.lstrip().startswith(("[", "{"))
        value = load_yaml(value, "inline") if inline else load_yaml(_read_file(Path(value)), value)
    try:
        entries = _exemption_entries.validate_python([] if value is None else value)
    except ValidationError as error:
        faults = [f"entry {'.'.join(str(part) for part in e['loc']) or '-'}: {_reason(e)}" for e in error.errors()]
        raise ValueError("; ".join(faults)) from None
    return tuple(entry.exemption() for entry in entries)


class _UniqueKeys(yaml.BaseLoader):
    """Every scalar stays the text that was written (no 1e3, no `off` as False), and no key counts twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = {str(key) for key in keys if keys.count(key) > 1}
        if repeated:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: written twice: {', '.join(sorted(repeated))}")
        return super().construct_mapping(node, deep)


def load_yaml(text: str, name: str) -> Any:
    """YAML with every scalar as text. Raises ValueError."""
    try:
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a BaseLoader builds nothing but text, lists and dicts
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(f"{name} is no readable YAML: {' '.join(str(error).split())}") from None


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"{str(path)!r} cannot be read: {reason}") from None


def is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """The settings of every job; the design's table is their contract."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    environment: str = Field(default="local", min_length=1, max_length=100, description="free word, on every record")
    leonardo_url: str | None = Field(default=None, description="base URL of Leonardo; required, or --sandbox")
    sandbox: bool = Field(default=False, description="start a Leonardo with a made-up fleet inside this process")
    auth: Literal["google", "none"] = Field(
        default="google", description="google: application default credentials; none: no token, for loopback only"
    )
    impersonate_service_account: str | None = Field(default=None, description="act as this service account")
    projects: CommaList | None = Field(
        default=None,
        description="billing projects to sweep, default all visible; the flag repeats, the variable has commas",
    )
    projects_file: Path | None = Field(
        default=None, description="file with one billing project per line, added to projects"
    )
    only: CommaList | None = Field(default=None, description="PROJECT/NAME: judge just these; the flag repeats")
    dry_run: bool = Field(default=True, description="only say what would be done")
    as_of: Instant | None = Field(
        default=None, description="judge as if it were this instant (ISO 8601 with a zone); dry run only"
    )
    max_age: Duration = Field(default=timedelta(days=14), description="delete runtimes older than this (duration)")
    max_age_if_idle: Duration = Field(
        default=timedelta(days=7), description="delete idle runtimes older than this (duration)"
    )
    idle_after: Duration = Field(
        default=timedelta(hours=4), description="idle is not accessed for this long (duration)"
    )
    spare_possibly_busy: bool = Field(
        default=False, description="keep idle Running runtimes that a busy kernel may be holding up"
    )
    kernel_busy_limit: Duration = Field(
        default=timedelta(hours=24), description="how long a busy kernel may hold off autopause (duration)"
    )
    autopause_margin: Duration = Field(
        default=timedelta(minutes=15), description="delay allowed to autopause beyond its threshold (duration)"
    )
    autopause_max_threshold: Duration = Field(
        default=timedelta(days=10), description="a longer autopause threshold is a finding (duration)"
    )
    stuck_after: Duration = Field(
        default=timedelta(hours=2), description="in transition for this long is stuck (duration)"
    )
    stop_overdue: bool = Field(default=False, description="stop runtimes whose autopause is overdue")
    exemptions: Annotated[tuple[Exemption, ...], NoDecode, BeforeValidator(_read_exemptions)] = Field(
        default=(), description="YAML file, or inline JSON: list of match, until, reason"
    )
    max_acts: int = Field(default=500, ge=1, description="refuse to do more than this in one run (acts)")
    max_act_share: float = Field(
        default=0.25, gt=0, le=1, description="refuse to act on more than this share of the listed runtimes (0 to 1)"
    )
    allow_empty: bool = Field(default=False, description="accept an empty inventory")
    expect_at_least: int = Field(default=0, ge=0, description="refuse an inventory smaller than this (runtimes)")
    deadline: Duration = Field(default=timedelta(minutes=45), description="end within this, from the start (duration)")
    request_timeout: Duration = Field(
        default=timedelta(seconds=75),
        description="give up on one request after this (duration; above Leonardo's own 60s)",
    )
    read_concurrency: int = Field(default=8, ge=1, le=16, description="reads in flight (1 to 16)")
    write_concurrency: int = Field(default=4, ge=1, le=16, description="acts in flight (1 to 16)")
    audit_file: Path | None = Field(
        default=None,
        description="append every record to this file too; with a table the default is audit/<run_id>.jsonl",
    )
    started_by: str | None = Field(
        default=None, max_length=200, description="who started the run, for its first record"
    )
    approved_by: str | None = Field(
        default=None, max_length=200, description="who approved the run, for its first record"
    )
    audit_creator: Literal["plain", "omit"] = Field(
        default="plain", description="whether records name the runtime's creator"
    )
    output: Literal["auto", "json", "table"] = Field(
        default="auto", description="json lines, a table, or auto: a table on a terminal"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="diagnostics on stderr")

    @field_validator("leonardo_url")
    @classmethod
    def _bare_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        try:
            parts.port  # noqa: B018 - read to have it checked
        except ValueError:
            raise ValueError("its port is no number from 0 to 65535") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must be an http or https URL")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("it must not hold a user, a password, a query or a fragment")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("plain http is for loopback only: the token would travel in the clear")
        return url

    @field_validator("only")
    @classmethod
    def _project_and_name(cls, only: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for path in only or ():
            project, slash, name = path.rpartition("/")
            if not (project and slash and name):
                raise ValueError(f"{path!r} is not PROJECT/NAME")
        return only

    @field_validator("projects_file")
    @classmethod
    def _some_projects(cls, path: Path | None) -> Path | None:
        if path is not None and not _lines(path):
            raise ValueError(f"{str(path)!r} names no project")
        return path

    @model_validator(mode="after")
    def _agree(self) -> Self:
        faults = [fault for wrong, fault in self._contradictions() if wrong]
        if faults:
            raise UsageError(*faults)
        return self

    def _contradictions(self) -> Iterable[tuple[bool, str]]:
        host = urlsplit(self.leonardo_url or "").hostname
        least = self.request_timeout + timedelta(seconds=SETTLING)
        outside = [path for path in self.only or () if self.swept and path.rpartition("/")[0] not in self.swept]
        yield self.leonardo_url is None and not self.sandbox, "leonardo-url is missing (or use --sandbox)"
        yield self.leonardo_url is not None and self.sandbox, "leonardo-url and sandbox: give one of them"
        yield (
            self.auth == "none" and self.leonardo_url is not None and not is_loopback(host),
            "auth: none is for a Leonardo on loopback only",
        )
        yield (
            self.max_age_if_idle > self.max_age,
            f"max-age-if-idle {format_duration(self.max_age_if_idle)} is above max-age {format_duration(self.max_age)}",
        )
        yield self.as_of is not None and not self.dry_run, "as-of: a live run judges by the clock only"
        yield (
            self.deadline <= least,
            f"deadline: {format_duration(self.deadline)} is not above request-timeout + {SETTLING:g}s"
            f" = {format_duration(least)}: nothing could be done",
        )
        yield bool(outside), f"only: not in one of the projects: {', '.join(outside)}"
        yield (
            self.impersonate_service_account is not None and not self.needs_token,
            "impersonate-service-account: nobody is impersonated without a token (auth none, or sandbox)",
        )

    @property
    def needs_token(self) -> bool:
        return self.auth == "google" and not self.sandbox

    @cached_property
    def swept(self) -> tuple[str, ...] | None:
        """The billing projects to sweep, each once; None is all that are visible."""
        if self.projects is None and self.projects_file is None:
            return None
        listed = _lines(self.projects_file) if self.projects_file else ()
        return tuple(dict.fromkeys([*(self.projects or ()), *listed]))

    @property
    def deletion_policy(self) -> DeletionPolicy:
        return DeletionPolicy(
            max_age=self.max_age,
            max_age_if_idle=self.max_age_if_idle,
            idle_after=self.idle_after,
            spare_possibly_busy=self.spare_possibly_busy,
            autopause=self._autopause_limits,
            exemptions=self.exemptions,
        )

    @property
    def autopause_policy(self) -> AutopausePolicy:
        return AutopausePolicy(
            limits=self._autopause_limits,
            max_threshold=self.autopause_max_threshold,
            stuck_after=self.stuck_after,
            stop_overdue=self.stop_overdue,
        )

    @property
    def _autopause_limits(self) -> AutopauseLimits:
        return AutopauseLimits(kernel_busy_limit=self.kernel_busy_limit, margin=self.autopause_margin)

    @property
    def caps(self) -> Caps:
        return Caps(max_acts=self.max_acts, max_act_share=self.max_act_share)

    @property
    def expectations(self) -> Expectations:
        """Nothing is expected of an inventory that was narrowed to single runtimes."""
        if self.only:
            return Expectations(allow_empty=True, expect_at_least=0)
        return Expectations(allow_empty=self.allow_empty, expect_at_least=self.expect_at_least)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _read_file(path).splitlines() if line.strip()]


SCOPE_FLAGS = ("dry_run", "leonardo_url", "sandbox", "projects", "projects_file", "only")
"""What every sweeping job is asked first."""
RUN_FLAGS = (
    "as_of",
    "max_acts",
    "max_act_share",
    "allow_empty",
    "expect_at_least",
    "deadline",
    "request_timeout",
    "read_concurrency",
    "write_concurrency",
    "auth",
    "impersonate_service_account",
    "environment",
    "started_by",
    "approved_by",
    "audit_file",
    "audit_creator",
    "output",
    "log_level",
)
"""How every sweeping job is run."""
REPEATED_FLAGS = {"projects": "--project", "only": "--only"}
METAVARS = {
    "projects": "PROJECT",
    "only": "PROJECT/NAME",
    "leonardo_url": "URL",
    "as_of": "INSTANT",
    "max_act_share": "SHARE",
    "projects_file": "FILE",
    "exemptions": "FILE",
    "audit_file": "FILE",
}


def flag_of(name: str) -> str:
    return REPEATED_FLAGS.get(name, "--" + name.replace("_", "-"))


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """One flag for each named setting, explained with its default and unit."""
    for name in names:
        info = Settings.model_fields[name]
        text = f"{info.description} [{_default_text(info)}]".replace("%", "%%")
        if info.annotation is bool:
            parser.add_argument(
                flag_of(name), dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            parser.add_argument(
                flag_of(name),
                dest=name,
                action="append" if name in REPEATED_FLAGS else "store",
                default=argparse.SUPPRESS,
                metavar=METAVARS.get(name, _metavar(info)),
                help=text,
            )


def _default_text(info: FieldInfo) -> str:
    match info.default:
        case None | ():
            return "none"
        case bool():
            return "yes" if info.default else "no"
        case timedelta():
            return format_duration(info.default)
        case default:
            return str(default)


def _metavar(info: FieldInfo) -> str:
    if get_origin(info.annotation) is Literal:
        return "|".join(get_args(info.annotation))
    return {timedelta: "DURATION", int: "N"}.get(info.annotation, "TEXT")  # type: ignore[arg-type]


def load_settings(flags: Mapping[str, object], config: Path | None, now: datetime) -> Settings:
    """Flags over the environment over the config file over the defaults. Raises UsageError with every fault found."""
    faults = list(_unknown_variables(os.environ))
    try:
        in_file = {} if config is None else _config_values(config)
    except ValueError as error:
        raise UsageError(*faults, f"config: {error}") from None

    class Sources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=in_file)

    try:
        settings = Sources(**flags)  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError(*faults, *(_fault(e, flags, config) for e in error.errors())) from None
    except UsageError as error:
        raise UsageError(*faults, *error.faults) from None
    faults += [
        f"exemptions: {exemption.reason!r} lasts until {exemption.until:%Y-%m-%d}, more than {LONGEST.days} days ahead"
        for exemption in settings.exemptions
        if exemption.until > now + LONGEST
    ]
    if faults:
        raise UsageError(*faults)
    return settings


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    """pydantic-settings reads the variables that it knows and is silent about a misspelt one."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(name for name, value in environment.items() if value):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            close = get_close_matches(variable.upper(), known, 1)
            yield f"{variable}: unknown setting" + (f"; did you mean {close[0]}?" if close else "")


def _config_values(path: Path) -> dict[str, Any]:
    values = load_yaml(_read_file(path), str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings: it must be a mapping of names to values")  # noqa: TRY004 - a bad file
    named = {str(key).lower().replace("-", "_"): value for key, value in values.items()}
    if len(named) < len(values):
        raise ValueError(f"{path} gives a setting twice")
    return named


def _fault(error: Any, flags: Mapping[str, object], config: Path | None) -> str:
    name = str(error["loc"][0])
    if name in flags:
        origin = flag_of(name)
    elif (variable := PREFIX + name.upper()) in {key.upper() for key, value in os.environ.items() if value}:
        origin = variable
    else:
        origin = f"{name} in {config}"
    if error["type"] == "extra_forbidden":
        close = get_close_matches(name, Settings.model_fields, 1)
        return f"{origin}: unknown setting" + (f"; did you mean {close[0]}?" if close else "")
    return f"{origin}: {_reason(error)}"


def _reason(error: Any) -> str:
    """What is wrong, and with which value where pydantic's own sentence does not quote it."""
    message = str(error["msg"])
    if error["type"] == "value_error":
        return message.removeprefix("Value error, ")
    value = error["input"]
    return f"{message[:1].lower()}{message[1:]}" + (f", not {value!r}" if isinstance(value, str | int | float) else "")
