"""What a project's lists of runtimes and disks prove of a deletion; asking for the lists lives in `core.run.evidence`.

Leonardo lists nothing that is deleted, and nothing that its caller may not see (Leonardo since 2025).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from core.runtime import MalformedDisk, MalformedRuntime, PersistentDisk, Runtime

MOST_UNLISTED = 10
"""So many of a sweep's candidates, or of the deletions asked about, may be gone without evidence, or this share."""
LARGEST_UNLISTED_SHARE = 0.25
MISSING = "missing"
"""The status of a disk that its project's list does not hold."""


class Evidence(StrEnum):
    """Why a runtime that is not listed is gone, strongest first; the words stand in records, so they never change."""

    NAME_TAKEN = "name_taken"
    """Its name is listed under another `id`; names are unique among what is not deleted."""
    PROJECT_SEEN = "project_seen"
    """The caller sees something of the project that it did not create itself, and not this `id`."""
    UNLISTED = "unlisted"
    """Nothing of the project is seen: deleted, or the role is lost."""


PROVEN_BY = {
    Evidence.NAME_TAKEN: "another runtime has its name",
    Evidence.PROJECT_SEEN: "its project is seen without it",
    Evidence.UNLISTED: "nothing of its project is listed",
}
"""In words, for whoever reads that a runtime is gone."""


def too_many_unlisted(unlisted: int, asked: int, *, most: int = MOST_UNLISTED) -> bool:
    """Whether a lost role explains better than deletions that so many of those asked about are not listed any more."""
    return unlisted > most and unlisted > LARGEST_UNLISTED_SHARE * asked


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One that is asked about: its name may be another's by now."""

    runtime_id: str
    name: str


@dataclass(slots=True)
class Sighting:
    """What one caller sees of one project, item by item."""

    project: str
    caller: str | None
    """Its e-mail: what it created itself it sees without a role, so that this proves nothing. None where unknown."""
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    """What is listed, by id."""
    disks: dict[str, PersistentDisk] | None = None
    """Each disk by its number; None where the list of disks was not read."""
    disk_unreadable: bool = False
    """Whether a row of the list of disks cannot be read: it may be any disk."""
    others: bool = False
    """Whether anything is seen that the caller did not create itself."""

    def see_runtimes(self, items: Iterable[Runtime | MalformedRuntime]) -> None:
        for item in items:
            if isinstance(item, Runtime) and item.project == self.project:
                self.runtimes[item.id] = item
                self.others |= self._is_anothers(item.creator)

    def see_disks(self, items: Iterable[PersistentDisk | MalformedDisk]) -> None:
        self.disks = {} if self.disks is None else self.disks
        for item in items:
            if isinstance(item, MalformedDisk):
                self.disk_unreadable = True
            elif item.project == self.project:
                self.disks[item.id] = item
                self.others |= self._is_anothers(item.creator)

    def evidence(self, asked: Incarnation) -> Evidence | None:
        """Why this incarnation is gone; None while it is listed, whatever a look at it says."""
        if asked.runtime_id in self.runtimes:
            return None
        if any(runtime.name == asked.name for runtime in self.runtimes.values()):
            return Evidence.NAME_TAKEN
        return Evidence.PROJECT_SEEN if self.others else Evidence.UNLISTED

    def disk_status(self, disk_id: str) -> str | None:
        """Of a disk that was kept: its status, `missing` where the project is surely seen without it, else None."""
        if self.disks is not None and disk_id in self.disks:
            return self.disks[disk_id].status
        whole = self.disks is not None and not self.disk_unreadable
        return MISSING if whole and self.others else None

    def _is_anothers(self, creator: str | None) -> bool:
        return creator is not None and (self.caller is None or creator.lower() != self.caller.lower())
