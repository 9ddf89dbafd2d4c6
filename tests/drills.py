"""Drills for on call: each the text of an alert and the audit log behind it, as real runs leave it; `make drills`."""

import os
import re
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from core.sandbox.app import RequestLog, make_app
from core.sandbox.faults import Fault, FaultScript
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.settings.deployment import read_environment
from core.settings.fields import Settings
from jobs import check_autopause, confirm_deletions, delete_old_runtimes, notify_owners
from tests.conftest import a_machine
from tests.in_process import URL, InProcess

ROOT = Path(__file__).parents[1]
RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text()
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
LOG = Path("audit/records.jsonl")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JOBS = {job.NAME: job.main for job in (delete_old_runtimes, check_autopause, confirm_deletions, notify_owners)}
DELETE, CHECK, CONFIRM, NOTIFY = JOBS


def alert_text(alert: str, environment: str, job: str) -> str:
    """The section of the runbook as Cloud Monitoring sends it: Terraform makes it so."""
    (section,) = re.findall(rf"(?ms)^### ({alert}\n.*?)(?=^##|\Z)", RUNBOOK)
    of = read_environment(ROOT / f"deploy/environments/{environment}.yaml")
    text = re.sub(r"\n<details>.*?</details>\n", "", section, flags=re.DOTALL).strip()
    for word, becomes in {"ENV": environment, "REGION": of.region, "P": of.project, "JOB": job}.items():
        text = re.sub(rf"\b{word}\b", becomes, text)
    groups = f'Approvers: {of.accounts.approvers}. Deployers: {of.accounts.deployers}. Others stand under "Contacts".'
    said = f"{groups} Quoted titles are sections of deploy/RUNBOOK.md."
    return re.sub(r"\[([^]]*)\]\(#[^)]*\)", r'"\1"', text) + f"\n\n{said}"


@dataclass
class Shift:
    """The runs of one drill, on a clock that stands at some hours before now, against an installation of its own."""

    name: str
    environment: str = "prod"
    machines: list[Machine] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    hours_ago: float = 0
    execution: str = ""
    """The latest."""

    def __post_init__(self) -> None:
        self._end = datetime.now(UTC)
        self.leonardo = Leonardo(self.machines, now=self.now, deletion_takes=timedelta(minutes=10))
        self.faults = FaultScript(())
        app = make_app(self.leonardo, self.faults, requests=RequestLog())
        self._host = InProcess(app, Path(os.devnull), LOG)
        self._executions = Random(self.name)  # noqa: S311 - the same names each time is the point
        self._settings = Settings(
            leonardo_url=URL,
            auth="none",
            environment=self.environment,
            spare_possibly_busy=True,
            output="json",
            audit_file=LOG,
            request_timeout=timedelta(seconds=1),
            log_level="ERROR",
            **self.settings,
        )

    def now(self) -> datetime:
        return self._end - self.hours_ago * HOUR

    def run(self, job: str, hours_ago: float) -> None:
        """One run as it is deployed."""
        self.hours_ago = hours_ago
        settings = self._settings.model_copy(update={"dry_run": job in (CHECK, CONFIRM)})
        self.execution = f"{job}-{''.join(self._executions.choices(LETTERS, k=5))}"
        os.environ["CLOUD_RUN_EXECUTION"] = self.execution
        try:
            JOBS[job](settings, Namespace(places=[str(LOG)], since="30d", typed=()), wall=self.now, host=self._host)
        finally:
            del os.environ["CLOUD_RUN_EXECUTION"]


def fleet(old: int = 0, *, idle_hours: float = 100, young: int = 30, young_days: float = 3) -> list[Machine]:
    """So many that are due, and others that are not for long."""
    due = [a_machine(n, days=15 + n / 10, idle_hours=idle_hours) for n in range(1, old + 1)]
    return due + [a_machine(n, days=young_days, status=TrueStatus.STOPPED) for n in range(old + 1, old + young + 1)]


def _stuck_and_old() -> Shift:
    shift = Shift("deleting", machines=fleet(3))
    shift.leonardo.machine("terra-2", "all-of-us-2").deletion_ends_in = "never"
    shift.run(DELETE, 28)
    shift.run(CONFIRM, 20)
    for hours_ago in (9, 6, 3, 0.1):
        shift.run(DELETE, hours_ago)
    return shift


def _in_error_and_old() -> Shift:
    machines = fleet(4)
    for machine in machines[1:3]:
        machine.status = TrueStatus.ERROR
    shift = Shift("error", machines=machines)
    for hours_ago in (9, 6, 3, 0.1):
        shift.run(DELETE, hours_ago)
    return shift


def _mailer_dead() -> Shift:
    shift = Shift(
        "mailer",
        environment="staging",
        machines=fleet(5, young_days=0.5),
        settings={
            "max_age": 7 * DAY,
            "max_age_if_idle": 3 * DAY,
            "notice_period": DAY,
            "notice_url": f"{URL}/notices",
        },
    )
    for hours_ago in (6.1, 3.1, 0.2):
        shift.run(DELETE, hours_ago)
        shift.run(NOTIFY, hours_ago - 0.1)
    return shift


def _cap() -> Shift:
    """The young ones were not there yet when the job was paused."""
    shift = Shift("cap", machines=fleet(14, idle_hours=15 * 24))
    shift.leonardo.roles.update({machine.project: Role.NONE for machine in shift.machines[14:]})
    shift.run(DELETE, 14 * 24)
    shift.leonardo.roles.clear()
    for hours_ago in (3.1, 0.1):
        shift.run(DELETE, hours_ago)
    return shift


def _role_lost() -> Shift:
    shift = Shift("shrunken", machines=fleet(2, young=58))
    for hours_ago in (9.1, 6.1):
        shift.run(DELETE, hours_ago)
    shift.leonardo.roles.update({f"terra-{n}": Role.NONE for n in range(20, 61)})
    for hours_ago in (3.1, 0.1):
        shift.run(DELETE, hours_ago)
    return shift


def _credentials_lost() -> Shift:
    shift = Shift("denied", machines=fleet(2))
    shift.run(DELETE, 6.1)
    shift.faults.add(Fault(call="list", status=401, times=None))
    for hours_ago in (3.1, 0.1):
        shift.run(DELETE, hours_ago)
    return shift


def _deletions_stuck() -> Shift:
    shift = Shift("stuck", machines=fleet(9))
    for machine in shift.machines[:8]:
        machine.deletion_ends_in = "never"
    shift.run(DELETE, 30)
    shift.hours_ago = 29
    shift.leonardo.settle()
    shift.run(CONFIRM, 0.2)
    return shift


def _silence() -> Shift:
    shift = Shift("silence", machines=fleet(2))
    for hours_ago in range(13, 0, -1):
        if hours_ago in (13, 10):
            shift.run(DELETE, hours_ago)
        shift.run(CHECK, hours_ago - 0.5)
    return shift


def _killed() -> Shift:
    """What is due has just become so; the last run is killed while it deletes."""
    machines = [a_machine(n, days=14.1 + n / 100, idle_hours=8) for n in range(1, 7)]
    shift = Shift("killed", machines=machines + fleet(young=30)[6:])
    for hours_ago in (7.2, 4.2, 1.2):
        shift.run(DELETE, hours_ago)
    lines = LOG.read_text().splitlines(keepends=True)
    intents = [n for n, line in enumerate(lines) if line.startswith('{"event":"deletion_requested"')]
    LOG.write_text("".join(lines[: intents[3] + 1]))
    return shift


def _one_project_denied() -> Shift:
    machines = [
        *fleet(2),
        a_machine(90, project="terra-sepsis", days=16),
        a_machine(91, project="terra-sepsis", days=17),
    ]
    shift = Shift("failing", machines=machines)
    shift.leonardo.roles["terra-sepsis"] = Role.READER
    for hours_ago in (9.1, 6.1, 3.1, 0.1):
        shift.run(DELETE, hours_ago)
    return shift


@dataclass(frozen=True)
class Drill:
    """What calls, and how its log comes about."""

    alert: str
    job: str
    play: Callable[[], Shift]
    gcloud: str = ""
    """What Google Cloud would print, written by hand: no drill can ask it."""


PAUSED = """\
$ gcloud scheduler jobs list
ID                   LOCATION     SCHEDULE (TZ)            TARGET_TYPE  STATE
check-autopause      us-central1  37 * * * * (Etc/UTC)     HTTP         ENABLED
confirm-deletions    us-central1  52 5 * * * (Etc/UTC)     HTTP         ENABLED
delete-old-runtimes  us-central1  7 */3 * * * (Etc/UTC)    HTTP         PAUSED

$ gcloud logging read 'protoPayload.methodName:PauseJob' --freshness 30d --format 'table(timestamp, ...)'
TIMESTAMP             PRINCIPAL_EMAIL             RESOURCE_NAME
PAUSED_AT  grace@researchallofus.org  projects/all-of-us-rw-prod/locations/us-central1/jobs/delete-old-runtimes
"""
KILLED = """\
$ gcloud run jobs executions list --job delete-old-runtimes
   JOB                  EXECUTION                  REGION       RUNNING  COMPLETE
X  delete-old-runtimes  RUN_ID  us-central1  0        0 / 1

$ gcloud run jobs executions describe RUN_ID
conditions:
- message: 'Task failed with exit code: 137 and message: Memory limit of 512 MiB exceeded with 523 MiB used.'
  status: 'False'
  type: Completed
"""
DRILLS = (
    Drill("Refused by a guard", DELETE, _cap),
    Drill("Refused by a guard", DELETE, _role_lost),
    Drill("The inventory could not be read", DELETE, _credentials_lost),
    Drill("A deletion did not happen", CONFIRM, _deletions_stuck),
    Drill("A runtime is above the maximum age", DELETE, _stuck_and_old),
    Drill("A runtime is above the maximum age", DELETE, _in_error_and_old),
    Drill("Runs keep ending with failures", DELETE, _one_project_denied),
    Drill("Owners are not told", NOTIFY, _mailer_dead),
    Drill("A job has not run", DELETE, _silence, gcloud=PAUSED),
    Drill("A run ended without a word", DELETE, _killed, gcloud=KILLED),
)
"""In the order of the runbook, which has their answers."""


def lay_out(drill: Drill, folder: Path) -> Path:
    """Play it, and write what on call is given; the folder."""
    before = Path.cwd()
    folder.mkdir(parents=True)
    os.chdir(folder)
    try:
        shift = drill.play()
        text = f"Subject: {shift.environment}: {drill.alert}\nCondition: {drill.job}\n\n"
        Path("alert.md").write_text(text + alert_text(drill.alert, shift.environment, drill.job) + "\n")
        if drill.gcloud:
            paused_at = f"{datetime.now(UTC) - 8 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
            told = drill.gcloud.replace("RUN_ID", shift.execution).replace("PAUSED_AT", paused_at)
            Path("gcloud.txt").write_text(told)
    finally:
        os.chdir(before)
    return folder


if __name__ == "__main__":
    shutil.rmtree("drills", ignore_errors=True)
    for number, drill in enumerate(DRILLS, 1):
        sys.stdout.write(f"{lay_out(drill, Path('drills') / f'{number:02}')}: {drill.alert}\n")
