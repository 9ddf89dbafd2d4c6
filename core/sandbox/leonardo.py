"""The service's state and rules: who sees what, which act is allowed when; HTTP lives in `core.sandbox.app`."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from datetime import datetime, timedelta
from itertools import chain

import msgspec

from core.clock import utc_now
from core.sandbox.machine import Machine, TrueStatus

CREATING = {TrueStatus.PRE_CREATING, TrueStatus.CREATING}
DELETING = {TrueStatus.PRE_DELETING, TrueStatus.DELETING}
HALTED = {TrueStatus.PRE_STOPPING, TrueStatus.STOPPING, TrueStatus.STOPPED}
DELETABLE = set(TrueStatus) - CREATING - DELETING - {TrueStatus.PRE_STARTING, TrueStatus.PRE_STOPPING}
STOPPABLE = HALTED | {TrueStatus.RUNNING, TrueStatus.UPDATING, TrueStatus.STARTING, TrueStatus.UNKNOWN}
STARTABLE = {TrueStatus.STOPPING, TrueStatus.STOPPED}
UPDATABLE = {TrueStatus.RUNNING, TrueStatus.STOPPED}
DEFAULT_THRESHOLD = 30
KEPT_ROWS = 200_000
"""Up to so many, encoded rows stay in memory: quick lists of common fleets, and no gigabytes for a huge one."""
PARAMETERS = {"includeDeleted", "includeLabels", "_labels", "role", "creator"}
"""Every other query parameter is a label that must match."""


class LeonardoError(Exception):
    """A refusal as the service words it."""

    def __init__(self, status: int, exception_class: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.exception_class = f"org.broadinstitute.dsde.workbench.leonardo.model.{exception_class}"


@dataclass
class Leonardo:
    """The installation as its database has it, seen through one caller's eyes: an owner of every project not named."""

    machines: InitVar[Collection[Machine]] = ()
    _: KW_ONLY
    now: Callable[[], datetime] = utc_now
    caller: str = "lifecycle-jobs@example.iam.gserviceaccount.com"
    deletion_takes: timedelta | None = timedelta(seconds=5)
    """None is for ever."""
    move_takes: timedelta | None = timedelta(seconds=5)
    """How long stopping and starting take."""
    foreign_projects: set[str] = field(default_factory=set)
    """Where the caller has no role."""
    non_owner_projects: set[str] = field(default_factory=set)
    """Where it has one, but sees only what it created."""
    empty_projects: set[str] = field(default_factory=set)
    """Owned, and without runtimes; the service refuses projects that it has never heard of."""
    raw_rows: Sequence[tuple[str | None, bytes]] = ()
    """JSON text that lists carry as it is, of a project or of none."""
    pauses_idle: bool = False
    """Whether autopause works: what is idle past its threshold is stopped when anything is asked."""
    deleted_disks: set[int] = field(default_factory=set)
    _active: MutableMapping[str, dict[str, Machine]] = field(default_factory=dict, init=False, repr=False)
    _past: MutableMapping[str, list[Machine]] = field(default_factory=dict, init=False, repr=False)
    _unpublished: list[Machine] = field(default_factory=list, init=False, repr=False)
    _deletions: deque[tuple[datetime, Machine]] = field(default_factory=deque, init=False, repr=False)
    _moves: deque[tuple[datetime, Machine, TrueStatus]] = field(default_factory=deque, init=False, repr=False)

    def __post_init__(self, machines: Collection[Machine]) -> None:
        for machine in machines:
            self.add(machine)

    def add(self, machine: Machine) -> None:
        if machine.status is TrueStatus.DELETED:
            self._past.setdefault(machine.project, []).append(machine)
        else:
            self._active.setdefault(machine.project, {})[machine.name] = machine

    def everything(self) -> list[Machine]:
        """All incarnations, the deleted ones too."""
        # Built without running Python code in between: a test's thread may add machines meanwhile.
        return list(chain(chain.from_iterable(map(dict.values, self._active.values())), *self._past.values()))

    def machine(self, project: str, name: str) -> Machine:
        """The incarnation that the name stands for now."""
        self.settle()
        found = self._active.get(project, {}).get(name)
        if found is None or found.status is TrueStatus.DELETED:
            raise LeonardoError(404, "RuntimeNotFoundException", f"Runtime Gcp/{project}/{name} not found")
        return found

    # What the caller can ask.

    def rows(self, project: str | None, parameters: Mapping[str, str]) -> Iterator[bytes]:
        """The list, row by row as JSON; refusals are raised at once, not with the first row."""
        self.settle()
        only_own = self._only_own(parameters)
        wanted = _wanted_labels(parameters)
        if project is not None:
            self._require_role(project)
        include_deleted = parameters.get("includeDeleted", "").lower() == "true"
        machines = self.everything() if project is None else self._of(project)
        return self._rows(project, machines, wanted, only_own=only_own, include_deleted=include_deleted)

    def get(self, project: str, name: str) -> bytes:
        return msgspec.json.encode(self._reach(project, name).get_item())

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        machine = self._reach(project, name)
        _require(machine, DELETABLE, "deleted", "Deleted")
        if delete_disk == "true" and machine.persistent_disk_id is not None:
            self.deleted_disks.add(machine.persistent_disk_id)
        machine.persistent_disk_id = None
        self._change(machine, TrueStatus.PRE_DELETING)
        self._deletions.append((machine.accessed, machine))

    def stop(self, project: str, name: str) -> None:
        machine = self._reach(project, name)
        _require(machine, STOPPABLE, "stopped", "Stopped")
        if machine.status not in HALTED:
            self._change(machine, TrueStatus.PRE_STOPPING)
            self._moves.append((machine.accessed, machine, TrueStatus.STOPPED))

    def start(self, project: str, name: str) -> None:
        machine = self._reach(project, name)
        _require(machine, STARTABLE, "started", "Started")
        self._change(machine, TrueStatus.PRE_STARTING)
        self._moves.append((machine.accessed, machine, TrueStatus.RUNNING))

    def patch(self, project: str, name: str, *, autopause: bool | None, threshold: int | None) -> None:
        """Without either, the threshold falls back to the default: the trap for which nobody should call this."""
        machine = self._reach(project, name)
        _require(machine, UPDATABLE, "updated", "Updated")
        stored = 0 if autopause is False else DEFAULT_THRESHOLD if threshold is None else threshold
        if stored != machine.autopause_threshold:
            machine.autopause_threshold = stored
            machine.accessed = self.now()

    # What users do, beside stopping and starting.

    def touch(self, project: str, name: str) -> None:
        """Work in the notebook."""
        self.machine(project, name).accessed = self.now()

    def label(self, project: str, name: str) -> None:
        """Say that the runtime is still needed, by a label that exemptions may name."""
        machine = self.machine(project, name)
        machine.labels = {**machine.all_labels(), "needed": "yes"}

    def reset(self, project: str, name: str) -> Machine:
        """Delete the runtime and make a new one under the same name."""
        old = self.machine(project, name)
        now = self.now()
        self._bury(old, now)
        new = Machine(
            id=1 + max(machine.id for machine in self.everything()),
            project=project,
            name=name,
            creator=old.creator,
            created=now,
            accessed=now,
            config_type=old.config_type,
            autopause_threshold=old.autopause_threshold,
            labels=old.labels,
            workspace_id=old.workspace_id,
            cloud_provider=old.cloud_provider,
        )
        self.add(new)
        return new

    # What the service does by itself, caught up with whenever it is asked something.

    def settle(self) -> None:
        now = self.now()
        while self._unpublished:
            machine = self._unpublished.pop()
            machine.status = machine.status.shown
        if self.deletion_takes is not None:
            while self._deletions and (done := self._deletions[0][0] + self.deletion_takes) <= now:
                self._bury(self._deletions.popleft()[1], done)
        if self.move_takes is not None:
            while self._moves and (done := self._moves[0][0] + self.move_takes) <= now:
                _, machine, status = self._moves.popleft()
                if machine.status in (TrueStatus.STOPPING, TrueStatus.STARTING):
                    machine.status, machine.accessed = status, done
        if self.pauses_idle:
            self._pause_the_idle(now)

    def _pause_the_idle(self, now: datetime) -> None:
        for machine in self.everything():
            threshold = timedelta(minutes=machine.autopause_threshold)
            idle = now - machine.accessed
            if machine.status is TrueStatus.RUNNING and not machine.kernel_busy and threshold and idle >= threshold:
                machine.status, machine.accessed = TrueStatus.STOPPED, now

    def _change(self, machine: Machine, status: TrueStatus) -> None:
        machine.status = status
        machine.accessed = self.now()
        self._unpublished.append(machine)

    def _bury(self, machine: Machine, now: datetime) -> None:
        """A machine that is gone already stays as it is: its name may stand for another by now."""
        if machine.status is not TrueStatus.DELETED:
            machine.status = TrueStatus.DELETED
            machine.destroyed = machine.accessed = now
            machine.persistent_disk_id = None
            del self._active[machine.project][machine.name]
            self.add(machine)

    # What the caller may see.

    def _of(self, project: str) -> list[Machine]:
        return [*self._active.get(project, {}).values(), *self._past.get(project, ())]

    def _rows(
        self,
        project: str | None,
        machines: Collection[Machine],
        wanted: Mapping[str, str],
        *,
        only_own: bool,
        include_deleted: bool,
    ) -> Iterator[bytes]:
        keep = len(machines) <= KEPT_ROWS
        for machine in machines:
            if (
                (include_deleted or machine.status is not TrueStatus.DELETED)
                and self._sees(machine)
                and (not only_own or machine.creator == self.caller)
                and (not wanted or wanted.items() <= _folded(machine.all_labels()).items())
            ):
                yield machine.row(keep=keep)
        yield from (row for place, row in self.raw_rows if project in (None, place))

    def _sees(self, machine: Machine) -> bool:
        return machine.project not in self.foreign_projects and (
            machine.project not in self.non_owner_projects or machine.creator == self.caller
        )

    def _only_own(self, parameters: Mapping[str, str]) -> bool:
        if parameters.get("role", "creator") != "creator":
            raise LeonardoError(400, "BadRequestException", "the only role to list by is creator")
        if parameters.get("creator", self.caller) != self.caller:
            raise LeonardoError(400, "BadRequestException", "the creator to list by must be the caller")
        return "role" in parameters or "creator" in parameters

    def _require_role(self, project: str) -> None:
        known = (
            project in self._active
            or project in self._past
            or project in self.non_owner_projects | self.empty_projects
            or any(place == project for place, _ in self.raw_rows)
        )
        if project in self.foreign_projects or not known:
            raise LeonardoError(403, "ForbiddenError", f"{self.caller} is unauthorized. Ask for a role on the project.")

    def _reach(self, project: str, name: str) -> Machine:
        self._require_role(project)
        machine = self.machine(project, name)
        if not self._sees(machine):
            raise LeonardoError(404, "RuntimeNotFoundException", f"Runtime Gcp/{project}/{name} not found")
        return machine


def _require(machine: Machine, allowed: Collection[TrueStatus], done: str, kind: str) -> None:
    if machine.status not in allowed:
        raise LeonardoError(
            409,
            f"RuntimeCannotBe{kind}Exception",
            f"Runtime {machine.context}/{machine.name} cannot be {done} in {machine.status} status, "
            "please wait and try again",
        )


def _wanted_labels(parameters: Mapping[str, str]) -> dict[str, str]:
    if "_labels" not in parameters:
        return _folded({key: value for key, value in parameters.items() if key not in PARAMETERS})
    pairs = [part.split("=") for part in parameters["_labels"].split(",")]
    if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - a key and a value
        raise LeonardoError(400, "ParseLabelsException", f"not a list of key=value: {parameters['_labels']}")
    return _folded(dict(pairs))


def _folded(labels: Mapping[str, str]) -> dict[str, str]:
    """The database compares without regard to case."""
    return {key.casefold(): value.casefold() for key, value in labels.items()}
