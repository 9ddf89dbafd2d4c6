"""Which records a question is about; a source that can leave the others out does so, the rest give all they have."""

from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Records that have one of each of these; what is empty is not asked for."""

    events: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    runtime_ids: tuple[str, ...] = ()
    creators: tuple[str, ...] = ()
    path: str | None = None
    """`PROJECT/NAME` of a runtime."""
    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    alone: bool = False
    """Lines of a file that name another event, or none of these runs, are passed over undecoded, right or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Of which runs and runtimes records are given at all; what is None does not matter."""

    environment: str | None = None
    since: datetime | None = None
    """Runs that began then or later."""
    until: datetime | None = None
    """Runs that began before."""
    creator: str | None = None
    """Or a glob of it."""

    def has_run(self, began: datetime | None) -> bool:
        """Of a run of which it is not known when it began, nobody can say that it began at another time."""
        if began is None:
            return True
        return not ((self.since and began < self.since) or (self.until and began >= self.until))


def is_creator(name: str | None, wanted: str) -> bool:
    """Whether an e-mail is the one that is wanted, or of its glob, in capitals or not."""
    return name is not None and fnmatchcase(name.lower(), wanted.lower())


Wanted = tuple[Match, ...]
"""Records that match any of these."""

EVERYTHING: Wanted = (Match(),)
RUNS: Wanted = (Match(events=("run_started", "run_finished"), alone=True),)
"""What opens and closes runs."""


def of_environment(wanted: Wanted, environment: str | None) -> Wanted:
    """The same of one environment, where one is named."""
    return wanted if environment is None else tuple(replace(match, environments=(environment,)) for match in wanted)


def alone(wanted: Wanted) -> Wanted:
    """The same for who does not ask whether the log is whole."""
    return tuple(replace(match, alone=True) for match in wanted)


def events_of(wanted: Wanted) -> list[str]:
    return [event for match in wanted for event in match.events]
