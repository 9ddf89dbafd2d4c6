"""What a life is made of, drawn from one number: a fleet, and what happens one after the other, as plain values."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from core.records.events import RuntimeAudited
from core.records.outcome import PLANNED
from core.rules.exemptions import Exemption
from core.sandbox.installation import RefusedError
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.settings.fields import Settings
from tests.lives.process import Process
from tests.lives.rule import SWEEPS

if TYPE_CHECKING:
    from tests.lives.world import World

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
PROJECTS = ("terra-1", "terra-2", "terra-3", "terra-exempt")
AGES = (0.0, 3 * DAY, 6.9 * DAY, 7 * DAY - 30, 7 * DAY + 5, 8 * DAY, 10 * DAY, 14 * DAY - 20, 14 * DAY + 5, 20 * DAY)
IDLE = (0.0, HOUR, 4 * HOUR - 30, 4 * HOUR - 5, 4 * HOUR + 5, 5 * HOUR, 20 * HOUR, 3 * DAY)
GAPS = (HOUR, 3 * HOUR, 3 * HOUR, 5 * HOUR, DAY, 3 * DAY, 7 * DAY, 8 * DAY)
FAULTS = (
    *("request is lost", "answer is lost", "connection breaks before", "connection breaks after", "request is late"),
    *(
        "answer is late",
        "is doubled",
        "500",
        "500 after all",
        "502",
        "502 after all",
        "503, come back",
        "503, come back after all",
    ),
    *("429", "401"),
    *("404", "404 by Sam", "garbage", "garbage after all", "breaks off", "clock is wrong", "refused", "slow connect"),
)
USES = (
    *(
        "touch",
        "touch",
        "touch",
        "stop",
        "stop",
        "start",
        "start",
        "reset",
        "reset",
        "delete",
        "delete",
        "label",
        "label",
    ),
    *("create", "create", "create in vain", "delete_disk"),
)
SINK_FAULTS = ("fails", "fails to sync", "hangs", "is slow", "lies")
EXEMPT_FOR = 9 * DAY
OF_A_POLICY = ("spare_possibly_busy", "delete_errored", "notice_period")
OF_A_PLAN = ("projects", "only", *OF_A_POLICY)
"""What a run that is held to a plan has from it: its policy must be the same."""
OWNERS = ("ada@example.org", "ben@example.org", "researcher@example.org")
NOTICES_URL = "http://localhost:1/notices"
LARGE = 0.08
"""How many fleets are larger than what caps and guards let pass in any case."""
MOST_STEPS = 160
MOMENT = 2e-6
"""Seconds between two processes: no two begin at the very same instant."""


@lru_cache(maxsize=8)
def settings_of(begin: datetime) -> Settings:
    """Those that all runs of a life share; made once, since checking them takes as long as a short run."""
    exemptions = (
        Exemption(until=begin + timedelta(seconds=EXEMPT_FOR), reason="a course", project="terra-exempt"),
        Exemption(until=begin + timedelta(days=60), reason="needed", label=("needed=yes",)),
    )
    base = Settings(
        leonardo_url="http://localhost:1", auth="none", environment="prod", output="json", notice_url=NOTICES_URL
    )
    return base.model_copy(update={"exemptions": exemptions})


@dataclass(frozen=True)
class Event:
    """Something happens, so many seconds after what was before it, or so many steps of the program."""

    after: float = 0.0
    steps: int = 0

    def happen(self, world: "World") -> None:
        raise NotImplementedError

    def come(self, world: "World") -> None:
        if self.steps:
            world.pass_steps(self.steps)
        else:
            world.pass_time(self.after)
        self.happen(world)


@dataclass(frozen=True)
class Run(Event):
    """A job is started."""

    job: str = "delete-old-runtimes"
    options: tuple[tuple[str, Any], ...] = ()
    offset: float = 0.0
    drift: float = 0.0
    tasks: int = 1
    by_plan: bool = False
    """Held to the newest dry run before it."""

    def happen(self, world: "World") -> None:
        chosen: dict[str, Any] = {"audit_file": world.log.path, **dict(self.options)}
        planned = None
        if self.by_plan:
            plans = [p for p in world.processes if p.settings.dry_run and p.job == self.job and p.code == 0]
            if not plans:
                return
            tasks = [p for p in world.processes if p.run_id == plans[-1].run_id]
            audited = [e for p in tasks for e in p.said if isinstance(e, RuntimeAudited)]
            planned = frozenset(int(e.runtime_id or 0) for e in audited if e.outcome in PLANNED)
            chosen |= {name: getattr(plans[-1].settings, name) for name in OF_A_PLAN}
            chosen |= {"plan": str(world.keep_plan(plans[-1])), "dry_run": False}
        if self.job == "notify-owners":
            sweeps = [
                p.settings for p in world.processes if p.job == "delete-old-runtimes" and p.settings.swept is None
            ]
            chosen |= {name: getattr(sweeps[-1], name) for name in OF_A_POLICY if sweeps}
        if self.tasks > 1:
            chosen.setdefault("projects", PROJECTS)
        settings = settings_of(world.at(0)).model_copy(update=chosen)
        settings.__dict__.pop("swept", None)  # what the model has reckoned once it copies
        number = len(world.processes)
        for index in range(self.tasks):
            world.pass_time(MOMENT)
            world.start(
                Process(
                    world=world,
                    number=len(world.processes),
                    job=self.job,
                    settings=settings,
                    offset=self.offset,
                    drift=self.drift,
                    task=(index, self.tasks),
                    run_id=f"run-{number:03d}",
                    planned=planned,
                )
            )


@dataclass(frozen=True)
class Use(Event):
    """A user does something to a runtime, or to one that is to be."""

    what: str = "touch"
    place: int = 0

    def happen(self, world: "World") -> None:
        with suppress(RefusedError):
            if self.what.startswith("create"):
                name, project = f"all-of-us-{self.place % 8}", PROJECTS[self.place % len(PROJECTS)]
                owner = OWNERS[self.place % len(OWNERS)]
                world.users.create(project, name, creator=owner, comes_to_be=self.what == "create")
                world.tell(f"a user does {self.what} {project}/{name}")
                return
            if self.what == "delete_disk":
                numbers = list(world.leonardo.disks)
                world.users.delete_disk(numbers[self.place % len(numbers)] if numbers else 0)
                world.tell(f"a user deletes disk {numbers[self.place % len(numbers)]}")
                return
            living = world.living()
            if living:
                machine = living[self.place % len(living)]
                getattr(world.users, self.what)(machine.project, machine.name)
                world.tell(f"a user does {self.what} to {machine.project}/{machine.name} ({machine.id})")


@dataclass(frozen=True)
class Weather(Event):
    """The next requests of a method fare so."""

    fault: str = "answer is lost"
    method: str = "any"
    times: int = 1

    def happen(self, world: "World") -> None:
        world.faults += [(self.method, self.fault)] * self.times
        world.tell(f"the next {self.times} of {self.method}: {self.fault}")


@dataclass(frozen=True)
class Turn(Event):
    """Leonardo's circumstances change: its database, its back end, a role of the caller."""

    what: str = "calm"
    project: str = ""
    role: Role = Role.OWNER

    def happen(self, world: "World") -> None:
        match self.what:
            case "database fails":
                world.database_is_down = True
            case "slow":
                world.slow = 20.0
            case "deletions hang":
                world.leonardo.deletion_takes = None
            case "moves hang":
                world.leonardo.move_takes = None
            case "odd rows":
                world.odd_rows = True
            case "role":
                world.leonardo.roles[self.project] = self.role
            case "calm":
                world.database_is_down = world.odd_rows = False
                world.slow = 0.0
                world.leonardo.roles.clear()
                world.faults.clear()
                world.leonardo.deletion_takes = world.leonardo.move_takes = timedelta(seconds=5)
        world.tell(f"{self.what} {self.project} {self.role if self.what == 'role' else ''}".rstrip())


@dataclass(frozen=True)
class Blow(Event):
    """Something happens to the newest process, or to its machine."""

    what: str = "kill"
    number: float = 0.0

    def happen(self, world: "World") -> None:
        if not world.running:
            return
        victim = world.running[-1]
        world.tell(f"{self.what} {self.number:g}: {victim}")
        match self.what:
            case "kill":
                victim.kill()
            case "kill in a write":
                victim.kill(torn=self.number)
            case "suspend":
                victim.suspend(self.number)
            case "signal":
                victim.stop()
            case "clock steps":
                victim.offset += self.number
                world.oracle.sees_clock(victim)
            case "power fails":
                for process in world.running:
                    process.kill()
                world.log.lose()
                world.oracle.power_failed = True


@dataclass(frozen=True)
class Sinks(Event):
    """A sink of the newest process behaves so from now on."""

    fault: str = "fails"
    place: int = 0

    def happen(self, world: "World") -> None:
        if world.running:
            sinks = world.running[-1].sinks
            sink = sinks[self.place % len(sinks)]
            sink.fault = self.fault
            world.tell(f"{sink.name} of {world.running[-1].run_id} {self.fault}")


@dataclass(frozen=True)
class Life:
    """A fleet and a history."""

    seed: int
    fleet: tuple[tuple[tuple[str, Any], ...], ...]
    history: tuple[Event, ...]
    has_cloud: bool = False
    pauses_idle: bool = True
    tells: bool = False
    """Whether in the end owners are told before anything goes."""
    raw_rows: tuple[tuple[str | None, bytes], ...] = field(default=())

    def machines(self, begin: datetime) -> Iterator[Machine]:
        for number, described in enumerate(self.fleet):
            about = dict(described)
            age, idle = about.pop("age"), about.pop("idle")
            yield Machine(
                id=number + 1,
                created=begin - timedelta(seconds=age),
                accessed=begin - timedelta(seconds=min(idle, age)),
                **about,
            )


def life_of(seed: int) -> Life:
    """The life of this number."""
    random = Random(seed)  # noqa: S311 - the same life for the same seed is the point
    large = random.random() < LARGE
    size = random.randint(14, 26) if large else random.randint(2, 9)
    projects = random.choice((PROJECTS[:3], PROJECTS[:2], PROJECTS[:1])) if large else PROJECTS
    fleet = tuple(_machine(random, number, projects, AGES[6:] if large else AGES) for number in range(size))
    history: list[Event] = list(_many(random, projects)) if large else []
    for _ in range(random.randint(3, 6) - 2 * large):
        history += _bout(random)
    raw = ((random.choice(PROJECTS), b'{"id":"nobody"}'),) if random.random() < 0.05 else ()
    return Life(seed, fleet, tuple(history), random.random() < 0.4, random.random() < 0.7, random.random() < 0.1, raw)


def _machine(
    random: Random, number: int, projects: Sequence[str], ages: Sequence[float]
) -> tuple[tuple[str, Any], ...]:
    about: dict[str, Any] = {
        "project": random.choice(projects),
        "name": f"all-of-us-{number}",
        "creator": random.choice(OWNERS),
        "age": random.choice(ages) + random.random(),
        "idle": random.choice(IDLE) + random.random(),
        "status": random.choice((TrueStatus.RUNNING, TrueStatus.STOPPED, TrueStatus.STOPPED)),
    }
    if random.random() < 0.3:
        about |= random.choice(
            (
                {"deletion_ends_in": "error"},
                {"deletion_ends_in": "never"},
                {"status": TrueStatus.ERROR},
                {"status": TrueStatus.UNKNOWN},
                {"config_type": "GceConfig"},
                {"config_type": "Dataproc"},
                {"kernel_busy": True, "status": TrueStatus.RUNNING},
                {"autopause_threshold": 0, "status": TrueStatus.RUNNING},
                {"hidden": True},
                {"labels": {"needed": "yes"}},
                {"cloud_provider": "AZURE", "config_type": "AzureVmConfig"},
            )
        )
    return tuple(about.items())


def _bout(random: Random) -> Iterator[Event]:
    """Days pass, something changes, runs come and go, and it calms down again or not."""
    yield Use(after=random.choice(GAPS) + random.random(), what=random.choice(USES), place=random.randrange(9))
    for _ in range(random.choice((0, 0, 1, 2, 4))):
        yield _before(random)
    chance = random.random()
    if chance < 0.07:
        yield from _with_notices(random)
    elif chance < 0.17:
        yield Run(options=(("dry_run", True),))
        yield Use(after=random.choice((HOUR, 5 * HOUR, 20 * HOUR)), what=random.choice(USES), place=random.randrange(9))
        yield Run(by_plan=True, options=(("allow_empty", True),))
    else:
        yield _run(random)
    for _ in range(random.choice((0, 1, 2, 3, 5))):
        event = _during(random)
        yield event
        if isinstance(event, Blow) and random.random() < 0.5:  # while what was asked for is still under way
            yield Run(after=random.choice((0.0, 0.5, 3.0)), options=(("dry_run", False),))
    yield Turn(after=random.choice((0.5, 4 * MINUTE, HOUR)) if random.random() < 0.8 else HOUR, what="calm")


def _many(random: Random, projects: Sequence[str]) -> Iterator[Event]:
    """What only a large fleet meets: too much at once, all that fails, a role that is lost on many."""
    live = Run(options=(("dry_run", False), ("max_act_share", 1.0)))
    lost = Turn(after=MINUTE, what="role", project=projects[0], role=Role.NONE)
    match random.randrange(5):
        case 0:
            yield Run(options=(("dry_run", False),))
        case 1:
            yield Weather(fault=random.choice(("500", "502", "401", "404", "breaks off")), method="DELETE", times=40)
            yield live
        case 2:
            yield live
            yield replace(lost, steps=random.randint(10, 150))
        case 3:
            yield Run(options=(("dry_run", random.random() < 0.5),))
            yield lost
            yield Run(options=(("dry_run", False), ("allow_empty", True)))
        case 4:
            yield live
            yield lost
            yield Run(job="confirm-deletions")
    yield Turn(after=HOUR, what="calm")


def _with_notices(random: Random) -> Iterator[Event]:
    """A run that finds what is due, owners who are told, and a run that acts once they have had their time."""
    period = random.choice((timedelta(hours=1), timedelta(days=1)))
    policy = (("notice_period", period), ("allow_empty", True))
    yield Run(options=(*policy, ("dry_run", random.random() < 0.5)))
    for _ in range(random.choice((0, 0, 1))):
        yield _before(random)
    yield Run(after=random.choice((0.0, 60.0, 5 * HOUR)), job="notify-owners", options=(("dry_run", False),))
    for _ in range(random.choice((0, 0, 1))):
        yield _during(random)
    later = period.total_seconds() + random.choice((-30.0, 5.0, HOUR))
    yield Use(after=later, what=random.choice(USES), place=random.randrange(9))
    yield Run(options=(*policy, ("dry_run", False)))


def _before(random: Random) -> Event:
    chance = random.random()
    if chance < 0.35:
        return Use(after=random.choice((1.0, 30.0, 600.0)), what=random.choice(USES), place=random.randrange(9))
    if chance < 0.75:
        return _weather(random, 0)
    if chance < 0.9:
        return Turn(what="role", project=random.choice(PROJECTS), role=random.choice(tuple(Role)))
    return Turn(what=random.choice(("database fails", "slow", "deletions hang", "moves hang", "odd rows", "odd rows")))


def _weather(random: Random, steps: int) -> Event:
    method = random.choice(("any", "GET", "DELETE", "DELETE", "POST"))
    times = random.choice((1, 1, 1, 2, 6, 12))
    return Weather(steps=steps, fault=random.choice(FAULTS), method=method, times=times)


def _run(random: Random, steps: int = 0) -> Event:
    options = _options(random)
    job = "delete-old-runtimes"
    chance = random.random()
    if chance < 0.1:
        job, options = "confirm-deletions", {}
    elif chance < 0.2:
        job, options["stop_overdue"] = "check-autopause", random.random() < 0.7
    elif chance < 0.23:
        job, options = "check-disks", {}
    elif chance < 0.25:
        job, options = "notify-owners", {"dry_run": random.random() < 0.2}
    shared = job in SWEEPS and "only" not in options and random.random() < 0.08
    tasks = random.choice((2, 2, 3)) if shared else 1
    if tasks > 1 and random.random() < 0.5:
        options["max_acts"] = tasks
    clock = random.choice((0.0,) * 50 + (140.0, -140.0, 290.0, -290.0, 400.0, -4000.0))
    return Run(
        steps=steps,
        after=random.choice((0.0, 0.0, 1.0)),
        job=job,
        options=tuple(options.items()),
        offset=clock,
        drift=random.choice((0.0, 0.0, 0.0, 0.001, -0.001)),
        tasks=tasks,
        by_plan=job == "delete-old-runtimes" and random.random() < 0.1,
    )


def _options(random: Random) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    chance = random.random()
    if chance < 0.12:
        scope["projects"] = PROJECTS[: random.randint(1, 4)]
    elif chance < 0.17:
        scope["only"] = (f"{random.choice(PROJECTS)}/all-of-us-{random.randrange(9)}",)
    others = {
        "spare_possibly_busy": True,
        "delete_errored": True,
        "max_acts": random.choice((1, 2)),
        "at_most": random.choice((1, 2)),
        "except": tuple(f"terra-{number}/all-of-us-{random.randrange(9)}" for number in (1, 2, 3)),
        "max_act_share": 1.0,
        "allow_shrunken": True,
        "allow_empty": True,
        "write_concurrency": 1,
        "read_concurrency": 1,
        "deadline": timedelta(seconds=random.choice((91, 100, 150))),
    }
    rare = {name: value for name, value in others.items() if random.random() < 0.1}
    if random.random() < 0.02:
        rare["notice_period"] = timedelta(days=1)
    return {"dry_run": random.random() < 0.25, **scope, **rare}


def _during(random: Random) -> Event:
    steps = random.randint(1, MOST_STEPS)
    chance = random.random()
    if chance < 0.3:
        return Use(steps=steps, what=random.choice(USES), place=random.randrange(9))
    if chance < 0.45:
        return _weather(random, steps)
    if chance < 0.6:
        return _run(random, steps)
    if chance < 0.7:
        return Sinks(steps=steps, fault=random.choice(SINK_FAULTS), place=random.randrange(2))
    if chance < 0.78:
        return Turn(steps=steps, what="role", project=random.choice(PROJECTS), role=random.choice(tuple(Role)))
    what, numbers = random.choice(
        (
            ("kill", (0.0,)),
            ("kill", (0.0,)),
            ("kill in a write", (0.3, 0.9)),
            ("suspend", (5.0, 9.0, 11.0, 300.0, 4000.0)),
            ("signal", (0.0,)),
            ("clock steps", (30.0, -30.0, 400.0, -400.0, 90000.0)),
            ("power fails", (0.0,)),
        )
    )
    return Blow(steps=steps, what=what, number=random.choice(numbers))


def without(life: Life, events: set[int]) -> Life:
    """The same without these events of its history."""
    kept = tuple(event for number, event in enumerate(life.history) if number not in events)
    return replace(life, history=kept)
