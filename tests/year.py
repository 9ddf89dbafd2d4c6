"""A year in the life of a fleet: users, outages, pauses and a lost role on one side, the deployed jobs on the other."""

import json
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import msgspec

from core.exit_code import ExitCode
from core.records.reader import Record
from core.rules.exemptions import Exemption
from core.sandbox.app import RequestLog, make_app
from core.sandbox.faults import Fault, FaultScript
from core.sandbox.installation import RefusedError
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.users import Users
from core.settings.fields import Settings
from jobs import check_autopause, confirm_deletions, delete_old_runtimes, notify_owners
from tests.in_process import URL, InProcess

BEGIN = datetime(2026, 1, 1, 0, 0, 7, 531_000, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
MAX_AGE, MAX_AGE_IF_IDLE, IDLE_AFTER = 14 * DAY, 7 * DAY, 4 * HOUR
SOONER, SOONER_IF_IDLE = 7 * DAY, 3 * DAY
"""As the environments have it that tell owners."""
NOTICE_PERIOD = DAY
A_WEEK = 7
FEW = 40
"""Of so few users no guard can tell that the half has left."""
BETWEEN_RUNS = 3 * HOUR
STUCK_AFTER = 2 * HOUR
DELETIONS, OTHERS, ACTS = Path("audit/deletions"), Path("audit/others"), Path("acts")
LOG, ROTATED = Path("audit"), Path("rotated")
"""Where owners are told, a day's log of all jobs, and those that no job reads any more."""
LOST_AT, GIVEN_BACK_AT = 9, 21
"""Hours between which the caller has no role on half of the projects."""
CHECKED_EVERY = 30
"""Days: a check asks for each Running runtime alone."""
USES = 0.09
"""How likely a user is to act between two runs."""


@dataclass
class Watched(Leonardo):
    """A service that holds each deletion of the jobs against the rule, by what it alone knows."""

    against_the_rule: list[str] = field(default_factory=list)
    max_age: timedelta = MAX_AGE
    max_age_if_idle: timedelta = MAX_AGE_IF_IDLE
    errored_may_go: bool = False
    ours: set[int] = field(default_factory=set)
    """What the jobs have asked to delete."""

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        machine, now = self.machine(project, name), self.now()
        age, idle = now - machine.created, now - machine.accessed
        due = age > self.max_age or (age > self.max_age_if_idle and idle >= IDLE_AFTER)
        eligible = {TrueStatus.RUNNING, TrueStatus.STOPPED} | ({TrueStatus.ERROR} if self.errored_may_go else set())
        if not due or machine.status not in eligible or delete_disk != "false":
            self.against_the_rule.append(f"{project}/{name} ({machine.status}, {age} old, idle for {idle})")
        self.ours.add(machine.id)
        super().delete(project, name, delete_disk=delete_disk)

    def ended_badly(self) -> bool:
        """Whether a deletion of the jobs has left something standing."""
        self.settle()
        return any(
            machine.status is TrueStatus.ERROR
            or (machine.status is TrueStatus.DELETING and self.now() - machine.accessed >= STUCK_AFTER)
            for machine in self.living()
            if machine.id in self.ours
        )


class Mailer:
    """The site's receiver of notices; what it has taken, each id once."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.dead = False
        self.url = ""

    def take(self, batch: bytes) -> int:
        """The status of the answer."""
        if self.dead:
            return 403
        for event in json.loads(batch):
            self.told.setdefault(event["id"], event)
        return 204


@contextmanager
def receiving() -> Iterator[Mailer]:
    """On loopback."""
    mailer = Mailer()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(mailer.take(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        mailer.url = f"http://127.0.0.1:{server.server_port}/"
        yield mailer
        server.shutdown()


class Year:
    """The clock, the users, and who is on call."""

    def __init__(
        self, days: int, users: int, seed: int, begin: datetime = BEGIN, *, mailer: Mailer | None = None
    ) -> None:
        """With a mailer nothing is deleted unannounced, and the limits are those of environments that have one."""
        self.days, self.users, self.begin, self.mailer = days, users, begin, mailer
        self.outages = {days // 6, days * 2 // 3}
        """Days on which Leonardo does not answer."""
        self.pauses = {days // 3, days // 3 + 1, days * 5 // 6}
        """Days on which the scheduler starts nothing."""
        self.role_lost = days // 2 if users > FEW else days
        self.mailer_dead = range(days // 3 + 2, days // 3 + 2 + A_WEEK)
        self.exemption = Exemption(project="terra-1?", until=begin + days // 2 * DAY, reason="a course")
        """Where owners are told."""
        self.random = Random(seed)  # noqa: S311 - the same year each time is the point
        self.now = begin
        max_age, max_age_if_idle = (MAX_AGE, MAX_AGE_IF_IDLE) if mailer is None else (SOONER, SOONER_IF_IDLE)
        self.leonardo = Watched(
            list(self._first_machines(max_age_if_idle)),
            now=lambda: self.now,
            deletion_takes=10 * MINUTE,
            move_takes=5 * MINUTE,
            pauses_idle=True,
            max_age=max_age,
            max_age_if_idle=max_age_if_idle,
        )
        self.faults, self.requests = FaultScript(()), RequestLog()
        self.host = InProcess(make_app(self.leonardo, self.faults, requests=self.requests), ACTS)
        self.ends: defaultdict[str, dict[int, Counter[int]]] = defaultdict(dict)
        """How the runs of each job ended, by day, where any ended otherwise than in 0."""
        self.late: dict[int, float] = {}
        """The latest act of each day, in seconds."""
        self.unnamed: list[str] = []
        """Runs whose closing record does not count what is above the maximum age."""
        self.wrong_days: set[int] = set()
        """On which a deletion of ours had ended badly when it was asked about."""
        self._disks: dict[int, int | None] = {}
        """Which disk each user had last, and takes again."""
        self._to_delete_again: list[str] = []
        self._settings = Settings(
            leonardo_url=URL,
            auth="none",
            environment="prod",
            output="json",
            request_timeout=timedelta(seconds=1),
            log_level="ERROR",
            max_acts=max(500, users),
        )
        if mailer is not None:  # a table's runs go by all that the folder of logs holds
            told = {"notice_url": mailer.url, "notice_period": NOTICE_PERIOD, "exemptions": (self.exemption,)}
            limits = {"max_age": max_age, "max_age_if_idle": max_age_if_idle}
            self._settings = self._settings.model_copy(update={"output": "table"} | limits | told)
        self._loosened = False
        """Whether whoever is on call lets the next run act on more than a quarter of the fleet."""

    @property
    def day(self) -> int:
        return (self.now - self.begin).days

    def live(self) -> None:
        for slot in range(self.days * DAY // BETWEEN_RUNS):
            self.now = self.begin + slot * BETWEEN_RUNS
            self._weather()
            self._rotate()
            self.host.acts = ACTS / f"month-{self.day // 30:02d}.jsonl"
            if self.day not in self.pauses:
                self._run_what_is_scheduled()
            self._live_until(self.begin + (slot + 1) * BETWEEN_RUNS)

    def _weather(self) -> None:
        hour = self.now.hour
        if self.day in self.outages and hour == 0:
            self.faults.add(Fault(status=503, times=None))
        elif hour == 0:
            self.faults.clear()
        if self.day == self.role_lost and hour == LOST_AT:
            self.leonardo.roles.update({f"terra-{number}": Role.NONE for number in range(0, self.users, 2)})
        elif self.day == self.role_lost and hour == GIVEN_BACK_AT:
            self.leonardo.roles.clear()
        self.requests.reset()

    def _rotate(self) -> None:
        """Put away each log that is older than the notices and runs that a job looks for."""
        for log in sorted(LOG.glob("*.jsonl"))[: -A_WEEK - 1]:
            ROTATED.mkdir(exist_ok=True)
            log.rename(ROTATED / log.name)

    def _log(self, otherwise: Path) -> Path:
        return otherwise if self.mailer is None else LOG / f"day-{self.day:03d}.jsonl"

    def _run_what_is_scheduled(self) -> None:
        self._delete()
        if self.now.hour == 6:
            self.now += 30 * MINUTE
            self._confirm()
            self._delete_again()
        if self.mailer is not None:
            self.now += 20 * MINUTE
            self.mailer.dead = self.day in self.mailer_dead
            settings = self._with(self._log(OTHERS), dry_run=False)
            self._ended("notify", notify_owners.main(settings, Namespace(typed=()), wall=self._wall, host=self.host))
        if self.now.hour == 12 and self.day % CHECKED_EVERY == CHECKED_EVERY - 1:
            settings = self._with(self._log(OTHERS / "checks.jsonl"))
            self._ended("check", check_autopause.main(settings, Namespace(typed=()), wall=self._wall, host=self.host))

    def _first_machines(self, up_to: timedelta) -> Iterator[Machine]:
        for user in range(self.users):
            age = self.random.random() * up_to
            yield Machine(
                id=user + 1,
                project=f"terra-{user}",
                name=f"all-of-us-{user}",
                creator=f"user-{user}@example.org",
                status=TrueStatus.STOPPED,
                created=self.begin - age,
                accessed=self.begin - age * self.random.random(),
                deletion_ends_in=self._fate(),
            )

    def _fate(self) -> Any:
        return self.random.choices(("gone", "error", "never"), (97, 2, 1))[0]

    # the users

    def _live_until(self, then: datetime) -> None:
        """Each user acts at most once, at an instant of their own."""
        users = Users(self.leonardo)
        begin, end = self.now, then
        acting = sorted((self.random.random(), user) for user in range(self.users) if self.random.random() < USES)
        for when, user in acting:
            self.now = begin + when * (end - begin)
            self._use(users, user)

    def _use(self, users: Users, user: int) -> None:
        project, name = f"terra-{user}", f"all-of-us-{user}"
        try:
            machine = self.leonardo.machine(project, name)
        except RefusedError:
            machine = users.create(project, name, creator=f"user-{user}@example.org", disk=self._disks.get(user))
            machine.deletion_ends_in, self._disks[user] = self._fate(), machine.persistent_disk_id
            return
        chance = self.random.random()
        try:
            if chance < 0.01:
                users.delete(project, name)
            elif chance < 0.03:
                users.reset(project, name).deletion_ends_in = self._fate()
            elif machine.status is TrueStatus.STOPPED:
                users.start(project, name)
            else:
                users.touch(project, name)
        except RefusedError:
            return  # it is on its way somewhere

    # the jobs, as deployed

    def _wall(self) -> datetime:
        return self.now

    def _with(self, log: Path, **more: Any) -> Settings:
        """Made once: reading settings takes longer than a run."""
        self.host.log = log
        update = {"audit_file": None if self.mailer else log, "dry_run": True} | more
        return self._settings.model_copy(update=update)

    def _ended(self, job: str, code: int) -> None:
        if code:
            self.ends[job].setdefault(self.day, Counter())[code] += 1

    def _delete(self, job: str = "delete", **more: Any) -> None:
        log = self._log(DELETIONS / f"day-{self.day:03d}.jsonl")
        if self._loosened:
            more["max_act_share"] = 1.0
        settings = self._with(log, dry_run=False, **more)
        begin, before = log.stat().st_size if log.exists() else 0, set(self.leonardo.ours)
        code = delete_old_runtimes.main(settings, Namespace(typed=()), wall=self._wall, host=self.host)
        self._ended(job, code)
        self._loosened = code == ExitCode.REFUSED and self.day != self.role_lost
        if job == "delete" and code == 0:
            with log.open("rb") as file:
                file.seek(begin)
                *_, closing = file
            self._hold_against_the_truth(msgspec.json.decode(closing, type=Record), self.leonardo.ours - before)

    def _hold_against_the_truth(self, closing: Record, accepted: set[int]) -> None:
        if closing.late_s is not None:
            self.late[self.day] = max(closing.late_s.max, self.late.get(self.day, 0.0))
        above = Counter(
            self._kept_by(machine)
            for machine in self.leonardo.living()
            if self.now - machine.created > self.leonardo.max_age and machine.id not in accepted
        )
        if closing.over_age != above:
            self.unnamed.append(
                f"day {self.day}, {self.now.hour} h: {dict(above)} are above, {closing.over_age} is told"
            )

    def _kept_by(self, machine: Machine) -> str:
        """What lives on above the maximum age and could be deleted was not announced, or is exempt."""
        if machine.status not in (TrueStatus.RUNNING, TrueStatus.STOPPED):
            return str(machine.status)
        spared = machine.project.startswith("terra-1") and len(machine.project) == len("terra-1?")
        return "exempt" if spared and self.now < self.exemption.until else "not_noticed"

    def _confirm(self) -> None:
        """By what was done this month and the last, and do what is advised."""
        if self.leonardo.ended_badly() and self.day not in self.outages:
            self.wrong_days.add(self.day)
        log = self._log(OTHERS / f"confirmed-{self.day:03d}.jsonl")
        months = (ACTS / f"month-{month:02d}.jsonl" for month in (self.day // 30 - 1, self.day // 30))
        arguments = Namespace(places=[str(path) for path in months if path.exists()], since="30d", typed=())
        self._ended("confirm", confirm_deletions.main(self._with(log), arguments, wall=self._wall, host=self.host))
        for line in log.read_bytes().splitlines():
            if line.startswith(b'{"event":"deletion_confirmed"') and (b'"errored"' in line or b'"stuck"' in line):
                self._note(json.loads(line))

    # who is on call

    def _note(self, record: dict[str, Any]) -> None:
        """Leonardo's operators end what is stuck; what is in Error is to be deleted again."""
        if record["outcome"] not in ("errored", "stuck"):
            return
        machine = self.leonardo.machine(record["project"], record["name"])
        if machine.id != int(record["runtime_id"]):
            return
        machine.deletion_ends_in = "gone"
        if record["outcome"] == "stuck":
            self.leonardo.bury(machine, self.now)
        else:
            self._to_delete_again.append(f"{machine.project}/{machine.name}")

    def _delete_again(self) -> None:
        """As the confirmation advises."""
        self.leonardo.errored_may_go = True
        for path in self._to_delete_again:
            self.now += MINUTE
            self._delete("delete again", delete_errored=True, only=(path,))
        self.leonardo.errored_may_go = False
        self._to_delete_again.clear()
