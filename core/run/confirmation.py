"""Asks Leonardo what became of earlier deletions, by one list per project; what its answer means is a rule's matter."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from core.clock import OutOfTimeError
from core.exit_code import ExitCode
from core.leonardo.errors import ErrorKind, LeonardoError
from core.records import events
from core.records.writer import RecordNotKeptError
from core.review.unconfirmed import Unconfirmed
from core.rules.confirmation import NEEDS_A_PERSON, Confirmation, confirm
from core.rules.guards import Refusal, clock_refusals
from core.run.concurrently import each
from core.run.opening import Rooms
from core.runtime import Runtime

SENTENCE = {
    Confirmation.CONFIRMED: "confirmed {path}: it is deleted",
    Confirmation.PENDING: "pending {path}: it is still being deleted",
    Confirmation.STUCK: "stuck {path}: it is being deleted for too long, a person must see to it",
    Confirmation.SURVIVED: "survived {path}: its deletion was accepted and lost, it is {status}",
    Confirmation.NEVER_HAPPENED: "never happened {path}: it is {status}",
    Confirmation.NOT_VISIBLE: "not visible {path}: its project does not list it, not even as deleted",
}


class Confirming:
    """One run over the deletions that earlier runs have announced."""

    def __init__(self, rooms: Rooms, *, stuck_after: timedelta) -> None:
        self._rooms = rooms
        self._stuck_after = stuck_after
        self._outcomes: Counter[str] = Counter()
        self._failed: list[str] = []
        self._refusals: list[Refusal] = []
        self._cut_short = False
        self._found: dict[str, dict[str, Runtime]] = {}
        """Of each project that could be listed the runtimes asked about, by id."""

    async def run(self, started: events.RunStarted, deletions: Iterable[Unconfirmed]) -> ExitCode:
        """From the first record to the closing one; the exit code."""
        self._record(started)
        with suppress(RecordNotKeptError):
            await self._rooms.audit.commit()
        everywhere: defaultdict[str, list[Unconfirmed]] = defaultdict(list)
        for deletion in deletions:
            everywhere[deletion.project].append(deletion)
        by_project = {project: everywhere[project] for project in self._rooms.task.share(everywhere)}
        self._rooms.watcher.expected(len(by_project))
        await each(by_project.items(), self._rooms.settings.read_concurrency, self._ask)
        self._refusals = list(clock_refusals(self._rooms.leonardo.clock_skew))
        for refusal in self._refusals:
            self._record(events.run_refused(refusal, candidates=sum(map(len, by_project.values())), listed=0))
        if not self._refusals:
            for project, found in self._found.items():
                for deletion in by_project[project]:
                    self._judge(deletion, found.get(deletion.runtime_id))
        self._record(self._finished(self._exit_code(asked=len(by_project))))
        with suppress(RecordNotKeptError):
            await self._rooms.audit.commit()
        return self._exit_code(asked=len(by_project))

    async def _ask(self, of_project: tuple[str, list[Unconfirmed]]) -> None:
        project, deletions = of_project
        try:
            self._found[project] = await self._rooms.leonardo.find_runtimes(project, {d.runtime_id for d in deletions})
        except OutOfTimeError:
            self._cut_short = True
            self._unreadable(project, LeonardoError(ErrorKind.UNAVAILABLE, "there was no time left to ask"))
        except LeonardoError as error:
            self._unreadable(project, error)

    def _judge(self, deletion: Unconfirmed, state: Runtime | None) -> None:
        outcome = confirm(
            state, accepted=deletion.accepted, instant=self._rooms.clock.now(), stuck_after=self._stuck_after
        )
        path = f"{deletion.project}/{deletion.name}"
        status = None if state is None else state.status
        needs_a_person = outcome in NEEDS_A_PERSON
        self._outcomes[outcome] += 1
        if needs_a_person:
            self._failed.append(path)
        self._record(
            events.DeletionConfirmed(
                severity=events.Severity.WARNING if needs_a_person else events.Severity.NOTICE,
                message=SENTENCE[outcome].format(path=path, status=status),
                runtime_id=deletion.runtime_id,
                project=deletion.project,
                name=deletion.name,
                accepted_run_id=deletion.run_id,
                outcome=outcome,
                status=status,
            )
        )

    def _unreadable(self, project: str, error: LeonardoError) -> None:
        self._failed.append(project)
        self._record(events.project_unreadable(project, error))

    def _record(self, event: events.Event) -> None:
        with suppress(RecordNotKeptError):  # the audit log remembers it, for the exit code
            self._rooms.audit.write(event)

    def _exit_code(self, *, asked: int) -> ExitCode:
        if self._rooms.audit.failure is not None:
            return ExitCode.UNRECORDED
        if self._cut_short:
            return ExitCode.STOPPED
        if asked and not self._found:
            return ExitCode.UNREADABLE
        if self._refusals:
            return ExitCode.REFUSED
        return ExitCode.FAILED if self._failed else ExitCode.DONE

    def _finished(self, exit_code: ExitCode) -> events.RunFinished:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self._outcomes.most_common())
        return events.RunFinished(
            severity=events.Severity.NOTICE,
            message=f"finished with exit code {exit_code}: {counts or 'nothing confirmed'}",
            listed=0,
            audited=0,
            actions={},
            reasons={},
            outcomes=dict(self._outcomes),
            failed=self._failed[: events.MOST_NAMES],
            calls=dict(self._rooms.leonardo.calls),
            duration_s=round(self._rooms.clock.elapsed(), 3),
            exit_code=exit_code,
            refused_by=[refusal.guard for refusal in self._refusals],
            would_be_refused_by=[],
            clock_skew_s=events.seconds(self._rooms.leonardo.clock_skew),
        )
