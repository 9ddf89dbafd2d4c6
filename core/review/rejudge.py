"""Judges a record again by its own numbers and the rules of its run; whether a log is whole is asked in `verify`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from msgspec import UNSET, UnsetType

from core.records.events import ExemptionDetail, Outcome, policy_digest
from core.records.reader import LONG_AGO, Record
from core.rules import autopause, deletion
from core.rules.autopause import AutopauseLimits, AutopausePolicy
from core.rules.decision import Action, Decision, Reason
from core.rules.deletion import DeletionPolicy
from core.rules.exemptions import Exemption
from core.runtime import GCP, Runtime, RuntimeStatus

DELETION_JOB = "delete-old-runtimes"
AUTOPAUSE_JOB = "check-autopause"
HALF_A_MILLISECOND = 0.0005
LOOKED_AGAIN = frozenset(
    {Outcome.SPARED, Outcome.DELETION_ACCEPTED, Outcome.ALREADY_DELETING, Outcome.CONFLICT, Outcome.STOP_ACCEPTED}
)
"""Outcomes that only a second look leads to."""


class PolicyNotRecordedError(Exception):
    """A run's first record does not hold the limits that its job judges by."""


def _duration(policy: Mapping[str, bool | float], name: str, default: timedelta | None = None) -> timedelta:
    if name not in policy:
        if default is None:
            raise PolicyNotRecordedError(f"the policy lacks {name}")
        return default
    try:
        return timedelta(seconds=policy[name])
    except (OverflowError, ValueError):
        raise PolicyNotRecordedError(f"the policy's {name} is no duration: {policy[name]}") from None


def _autopause_limits(policy: Mapping[str, bool | float]) -> AutopauseLimits:
    return AutopauseLimits(
        kernel_busy_limit=_duration(policy, "kernel_busy_limit_s", timedelta(hours=24)),
        margin=_duration(policy, "autopause_margin_s", timedelta(minutes=15)),
    )


def deletion_policy(started: Record) -> DeletionPolicy:
    """The limits and exemptions that a deletion run wrote down. Raises PolicyNotRecordedError."""
    policy = started.policy or {}
    if "exemptions" in (started.truncated or ()):
        raise PolicyNotRecordedError("its exemptions were too long for one record")
    return DeletionPolicy(
        max_age=_duration(policy, "max_age_s"),
        max_age_if_idle=_duration(policy, "max_age_if_idle_s"),
        idle_after=_duration(policy, "idle_after_s"),
        spare_possibly_busy=bool(policy.get("spare_possibly_busy", False)),
        autopause=_autopause_limits(policy),
        exemptions=tuple(exemption_of(detail) for detail in started.exemptions),
    )


def autopause_policy(started: Record) -> AutopausePolicy:
    """The limits that an autopause run wrote down. Raises PolicyNotRecordedError."""
    policy = started.policy or {}
    return AutopausePolicy(
        limits=_autopause_limits(policy),
        max_threshold=_duration(policy, "autopause_max_threshold_s"),
        stuck_after=_duration(policy, "stuck_after_s"),
        stop_overdue=bool(policy.get("stop_overdue", False)),
    )


def exemption_of(detail: ExemptionDetail) -> Exemption:
    label = detail.match.get("label", [])
    return Exemption(
        until=detail.until,
        reason=detail.reason,
        project=_glob(detail, "project"),
        name=_glob(detail, "name"),
        creator=_glob(detail, "creator"),
        label=(label,) if isinstance(label, str) else tuple(label),
    )


def _glob(detail: ExemptionDetail, name: str) -> str | None:
    glob = detail.match.get(name)
    return glob if isinstance(glob, str) else None


def runtime_of(record: Record) -> Runtime:
    """The runtime as it was judged, but for its labels, which are on no record."""
    minutes = record.autopause_threshold_min
    try:
        threshold = None if minutes is None else timedelta(minutes=minutes)
    except OverflowError:
        threshold = timedelta.max
    return Runtime(
        id=record.runtime_id or "",
        project=record.project or "",
        name=record.name or "",
        cloud_provider=record.cloud_provider,
        status=record.status,
        creator=record.creator,
        created_date=record.created_date,
        date_accessed=record.date_accessed,
        labels={},
        autopause_threshold=threshold,
    )


def decision_of(record: Record) -> Decision | None:
    """The judgement that a record tells of; None where its words are not known here."""
    try:
        action, reason = Action(record.action), Reason(record.reason)
    except ValueError:
        return None
    exemption = record.exemption
    return Decision(
        action=action,
        reason=reason,
        judged_at=record.judged_at or LONG_AGO,
        age=_timedelta(record.age_s),
        idle=_timedelta(record.idle_s),
        exemption=None if exemption is None else exemption_of(exemption),
    )


def _timedelta(seconds: float | UnsetType | None) -> timedelta | None:
    if seconds is None or seconds is UNSET:
        return None
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return timedelta.max if seconds > 0 else timedelta.min


@dataclass(frozen=True, slots=True)
class DeletionRules:
    """What a deletion run judged by; the exemptions apart, since labels and omitted creators are on no record."""

    policy: DeletionPolicy
    """Without exemptions."""
    exemptions: tuple[Exemption, ...]

    def faults(self, record: Record, judged_at: datetime, now: datetime | None) -> Iterator[str]:
        """What the record says and the rule does not."""
        runtime = runtime_of(record)
        repeated = record.reason == Reason.DUPLICATE
        policies = [self.policy]
        if record.reason == Reason.EXEMPT:
            yield from self._faults_of_exemption(record, runtime)
            spared = () if record.exemption is None else (Exemption(until=record.exemption.until, reason=""),)
            policies = [replace(self.policy, exemptions=spared)]
        elif self.exemptions:
            policies = [replace(self.policy, exemptions=self._certain(runtime))]
            policies += [  # a lapsed one that may have matched has put off the day
                replace(self.policy, exemptions=(*self._certain(runtime), Exemption(until=maybe.until, reason="")))
                for maybe in self.exemptions
                if _match(maybe, runtime) is None
            ]
        answers: list[list[str]] = []
        for policy in policies:
            for second_look in _looks(record, now):
                decision = deletion.decide(runtime, policy, judged_at, repeated=repeated, second_look=second_look)
                faults = list(_differences(record, decision))
                if not faults:
                    return
                answers.append(faults)
        yield from answers[0]

    def intent_faults(self, intent: Record) -> Iterator[str]:
        """An intent has its ages, not its dates: the rule is asked about a runtime that had them."""
        age, idle = _timedelta(intent.age_s), _timedelta(intent.idle_s)
        if intent.time is None or age is None or idle is None:
            yield "lacks its numbers"
            return
        runtime = runtime_of(intent)._replace(
            cloud_provider=GCP,
            status=RuntimeStatus.STOPPED,  # its status is with the outcome, and matters to the spared only
            created_date=intent.time - age,
            date_accessed=intent.time - idle,
        )
        certain = tuple(e for e in self.exemptions if e.creator is None and _match(e, runtime))
        decision = deletion.decide(runtime, replace(self.policy, exemptions=certain), intent.time)
        yield from _differences_of_words(intent, decision)

    def _certain(self, runtime: Runtime) -> tuple[Exemption, ...]:
        return tuple(exemption for exemption in self.exemptions if _match(exemption, runtime))

    def _faults_of_exemption(self, record: Record, runtime: Runtime) -> Iterator[str]:
        if record.exemption is None:
            yield "is exempt by no exemption"
            return
        exemption = exemption_of(record.exemption)
        if exemption not in self.exemptions:
            yield f"is exempt by an exemption that its run did not have ({exemption.reason})"
        elif _match(exemption, runtime) is False:
            yield f"is exempt by an exemption that does not match it ({exemption.reason})"


@dataclass(frozen=True, slots=True)
class AutopauseRules:
    """What an autopause run judged by."""

    policy: AutopausePolicy

    def faults(self, record: Record, judged_at: datetime, now: datetime | None) -> Iterator[str]:  # noqa: ARG002 - each look is judged alike
        """What the record says and the rule does not."""
        runtime = runtime_of(record)
        repeated = record.reason == Reason.DUPLICATE
        decision = autopause.check(runtime, runtime.autopause_threshold, self.policy, judged_at, repeated=repeated)
        yield from _differences(record, decision)

    def intent_faults(self, intent: Record) -> Iterator[str]:
        """An intent has no threshold: it is asked whether any could have given that answer."""
        idle = _timedelta(intent.idle_s)
        overdue = idle is not None and idle >= self.policy.limits.kernel_busy_limit + self.policy.limits.margin
        if not (overdue and self.policy.stop_overdue and intent.reason == Reason.AUTOPAUSE_OVERDUE):
            yield f"says {intent.action} ({intent.reason}), which its run's policy does not give"


Rules = DeletionRules | AutopauseRules


def rules_of(started: Record) -> Rules | None:
    """What a run judged by; None for a job that judges nothing. Raises PolicyNotRecordedError."""
    if started.job == DELETION_JOB:
        policy = deletion_policy(started)
        return DeletionRules(replace(policy, exemptions=()), tuple(policy.exemptions))
    if started.job == AUTOPAUSE_JOB:
        return AutopauseRules(autopause_policy(started))
    return None


def digest_of(started: Record) -> str:
    """The digest that belongs to the policy and exemptions as they are recorded."""
    return policy_digest(started.policy or {}, [exemption_of(detail) for detail in started.exemptions])


def malformed_faults(record: Record) -> Iterator[str]:
    """A list item that could not be read was not judged."""
    judged = (record.status, record.cloud_provider, record.created_date, record.date_accessed)
    if (record.action, record.outcome) != (Action.KEEP, Outcome.KEPT) or any(judged):
        yield "is malformed, but was judged"


def _looks(record: Record, now: datetime | None) -> tuple[bool, ...]:
    """Whether the runtime had been looked at again when it was judged; both where the record does not tell."""
    if record.judged_at != now or record.attempts or record.outcome in LOOKED_AGAIN:
        return (True,)
    return (False,) if record.outcome == Outcome.KEPT else (False, True)


def _match(exemption: Exemption, runtime: Runtime) -> bool | None:
    """None where the record does not tell: it has no labels, perhaps no creator, and cuts names that are very long."""
    cut = any(text.endswith("…") for text in (runtime.project, runtime.name, runtime.creator or ""))
    unknown = cut or bool(exemption.label) or (exemption.creator is not None and runtime.creator is None)
    if not unknown:
        return exemption.matches(runtime)
    readable = replace(
        exemption,
        label=(),
        project=None if cut else exemption.project,
        name=None if cut else exemption.name,
        creator=exemption.creator if runtime.creator is not None and not cut else None,
    )
    return None if readable.matches(runtime) else False


def _differences_of_words(record: Record, decision: Decision) -> Iterator[str]:
    if (record.action, record.reason) != (decision.action, decision.reason):
        given = f"{decision.action} ({decision.reason})"
        yield f"says {record.action or 'nothing'} ({record.reason}), but its numbers give {given}"


def _differences(record: Record, decision: Decision) -> Iterator[str]:
    if record.reason != decision.reason or record.action != decision.action:
        yield from _differences_of_words(record, decision)
    if _differ(record.age_s, decision.age):
        yield f"says age_s {record.age_s}, but its dates give {_seconds(decision.age)}"
    if _differ(record.idle_s, decision.idle):
        yield f"says idle_s {record.idle_s}, but its dates give {_seconds(decision.idle)}"
    if _differ(record.overdue_s, decision.overdue):
        yield f"says overdue_s {record.overdue_s}, but its dates give {_seconds(decision.overdue)}"
    if record.due_at is not UNSET and record.due_at != decision.due_at:
        yield f"says due_at {record.due_at}, but its numbers give {decision.due_at}"


def _differ(written: float | UnsetType | None, judged: timedelta | None) -> bool:
    """Whether a number that was written is not the one that was judged; one that was not written at all never is."""
    if written is UNSET:
        return False
    if written is None or judged is None:
        return not (written is None and judged is None)
    return abs(written - judged.total_seconds()) > HALF_A_MILLISECOND


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
