"""What users do to their own runtimes and disks; no role of the caller of the API limits them."""

from core.sandbox.disk import DiskStatus
from core.sandbox.installation import Installation, RefusedError
from core.sandbox.machine import OWN_DISK, ConfigType, Machine


class Users:
    """All of them: whose a runtime is, its creator says."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def create(
        self,
        project: str,
        name: str,
        *,
        creator: str = "researcher@example.org",
        config_type: ConfigType = "GceWithPdConfig",
        disk: int | None = None,
        comes_to_be: bool = True,
    ) -> Machine:
        """With a disk of its own, or with one that is there and free. What does not come to be ends in Error."""
        if disk is not None:
            self._require_free(disk)
        now = self.installation.now()
        machine = Machine(
            id=self.installation.newest_id + 1,
            project=project,
            name=name,
            creator=creator,
            created=now,
            accessed=now,
            config_type=config_type,
            persistent_disk_id=OWN_DISK if disk is None else disk,
            came_to_be=comes_to_be,
        )
        self.installation.create(machine)
        return machine

    def touch(self, project: str, name: str) -> None:
        """Work in the notebook."""
        self.installation.machine(project, name).accessed = self.installation.now()

    def label(self, project: str, name: str, **labels: str) -> None:
        """Say by a label that the runtime is still needed; exemptions may name it."""
        machine = self.installation.machine(project, name)
        machine.labels = {**machine.all_labels(), **(labels or {"needed": "yes"})}

    def stop(self, project: str, name: str) -> None:
        self.installation.stop_machine(self.installation.machine(project, name))

    def start(self, project: str, name: str) -> None:
        self.installation.start_machine(self.installation.machine(project, name))

    def delete(self, project: str, name: str) -> None:
        self.installation.delete_machine(self.installation.machine(project, name))

    def reset(self, project: str, name: str) -> Machine:
        """Delete the runtime and make a new one under the same name, at once, with the disk that the old one had."""
        old = self.installation.machine(project, name)
        disk = old.persistent_disk_id
        now = self.installation.now()
        self.installation.bury(old, now)
        new = Machine(
            id=self.installation.newest_id + 1,
            project=project,
            name=name,
            creator=old.creator,
            created=now,
            accessed=now,
            config_type=old.config_type,
            persistent_disk_id=OWN_DISK if disk is None else disk,
            autopause_threshold=old.autopause_threshold,
            labels=old.labels,
            workspace_id=old.workspace_id,
            cloud_provider=old.cloud_provider,
        )
        self.installation.add(new)
        return new

    def delete_disk(self, number: int) -> None:
        """Gone at once, where it is free."""
        self._require_free(number)
        del self.installation.disks[number]

    def _require_free(self, number: int) -> None:
        disk = self.installation.disks.get(number)
        if disk is None:
            raise RefusedError(404, "DiskNotFoundByIdException", f"Persistent disk {number} not found")
        if disk.status is not DiskStatus.READY or any(
            machine.persistent_disk_id == number for machine in self.installation.living()
        ):
            raise RefusedError(409, "DiskAlreadyAttachedException", f"Persistent disk {number} is not free")
