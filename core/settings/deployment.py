"""What `cron.yaml` and `deploy/environments` say of an installation; what becomes of it on Google Cloud is Terraform's.

Terraform reads the same two files. Here they are typed, for the tests that hold them against the program, and for a
person who starts a job of some environment, or reviews its log, from elsewhere.
"""

import argparse
import re
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.settings.faults import UsageError, did_you_mean, where_and_why
from core.settings.flags import environment_file
from core.settings.yaml_text import load_yaml, read_text

AUDIT_LOG = "leo-lifecycle-audit"
CRON = Path("cron.yaml")
A_WEEK = 168
"""In hours."""
DERIVED_SETTINGS = frozenset(
    {
        "environment",
        "google_project",
        "google_region",
        "google_emulator",
        "audit_cloud_log",
        "exemptions",
        "projects",
        "projects_file",
        "output",
        "dry_run",
    }
)
"""What Terraform sets from the rest of the file, from the files beside it, or from the schedule's own arguments."""

Text = Annotated[str, Field(min_length=1)]
JobName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,53}$")]
"""With `-dry-run` behind it, it is still a name that Cloud Run takes."""
GoogleProject = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
ServiceAccount = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z0-9-]+\.iam\.gserviceaccount\.com$")]
Group = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
Channel = Annotated[str, Field(pattern=r"^projects/[^/\s]+/notificationChannels/\d+$")]
Image = Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[a-z0-9._/-]+(:[\w.-]{1,128}|@sha256:[0-9a-f]{64})$")]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Written = TypeVar("Written", bound=_Written)


def _five_fields(schedule: str | None) -> str | None:
    if schedule is not None and len(schedule.split()) != 5:  # noqa: PLR2004 - minute, hour, day, month, weekday
        raise ValueError(f"{schedule!r} is no unix cron schedule of five fields")
    return schedule


class Override(_Written):
    """What is different in one environment: something else than usual, or nothing at all and why."""

    schedule: str | None = None
    interval_hours: int | None = Field(default=None, ge=1, le=A_WEEK)
    timezone: Text | None = None
    args: tuple[str, ...] | None = None
    skip: Text | None = None

    _schedule = field_validator("schedule")(_five_fields)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.skip is not None and self.model_fields_set != {"skip"}:
            raise ValueError("what is skipped needs nothing else")
        return self


class ScheduledJob(_Written):
    """One job of the schedule."""

    job: JobName
    description: Text
    schedule: str
    interval_hours: int = Field(ge=1, le=A_WEEK)
    """The longest time between two starts of the schedule, for alerts."""
    timezone: Text
    args: tuple[str, ...] = ()
    environments: dict[str, Override] = {}

    _schedule = field_validator("schedule")(_five_fields)

    @property
    def rehearsal(self) -> str:
        """The Cloud Run job that cannot act."""
        return f"{self.job}-dry-run"

    def at(self, environment: str) -> "ScheduledJob | None":
        """As it is scheduled there; None where it is skipped."""
        override = self.environments.get(environment, Override())
        if override.skip is not None:
            return None
        return self.model_copy(update=override.model_dump(exclude_none=True))


class Cron(_Written):
    """The schedule."""

    cron: tuple[ScheduledJob, ...]

    @field_validator("cron")
    @classmethod
    def _each_once(cls, jobs: tuple[ScheduledJob, ...]) -> tuple[ScheduledJob, ...]:
        names = [job.job for job in jobs]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"scheduled twice: {', '.join(repeated)}")
        return jobs


class Accounts(_Written):
    """Who does what on Google Cloud."""

    runner: ServiceAccount
    """The jobs run as this account: a user of Leonardo that owns the billing projects."""
    scheduler: ServiceAccount
    """Cloud Scheduler starts the jobs as this account, which may do nothing else."""
    on_call: Group
    """May rehearse, look, and stop everything."""
    approvers: Group
    """May besides start a live run and resume a schedule."""
    deployers: Group
    """May apply `deploy/terraform`, and by that whatever the runner may."""


class Alerts(_Written):
    """When somebody is called, and who."""

    channels: tuple[Channel, ...]
    """Of Cloud Monitoring; every alert is sent to each."""
    autopause_overdue: int = Field(ge=1)
    """More runtimes than this whose autopause a check finds overdue are an alert,"""
    stuck: int = Field(ge=1)
    """and more than this that it finds stuck,"""
    errored: int = Field(ge=1)
    """and more than this that it finds in Error."""
    busy_share: float = Field(gt=0, lt=1)
    """Of the running ones: more of them that may be busy are an alert."""


class Retention(_Written):
    """How audit records are kept, in the log bucket and in the storage bucket."""

    days: int = Field(ge=1, le=3650)
    """3650 is the most that a log bucket keeps."""
    locked: bool
    """Whether nobody, ever, can shorten that or delete the buckets. It cannot be undone."""


class Environment(_Written):
    """One installation."""

    name: Text
    project: GoogleProject
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+$")]
    image: Image
    accounts: Accounts
    alerts: Alerts
    retention: Retention
    tasks: int = Field(default=1, ge=1, le=100)
    settings: dict[str, str | tuple[str, ...]]
    """The program's own, by their names."""
    projects_file: Path | None = None
    """The file beside it with the projects that are swept, one a line, where there is one."""

    @property
    def audit_log(self) -> str:
        return f"projects/{self.project}/logs/{AUDIT_LOG}"

    @field_validator("settings")
    @classmethod
    def _its_own(cls, settings: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
        if derived := sorted(DERIVED_SETTINGS & settings.keys()):
            raise ValueError(f"not said here but derived: {', '.join(derived)}")
        if not re.fullmatch(r"[1-9]\d*m", str(settings.get("deadline"))):
            raise ValueError("deadline must be there in whole minutes (45m): the task's timeout is 2 minutes more")
        if not re.fullmatch(r"[1-9]\d*d", str(settings.get("max_age", "14d"))):
            raise ValueError("max_age must be in whole days (14d): an alert is told of what is 6 hours older")
        return settings

    @model_validator(mode="after")
    def _agree(self) -> Self:
        foreign = [a for a in (self.accounts.runner, self.accounts.scheduler) if f"@{self.project}." not in a]
        if foreign:
            raise ValueError(f"not an account of {self.project}: {', '.join(foreign)}")
        if self.accounts.runner == self.accounts.scheduler:
            raise ValueError("runner and scheduler must be two accounts: the scheduler's may only start jobs")
        if self.tasks > 1 and self.projects_file is None:
            raise ValueError(f"several tasks need {self.name}.projects.txt, of which each takes its share")
        return self


def read_cron(path: Path) -> Cron:
    """`cron.yaml`. Raises ValueError with what is wrong in it."""
    return _read(Cron, path)


def read_environment(path: Path) -> Environment:
    """`deploy/environments/NAME.yaml`. Raises ValueError with what is wrong in it."""
    projects = path.with_suffix(".projects.txt")
    return _read(Environment, path, name=path.stem, projects_file=projects if projects.exists() else None)


def environment_of(arguments: argparse.Namespace) -> Environment:
    """The one that --env names (`add_environment`). Raises UsageError."""
    file = environment_file(arguments)
    known = sorted(other.stem for other in file.parent.glob("*.yaml") if "." not in other.stem)
    if not known:
        raise UsageError(
            f"--env: no environment is described in {file.parent}: run this in a checkout, or name one's folder by"
            " --environments"
        )
    if not file.exists():
        others = did_you_mean(file.stem, known) or f"; there are {', '.join(known)}"
        raise UsageError(f"--env: there is no environment {file.stem!r}{others}")
    try:
        return read_environment(file)
    except ValueError as error:
        raise UsageError(f"--env: {error}") from None


def deployed_job(job: str, environment: str) -> ScheduledJob:
    """As it is scheduled there, by the checkout in which this runs. Raises UsageError where it is not."""
    try:
        cron = read_cron(CRON)
    except ValueError as error:
        raise UsageError(str(error)) from None
    entry = next((entry for entry in cron.cron if entry.job == job), None)
    if entry is None:
        raise UsageError(f"{job} does not run on Cloud Run: {CRON} has {', '.join(entry.job for entry in cron.cron)}")
    there = entry.at(environment)
    if there is None:
        raise UsageError(f"{job} is not deployed in {environment}: {entry.environments[environment].skip}")
    return there


def _read(model: type[Written], path: Path, **implied: object) -> Written:
    written = load_yaml(read_text(path), str(path))
    if not isinstance(written, dict):
        raise ValueError(f"{path} must be a mapping of names to values")  # noqa: TRY004 - a bad file
    try:
        return model.model_validate(written | implied)
    except ValidationError as error:
        raise ValueError(f"{path}: {'; '.join(map(where_and_why, error.errors()))}") from None
