"""A month in the life of a fleet: users, outages and lost roles on one side, the deployed jobs on the other."""

import json
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.exit_code import ExitCode
from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.sandbox.faults import Fault
from core.sandbox.installation import RefusedError
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from core.settings.fields import Settings
from core.verify import verify
from jobs import check_autopause, confirm_deletions, delete_old_runtimes

BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
DAYS = 30
LOST = "terra-7"
"""The project on which the caller loses its role, for good."""
STUCK_AFTER = 2 * HOUR
MAX_AGE, MAX_AGE_IF_IDLE, IDLE_AFTER = 14 * DAY, 7 * DAY, 4 * HOUR
BETWEEN_RUNS = 3 * HOUR
ONE_TRY = timedelta(seconds=1)
"""Waits between tries grow with the request timeout."""
DELETIONS, CHECKS = Path("audit/deletions"), Path("audit/checks")


@dataclass
class Watched(Leonardo):
    """A service that holds each deletion of the jobs against the rule, by what it alone knows."""

    against_the_rule: list[str] = field(default_factory=list)
    errored_may_go: bool = False
    ours: set[int] = field(default_factory=set)
    """What the jobs have asked to delete."""

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        machine, now = self.machine(project, name), self.now()
        age, idle = now - machine.created, now - machine.accessed
        due = age > MAX_AGE or (age > MAX_AGE_IF_IDLE and idle >= IDLE_AFTER)
        eligible = {TrueStatus.RUNNING, TrueStatus.STOPPED} | ({TrueStatus.ERROR} if self.errored_may_go else set())
        if not due or machine.status not in eligible or delete_disk != "false":
            self.against_the_rule.append(f"{project}/{name} ({machine.status}, {age} old, idle for {idle})")
        self.ours.add(machine.id)
        super().delete(project, name, delete_disk=delete_disk)

    def ended_badly(self) -> bool:
        """Whether a deletion of the jobs has left something standing that the caller can see."""
        self.settle()
        return any(
            machine.status is TrueStatus.ERROR
            or (machine.status is TrueStatus.DELETING and self.now() - machine.accessed >= STUCK_AFTER)
            for machine in self.living()
            if machine.id in self.ours and machine.project not in self.roles
        )


class Ends:
    """How the runs of each job ended, by day."""

    def __init__(self) -> None:
        self._codes: defaultdict[str, defaultdict[int, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))

    def add(self, job: str, day: int, code: int) -> None:
        self._codes[job][day][code] += 1

    def not_zero(self, job: str) -> dict[int, dict[int, int]]:
        """The days on which a run ended in another code than 0, and all of that day's codes."""
        return {day: dict(codes) for day, codes in self._codes[job].items() if set(codes) != {0}}


class Month:
    """The clock, the users, and who is on call."""

    def __init__(self, days: int, users: int, seed: int) -> None:
        self.days, self.users, self.projects = days, users, 2 * users // 3
        self.outage = days // 2
        """The day on which Leonardo does not answer."""
        self.role_lost = days // 3
        self.random = Random(seed)  # noqa: S311 - the same month each time is the point
        self.now = BEGIN
        self.leonardo = Watched(
            list(self._first_machines()),
            now=lambda: self.now,
            deletion_takes=10 * MINUTE,
            move_takes=5 * MINUTE,
            pauses_idle=True,
        )
        self.ends = Ends()
        self.unexplained: list[str] = []
        self.wrong_days: set[int] = set()
        """On which a deletion of ours had ended badly when it was asked about."""
        self._to_delete_again: list[str] = []

    @property
    def day(self) -> int:
        return (self.now - BEGIN).days

    def live(self) -> None:
        with serving(self.leonardo) as server:
            for hour in range(self.days * 24):
                self.now = BEGIN + hour * HOUR
                if hour == self.role_lost * 24:
                    self.leonardo.roles[LOST] = Role.NONE
                if hour == self.outage * 24:
                    server.faults.add(Fault(status=503, times=None))
                if hour == (self.outage + 1) * 24:
                    server.faults.clear()
                self._pass_an_hour(server, hour % 24)

    def _pass_an_hour(self, server: SandboxServer, hour: int) -> None:
        for user in range(self.users):
            chance = self.random.random()
            if chance < 0.03:
                self._use(server, user, chance)
        if hour % 3 == 0:
            self.delete(server)
        self.check(server)
        if hour == 5:
            self.now += 30 * MINUTE
            self.confirm(server)
        if hour == 10:
            self.delete_again(server)
        if hour == 23:
            self.look_for_the_old()

    def _first_machines(self) -> Iterator[Machine]:
        for user in range(self.users):
            age = self.random.random() * 7 * DAY
            yield Machine(
                id=user + 1,
                project=f"terra-{user % self.projects}",
                name=f"all-of-us-{user}",
                creator=f"user-{user}@example.org",
                status=TrueStatus.STOPPED,
                created=BEGIN - age,
                accessed=BEGIN - age * self.random.random(),
                deletion_ends_in=self._fate(),
            )

    def _fate(self) -> Any:
        return self.random.choices(("gone", "error", "never"), (96, 3, 1))[0]

    # the users

    def _use(self, server: SandboxServer, user: int, chance: float) -> None:
        project, name = f"terra-{user % self.projects}", f"all-of-us-{user}"
        try:
            machine = self.leonardo.machine(project, name)
        except RefusedError:
            server.users.create(project, name, creator=f"user-{user}@example.org").deletion_ends_in = self._fate()
            return
        try:
            if chance < 0.001:
                server.users.delete(project, name)
            elif chance < 0.003:
                server.users.reset(project, name).deletion_ends_in = self._fate()
            elif machine.status is TrueStatus.STOPPED:
                server.users.start(project, name)
            else:
                server.users.touch(project, name)
        except RefusedError:
            return  # it is on its way somewhere

    # the jobs, as deployed

    def delete(self, server: SandboxServer, job: str = "delete", **more: Any) -> None:
        settings = self._settings(server, DELETIONS / f"week-{self.day // 7}.jsonl", dry_run=False, **more)
        self.ends.add(job, self.day, delete_old_runtimes.main(settings, Namespace(typed=()), wall=lambda: self.now))

    def check(self, server: SandboxServer) -> None:
        settings = self._settings(server, CHECKS / f"day-{self.day}.jsonl")
        self.ends.add("check", self.day, check_autopause.main(settings, Namespace(typed=()), wall=lambda: self.now))

    def confirm(self, server: SandboxServer) -> None:
        """By the logs of this week and the last, which are rotated, and do what is advised."""
        if self.leonardo.ended_badly() and self.day != self.outage:
            self.wrong_days.add(self.day)
        log = DELETIONS / "confirmations.jsonl"
        weeks = [DELETIONS / f"week-{week}.jsonl" for week in (self.day // 7 - 1, self.day // 7)]
        arguments = Namespace(places=[str(path) for path in (*weeks, log) if path.exists()], since="8d")
        code = confirm_deletions.main(self._settings(server, log), arguments, wall=lambda: self.now)
        self.ends.add("confirm", self.day, code)
        records = [json.loads(line) for line in log.read_text().splitlines()]
        for record in records:
            if record["run_id"] == records[-1]["run_id"] and record.get("outcome") in ("errored", "stuck"):
                self._note(record)

    def _settings(self, server: SandboxServer, log: Path, **more: Any) -> Settings:
        return Settings(
            leonardo_url=server.url,
            auth="none",
            environment="prod",
            output="json",
            audit_file=log,
            request_timeout=ONE_TRY,
            log_level="ERROR",
            **more,
        )

    # who is on call

    def _note(self, record: dict[str, Any]) -> None:
        """Leonardo's operators end what is stuck; what is in Error is to be deleted again."""
        machine = self.leonardo.machine(record["project"], record["name"])
        if machine.id != int(record["runtime_id"]):
            return
        machine.deletion_ends_in = "gone"
        if record["outcome"] == "stuck":
            self.leonardo.bury(machine, self.now)
        else:
            self._to_delete_again.append(f"{machine.project}/{machine.name}")

    def delete_again(self, server: SandboxServer) -> None:
        """As the confirmation advises."""
        self.leonardo.errored_may_go = True
        for path in self._to_delete_again:
            self.now += MINUTE
            self.delete(server, "delete again", delete_errored=True, only=[path])
        self.leonardo.errored_may_go = False
        self._to_delete_again.clear()

    def look_for_the_old(self) -> None:
        for machine in self.leonardo.living():
            explained = machine.project == LOST or machine.status in (TrueStatus.ERROR, TrueStatus.DELETING)
            age, idle = self.now - machine.created, self.now - machine.accessed
            late = BETWEEN_RUNS + (DAY if self.outage <= self.day <= self.outage + 1 else 0 * DAY)
            old = age > MAX_AGE + late or (age > MAX_AGE_IF_IDLE + late and idle > IDLE_AFTER + late)
            if old and not explained:
                self.unexplained.append(f"{machine.project}/{machine.name} on day {self.day}: {age} old")


@pytest.mark.unmeasured
@pytest.mark.parametrize(("days", "users"), [(3, 150), pytest.param(DAYS, 300, marks=pytest.mark.chaos)])
def test_a_month_in_the_life_of_a_fleet(days: int, users: int) -> None:
    """The first days of a small one, where the whole would take too long."""
    month = Month(days, users, seed=11)
    month.live()
    leonardo, ends = month.leonardo, month.ends
    assert leonardo.against_the_rule == []
    assert month.unexplained == []
    assert {job: ends.not_zero(job) for job in ("delete", "check")} == {
        "delete": {month.outage: {ExitCode.UNREADABLE: 8}},
        "check": {month.outage: {ExitCode.UNREADABLE: 24}},
    }
    confirmations = {day: {ExitCode.FAILED: 1} for day in month.wrong_days} | {month.outage: {ExitCode.UNREADABLE: 1}}
    assert ends.not_zero("confirm") == confirmations
    assert len(leonardo.ours) > 5 * days
    assert days < DAYS or len(month.wrong_days) > 1
    for folder in (DELETIONS, CHECKS):
        records = AuditRecords(AuditFiles([folder]))
        verdicts = verify(records, month.now)
        assert [fault for verdict in verdicts for fault in (*verdict.findings, *verdict.in_doubt)] == []
        assert records.faults == []
