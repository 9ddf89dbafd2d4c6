"""The settings of every job, their defaults and what must not be combined; reading them lives in `reading`."""

import re
from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, create_model, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from core.clock import SETTLING
from core.rules.autopause import AUTOPAUSE_MARGIN, KERNEL_BUSY_LIMIT
from core.rules.exemptions import Exemption
from core.rules.guards import Caps
from core.rules.policy import Policy
from core.settings.addresses import check_url, host_of, is_loopback
from core.settings.durations import Duration, Instant, format_duration
from core.settings.faults import PREFIX, UsageError
from core.settings.projects import check_names, read_projects

P = TypeVar("P", bound=Policy)


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return value  # for pydantic to refuse
    names = [name.strip() for item in value for name in item.split(",") if name.strip()]
    if not names:
        raise ValueError("the list is empty")
    return names


def _exemptions(value: object) -> object:
    from core.settings.exemptions import read_exemptions  # noqa: PLC0415 - most runs have none

    return read_exemptions(value)


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Url = Annotated[str, AfterValidator(check_url)]
Projects = Annotated[CommaList, AfterValidator(check_names)]


class GoogleSettings(BaseSettings):
    """Where on Google Cloud the jobs live and their log is: all that a command needs which runs no job itself."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - these names are pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given and what the environment says; of files there is one alone, which `reading` reads."""
        return init_settings, env_settings

    audit_cloud_log: str | None = Field(
        default=None, description="projects/P/logs/NAME: also keep every record there, acknowledged before each act"
    )
    google_project: str | None = Field(
        default=None, min_length=1, description="project of the Cloud Run job; none: the metadata server is asked"
    )
    google_region: str | None = Field(
        default=None, min_length=1, description="region of the Cloud Run job; none: the metadata server is asked"
    )
    google_emulator: str | None = Field(
        default=None, description="HOST:PORT on loopback that stands in for all of Google, in plaintext"
    )

    @field_validator("audit_cloud_log")
    @classmethod
    def _log_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"projects/[a-z0-9:.-]+/logs/[A-Za-z0-9_.%-]+", name):
            raise ValueError(f"{name!r} is not projects/P/logs/NAME (a slash inside NAME is written %2F)")
        return name

    @field_validator("google_emulator")
    @classmethod
    def _on_loopback(cls, address: str | None) -> str | None:
        host, _, port = (address or "").rpartition(":")
        if address is not None and not (
            is_loopback(host) and port.isascii() and port.isdecimal() and int(port) < 2**16
        ):
            raise ValueError(f"{address!r} is not HOST:PORT on loopback")
        return address


EXCEPT = "except"
"""A word of Python, which a field cannot have as its name where it is written as one."""
if TYPE_CHECKING:
    _Settings = GoogleSettings
else:
    _Settings = create_model(
        "_Settings",
        __base__=GoogleSettings,
        **{
            EXCEPT: (
                CommaList | None,
                Field(default=None, description="PROJECT/NAME: act on none of these, this time; the flag repeats"),
            )
        },
    )


class Settings(_Settings):
    """The settings of every job; names, defaults and bounds are a promise to whoever sets them."""

    environment: str = Field(default="local", min_length=1, max_length=100, description="free word, on every record")
    leonardo_url: Url | None = Field(default=None, description="base URL of Leonardo; required, or --sandbox")
    sandbox: bool = Field(default=False, description="start a Leonardo with a made-up fleet inside this process")
    auth: Literal["google", "none"] = Field(
        default="google", description="google: application default credentials; none: no token, for loopback only"
    )
    impersonate_service_account: str | None = Field(
        default=None, min_length=1, description="act as this service account"
    )
    projects: Projects | None = Field(
        default=None,
        description="billing projects to sweep, default all visible; the flag repeats, the variable has commas",
    )
    projects_file: Path | None = Field(
        default=None, description="file with one billing project per line and # comments, added to projects"
    )
    only: CommaList | None = Field(default=None, description="PROJECT/NAME: judge just these; the flag repeats")
    at_most: int | None = Field(
        default=None, ge=1, description="act on no more than this, the most overdue first; the rest waits (acts)"
    )
    inventory: Path | None = Field(
        default=None, description="saved answer of Leonardo's list to judge instead of asking; dry run only"
    )
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
    delete_errored: bool = Field(default=False, description="runtimes in Error are eligible too, by the same rule")
    kernel_busy_limit: Duration = Field(
        default=KERNEL_BUSY_LIMIT, description="how long a busy kernel may hold off autopause (duration)"
    )
    autopause_margin: Duration = Field(
        default=AUTOPAUSE_MARGIN, description="delay allowed to autopause beyond its threshold (duration)"
    )
    autopause_max_threshold: Duration = Field(
        default=timedelta(days=10), description="a longer autopause threshold is a finding (duration)"
    )
    stuck_after: Duration = Field(
        default=timedelta(hours=2), description="in transition for this long is stuck (duration)"
    )
    stop_overdue: bool = Field(default=False, description="stop runtimes whose autopause is overdue")
    exemptions: Annotated[tuple[Exemption, ...], NoDecode, BeforeValidator(_exemptions)] = Field(
        default=(), description="YAML file, or inline JSON: list of match, until, reason"
    )
    notice_url: Url | None = Field(
        default=None, description="where notices of deletions are posted: https, or http on loopback"
    )
    notice_ahead: Duration = Field(
        default=timedelta(hours=48), description="tell owners of what is due within this (duration)"
    )
    notice_period: Duration | None = Field(
        default=None, description="delete nothing before its owner was told of it for this long (duration)"
    )
    max_acts: int = Field(default=500, ge=1, description="refuse to do more than this in one run (acts)")
    max_act_share: float = Field(
        default=0.25, gt=0, le=1, description="refuse to act on more than this share of the listed runtimes (0 to 1)"
    )
    allow_empty: bool = Field(default=False, description="accept an empty inventory")
    expect_at_least: int = Field(default=0, ge=0, description="refuse an inventory smaller than this (runtimes)")
    max_shrink: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="refuse an inventory smaller by more than this share than runs of 7 days lead to expect (0 to 1)",
    )
    allow_shrunken: bool = Field(default=False, description="accept it: later runs are held to the new size")
    plan: str | None = Field(
        default=None,
        min_length=1,
        description="audit file or run id of a dry run: act only on what it planned and what is still due",
    )
    plan_max_age: Duration = Field(
        default=timedelta(hours=24), description="refuse a plan that is older than this (duration)"
    )
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

    @field_validator("only", EXCEPT)
    @classmethod
    def _project_and_name(cls, paths: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for path in paths or ():
            project, slash, name = path.rpartition("/")
            if not (project and slash and name):
                raise ValueError(f"{path!r} is not PROJECT/NAME")
        return paths

    @field_validator("projects_file")
    @classmethod
    def _some_projects(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_projects(path)
        return path

    @model_validator(mode="after")
    def _agree(self) -> Self:
        faults = [fault for wrong, fault in self._contradictions() if wrong]
        if faults:
            raise UsageError(*faults)
        return self

    def _contradictions(self) -> Iterable[tuple[bool, str]]:
        host = host_of(self.leonardo_url or "")
        least = self.request_timeout + timedelta(seconds=SETTLING)
        swept = frozenset(self.swept or ())
        outside = [path for path in self.only or () if swept and path.rpartition("/")[0] not in swept]
        yield self.leonardo_url is not None and self.sandbox, "leonardo-url and sandbox: give one of them"
        yield self.inventory is not None and self.sandbox, "inventory and sandbox: give one of them"
        yield self.inventory is not None and not self.dry_run, "inventory: a live run asks Leonardo itself"
        yield self.inventory is not None and self.plan is not None, "inventory: a plan is held to by a fresh list"
        yield (
            self.auth == "none" and self.leonardo_url is not None and not is_loopback(host),
            "auth: none is for a Leonardo on loopback only",
        )
        yield (
            self.google_emulator is not None and not self.dry_run and not self.sandbox and not is_loopback(host),
            "google-emulator: a live run may use it with a Leonardo on loopback only",
        )
        yield (
            self.max_age_if_idle > self.max_age,
            f"max-age-if-idle {format_duration(self.max_age_if_idle)} is above max-age {format_duration(self.max_age)}",
        )
        yield (
            self.notice_period is not None and self.notice_period > self.notice_ahead,
            "notice-period: above notice-ahead, so that each deletion would come late",
        )
        yield self.as_of is not None and not self.dry_run, "as-of: a live run judges by the clock only"
        yield self.as_of is not None and self.plan is not None, "as-of: a plan is held to by the clock only"
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
        return self.auth == "google" and not (self.sandbox or self.inventory)

    @property
    def excepted(self) -> tuple[str, ...]:
        """What is not acted on this time."""
        return getattr(self, EXCEPT) or ()

    @cached_property
    def swept(self) -> tuple[str, ...] | None:
        """The billing projects to sweep, each once; None is all that are visible."""
        if self.projects is None and self.projects_file is None:
            return None
        listed = read_projects(self.projects_file) if self.projects_file else ()
        return tuple(dict.fromkeys([*(self.projects or ()), *listed]))

    def policy(self, kind: type[P]) -> P:
        """The policy of a job: each of its fields bears the name of a setting."""
        return kind(**{of.name: getattr(self, of.name) for of in fields(kind) if hasattr(self, of.name)})

    @property
    def caps(self) -> Caps:
        return Caps(max_acts=self.max_acts, max_act_share=self.max_act_share)
