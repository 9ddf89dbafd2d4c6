"""A month in the life of a fleet: users, outages and lost roles on one side, the deployed jobs on the other."""

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.review.verify import verify
from core.sandbox.faults import Fault
from core.sandbox.installation import RefusedError
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from core.settings.fields import Settings
from jobs import check_autopause, confirm_deletions, delete_old_runtimes

BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
DAYS = 30
USERS, PROJECTS = 300, 200
OUTAGE = 15
"""The day on which Leonardo does not answer."""
ROLE_LOST = 10
"""The day on which the caller loses its role on one project, for good."""
LOST = "terra-7"
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
    deleted: int = 0

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        machine, now = self.machine(project, name), self.now()
        age, idle = now - machine.created, now - machine.accessed
        due = age > MAX_AGE or (age > MAX_AGE_IF_IDLE and idle >= IDLE_AFTER)
        eligible = machine.status in (TrueStatus.RUNNING, TrueStatus.STOPPED)
        if not (due and (eligible or (self.errored_may_go and machine.status is TrueStatus.ERROR))) or delete_disk == "true":
            self.against_the_rule.append(f"{project}/{name} ({machine.status}, {age} old, idle for {idle})")
        self.deleted += 1
        super().delete(project, name, delete_disk=delete_disk)


@dataclass
class Ends:
    """How the runs of each job ended, by day."""

    codes: dict[str, dict[int, Counter[int]]] = field(default_factory=dict)

    def add(self, job: str, day: int, code: int) -> None:
        self.codes.setdefault(job, {}).setdefault(day, Counter())[int(code)] += 1

    def days_with_other_than(self, job: str, *allowed: int) -> dict[int, Counter[int]]:
        return {day: codes for day, codes in self.codes[job].items() if set(codes) - set(allowed)}


class Month:
    """The clock, the users, and who is on call."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - the same month each time is the point
        self.now = BEGIN
        self.leonardo = Watched(
            self._first_machines(),
            now=lambda: self.now,
            deletion_takes=10 * MINUTE,
            move_takes=5 * MINUTE,
            pauses_idle=True,
        )
        self.ends = Ends()
        self.unexplained: list[str] = []
        self.wrong_days: set[int] = set()
        """On which a deletion of ours was known to have ended badly, or Leonardo was away."""

    @property
    def day(self) -> int:
        return (self.now - BEGIN).days

    def _first_machines(self) -> Iterator[Machine]:
        for user in range(USERS):
            age = self.random.random() * 13 * DAY
            yield Machine(
                id=user + 1,
                project=f"terra-{user % PROJECTS}",
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

    def live_an_hour(self, server: SandboxServer) -> None:
        for user in range(USERS):
            chance = self.random.random()
            if chance < 0.03:
                self._use(server, user, chance)

    def _use(self, server: SandboxServer, user: int, chance: float) -> None:
        project, name = f"terra-{user % PROJECTS}", f"all-of-us-{user}"
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

    def settings(self, server: SandboxServer, log: Path, **more: Any) -> Settings:
        return Settings(
            leonardo_url=server.url,
            auth="none",
            environment="prod",
            output="json",
            audit_file=log,
            request_timeout=ONE_TRY,
            log_level="CRITICAL",
            **more,
        )

    def delete(self, server: SandboxServer, **more: Any) -> None:
        log = DELETIONS / f"week-{self.day // 7}.jsonl"
        settings = self.settings(server, log, dry_run=False, **more)
        self.ends.add("delete", self.day, delete_old_runtimes.main(settings, Namespace(), wall=lambda: self.now))

    def check(self, server: SandboxServer) -> None:
        settings = self.settings(server, CHECKS / f"day-{self.day}.jsonl")
        self.ends.add("check", self.day, check_autopause.main(settings, Namespace(), wall=lambda: self.now))

    def confirm(self, server: SandboxServer) -> None:
        log = DELETIONS / "confirmations.jsonl"
        weeks = [DELETIONS / f"week-{week}.jsonl" for week in (self.day // 7 - 1, self.day // 7)]
        places = [str(path) for path in (*weeks, log) if path.exists()]
        arguments = Namespace(places=places, since="8d")
        code = confirm_deletions.main(self.settings(server, log), arguments, wall=lambda: self.now)
        self.ends.add("confirm", self.day, code)

    # who is on call

    def do_as_advised(self, server: SandboxServer) -> None:
        """What the runbook says of the deletions that a confirmation has just found to have ended badly."""
        records = [json.loads(line) for line in (DELETIONS / "confirmations.jsonl").read_text().splitlines()]
        run_id = records[-1]["run_id"]
        bad = [r for r in records if r["run_id"] == run_id and r.get("outcome") in ("errored", "stuck")]
        if bad:
            self.wrong_days.add(self.day)
        for record in bad:
            machine = self.leonardo.machine(record["project"], record["name"])
            machine.deletion_ends_in = "gone"
            if record["outcome"] == "stuck":
                self.leonardo.bury(machine, self.now)
                continue
            self.now += IDLE_AFTER  # until it is idle again
            self.leonardo.errored_may_go = True
            self.delete(server, delete_errored=True, only=[f"{record['project']}/{record['name']}"])
            self.leonardo.errored_may_go = False
            self.now -= IDLE_AFTER

    def look_for_the_old(self) -> None:
        for machine in self.leonardo.living():
            explained = machine.project == LOST or machine.status in (TrueStatus.ERROR, TrueStatus.DELETING)
            age, idle = self.now - machine.created, self.now - machine.accessed
            late = BETWEEN_RUNS + (DAY if OUTAGE <= self.day <= OUTAGE + 1 else 0 * DAY)
            old = age > MAX_AGE + late or (age > MAX_AGE_IF_IDLE + late and idle > IDLE_AFTER + late)
            if old and not explained:
                self.unexplained.append(f"{machine.project}/{machine.name} on day {self.day}: {age} old")


def test_a_month_in_the_life_of_a_fleet() -> None:
    import time, sys
    T: Counter[str] = Counter()
    def timed(name: str, f: Any, *a: Any) -> None:
        t=time.perf_counter(); f(*a); T[name]+=time.perf_counter()-t
    month = Month(seed=11)
    with serving(month.leonardo) as server:
        for hour in range(DAYS * 24):
            month.now = BEGIN + hour * HOUR
            if month.day == ROLE_LOST:
                month.leonardo.roles[LOST] = Role.NONE
            if month.day == OUTAGE and hour % 24 == 0:
                server.faults.add(Fault(status=503, times=None))
            if month.day == OUTAGE + 1 and hour % 24 == 0:
                server.faults.clear()
            timed("users", month.live_an_hour, server)
            if hour % 3 == 0:
                timed("delete", month.delete, server)
            timed("check", month.check, server)
            if hour % 24 == 5:
                month.now += 30 * MINUTE
                timed("confirm", month.confirm, server)
                timed("advise", month.do_as_advised, server)
            if hour % 24 == 23:
                month.look_for_the_old()
    t=time.perf_counter()
    records = AuditRecords(AuditFiles([DELETIONS]))
    verdicts = list(verify(records, month.now))
    T["verify"]=time.perf_counter()-t
    print(T, month.leonardo.deleted, file=sys.stderr)
    print(len(server.requests), Counter(r.call for r in server.requests), file=sys.stderr)
    print(month.ends.days_with_other_than("delete",0), month.ends.days_with_other_than("check",0), month.ends.days_with_other_than("confirm",0), month.wrong_days, file=sys.stderr)
    assert month.leonardo.against_the_rule == []
    assert month.unexplained == []
    assert [fault for verdict in verdicts for fault in verdict.faults] == []
