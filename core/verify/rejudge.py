"""Judges a record again by its own numbers and the rules of its run; whether a log is whole is asked in `verify`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import import_module
from pkgutil import iter_modules

from msgspec import UNSET, UnsetType

from core import rules
from core.records.events import ExemptionDetail, policy_digest
from core.records.outcome import LOOKED_AT, Outcome
from core.records.reader import LONG_AGO, Record
from core.rules.autopause import AutopausePolicy
from core.rules.decision import Action, Decision, Reason
from core.rules.deletion import DeletionPolicy
from core.rules.exemptions import Exemption
from core.rules.policy import PolicyNotRecordedError, RuntimePolicy
from core.runtime import GCP, Runtime, RuntimeStatus

DELETION_JOB = DeletionPolicy.job
AUTOPAUSE_JOB = AutopausePolicy.job


def _policies() -> Iterator[tuple[str, type[RuntimePolicy]]]:
    """By the names of their jobs: all that the modules of `core.rules` define."""
    for module in iter_modules(rules.__path__, f"{rules.__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, RuntimePolicy) and value is not RuntimePolicy:
                yield value.job, value


POLICIES = dict(_policies())
HALF_A_MILLISECOND = 0.0005
NO_LABELS: dict[str, str] = {}
DUPLICATE = Reason.DUPLICATE.value


def policy_of(started: Record) -> RuntimePolicy | None:
    """The limits and exemptions that a run wrote down; None for a job that judges no runtimes.

    Raises PolicyNotRecordedError.
    """
    kind = POLICIES.get(started.job)
    if kind is None:
        return None
    if "exemptions" in (started.truncated or ()):
        raise PolicyNotRecordedError("its exemptions were too long for one record")
    policy = kind.read(started.policy or {}, exemptions=tuple(exemption_of(detail) for detail in started.exemptions))
    return replace(policy, notices=None) if isinstance(policy, DeletionPolicy) else policy


def as_told(policy: RuntimePolicy, record: Record) -> RuntimePolicy:
    """As the run judged that knew whether the owner was told; what was said to whom is verified apart."""
    if isinstance(policy, DeletionPolicy) and record.reason == Reason.NOT_NOTICED:
        return replace(policy, notices={})
    return policy


def in_order(started: Record) -> dict[str, bool | float | str]:
    """The limits that a run wrote down, in the order in which its policy has them."""
    written = started.policy or {}
    kind = POLICIES.get(started.job)
    names = [name for limit in (kind.limits() if kind else ()) for name in (limit, f"{limit}_s")]
    return {name: written[name] for name in (*names, *written) if name in written}


def deletion_policy(started: Record) -> DeletionPolicy | None:
    """The same of a deletion run; None where it is another job's, or not on record."""
    try:
        policy = policy_of(started)
    except PolicyNotRecordedError:
        return None
    return policy if isinstance(policy, DeletionPolicy) else None


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
    return Runtime(  # in the order of the fields: naming them takes twice as long
        record.runtime_id or "",
        record.project or "",
        record.name or "",
        NO_LABELS,
        record.cloud_provider,
        record.status,
        record.creator,
        record.created_date,
        record.date_accessed,
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
class Rules:
    """What a run judged by; the exemptions apart, since labels and omitted creators are on no record."""

    policy: RuntimePolicy
    """Without exemptions."""
    exemptions: tuple[Exemption, ...]

    def agree(self, record: Record, judged_at: datetime, *, second_look: bool) -> bool:
        """Whether the record says what the rule gives; where an exemption may count, `faults` has to tell."""
        runtime = runtime_of(record)
        if self.exemptions and any(exemption.matches(runtime) for exemption in self.exemptions):
            return False
        repeated = record.reason == DUPLICATE
        decision = self.policy.judge(runtime, judged_at, repeated=repeated, second_look=second_look)
        return (
            record.reason == decision.reason
            and record.action == decision.action
            and record.due_at == decision.due_at
            and record.age_s == (decision.age and decision.age.total_seconds())
            and record.idle_s == (decision.idle and decision.idle.total_seconds())
            and record.overdue_s == (decision.overdue and decision.overdue.total_seconds())
        )

    def faults(self, record: Record, judged_at: datetime, now: datetime | None) -> list[str]:
        """What the record says and the rule does not."""
        runtime = runtime_of(record)
        policy = self._policy(record, runtime)
        repeated = record.reason == Reason.DUPLICATE
        any_day = bool(self.exemptions) and is_older(record)
        answers: list[list[str]] = []
        for known in _as_it_may_have_been(record, runtime):
            for second_look in _looks(record, now):
                decision = policy.judge(known, judged_at, repeated=repeated, second_look=second_look)
                faults = _differences(record, decision, any_day=any_day)
                if not faults:
                    return faults
                answers.append(faults)
        return answers[0]

    def intent_faults(self, intent: Record) -> Iterator[str]:
        """What an intent says and no runtime could have been judged to."""
        if isinstance(self.policy, AutopausePolicy):
            yield from _faults_of_stop(intent, self.policy)
            return
        age, idle = _timedelta(intent.age_s), _timedelta(intent.idle_s)
        if intent.time is None or age is None or idle is None:
            yield "lacks its numbers"
            return
        runtime = runtime_of(intent)._replace(  # an intent has its ages, not its dates: as if it had been made by them
            cloud_provider=GCP,
            status=RuntimeStatus.STOPPED,  # its status is with the outcome, and matters to the spared only
            created_date=intent.time - age,
            date_accessed=intent.time - idle,
        )
        certain = tuple(e for e in self.exemptions if e.creator is None and match_on_record(e, runtime))
        yield from _differences_of_words(intent, replace(self.policy, exemptions=certain).judge(runtime, intent.time))

    def _policy(self, record: Record, runtime: Runtime) -> RuntimePolicy:
        """With the exemption that counted, as one that matches whatever is on record."""
        if record.exemption is not None:
            matching: tuple[Exemption, ...] = (Exemption(until=record.exemption.until, reason=""),)
        else:
            matching = self._certain(runtime) if self.exemptions and is_older(record) else ()
        policy = as_told(self.policy, record)
        return replace(policy, exemptions=matching) if matching else policy

    def _certain(self, runtime: Runtime) -> tuple[Exemption, ...]:
        return tuple(exemption for exemption in self.exemptions if match_on_record(exemption, runtime))

    def exemption_faults(self, record: Record) -> Iterator[str]:
        """What the record says of exemptions and the run's own do not."""
        if record.exemption is None and (is_older(record) or not (self.exemptions or record.reason == Reason.EXEMPT)):
            return
        runtime = runtime_of(record)
        longest = max((exemption.until for exemption in self._certain(runtime)), default=None)
        if record.exemption is None:
            if record.reason == Reason.EXEMPT:
                yield "is exempt by no exemption"
            elif longest is not None and record.reason != Reason.FOREIGN_PROJECT:
                yield "names no exemption, and one of its run's matches it"
            return
        exemption = exemption_of(record.exemption)
        if record.judged_at is not None and record.exemption.lapsed != (exemption.until <= record.judged_at):
            yield f"is exempt by an exemption that lapsed otherwise than it says ({exemption.reason})"
        if exemption not in self.exemptions:
            yield f"is exempt by an exemption that its run did not have ({exemption.reason})"
        elif match_on_record(exemption, runtime) is False:
            yield f"is exempt by an exemption that does not match it ({exemption.reason})"
        elif longest is not None and longest > exemption.until and not is_older(record):
            yield f"names an exemption that ends before another that matches it ({exemption.reason})"


def is_older(record: Record) -> bool:
    """Whether it is of a time when only what an exemption had decided named it, and no record named evidence."""
    return record.evidence is UNSET


def _as_it_may_have_been(record: Record, runtime: Runtime) -> tuple[Runtime, ...]:
    """A patch in progress is on no record, and makes a difference to what is in transition."""
    patched = record.reason == Reason.IN_TRANSITION
    return (runtime, runtime._replace(patch_in_progress=True)) if patched else (runtime,)


def _faults_of_stop(intent: Record, policy: AutopausePolicy) -> Iterator[str]:
    """An intent has no threshold: it is asked whether any could have given that answer."""
    idle = _timedelta(intent.idle_s)
    overdue = idle is not None and idle >= policy.kernel_busy_limit + policy.autopause_margin
    if intent.age_s is None:
        yield "lacks its numbers"
    elif not (overdue and policy.stop_overdue and intent.reason == Reason.AUTOPAUSE_OVERDUE):
        yield f"says {intent.action} ({intent.reason}), which its run's policy does not give"


def rules_of(started: Record) -> Rules | None:
    """What a run judged by; None for a job that judges nothing. Raises PolicyNotRecordedError."""
    policy = policy_of(started)
    return None if policy is None else Rules(replace(policy, exemptions=()), policy.exemptions)


def digest_of(started: Record) -> str:
    """The digest that belongs to the policy and exemptions as they are recorded."""
    return policy_digest(started.policy or {}, [exemption_of(detail) for detail in started.exemptions])


def malformed_faults(record: Record) -> Iterator[str]:
    """A list item that could not be read was not judged."""
    judged = (record.status, record.cloud_provider, record.created_date, record.date_accessed)
    if (record.action, record.outcome) != (Action.KEEP, Outcome.KEPT) or any(judged):
        yield "is malformed, but was judged"


def was_looked_at_again(record: Record, now: datetime | None) -> bool:
    """Whether the record tells that its run had looked at the runtime again when it judged."""
    return bool(record.judged_at != now or record.attempts or record.outcome in LOOKED_AT)


def _looks(record: Record, now: datetime | None) -> tuple[bool, ...]:
    """Whether the runtime had been looked at again when it was judged; both where the record does not tell."""
    if was_looked_at_again(record, now):
        return (True,)
    return (False,) if record.outcome == Outcome.KEPT else (False, True)


def match_on_record(exemption: Exemption, runtime: Runtime) -> bool | None:
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


def _differences(record: Record, decision: Decision, *, any_day: bool) -> list[str]:
    """`any_day`: a lapsed exemption that is not on record may have put off the day."""
    faults: list[str] = []
    if record.reason != decision.reason or record.action != decision.action:
        faults += _differences_of_words(record, decision)
    if _differ(record.age_s, decision.age):
        faults.append(f"says age_s {record.age_s}, but its dates give {_seconds(decision.age)}")
    if _differ(record.idle_s, decision.idle):
        faults.append(f"says idle_s {record.idle_s}, but its dates give {_seconds(decision.idle)}")
    if _differ(record.overdue_s, decision.overdue):
        faults.append(f"says overdue_s {record.overdue_s}, but its dates give {_seconds(decision.overdue)}")
    if record.due_at is not UNSET and not any_day and record.due_at != decision.due_at:
        faults.append(f"says due_at {record.due_at}, but its numbers give {decision.due_at}")
    return faults


def _differ(written: float | UnsetType | None, judged: timedelta | None) -> bool:
    """Whether a number that was written is not the one that was judged; one that was not written at all never is."""
    if written is UNSET:
        return False
    if written is None or judged is None:
        return not (written is None and judged is None)
    return abs(written - judged.total_seconds()) > HALF_A_MILLISECOND


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
