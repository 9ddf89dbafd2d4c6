"""A dry run that a live run is held to: what it allows, when it must not be used; it is read in `core.review`."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.rules.guards import Guard, Refusal
from core.rules.words import counted, in_words, with_lost
from core.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the records of one run say of it as a plan."""

    run_id: str
    job: str
    environment: str
    policy_digest: str
    made_at: datetime
    dry_run: bool
    as_of: bool
    """Whether it judged by another instant than its own."""
    saved: bool
    """Whether it judged a list that somebody had saved."""
    faults: tuple[str, ...]
    """Why its records are not whole, or not true."""
    runtimes: frozenset[tuple[str, str]]
    """Id and `PROJECT/NAME` of each runtime that it would act on."""
    disks_lost: int
    """How many of these would lose their data."""
    made_by: str | None
    rule: str
    """What it judged by, in a sentence."""
    terms: Mapping[str, str]
    """The same in words, by the names of limits and exemptions."""

    def allows(self, runtime: Runtime) -> bool:
        """Whether it planned this very incarnation under this very name."""
        return (runtime.id, runtime.path) in self.runtimes

    @property
    def digest(self) -> str:
        """The same exactly for plans of the same runtimes by the same rule, wherever their records were read from."""
        return plan_digest(self.run_id, self.policy_digest, self.runtimes)

    def refusals(
        self,
        *,
        job: str,
        environment: str,
        policy_digest: str,
        terms: Mapping[str, str],
        now: datetime,
        max_age: timedelta,
    ) -> Iterator[Refusal]:
        """Every reason why a run of this job, environment and policy must not be held to it."""
        age = now - self.made_at
        for wrong, why in (
            (not self.dry_run, "it was a live run"),
            (self.job != job, f"it was made by {self.job}"),
            (self.environment != environment, f"it was made for {self.environment}, this is {environment}"),
            (self.policy_digest != policy_digest, f"it was made under another policy: {self._differences(terms)}"),
            (self.as_of, "it was made as of another instant"),
            (self.saved, "it was made of a saved list, without a second look"),
            (age > max_age, f"it is {in_words(age)} old, plan-max-age is {in_words(max_age)}"),
            (age < timedelta(0), "it was made in the future"),
            (bool(self.faults), f"its records are not whole: {'; '.join(self.faults[:3])}"),
        ):
            if wrong:
                yield Refusal(Guard.PLAN, f"plan {self.run_id} cannot be used: {why}")

    def _differences(self, terms: Mapping[str, str]) -> str:
        names = dict.fromkeys([*self.terms, *terms])
        return "; ".join(
            f"{name}: {self.terms.get(name, 'none')} there, {terms.get(name, 'none')} here"
            for name in names
            if self.terms.get(name) != terms.get(name)
        )

    def in_words(self, now: datetime) -> str:
        """What a person approves who lets it be carried out."""
        made = f"made by {self.made_by or 'unknown'} {in_words(now - self.made_at)} ago"
        runtimes = with_lost(counted(len(self.runtimes), "runtime"), self.disks_lost)
        return f"plan {self.run_id} for {self.environment}, {made}: {self.rule}; {runtimes}"


def plan_digest(run_id: str, policy_digest: str, runtimes: Iterable[tuple[str, str]]) -> str:
    """Of what a run planned: the id and `PROJECT/NAME` of each."""
    lines = [run_id, policy_digest, *sorted(f"{identity} {path}" for identity, path in runtimes)]
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()
