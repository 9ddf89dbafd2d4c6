"""What one caller sees of an installation and may do to it; HTTP lives in `core.sandbox.app`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from core.sandbox.installation import Installation, RefusedError, not_found, require
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import GRANTED, Action, Role

UPDATABLE = {TrueStatus.RUNNING, TrueStatus.STOPPED}
DEFAULT_THRESHOLD = 30
KEPT_ROWS = 200_000
"""Up to so many, encoded rows stay in memory: quick lists of common fleets, and no gigabytes for a huge one."""
PARAMETERS = {"includeDeleted", "includeLabels", "_labels", "role", "creator"}
"""Every other query parameter is a label that must match. The first is thrown away: nothing lists what was deleted."""


class Resource(Protocol):
    """What Sam knows of a runtime or a disk."""

    @property
    def project(self) -> str: ...

    @property
    def creator(self) -> str: ...

    def all_labels(self) -> dict[str, str]: ...


@dataclass(kw_only=True)
class Leonardo(Installation):
    """An installation through one caller's eyes.

    Nothing is asked about a project itself: one without a role and one that nobody has heard of look alike.
    """

    caller: str = "lifecycle-jobs@example.iam.gserviceaccount.com"
    roles: dict[str, Role] = field(default_factory=dict)
    """The caller's, by project; on every other project it is an owner. They may change while it serves."""
    raw_rows: Sequence[tuple[str | None, bytes]] = ()
    """JSON text that lists of runtimes carry as it is, of a project or of none."""

    def rows(self, project: str | None, parameters: Mapping[str, str]) -> Iterator[bytes]:
        """The list, row by row as JSON; refusals are raised at once, not with the first row."""
        self.settle(project)
        wanted = self._wanted(parameters)
        return self._rows(project, self.living(project), wanted)

    def disk_rows(self, project: str | None, parameters: Mapping[str, str]) -> Iterator[bytes]:
        """The list of disks, as that of runtimes, with the labels that were asked for by name."""
        self.settle(project)
        wanted = self._wanted(parameters)
        labels = parameters.get("includeLabels", "").split(",")
        disks = [disk for disk in list(self.disks.values()) if project in (None, disk.project)]
        return (msgspec.json.encode(disk.list_item(labels)) for disk in disks if self._lists(disk, wanted))

    def get(self, project: str, name: str) -> bytes:
        machine = self._reach(project, name, "status")
        disk = self.disks.get(machine.persistent_disk_id or 0)
        return msgspec.json.encode(machine.get_item(None if disk is None else disk.config()))

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        self.delete_machine(self._reach(project, name, "delete"), delete_disk=delete_disk == "true")

    def stop(self, project: str, name: str) -> None:
        self.stop_machine(self._reach(project, name, "stop_start"))

    def start(self, project: str, name: str) -> None:
        self.start_machine(self._reach(project, name, "stop_start"))

    def patch(self, project: str, name: str, *, autopause: bool | None, threshold: int | None) -> None:
        """Without either, the threshold falls back to the default: the trap for which nobody should call this."""
        machine = self._reach(project, name, "modify")
        require(machine, UPDATABLE, "updated", "Updated")
        stored = 0 if autopause is False else DEFAULT_THRESHOLD if threshold is None else threshold
        if stored != machine.autopause_threshold:
            machine.autopause_threshold = stored
            machine.accessed = self.now()

    def _rows(self, project: str | None, machines: Collection[Machine], wanted: "Wanted") -> Iterator[bytes]:
        keep = len(machines) <= KEPT_ROWS
        for machine in machines:
            # A list may take long to send: what has gone meanwhile is left out.
            if machine.status is not TrueStatus.DELETED and self._lists(machine, wanted):
                yield machine.row(keep=keep)
        for place, row in self.raw_rows:
            if project in (None, place) and (place is None or GRANTED[self._role(place)]):
                yield row

    def _lists(self, resource: Resource, wanted: "Wanted") -> bool:
        return (
            self._may(resource, "status")
            and (not wanted.only_own or resource.creator == self.caller)
            and (not wanted.labels or wanted.labels.items() <= _folded(resource.all_labels()).items())
        )

    def _reach(self, project: str, name: str, action: Action) -> Machine:
        """Sam is asked for this action on the runtime; only where it says no, whether the caller may know of it."""
        machine = self.machine(project, name)
        if machine.hidden or not self._may(machine, "status"):
            raise not_found(project, name)
        if not self._may(machine, action):
            raise RefusedError(403, "ForbiddenError", f"{self.caller} is unauthorized. Ask for a role on the project.")
        return machine

    def _may(self, resource: Resource, action: Action) -> bool:
        return resource.creator == self.caller or action in GRANTED[self._role(resource.project)]

    def _role(self, project: str) -> Role:
        return self.roles.get(project, Role.OWNER)

    def _wanted(self, parameters: Mapping[str, str]) -> "Wanted":
        if parameters.get("role", "creator") != "creator":
            raise RefusedError(400, "BadRequestException", "the only role to list by is creator")
        if parameters.get("creator", self.caller) != self.caller:
            raise RefusedError(400, "BadRequestException", "the creator to list by must be the caller")
        return Wanted(_wanted_labels(parameters), only_own="role" in parameters or "creator" in parameters)


@dataclass(frozen=True)
class Wanted:
    """What the parameters of a list ask for."""

    labels: Mapping[str, str]
    only_own: bool


def _wanted_labels(parameters: Mapping[str, str]) -> dict[str, str]:
    if "_labels" not in parameters:
        return _folded({key: value for key, value in parameters.items() if key not in PARAMETERS})
    pairs = [part.split("=") for part in parameters["_labels"].split(",")]
    if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - a key and a value
        raise RefusedError(400, "ParseLabelsException", f"not a list of key=value: {parameters['_labels']}")
    return _folded(dict(pairs))


def _folded(labels: Mapping[str, str]) -> dict[str, str]:
    """The database compares without regard to case."""
    return {key.casefold(): value.casefold() for key, value in labels.items()}
