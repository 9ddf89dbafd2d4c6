"""One run over the deletions that earlier runs asked for; what a list proves of one is a rule's matter."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.clock import OutOfTimeError
from core.exit_code import ExitCode
from core.leonardo.errors import LeonardoError
from core.records import events
from core.records.outcome import CONFIRMATIONS
from core.review.unconfirmed import Unconfirmed
from core.rules.confirmation import STAYS_OPEN, Confirmation, ConfirmationPolicy, role_may_be_lost
from core.rules.evidence import MISSING, PROVEN_BY, Evidence, Incarnation, Sighting
from core.rules.guards import clock_refusals
from core.rules.words import minute
from core.run.account import Account
from core.run.concurrently import each
from core.run.evidence import see_disks, see_runtimes
from core.run.running import Running
from core.runtime import Runtime

SENTENCES = {
    Confirmation.CONFIRMED: "confirmed {path}: it is gone, {proof}{disk}",
    Confirmation.PENDING: "pending {path}: Leonardo is still deleting it",
    Confirmation.STUCK: (
        "stuck {path}: it is Deleting since {accessed}, and Leonardo will neither end that nor take another deletion:"
        " have Leonardo's operators end it"
    ),
    Confirmation.ERRORED: (
        "errored {path}: Leonardo failed to delete it, and its machine may still cost money; after idle-after, try"
        " delete-old-runtimes --delete-errored --only {path}"
    ),
    Confirmation.SURVIVED: (
        "survived {path}: its deletion was accepted and lost, it is {status}; the next deletion run judges it again"
    ),
    Confirmation.NEVER_HAPPENED: (
        "never happened {path}: its deletion failed, it is {status}; the next deletion run judges it again"
    ),
    Confirmation.NOT_VISIBLE: (
        "not visible {path}: nothing of its project is listed, as of many others: has the caller lost its role? it is"
        f" asked about for {STAYS_OPEN.days} days"
    ),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A deletion, and what its project's lists show of it."""

    deletion: Unconfirmed
    seen: Sighting

    @property
    def state(self) -> Runtime | None:
        return self.seen.runtimes.get(self.deletion.runtime_id)

    @property
    def evidence(self) -> Evidence | None:
        return self.seen.evidence(Incarnation(self.deletion.runtime_id, self.deletion.name))

    @property
    def needs_disks(self) -> bool:
        """Whether only the list of disks tells what became of it or of its disk; unread, that leaves it open."""
        kept = self.deletion.persistent_disk_id is not None
        return self.seen.disks is None and self.state is None and (kept or self.evidence is Evidence.UNLISTED)

    @property
    def disk_status(self) -> str | None:
        disk_id = self.deletion.persistent_disk_id
        return None if disk_id is None else self.seen.disk_status(disk_id)


class Confirming:
    """One run over the deletions that earlier runs have announced."""

    def __init__(self, running: Running, account: Account, policy: ConfirmationPolicy) -> None:
        self._running = running
        self._account = account
        self._policy = policy

    async def run(self, started: events.RunStarted, deletions: Iterable[Unconfirmed]) -> ExitCode:
        """From the first record to the closing one; the exit code."""
        account = self._account
        await account.open(started)
        everywhere: defaultdict[str, list[Unconfirmed]] = defaultdict(list)
        for deletion in deletions:
            everywhere[deletion.project].append(deletion)
        by_project = {project: everywhere[project] for project in self._running.task.share(everywhere)}
        self._running.watcher.expected(len(by_project))
        asked: list[_Asked] = []

        async def ask(project: str) -> None:
            seen = await self._sight(project, by_project[project])
            if seen is not None:
                asked.extend(_Asked(deletion, seen) for deletion in by_project[project])

        await each(by_project, self._running.settings.read_concurrency, ask)
        account.refuse(clock_refusals(self._running.leonardo.clock_skew), candidates=sum(map(len, by_project.values())))
        if not account.refusals:
            self._judge(asked)
        return await account.close()

    async def _sight(self, project: str, deletions: list[Unconfirmed]) -> Sighting | None:
        """What is seen of a project, its disks too where one was kept; None where its runtimes could not be read."""
        leonardo, account = self._running.leonardo, self._account
        try:
            seen = await see_runtimes(leonardo, project)
        except OutOfTimeError:
            account.list_cut_off(project)
            return None
        except LeonardoError as error:
            account.list_unread(project, error)
            return None
        account.list_read()
        asked = [_Asked(deletion, seen) for deletion in deletions]
        try:
            if any(of.needs_disks for of in asked):
                await see_disks(leonardo, seen)
        except OutOfTimeError:
            account.cut_short()
        except LeonardoError as error:
            account.unreadable(project, error)
        return seen

    def _judge(self, asked: list[_Asked]) -> None:
        """All at once: what is gone without evidence is believed as long as it is not too much."""
        lost = role_may_be_lost([(of.evidence, of.deletion.persistent_disk_id is not None) for of in asked])
        if lost:
            self._account.warnings.append(
                "many deletions are gone without any evidence: has the caller lost its role on these projects?"
            )
        now = self._running.clock.now()
        for of in asked:
            if not of.needs_disks:
                record = self._record(of, lost=lost, now=now)
                self._account.told(record, record.outcome, failed=CONFIRMATIONS[record.outcome].failed)

    def _record(self, of: _Asked, *, lost: bool, now: datetime) -> events.DeletionConfirmed:
        deletion, state, evidence = of.deletion, of.state, of.evidence
        outcome = self._policy.judge(state, accepted=deletion.accepted, instant=now)
        since = deletion.not_visible_since
        if lost and evidence is Evidence.UNLISTED and not (since is not None and now - since >= STAYS_OPEN):
            outcome, evidence = Confirmation.NOT_VISIBLE, None
        status = None if state is None else state.status
        return events.DeletionConfirmed(
            severity=CONFIRMATIONS[outcome].severity,
            message=SENTENCES[outcome].format(
                path=deletion.path,
                status=status,
                proof="it is listed as deleted" if evidence is None else PROVEN_BY[evidence],
                disk=_disk_in_words(deletion.persistent_disk_id, of.disk_status),
                accessed=minute(None if state is None else state.date_accessed),
            ),
            runtime_id=deletion.runtime_id,
            project=deletion.project,
            name=deletion.name,
            accepted_run_id=deletion.run_id,
            outcome=outcome,
            status=status,
            evidence=evidence,
            persistent_disk_id=deletion.persistent_disk_id,
            disk_status=of.disk_status,
        )


def _disk_in_words(disk_id: str | None, status: str | None) -> str:
    match disk_id, status:
        case None, _:
            return ""
        case _, None:
            return f"; whether its disk {disk_id} is there cannot be seen"
        case _, str(word) if word == MISSING:
            return f"; its disk {disk_id} is missing: its owner deleted it, or it is lost"
        case _:
            return f"; its disk {disk_id} is {status}"
