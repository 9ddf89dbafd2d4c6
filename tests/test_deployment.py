"""The schedule and the environments say what the program understands, and say so when they do not."""

import itertools
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from core.sandbox.google_cloud import JOBS as SCHEDULED_IN_SANDBOX
from core.settings.deployment import Cron, Environment, ScheduledJob, read_cron, read_environment
from core.settings.durations import parse_duration
from core.settings.exemptions import read_exemptions
from jobs.__main__ import JOBS, main
from jobs.start import STARTED

ROOT = Path(__file__).parents[1]
CRON = read_cron(ROOT / "cron.yaml")
FILES = sorted(path for path in (ROOT / "deploy/environments").glob("*.yaml") if "." not in path.stem)
ENVIRONMENTS = {path.stem: read_environment(path) for path in FILES}
YOUNG, USUAL = ("7d", "3d", "false"), ("14d", "7d", "true")

ENVIRONMENT = """\
project: all-of-us-rw-prod
region: us-central1
image: us-central1-docker.pkg.dev/all-of-us-rw-prod/images/leo-lifecycle:1.2.3
accounts:
  runner: runner@all-of-us-rw-prod.iam.gserviceaccount.com
  scheduler: scheduler@all-of-us-rw-prod.iam.gserviceaccount.com
  on_call: on-call@example.org
  approvers: approvers@example.org
  deployers: deployers@example.org
alerts:
  channels: [projects/all-of-us-rw-prod/notificationChannels/12]
  autopause_overdue: 10
  stuck: 10
  errored: 10
  busy_share: 0.5
retention: {days: 400, locked: true}
settings: {deadline: 45m}
"""
SCHEDULE = """\
cron:
  - job: delete-old-runtimes
    description: Deletes
    schedule: "0 */3 * * *"
    interval_hours: 3
    timezone: Etc/UTC
    environments:
      test: {schedule: "0 4 * * *", args: [--dry-run]}
      local: {skip: by hand}
"""


def the_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prod.yaml"
    path.write_text(text)
    return path


def scheduled_in(environment: str, cron: Cron = CRON) -> list[ScheduledJob]:
    return [job for entry in cron.cron if (job := entry.at(environment)) is not None]


def scheduled() -> list[tuple[Environment, ScheduledJob]]:
    return [(environment, job) for name, environment in ENVIRONMENTS.items() for job in scheduled_in(name)]


def starts(job: ScheduledJob, count: int = 60) -> list[datetime]:
    began = datetime(2026, 11, 1, tzinfo=ZoneInfo(job.timezone))
    return list(itertools.islice(CronSim(job.schedule, began), count))


def intervals(job: ScheduledJob) -> set[timedelta]:
    return {later - earlier for earlier, later in itertools.pairwise(start.astimezone(UTC) for start in starts(job))}


def test_there_are_the_six_environments_and_their_exemptions() -> None:
    assert sorted(ENVIRONMENTS) == ["local", "preprod", "prod", "stable", "staging", "test"]
    for path in FILES:
        read_exemptions(str(path.with_suffix(".exemptions.yaml")))


@pytest.mark.parametrize(
    ("environment", "job"), scheduled(), ids=lambda value: getattr(value, "name", None) or value.job
)
@pytest.mark.parametrize("rehearsal", [False, True], ids=["live", "rehearsal"])
def test_the_program_takes_every_scheduled_command_line_with_the_settings_of_its_environment(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: Environment,
    job: ScheduledJob,
    rehearsal: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    for name, value in environment.settings.items():
        monkeypatch.setenv(f"LIFECYCLE_{name.upper()}", value if isinstance(value, str) else ",".join(value))
    monkeypatch.setenv("LIFECYCLE_EXEMPTIONS", str(ROOT / f"deploy/environments/{environment.name}.exemptions.yaml"))
    monkeypatch.setenv("LIFECYCLE_AUDIT_CLOUD_LOG", environment.audit_log)
    args = [arg for arg in job.args if not (rehearsal and arg == "--no-dry-run")]
    # Everything is read and weighed before the one fault stops the program: a deadline in which nothing can be done.
    pins = ["--pin", "dry-run=yes"] if rehearsal else []
    assert main([*pins, job.job, *args, "--deadline", "1s"]) == 2
    (fault,) = capsys.readouterr().err.splitlines()
    assert fault.startswith("leo-lifecycle: deadline: 1s is not above")


def test_what_is_scheduled_is_a_job_and_only_deletions_and_notices_act() -> None:
    assert {job.job for job in CRON.cron} <= set(JOBS)
    assert {job.job for _, job in scheduled() if "--no-dry-run" in job.args} == {"delete-old-runtimes", "notify-owners"}


def test_the_sandbox_runs_and_start_starts_what_is_scheduled() -> None:
    assert {job.job: job.args for job in CRON.cron} == SCHEDULED_IN_SANDBOX
    assert {job.job for job in CRON.cron} <= set(STARTED)


def test_every_environment_that_a_job_names_is_there() -> None:
    assert {name for job in CRON.cron for name in job.environments} <= set(ENVIRONMENTS)


def test_deletion_runs_every_three_hours_the_check_hourly_the_confirmation_daily_and_that_of_disks_weekly() -> None:
    assert {job.job: intervals(job) for job in CRON.cron} == {
        "delete-old-runtimes": {timedelta(hours=3)},
        "check-autopause": {timedelta(hours=1)},
        "confirm-deletions": {timedelta(days=1)},
        "check-disks": {timedelta(weeks=1)},
        "notify-owners": {timedelta(hours=3)},
    }


def test_alerts_know_how_long_it_is_to_the_next_run() -> None:
    for _, job in scheduled():
        assert max(intervals(job)) == timedelta(hours=job.interval_hours)


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_run_lasts_until_the_next_and_no_two_jobs_start_within_five_minutes(name: str) -> None:
    environment, jobs = ENVIRONMENTS[name], scheduled_in(name)
    for job in jobs:
        assert min(intervals(job)) > parse_duration(environment.settings["deadline"]) + timedelta(minutes=2)
    for one, other in itertools.combinations(jobs, 2):
        apart = {abs(a - b) for a, b in itertools.product(starts(one, 200), starts(other, 200))}
        assert min(apart) >= timedelta(minutes=5), (one.job, other.job)


def test_environments_that_run_jobs_share_no_google_project() -> None:
    projects = [environment.project for environment in ENVIRONMENTS.values() if scheduled_in(environment.name)]
    assert len(projects) == len(set(projects))


def test_the_limits_are_those_of_the_system_before() -> None:
    def limits(environment: Environment) -> tuple[object, ...]:
        settings = environment.settings
        return settings["max_age"], settings["max_age_if_idle"], settings.get("spare_possibly_busy", "false")

    assert {name: limits(environment) for name, environment in ENVIRONMENTS.items()} == {
        "local": YOUNG,
        "test": YOUNG,
        "staging": YOUNG,
        "stable": USUAL,
        "preprod": USUAL,
        "prod": USUAL,
    }


def commands() -> list[str]:
    runbook = (ROOT / "deploy/RUNBOOK.md").read_text().replace("\\\n", " ")
    return sorted(set(re.findall(r"leo-lifecycle (?:start|review-audit-log|delete-old-runtimes) [^`\n]+", runbook)))


@pytest.mark.parametrize("command", commands())
def test_the_program_understands_every_command_of_the_runbook(capsys: pytest.CaptureFixture[str], command: str) -> None:
    program, *arguments = shlex.split(command)
    # All of it is understood when what is missed is the one thing that is not there.
    if "--env" in arguments and "--from" not in arguments:
        arguments += ["--environments", "nowhere"]
        told = "--env: no environment is described in nowhere"
    else:
        told = "--exemptions: " if "--exemptions" in arguments else "from: audit"
    assert (program, main(arguments)) == ("leo-lifecycle", 2)
    (fault,) = capsys.readouterr().err.splitlines()
    assert fault.startswith(f"leo-lifecycle: {told}")


def test_an_environment_is_read_with_its_name_and_the_place_of_its_records(tmp_path: Path) -> None:
    environment = read_environment(the_file(tmp_path, ENVIRONMENT))
    assert (environment.name, environment.tasks, environment.accounts.on_call) == ("prod", 1, "on-call@example.org")
    assert environment.audit_log == "projects/all-of-us-rw-prod/logs/leo-lifecycle-audit"
    assert environment.alerts.channels == ("projects/all-of-us-rw-prod/notificationChannels/12",)
    assert (environment.retention.days, environment.retention.locked) == (400, True)


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ("project: all-of-us-rw-prod", "project: P", "project: string should match pattern"),
        ("project: all-of-us-rw-prod", "project: another-one", "-: not an account of another-one: runner@all-of-us"),
        (
            "region: us-central1",
            "zone: us-central1-a",
            "region: field required; zone: it is not known here: is it spelt right?",
        ),
        (":1.2.3", "", "image: string should match pattern"),
        (": scheduler@", ": runner@", "-: runner and scheduler must be two accounts"),
        ("deadline: 45m", "deadline: PT45M", "settings: deadline must be there in whole minutes (45m)"),
        ("45m}", "45m, max_age: P14D}", "settings: max_age must be in whole days (14d)"),
        ("deadline: 45m}", "deadline: 45m, projects: [terra-1]}", "settings: not said here but derived: projects"),
        ("deadline: 45m", "max_age: 14d", "settings: deadline must be there in whole minutes (45m)"),
        ("45m}", "45m, dry_run: false}", "settings: not said here but derived: dry_run"),
        ("settings:", "tasks: 3\nsettings:", "-: several tasks need prod.projects.txt"),
        ("/12]", "]", "alerts.channels.0: string should match pattern"),
        ("_overdue: 10", "_overdue: 0", "alerts.autopause_overdue: input should be greater than or equal to 1"),
        ("days: 400", "days: 10y", "retention.days: input should be a valid integer"),
        (", locked: true", "", "retention.locked: field required"),
        (ENVIRONMENT, "- a list", "must be a mapping of names to values"),
    ],
)
def test_a_fault_in_an_environment_is_told_in_one_line(tmp_path: Path, was: str, becomes: str, fault: str) -> None:
    path = the_file(tmp_path, ENVIRONMENT.replace(was, becomes))
    with pytest.raises(ValueError, match=r"prod\.yaml") as raised:
        read_environment(path)
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)


def test_several_tasks_share_the_projects_of_the_file_beside(tmp_path: Path) -> None:
    listed = tmp_path / "prod.projects.txt"
    listed.write_text("terra-1\nterra-2\n")
    environment = read_environment(the_file(tmp_path, ENVIRONMENT + "tasks: 2\n"))
    assert (environment.tasks, environment.projects_file) == (2, listed)


def test_an_environment_overrides_or_skips_a_scheduled_job(tmp_path: Path) -> None:
    cron = read_cron(the_file(tmp_path, SCHEDULE))
    (usual,), (different,) = scheduled_in("prod", cron), scheduled_in("test", cron)
    assert (usual.schedule, usual.args, usual.rehearsal) == ("0 */3 * * *", (), "delete-old-runtimes-dry-run")
    assert (different.schedule, different.args, different.timezone) == ("0 4 * * *", ("--dry-run",), "Etc/UTC")
    assert scheduled_in("local", cron) == []


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ('"0 */3 * * *"', "every 3 hours", "cron.0.schedule: 'every 3 hours' is no unix cron schedule of five fields"),
        ("by hand}", "by hand, args: []}", "cron.0.environments.local: what is skipped needs nothing else"),
        ("skip: by hand", "skip: ''", "cron.0.environments.local.skip: string should have at least 1 character"),
        ("delete-old-runtimes", "Delete", "cron.0.job: string should match pattern"),
        (
            "cron:\n",
            f"cron:\n{SCHEDULE.partition('environments')[0][6:]}\n",
            "cron: scheduled twice: delete-old-runtimes",
        ),
    ],
)
def test_a_fault_in_the_schedule_is_told_in_one_line(tmp_path: Path, was: str, becomes: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"prod\.yaml") as raised:
        read_cron(the_file(tmp_path, SCHEDULE.replace(was, becomes)))
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)
