"""Runtimes as somebody expects a policy to decide on them, one a line, and where it decides otherwise."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from core.records.events import exemption_detail, exemption_in_words
from core.rules.decision import Action, Decision, Reason
from core.rules.deletion import DeletionPolicy
from core.rules.words import NO_TIME, counted
from core.runtime import GCP, Runtime, RuntimeStatus
from core.settings.deployment import read_environment
from core.settings.durations import Duration, Instant
from core.settings.faults import UsageError, did_you_mean, reason_of
from core.settings.reading import SILENT, Said, Source, from_file
from core.settings.yaml_text import lines_of_entries, load_yaml, read_text

ENDING = ".cases.yaml"


def _reason(value: object) -> object:
    if isinstance(value, str) and value not in list(Reason):
        raise ValueError(f"{value!r} is no reason{did_you_mean(value, list(Reason))}")
    return value


def _path(value: str) -> str:
    project, slash, name = value.partition("/")
    if not (project and slash and name):
        raise ValueError(f"{value!r} is not PROJECT/NAME")
    return value


Because = Annotated[Reason, BeforeValidator(_reason)]


class _Entry(BaseModel):
    """A line as it is written: `{keep: within_policy, runtime: PROJECT/NAME, age: 13d}`."""

    model_config = ConfigDict(extra="forbid")

    keep: Because | None = None
    delete: Because | None = None
    runtime: Annotated[str, AfterValidator(_path)]
    age: Duration
    idle: Duration | None = None
    """None: it is in use."""
    status: RuntimeStatus = RuntimeStatus.RUNNING
    cloud: str = GCP
    creator: str = "somebody@example.org"
    labels: dict[str, str] = {}
    autopause: Duration = timedelta(minutes=30)
    at: Instant | None = None
    """The instant it is judged at, where an exemption makes that matter."""

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is no case such as {{keep: within_policy, runtime: PROJECT/NAME, age: 13d}}")  # noqa: TRY004 - a bad file
        return value

    @model_validator(mode="after")
    def _one_decision(self) -> Self:
        if (self.keep is None) == (self.delete is None):
            raise ValueError("say what is expected: keep: REASON, or delete: REASON")
        return self


@dataclass(frozen=True, slots=True)
class Case:
    """A runtime, and what is expected of it."""

    line: int
    entry: _Entry

    @property
    def expected(self) -> tuple[Action, Reason]:
        keep, delete = self.entry.keep, self.entry.delete
        return (Action.KEEP, keep) if keep is not None else (Action.DELETE, delete or Reason.MAX_AGE)

    def runtime(self, at: datetime) -> Runtime:
        entry = self.entry
        project, _, name = entry.runtime.partition("/")
        return Runtime(
            id="1",
            project=project,
            name=name,
            labels=entry.labels,
            cloud_provider=entry.cloud,
            status=entry.status,
            creator=entry.creator,
            created_date=at - entry.age,
            date_accessed=at - (entry.idle or NO_TIME),
            autopause_threshold=entry.autopause,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a policy decides on cases."""

    as_expected: bool
    lines: list[str]
    """Each case that is decided otherwise, each exemption that no case meets, and how many cases there are."""


def read_cases(path: Path) -> list[Case]:
    """Raises UsageError with every line that is none."""
    try:
        text = read_text(path)
        entries = load_yaml(text, str(path))
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"{path} holds no cases: it must be a list of them")  # noqa: TRY301 - a bad file
    except ValueError as error:
        raise UsageError(f"cases: {error}") from None
    faults: list[str] = []
    cases: list[Case] = []
    for line, entry in zip(lines_of_entries(text), entries, strict=True):
        try:
            cases.append(Case(line, _Entry.model_validate(entry)))
        except ValidationError as error:
            faults += [f"{path}:{line}: {_in_words(fault)}" for fault in error.errors()]
    if faults:
        raise UsageError(*faults)
    return cases


def _in_words(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {reason_of(fault)}" if where else reason_of(fault)


def judge(path: Path, policy: DeletionPolicy, now: datetime) -> Verdict:
    """Each case of a file by the policy, as if every owner was told, at its own instant or now. Raises UsageError."""
    policy = replace(policy, notices=None)
    lines: list[str] = []
    met: set[int] = set()
    cases = read_cases(path)
    differing = 0
    for case in cases:
        runtime = case.runtime(case.entry.at or now)
        decision = _decide(policy, runtime, case.entry.at or now)
        if decision.matching and case.entry.at is None:
            raise UsageError(f"{path}:{case.line}: an exemption matches {runtime.path}: say when (at: INSTANT)")
        met.update(decision.matching)
        if case.expected != (decision.action, decision.reason):
            differing += 1
            lines += [
                f"{path}:{case.line}: {runtime.path}",
                "  - {}: {}".format(*case.expected),
                f"  + {decision.action}: {decision.reason}  # {policy.explain(runtime, decision)}",
            ]
    for place, exemption in enumerate(policy.exemptions):
        if place not in met:
            lines.append(f"no case meets the exemption {exemption_in_words(exemption_detail(exemption, now))}")
    return Verdict(not differing, [*lines, f"{counted(len(cases), 'case')} judged, {differing:,} not as expected."])


def _decide(policy: DeletionPolicy, runtime: Runtime, at: datetime) -> Decision:
    """As a run does, which looks again at what the list condemns."""
    decision = policy.judge(runtime, at)
    return decision if decision.action is Action.KEEP else policy.judge(runtime, at, second_look=True)


def environment_beside(cases: Path) -> Source:
    """What `ENV.yaml` and `ENV.exemptions.yaml` beside `ENV.cases.yaml` say. Raises UsageError."""
    if not cases.name.endswith(ENDING):
        return SILENT
    file = cases.with_name(cases.name.removesuffix(ENDING) + ".yaml")
    if not file.exists():
        return SILENT
    try:
        environment = read_environment(file)
    except ValueError as error:
        raise UsageError(f"cases: {error}") from None
    exemptions = file.with_suffix(".exemptions.yaml")
    beside = {"exemptions": Said(str(exemptions), str(exemptions))} if exemptions.exists() else {}
    return {**from_file(file, {**environment.settings, "environment": environment.name}), **beside}
