"""One persistent disk as the service itself knows it, and its JSON; what is attached where lives in `installation`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.sandbox.machine import Machine, instant_text


class DiskStatus(StrEnum):
    """The service's words."""

    CREATING = "Creating"
    RESTORING = "Restoring"
    READY = "Ready"
    FAILED = "Failed"
    DELETING = "Deleting"
    DELETED = "Deleted"
    ERROR = "Error"


@dataclass(kw_only=True, slots=True)
class Disk:
    """Mutable, since its owner and the service change it under our hands. It does not say what it is attached to."""

    id: int
    project: str
    name: str
    creator: str = "researcher@example.org"
    status: DiskStatus = DiskStatus.READY
    created: datetime
    accessed: datetime
    """Every change of status moves it; work on the disk does not."""
    size: int = 120
    """In GB."""
    disk_type: str = "pd-standard"
    labels: Mapping[str, str] = field(default_factory=dict)
    workspace_id: str | None = None

    def all_labels(self) -> dict[str, str]:
        """The client's labels and those that the service adds."""
        own = {"diskName": self.name, "cloudContext": f"Gcp/{self.project}", "creator": self.creator}
        return {**self.labels, **own}

    def list_item(self, included_labels: Collection[str] = ()) -> dict[str, Any]:
        return {
            "id": self.id,
            "cloudContext": {"cloudProvider": "GCP", "cloudResource": self.project},
            "zone": "us-central1-a",
            "name": self.name,
            "status": self.status,
            "auditInfo": {
                "creator": self.creator,
                "createdDate": instant_text(self.created),
                "destroyedDate": None,
                "dateAccessed": instant_text(self.accessed),
            },
            "size": self.size,
            "diskType": self.disk_type,
            "blockSize": 4096,
            "labels": {key: value for key, value in self.all_labels().items() if key in included_labels},
            "workspaceId": self.workspace_id,
        }

    def config(self) -> dict[str, Any]:
        """How the GET of its runtime tells it."""
        return {"name": self.name, "size": self.size, "diskType": self.disk_type, "blockSize": 4096}


def disk_made_with(machine: Machine, number: int) -> Disk:
    """The disk that the service made for this runtime, with it."""
    return Disk(
        id=number,
        project=machine.project,
        name=f"all-of-us-pd-{number}",
        creator=machine.creator,
        created=machine.created,
        accessed=machine.created,
        labels=machine.client_labels(),
        workspace_id=machine.workspace_id,
    )
