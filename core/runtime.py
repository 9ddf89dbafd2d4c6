"""What Leonardo says of a runtime or a disk, as plain values; how it says it (JSON) lives in `core.leonardo.wire`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

GCP = "GCP"


class RuntimeStatus(StrEnum):
    """The ten words on the wire; Leonardo's four `Pre*` states are shown as their plain form."""

    CREATING = "Creating"
    RUNNING = "Running"
    UPDATING = "Updating"
    ERROR = "Error"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    STARTING = "Starting"
    DELETING = "Deleting"
    DELETED = "Deleted"
    UNKNOWN = "Unknown"


class Disk(StrEnum):
    """What a deletion leaves of the runtime's data: only a persistent disk outlives its machine."""

    KEPT = "kept"
    LOST = "lost"
    DETACHED = "detached"
    """Made to have a persistent disk, and none is attached (any more): nothing is kept, nothing lost."""


class Runtime(NamedTuple):
    """One incarnation of a runtime: a name that is used again gets a new `id`.

    A tuple, as of all values that cannot be changed it is the cheapest to make: there is one for each item of a list.
    """

    id: str
    project: str
    name: str
    labels: Mapping[str, str] | None
    """None where they could not be read as texts."""
    cloud_provider: str | None = GCP
    status: str | None = RuntimeStatus.RUNNING
    """Leonardo's word as it came, also one we do not know."""
    creator: str | None = None
    created_date: datetime | None = None
    """In UTC; None where it is missing, unreadable or without a zone."""
    date_accessed: datetime | None = None
    """In UTC or None. Not only a person's use moves it: every change of status does."""
    disk: Disk = Disk.LOST
    persistent_disk_id: str | None = None
    autopause_threshold: timedelta | None = None
    """0 is off, below 0 it pauses at once; None where it was not read: lists do not carry it."""
    machine_type: str | None = None
    """Of the machine, or of a cluster's master."""
    patch_in_progress: bool = False
    disk_gb: int | None = None
    """Of its persistent disk, where a list of disks was read."""

    @property
    def path(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class MalformedRuntime:
    """A list item that is no object, or whose id, project or name is unreadable, and what could be read of it."""

    detail: str
    id: str | None = None
    project: str | None = None
    name: str | None = None

    @property
    def path(self) -> str:
        return f"{self.project or '?'}/{self.name or '?'}"


class PersistentDisk(NamedTuple):
    """A disk of its own, attached to a runtime or an app, or left over: which, only they can tell."""

    id: str
    project: str
    name: str
    status: str | None = None
    """Leonardo's word as it came."""
    size_gb: int | None = None
    disk_type: str | None = None
    creator: str | None = None
    created_date: datetime | None = None
    date_accessed: datetime | None = None


@dataclass(frozen=True, slots=True)
class MalformedDisk:
    """As `MalformedRuntime`, of a list of disks."""

    detail: str
    id: str | None = None
    project: str | None = None
    name: str | None = None
