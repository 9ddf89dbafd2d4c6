"""The service's runtimes and disks, and what becomes of them as time passes; who may ask lives in `leonardo`."""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, InitVar, dataclass, field
from datetime import datetime, timedelta
from itertools import chain

import msgspec

from core.clock import utc_now
from core.sandbox.disk import Disk, DiskStatus, disk_made_with
from core.sandbox.machine import NEVER_ENDED, NO_CAPACITY, Machine, TrueStatus, failure

CREATING = {TrueStatus.PRE_CREATING, TrueStatus.CREATING}
DELETING = {TrueStatus.PRE_DELETING, TrueStatus.DELETING}
HALTED = {TrueStatus.PRE_STOPPING, TrueStatus.STOPPING, TrueStatus.STOPPED}
DELETABLE = set(TrueStatus) - CREATING - DELETING - {TrueStatus.PRE_STARTING, TrueStatus.PRE_STOPPING}
STOPPABLE = HALTED | {TrueStatus.RUNNING, TrueStatus.UPDATING, TrueStatus.STARTING, TrueStatus.UNKNOWN}
STARTABLE = {TrueStatus.STOPPING, TrueStatus.STOPPED}


class RefusedError(Exception):
    """A refusal as the service words it."""

    def __init__(self, status: int, exception_class: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.exception_class = f"org.broadinstitute.dsde.workbench.leonardo.model.{exception_class}"

    def body(self) -> bytes:
        """The five keys of every error."""
        return msgspec.json.encode(
            {
                "source": "leonardo",
                "message": str(self),
                "statusCode": self.status,
                "exceptionClass": f"class {self.exception_class}",
                "traceId": None,
            }
        )


@dataclass(frozen=True)
class Move:
    """A change of status that takes its time, and is overtaken by any other."""

    since: datetime
    machine: Machine
    passing: TrueStatus
    end: TrueStatus


@dataclass(frozen=True)
class Deletion:
    """The end of a runtime, and of its disk where that is to go with it."""

    since: datetime
    machine: Machine
    disk: Disk | None


@dataclass
class Installation:
    """The database, caught up with the clock whenever it is asked something: nothing happens by itself in between."""

    machines: InitVar[Collection[Machine]] = ()
    _: KW_ONLY
    disks: dict[int, Disk] = field(default_factory=dict)
    """By number. The disks of runtimes join by themselves; one that is taken out was deleted by its owner."""
    now: Callable[[], datetime] = utc_now
    deletion_takes: timedelta | None = timedelta(seconds=5)
    """None is for ever."""
    move_takes: timedelta | None = timedelta(seconds=5)
    """How long creating, stopping and starting take; None is for ever."""
    pauses_idle: bool = False
    """Whether autopause works: what is idle is stopped once its threshold is reached."""
    newest_id: int = field(default=0, init=False)
    """The highest that any incarnation has had."""
    deleted_disks: set[int] = field(default_factory=set)
    """Those that were to go with their runtime."""
    _active: dict[str, dict[str, Machine]] = field(default_factory=dict, init=False, repr=False)
    _past: dict[str, list[Machine]] = field(default_factory=dict, init=False, repr=False)
    _unpublished: list[Machine] = field(default_factory=list, init=False, repr=False)
    _deletions: deque[Deletion] = field(default_factory=deque, init=False, repr=False)
    _moves: deque[Move] = field(default_factory=deque, init=False, repr=False)

    def __post_init__(self, machines: Collection[Machine]) -> None:
        for machine in machines:
            self.add(machine)

    def add(self, machine: Machine) -> None:
        """Have it as it is; a runtime that is to be created goes through `create`."""
        self.newest_id = max(self.newest_id, machine.id)
        if machine.status is TrueStatus.DELETED:
            self._past.setdefault(machine.project, []).append(machine)
            return
        number = machine.persistent_disk_id
        if number is not None and number not in self.disks and machine.cloud_provider == "GCP":
            self.disks[number] = disk_made_with(machine, number)
        self._active.setdefault(machine.project, {})[machine.name] = machine

    def everything(self) -> list[Machine]:
        """All incarnations, the deleted ones too."""
        # Built without running Python code in between: a test's thread may add machines meanwhile.
        return list(chain(chain.from_iterable(map(dict.values, self._active.values())), *self._past.values()))

    def living(self, project: str | None = None) -> list[Machine]:
        """Of one project or of all, what has not been deleted."""
        if project is not None:
            return list(self._active.get(project, {}).values())
        return list(chain.from_iterable(map(dict.values, self._active.values())))

    def machine(self, project: str, name: str) -> Machine:
        """The incarnation that the name stands for now."""
        now = self.now()
        self._catch_up(now)
        found = self._active.get(project, {}).get(name)
        if found is None or found.status is TrueStatus.DELETED:
            raise not_found(project, name)
        if self.pauses_idle:
            _pause_if_idle(found, now)
        return found

    # What can be done to a runtime, by whoever may.

    def create(self, machine: Machine) -> None:
        if machine.name in self._active.get(machine.project, {}):
            raise RefusedError(
                409, "RuntimeAlreadyExistsException", f"Runtime {machine.context}/{machine.name} already exists"
            )
        self.add(machine)
        self._move(machine, TrueStatus.PRE_CREATING, TrueStatus.RUNNING if machine.came_to_be else TrueStatus.ERROR)

    def delete_machine(self, machine: Machine, *, delete_disk: bool = False) -> None:
        """The disk is detached first, and stays so whatever comes after."""
        require(machine, DELETABLE, "deleted", "Deleted")
        disk = self.detach(machine)
        if delete_disk and disk is not None:
            self.deleted_disks.add(disk.id)
            disk.status, disk.accessed = DiskStatus.DELETING, self.now()
        if machine.has_async_fields:
            self._change(machine, TrueStatus.PRE_DELETING)
            self._deletions.append(Deletion(machine.accessed, machine, disk if delete_disk else None))
        else:
            self.bury(machine, self.now())  # and nobody deletes the disk: it stays Deleting

    def detach(self, machine: Machine) -> Disk | None:
        number, machine.persistent_disk_id = machine.persistent_disk_id, None
        return None if number is None else self.disks.get(number)

    def stop_machine(self, machine: Machine) -> None:
        require(machine, STOPPABLE, "stopped", "Stopped")
        if machine.status not in HALTED:
            self._move(machine, TrueStatus.PRE_STOPPING, TrueStatus.STOPPED)

    def start_machine(self, machine: Machine) -> None:
        require(machine, STARTABLE, "started", "Started")
        self._move(machine, TrueStatus.PRE_STARTING, TrueStatus.RUNNING)

    def bury(self, machine: Machine, now: datetime) -> None:
        """A machine that is gone already stays as it is: its name may stand for another by now."""
        if machine.status is not TrueStatus.DELETED:
            machine.status = TrueStatus.DELETED
            machine.destroyed = machine.accessed = now
            machine.persistent_disk_id = None
            del self._active[machine.project][machine.name]
            self.add(machine)

    # What the service does by itself.

    def settle(self, project: str | None = None) -> None:
        now = self.now()
        self._catch_up(now)
        for machine in self.living(project) if self.pauses_idle else ():
            _pause_if_idle(machine, now)

    def _catch_up(self, now: datetime) -> None:
        """All but the pauses, of which each is dated whenever it is asked about."""
        while self._unpublished:
            machine = self._unpublished.pop()
            machine.status = machine.status.shown
        if self.deletion_takes is not None:
            while self._deletions and (done := self._deletions[0].since + self.deletion_takes) <= now:
                self._end(self._deletions.popleft(), done)
        if self.move_takes is not None:
            while self._moves and (done := self._moves[0].since + self.move_takes) <= now:
                self._arrive(self._moves.popleft(), done)

    def _end(self, deletion: Deletion, done: datetime) -> None:
        machine = deletion.machine
        if machine.status is not TrueStatus.DELETING or machine.deletion_ends_in == "never":
            return
        if machine.deletion_ends_in == "error":
            _fail(machine, NEVER_ENDED, done)
            return
        self.bury(machine, done)
        if deletion.disk is not None:
            self.disks.pop(deletion.disk.id, None)

    def _arrive(self, move: Move, done: datetime) -> None:
        machine = move.machine
        if machine.status is not move.passing:
            return
        if move.end is TrueStatus.ERROR:
            self.detach(machine)
            _fail(machine, NO_CAPACITY, done)
        else:
            machine.status, machine.accessed = move.end, done

    def _move(self, machine: Machine, hidden: TrueStatus, end: TrueStatus) -> None:
        self._change(machine, hidden)
        self._moves.append(Move(machine.accessed, machine, hidden.shown, end))

    def _change(self, machine: Machine, status: TrueStatus) -> None:
        machine.status = status
        machine.accessed = self.now()
        self._unpublished.append(machine)


def _pause_if_idle(machine: Machine, now: datetime) -> None:
    if machine.status is TrueStatus.RUNNING and machine.autopause_threshold and not machine.kernel_busy:
        due = machine.accessed + timedelta(minutes=max(0, machine.autopause_threshold))
        if due <= now:
            machine.status, machine.accessed = TrueStatus.STOPPED, due


def _fail(machine: Machine, message: str, instant: datetime) -> None:
    machine.status, machine.accessed = TrueStatus.ERROR, instant
    machine.errors = [*machine.errors, failure(message, instant)]


def not_found(project: str, name: str) -> RefusedError:
    return RefusedError(404, "RuntimeNotFoundException", f"Runtime Gcp/{project}/{name} not found")


def require(machine: Machine, allowed: Collection[TrueStatus], done: str, kind: str) -> None:
    """Raises RefusedError where the runtime's status is none of these."""
    if machine.status not in allowed:
        raise RefusedError(
            409,
            f"RuntimeCannotBe{kind}Exception",
            f"Runtime {machine.context}/{machine.name} cannot be {done} in {machine.status} status, "
            "please wait and try again",
        )
