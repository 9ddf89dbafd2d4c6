"""One runtime as the service itself knows it, and its JSON; what becomes of it lives in `core.sandbox.installation`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec

ConfigType = Literal["GceWithPdConfig", "GceConfig", "Dataproc", "AzureVmConfig"]
End = Literal["gone", "error", "never"]

OWN_DISK = -1
"""Asks for the machine's own disk, numbered after the machine, where its kind has one."""
EXTENSIONS = (
    "activity-checker",
    "download-policy",
    "file-tree-policy",
    "snippets-menu",
    "upload-policy",
    "workspace-bar",
)
"""Jupyter extensions, which the service merges into the labels."""


class TrueStatus(StrEnum):
    """The service's fourteen states; the four `Pre*` ones appear in refusals only."""

    PRE_CREATING = "PreCreating"
    CREATING = "Creating"
    RUNNING = "Running"
    UPDATING = "Updating"
    PRE_STOPPING = "PreStopping"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    PRE_STARTING = "PreStarting"
    STARTING = "Starting"
    PRE_DELETING = "PreDeleting"
    DELETING = "Deleting"
    DELETED = "Deleted"
    ERROR = "Error"
    UNKNOWN = "Unknown"

    @property
    def shown(self) -> "TrueStatus":
        """What lists and GET say."""
        return TrueStatus(self.value.removeprefix("Pre"))


class _Encoded:
    """Where a machine keeps its row: beside its fields, so that it is neither compared nor shown."""

    __slots__ = ("_row",)
    _row: bytes | None


@dataclass(kw_only=True, slots=True)
class Machine(_Encoded):
    """One incarnation of a runtime; mutable, since users and the service change it under our hands."""

    id: int
    project: str
    name: str
    creator: str = "researcher@example.org"
    status: TrueStatus = TrueStatus.RUNNING
    created: datetime
    accessed: datetime
    destroyed: datetime | None = None
    config_type: ConfigType = "GceWithPdConfig"
    persistent_disk_id: int | None = OWN_DISK
    autopause_threshold: int = 30
    """Minutes; 0 is off."""
    kernel_busy: bool = False
    labels: Mapping[str, str] | None = None
    """What the client sent; None stands for what the Workbench sends, made only when asked for: fleets can be large."""
    errors: Sequence[dict[str, Any]] = ()
    workspace_id: str | None = None
    patch_in_progress: bool = False
    cloud_provider: str = "GCP"
    omits: Collection[str] = ()
    """Optional fields that the list and GET leave out, those of `runtimeConfig` too: `configType`, `cloudContext`."""
    came_to_be: bool = True
    """Whether the cloud has made its machine; where its creation failed before that, a deletion has nothing to do."""
    deletion_ends_in: End = "gone"
    """What the next deletions come to, once they have taken their time."""
    hidden: bool = False
    """Listed, and answered with 404 for ever: the database knows it, Sam does not."""

    def __post_init__(self) -> None:
        if self.persistent_disk_id == OWN_DISK:
            self.persistent_disk_id = (
                1000 + self.id if self.config_type in ("GceWithPdConfig", "AzureVmConfig") else None
            )

    def __setattr__(self, attribute: str, value: object) -> None:
        """Any change makes the encoded row stale; hence `labels` and `errors` are replaced, not changed in place."""
        object.__setattr__(self, attribute, value)
        object.__setattr__(self, "_row", None)

    def row(self, *, keep: bool) -> bytes:
        """The list item as JSON, made once if it is kept until something changes."""
        if self._row is not None:
            return self._row
        row = msgspec.json.encode(self.list_item())
        if keep:
            object.__setattr__(self, "_row", row)
        return row

    @property
    def context(self) -> str:
        """How messages and labels name the cloud and the project; the JSON field spells the cloud in capitals."""
        return f"{self.cloud_provider.capitalize()}/{self.project}"

    @property
    def service_account(self) -> str:
        return f"pet-{self.id:021d}@{self.project}.iam.gserviceaccount.com"

    @property
    def has_async_fields(self) -> bool:
        """Whether the cloud has taken up the call to make it; else there is nothing that a deletion could wait for."""
        return self.came_to_be and self.cloud_provider == "GCP" and self.status is not TrueStatus.PRE_CREATING

    def client_labels(self) -> Mapping[str, str]:
        return workbench_labels(self.project, self.creator) if self.labels is None else self.labels

    def all_labels(self) -> dict[str, str]:
        """The client's labels and those that the service adds."""
        return {
            **self.client_labels(),
            "runtimeName": self.name,
            "clusterName": self.name,
            "googleProject": self.project,
            "cloudContext": self.context,
            "creator": self.creator,
            "clusterServiceAccount": self.service_account,
            "tool": "Jupyter",
        }

    def list_item(self) -> dict[str, Any]:
        item = {
            "id": self.id,
            "workspaceId": self.workspace_id,
            "runtimeName": self.name,
            "googleProject": self.project,
            "cloudContext": {"cloudProvider": self.cloud_provider, "cloudResource": self.project},
            "auditInfo": self._audit_info(),
            "runtimeConfig": self._runtime_config(),
            "proxyUrl": f"https://leonardo.example.org/proxy/{self.project}/{self.name}/jupyter",
            "status": self.status.shown,
            "labels": self.all_labels(),
            "patchInProgress": self.patch_in_progress,
        }
        return {key: value for key, value in item.items() if key not in self.omits} if self.omits else item

    def get_item(self, disk: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """With the configuration of the disk that is attached."""
        shared = self.list_item()
        del shared["workspaceId"]
        return shared | {
            "serviceAccount": self.service_account,
            "asyncRuntimeFields": self._async_fields(),
            "userScriptUri": None,
            "startUserScriptUri": None,
            "jupyterUserScriptUri": None,
            "jupyterStartUserScriptUri": None,
            "errors": self.errors,
            "userJupyterExtensionConfig": None,
            "autopauseThreshold": self.autopause_threshold,
            "defaultClientId": None,
            "runtimeImages": [
                {
                    "imageType": image,
                    "imageUrl": f"registry.example.org/{image.lower()}:2.2.14",
                    "homeDirectory": home,
                    "timestamp": instant_text(self.created),
                }
                for image, home in (("Jupyter", "/home/jupyter"), ("Welder", None))
            ],
            "scopes": [
                "https://www.googleapis.com/auth/userinfo.email",
                "https://www.googleapis.com/auth/userinfo.profile",
            ],
            "customEnvironmentVariables": {"WORKSPACE_CDR": "a-users-secret-for-all-we-know"},
            "diskConfig": disk,
        }

    def _audit_info(self) -> dict[str, str | None]:
        return {
            "creator": self.creator,
            "createdDate": instant_text(self.created),
            "destroyedDate": None if self.destroyed is None else instant_text(self.destroyed),
            "dateAccessed": instant_text(self.accessed),
        }

    def _async_fields(self) -> dict[str, str | None] | None:
        if not self.has_async_fields:
            return None
        return {
            "googleId": f"google-{self.id}",
            "operationName": f"operation-{self.id}",
            "stagingBucket": f"leostaging-{self.id}",
            "hostIp": "203.0.113.7" if self.status is TrueStatus.RUNNING else None,
        }

    def _runtime_config(self) -> dict[str, Any]:
        gce = {"cloudService": "GCE", "bootDiskSize": 150, "zone": "us-central1-a", "gpuConfig": None}
        match self.config_type:
            case "GceWithPdConfig":
                config = {"machineType": "n1-standard-4", "persistentDiskId": self.persistent_disk_id, **gce}
            case "GceConfig":
                config = {"machineType": "n1-standard-4", "diskSize": 120, **gce}
            case "Dataproc":
                config = {
                    "numberOfWorkers": 2,
                    "masterMachineType": "n1-standard-4",
                    "masterDiskSize": 150,
                    "workerMachineType": "n1-standard-4",
                    "workerDiskSize": 150,
                    "numberOfWorkerLocalSSDs": 0,
                    "numberOfPreemptibleWorkers": 0,
                    "cloudService": "DATAPROC",
                    "region": "us-central1",
                    "componentGatewayEnabled": True,
                    "workerPrivateAccess": True,
                }
            case "AzureVmConfig":
                config = {
                    "cloudService": "AZURE_VM",
                    "machineType": "Standard_DS1_v2",
                    "persistentDiskId": self.persistent_disk_id,
                    "region": "eastus",
                }
        typed = {**config, "configType": self.config_type}
        return {key: value for key, value in typed.items() if key not in self.omits} if self.omits else typed


def workbench_labels(project: str, creator: str) -> dict[str, str]:
    """What the Workbench sends with a runtime that it creates."""
    return {
        "all-of-us": "true",
        "created-by": creator,
        "saturnWorkspaceNamespace": project,
        "saturnWorkspaceName": "my-workspace",
        "saturnVersion": "v2",
        "saturnAutoCreated": "true",
        **dict.fromkeys(EXTENSIONS, "true"),
    }


NEVER_ENDED, NO_CAPACITY = "the deletion did not end within its time", "the zone has no capacity"
"""Of what a runtime in Error says it failed."""


def failure(message: str, instant: datetime) -> dict[str, Any]:
    """An entry of `errors`."""
    return {"errorMessage": message, "errorCode": None, "timestamp": instant_text(instant), "traceId": None}


def instant_text(instant: datetime) -> str:
    """As Java prints an Instant: no fraction where it is zero, else three digits or six."""
    fraction = "microseconds" if instant.microsecond % 1000 else "milliseconds" if instant.microsecond else "seconds"
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=fraction) + "Z"
