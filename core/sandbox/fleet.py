"""A made-up fleet as an All of Us installation has it, and its disks; pure: the caller brings instant and seed."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from core.sandbox.disk import Disk, DiskStatus
from core.sandbox.machine import NEVER_ENDED, NO_CAPACITY, ConfigType, Machine, TrueStatus, failure

DUE_SHARE = 0.08
PASSING = (
    TrueStatus.CREATING,
    TrueStatus.STARTING,
    TrueStatus.STOPPING,
    TrueStatus.UPDATING,
    TrueStatus.ERROR,
    TrueStatus.DELETING,
    TrueStatus.UNKNOWN,
    TrueStatus.PRE_STOPPING,
    TrueStatus.PRE_STARTING,
    TrueStatus.PRE_DELETING,
    TrueStatus.PRE_CREATING,
)
"""States in which no runtime is due, whatever its age."""
DISKLESS: dict[int, ConfigType] = {1: "GceConfig", 2: "Dataproc"}
FIRST, FIRST_DISK = 5000, 2000
"""Numbers: what was there before has lower ones."""
LEFT_STATUSES = {5: DiskStatus.FAILED, 11: DiskStatus.DELETING, 17: DiskStatus.ERROR}
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NO_TIME = timedelta(0)
ODD_PROJECT = "terra-odd"
STUCK = (TrueStatus.STOPPING, TrueStatus.PRE_STOPPING, TrueStatus.DELETING, TrueStatus.PRE_STARTING)
"""States that the service is known to leave a runtime in for good."""
DETACHED, UNTYPED = 60, 40
"""One in so many has lost its disk to a deletion that failed, or is too old a row to say what it was configured as."""
THRESHOLDS = (0, 30, 480, 14400)
LONG_THRESHOLDS = (0, 14400)
USELESS_THRESHOLD = 20160

Span = Callable[[timedelta, timedelta], timedelta]
Life = tuple[TrueStatus, timedelta, timedelta, int, bool]
"""Status, age, idle, autopause threshold, whether a kernel is busy."""


def make_fleet(
    runtimes: int,
    seed: int,
    now: datetime,
    *,
    due: int | None = None,
    autopause_broken: bool = False,
    deletions_broken: bool = False,
) -> list[Machine]:
    """Make so many runtimes, the same for the same arguments.

    Exactly `due` of them (8 % unless told) are due under the default policy: half for their age alone, half because
    they are idle as well. Whether one is due does not change for the next three hours.
    Where autopause is broken, what would have been paused still runs. Where deletions are, every fifth ends in
    Error, and every seventh never.
    """
    random = Random(seed)  # noqa: S311 - the same fleet for the same seed is the point
    due = round(runtimes * DUE_SHARE) if due is None else due
    if not 0 <= due <= runtimes:
        raise ValueError(f"{due} of {runtimes} runtimes cannot be due")
    lives = [*_due_lives(random, due), *_other_lives(random, runtimes - due, autopause_broken=autopause_broken)]
    kinds = [DISKLESS.get(index % 12, "GceWithPdConfig") for index in range(runtimes)]
    order = list(range(runtimes))
    random.shuffle(order)
    places = _places(random)
    fleet = [
        _machine(random, FIRST + index, next(places), now, lives[chosen], kinds[chosen])
        for index, chosen in enumerate(order)
    ]
    for machine in fleet:
        _give_a_past(machine)
        if deletions_broken:
            machine.deletion_ends_in = "error" if machine.id % 5 == 0 else "never" if machine.id % 7 == 0 else "gone"
    for uncreated in [machine for machine in fleet if machine.status is TrueStatus.ERROR][::2]:
        uncreated.came_to_be = False
        uncreated.errors = [failure(NO_CAPACITY, uncreated.accessed)]
    return fleet


def left_disks(fleet: Sequence[Machine], now: datetime) -> dict[int, Disk]:
    """By number, disks that are attached to nothing: what runtimes before these have left, one for every eighth."""
    disks = {}
    for index, machine in enumerate(fleet[::8]):
        number = FIRST_DISK + index
        created = machine.created - timedelta(days=20 + index % 300)
        disks[number] = Disk(
            id=number,
            project=machine.project,
            name=f"all-of-us-pd-{number}",
            creator=machine.creator,
            status=LEFT_STATUSES.get(index % 20, DiskStatus.READY),
            created=created,
            accessed=min(now, created + 2 * MINUTE),
            size=(50, 120, 500)[index % 3],
            disk_type="pd-ssd" if index % 10 == 1 else "pd-standard",
            labels=machine.client_labels(),
        )
    return disks


def _due_lives(random: Random, count: int) -> Iterator[Life]:
    span = _spans(random)
    for index in range(count):
        status = TrueStatus.RUNNING if random.random() < 0.5 else TrueStatus.STOPPED  # noqa: PLR2004
        if index % 2:
            age = span(7 * DAY + 6 * HOUR, 13 * DAY + 12 * HOUR)
            idle = span(10 * HOUR, 5 * DAY)
        else:
            age = span(14 * DAY + 6 * HOUR, 40 * DAY)
            idle = span(NO_TIME, 9 * DAY)
        # A runtime that is idle and runs had its autopause set off or far away, else it would be paused.
        thresholds = LONG_THRESHOLDS if status is TrueStatus.RUNNING else THRESHOLDS
        yield status, age, idle, random.choice(thresholds), False


def _other_lives(random: Random, count: int, *, autopause_broken: bool) -> Iterator[Life]:
    span = _spans(random)
    passing = (PASSING * (1 + count // 200))[: count // 5]
    for index, status in enumerate(passing):
        stuck = index % 4 == 0 and status in STUCK
        idle = span(3 * HOUR, 30 * HOUR) if stuck else span(MINUTE, 20 * MINUTE)
        yield status, span(2 * DAY, 20 * DAY), idle, random.choice(THRESHOLDS), False
    for index in range(count - len(passing)):
        match index % 48:
            case 1:
                yield TrueStatus.RUNNING, span(3 * DAY, 6 * DAY), span(30 * HOUR, 60 * HOUR), 30, False
            case 17:
                yield TrueStatus.RUNNING, span(DAY, 6 * DAY), span(NO_TIME, 20 * HOUR), USELESS_THRESHOLD, False
            case 3 | 19 | 35:
                yield TrueStatus.RUNNING, span(DAY, 6 * DAY), span(2 * HOUR, 20 * HOUR), 30, True
            case turn if turn % 16 in (5, 11):
                age, idle = span(7 * DAY + 6 * HOUR, 13 * DAY + 12 * HOUR), span(NO_TIME, 25 * MINUTE)
                yield TrueStatus.RUNNING, age, idle, random.choice(THRESHOLDS), False
            case turn if turn % 2:
                age = span(10 * MINUTE, 6 * DAY + 12 * HOUR)
                yield TrueStatus.RUNNING, age, span(NO_TIME, min(age, 25 * MINUTE)), random.choice(THRESHOLDS), False
            case _:
                age = span(HOUR, 6 * DAY + 12 * HOUR)
                status = TrueStatus.RUNNING if autopause_broken else TrueStatus.STOPPED
                yield status, age, span(NO_TIME, age), random.choice(THRESHOLDS), False


def odd_rows(now: datetime) -> list[tuple[str, bytes]]:
    """Rows to take in one's stride: of another cloud, of tomorrow, without a date, twice, hidden from GET."""

    def row(number: int, name: str, accessed: datetime, provider: str = "GCP") -> dict[str, Any]:
        return Machine(
            id=number,
            project=ODD_PROJECT,
            name=name,
            cloud_provider=provider,
            config_type="AzureVmConfig" if provider == "AZURE" else "GceConfig",
            persistent_disk_id=None,
            created=now - DAY,
            accessed=accessed,
        ).list_item()

    undated, hidden = row(13, "undated", now), row(14, "hidden", now)
    undated["auditInfo"]["createdDate"] = None
    rows = [row(11, "azure", now, "AZURE"), row(12, "of-tomorrow", now + DAY), undated, hidden, hidden]
    return [(ODD_PROJECT, msgspec.json.encode(row)) for row in rows]


def _spans(random: Random) -> Span:
    return lambda low, high: low + (high - low) * random.random()


def _places(random: Random) -> Iterator[tuple[str, int]]:
    """Projects and the users in them: mostly one, sometimes up to four."""
    user = 10_000
    while True:
        project = f"terra-vpc-sc-{random.getrandbits(32):08x}"
        for _ in range(random.choices((1, 2, 3, 4), (85, 9, 4, 2))[0]):
            user += random.randint(1, 9)
            yield project, user


def _machine(
    random: Random, number: int, place: tuple[str, int], now: datetime, life: Life, kind: ConfigType
) -> Machine:
    project, user = place
    status, age, idle, threshold, kernel_busy = life
    accessed = _as_stored(random, now - min(idle, age))
    created = min(_as_stored(random, now - age), accessed)
    return Machine(
        id=number,
        project=project,
        name=f"all-of-us-{user}",
        creator=f"researcher-{user}@example.org",
        status=status,
        created=created,
        accessed=accessed,
        config_type=kind,
        autopause_threshold=threshold,
        kernel_busy=kernel_busy,
        workspace_id=f"{random.getrandbits(32):08x}-5d1c-4f0b-9d6b-{number:012x}",
    )


def _give_a_past(machine: Machine) -> None:
    """What became of its disk, and what the row has of it."""
    if machine.status is TrueStatus.ERROR:
        machine.errors = [failure(NEVER_ENDED, machine.accessed)]
    if machine.status.shown in (TrueStatus.ERROR, TrueStatus.DELETING) or machine.id % DETACHED == 0:
        machine.persistent_disk_id = None
    if machine.id % UNTYPED == 1:
        machine.omits = ("configType",)


def _as_stored(random: Random, instant: datetime) -> datetime:
    """Cut to what the row holds: microseconds mostly, at times milliseconds or whole seconds."""
    unit = random.choices((1, 1000, 1_000_000), (7, 2, 1))[0]
    return instant.replace(microsecond=instant.microsecond // unit * unit)
