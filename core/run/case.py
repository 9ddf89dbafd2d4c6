"""One runtime on its way through a run: what it was judged to, what was asked about it since, and its one record."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.leonardo.calling import LastExchange
from core.leonardo.errors import LeonardoError
from core.records import events
from core.records.events import FailedBefore
from core.records.outcome import OUTCOMES, Outcome, Severity
from core.rules.decision import Action, Decision
from core.rules.evidence import Evidence, Incarnation
from core.rules.policy import RuntimePolicy
from core.runtime import Runtime


@dataclass(slots=True, kw_only=True)
class Case:
    """A runtime that is condemned or still to be judged, by the policy that it came with."""

    policy: RuntimePolicy
    runtime: Runtime
    decision: Decision
    failed_before: FailedBefore | None = None
    """In live runs of the last days: then its turn comes last."""
    hopeless: bool = False
    """It failed before while other acts succeeded, so that its failure says nothing of Leonardo."""
    last: LastExchange = field(default_factory=LastExchange)
    answer: LeonardoError | None = None
    """What our act was answered, where it failed."""
    maybe_done: bool = False
    """An act left and its answer does not tell whether it was carried out."""
    settled_acts: int = 0
    """So many had left when the lists showed that none was carried out, and one more was tried."""
    token_renewed: bool = False
    looks: int = 0
    """That led to no act, as far as they count."""
    kept_waiting: int = 0
    """Looks in a row that grew too old while a record was made durable."""
    evidence: Evidence | None = None
    note: str = ""

    @property
    def second_try(self) -> bool:
        return self.settled_acts > 0

    @property
    def needs_look(self) -> bool:
        """Whether the list was not enough to judge by."""
        return self.policy.needs_look(self.decision)

    @property
    def asked(self) -> Incarnation:
        return Incarnation(self.runtime.id, self.runtime.name)

    @property
    def explanation(self) -> str:
        return self.policy.explain(self.runtime, self.decision)

    def judge_again(self, looked: Runtime, instant: datetime) -> Action:
        """By the same policy, as it was looked at now."""
        self.decision = self.policy.judge(looked, instant, second_look=True)
        if self.last.acts:  # a failed try may have detached the disk: the record tells of the one there was
            looked = looked._replace(disk=self.runtime.disk, persistent_disk_id=self.runtime.persistent_disk_id)
        self.runtime = looked
        return self.decision.action

    def intent(self, kind: type[events.Requested]) -> events.Requested:
        """What is recorded before its act leaves."""
        return kind(
            severity=Severity.NOTICE,
            message=f"about to {self.decision.action} {self.runtime.path}: {self.explanation}",
            runtime_id=self.runtime.id,
            project=self.runtime.project,
            name=self.runtime.name,
            action=self.decision.action,
            reason=self.decision.reason,
            age_s=events.seconds(self.decision.age),
            idle_s=events.seconds(self.decision.idle),
            attempt=self.last.acts + 1,
        )

    def record(self, outcome: Outcome, *, name_creator: bool) -> events.RuntimeAudited:
        """In which it ends."""
        answer = self.answer if OUTCOMES[outcome].failed and self.last.error is None else None
        error = answer or self.last.error
        return events.runtime_audited(
            self.runtime,
            self.decision,
            outcome,
            "; ".join(filter(None, (self.explanation, str(self.failed_before or ""), self.note))),
            name_creator=name_creator,
            exchanged=events.Exchanged(
                http_status=self.last.http_status if answer is None else answer.http_status,
                error=None if error is None else events.error_detail(error),
                attempts=self.last.acts,
                trace_id=self.last.trace_id,
                evidence=self.evidence,
                failed_before=self.failed_before,
            ),
        )


def most_overdue(case: Case) -> tuple[datetime, str]:
    """By which cases are sorted."""
    due_at = case.decision.due_at or case.decision.judged_at - (case.decision.overdue or timedelta(0))
    return due_at, case.runtime.path


def in_turn(case: Case) -> tuple[bool, datetime, str]:
    """The same, but what failed in earlier runs comes last."""
    return case.failed_before is not None, *most_overdue(case)
