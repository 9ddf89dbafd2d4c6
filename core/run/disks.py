"""One run over the list of disks, against the list of runtimes; which disk is left over is a rule's matter."""

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from datetime import datetime
from operator import itemgetter

from core.clock import OutOfTimeError
from core.exit_code import ExitCode
from core.leonardo.errors import ErrorKind, LeonardoError
from core.records import events
from core.records.outcome import Outcome, Severity
from core.records.reader import LONG_AGO, Record
from core.records.selection import Match, Wanted
from core.rules.confirmation import Confirmation
from core.rules.decision import since
from core.rules.disks import DiskPolicy, DiskReason
from core.rules.seen_ids import SeenIds
from core.rules.words import in_words
from core.run.account import Account
from core.run.concurrently import each
from core.run.running import Running
from core.runtime import MalformedDisk, MalformedRuntime, PersistentDisk, Runtime

LEAVES_A_DISK = (Outcome.DELETION_ACCEPTED, Confirmation.CONFIRMED)
ABOUT_KEPT_DISKS: Wanted = (Match(events=("runtime_audited", "deletion_confirmed"), outcomes=LEAVES_A_DISK),)
"""What tells of disks that deletions of ours have kept: all else need not be read."""


Left = tuple[str, datetime]
"""The run whose deletion left a disk, and when that was asked for, or found to have happened at the latest."""


def left_by_runs(records: Iterable[Record]) -> dict[str, Left]:
    """By the number of each disk that a deletion of ours has kept."""
    left: dict[str, Left] = {}
    for record in records:
        if record.persistent_disk_id is not None and record.outcome in LEAVES_A_DISK:
            known = record.accepted_run_id or record.run_id, record.time or LONG_AGO
            left[record.persistent_disk_id] = min(known, left.get(record.persistent_disk_id, known), key=itemgetter(1))
    return left


class CheckingDisks:
    """One run; nothing is held but which disks are attached, a bit for each, and which of ours were kept."""

    def __init__(self, running: Running, account: Account, policy: DiskPolicy, left_by: Mapping[str, Left]) -> None:
        self._running = running
        self._account = account
        self._policy = policy
        self._left_by = left_by

    async def run(self, started: events.RunStarted, projects: Iterable[str] | None) -> ExitCode:
        """From the first record to the closing one; the exit code. None is all that are visible."""
        await self._account.open(started)
        await each([None] if projects is None else projects, self._running.settings.read_concurrency, self._check)
        return await self._account.close()

    async def _check(self, project: str | None) -> None:
        try:
            await self._compare(project)
        except OutOfTimeError:
            self._account.list_cut_off(project)
        except LeonardoError as error:
            self._account.list_unread(project, error)
        else:
            self._account.list_read()

    async def _compare(self, project: str | None) -> None:
        """Runtimes first: a disk that is made between the lists looks unattached, and none that is left is missed."""
        attached = SeenIds()
        async with aclosing(self._running.leonardo.list_runtimes(project)) as batches:
            async for runtimes in batches:
                for runtime in runtimes:
                    if isinstance(runtime, MalformedRuntime) or project not in (None, runtime.project):
                        self._doubt(runtime, project)
                    elif runtime.persistent_disk_id is not None:
                        attached.add(int(runtime.persistent_disk_id))
        async with aclosing(self._running.leonardo.list_disks(project)) as listed:
            async for disks in listed:
                for disk in disks:
                    if isinstance(disk, MalformedDisk) or project not in (None, disk.project):
                        self._doubt(disk, project)
                    else:
                        self._account.disk(self._record(disk, attached=int(disk.id) in attached))

    def _doubt(self, item: Runtime | MalformedRuntime | PersistentDisk | MalformedDisk, project: str | None) -> None:
        """What cannot be reasoned with is said of its project, and makes the exit code 1."""
        if isinstance(item, MalformedRuntime | MalformedDisk):
            fault = item.detail
        else:
            fault = f"{item.project}/{item.name} was listed under another project"
        error = LeonardoError(ErrorKind.UNREADABLE, f"an item is left out: {fault}")
        self._account.unreadable(item.project or project, error)

    def _record(self, disk: PersistentDisk, *, attached: bool) -> events.DiskAudited:
        now = self._running.clock.now()
        reason = self._policy.judge(disk, now, attached=attached)
        left_by, left_at = self._left_by.get(disk.id, (None, LONG_AGO))
        unused = (
            None
            if reason is DiskReason.ATTACHED
            else since(disk.date_accessed and max(disk.date_accessed, left_at), now)
        )
        size = "of unknown size" if disk.size_gb is None else f"{disk.size_gb:,} GB"
        for_so_long = "" if unused is None else f", for {in_words(unused)}"
        by_us = "" if left_by is None else f", left by a deletion of {left_by}"
        return events.DiskAudited(
            severity=Severity.WARNING if reason is DiskReason.STUCK else Severity.INFO,
            message=f"{reason} {disk.project}/{disk.name}: {size}, {disk.status}{for_so_long}{by_us}",
            disk_id=disk.id,
            project=disk.project,
            name=disk.name,
            status=disk.status,
            size_gb=disk.size_gb,
            disk_type=disk.disk_type,
            creator=disk.creator if self._running.names_creators else None,
            created_date=disk.created_date,
            date_accessed=disk.date_accessed,
            unused_s=events.seconds(unused),
            reason=reason,
            left_by_run=left_by,
        )
