"""Which records a question is about; a source that can leave the others out does so, the rest give all they have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Records that have one of each of these; what is empty is not asked for."""

    events: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()
    path: str | None = None
    """`PROJECT/NAME` of a runtime."""
    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()


Wanted = tuple[Match, ...]
"""Records that match any of these."""

EVERYTHING: Wanted = (Match(),)
OPENINGS: Wanted = (Match(events=("run_started",)),)
