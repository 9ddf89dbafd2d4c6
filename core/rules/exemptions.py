"""Who is spared and until when; reading exemptions from a file lives in `core.settings`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from core.runtime import Runtime

LONGEST = timedelta(days=180)
"""An exemption ends within this time, so that none is forgotten for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Spares every runtime that all given fields match (case-sensitive globs), until an instant, exclusive.

    Labels or a creator that could not be read match every pattern: doubt keeps.
    """

    until: datetime
    reason: str
    project: str | None = None
    name: str | None = None
    creator: str | None = None
    label: tuple[str, ...] = ()
    """Each `key=glob`."""

    def matches(self, runtime: Runtime) -> bool:
        return (
            _matches(self.project, runtime.project)
            and _matches(self.name, runtime.name)
            and _matches(self.creator, runtime.creator)
            and all(_has_label(runtime, wanted) for wanted in self.label)
        )

    @property
    def in_words(self) -> str:
        """Why it spares whom it matches."""
        return f"exempt until {self.until:%Y-%m-%d %H:%M}Z: {self.reason}"

    def lapsed(self, instant: datetime) -> bool:
        return self.until <= instant


def _matches(glob: str | None, value: str | None) -> bool:
    return glob is None or value is None or fnmatchcase(value, glob)


def _has_label(runtime: Runtime, wanted: str) -> bool:
    key, _, glob = wanted.partition("=")
    return runtime.labels is None or (key in runtime.labels and fnmatchcase(runtime.labels[key], glob))


def matching(exemptions: Iterable[Exemption], runtime: Runtime) -> tuple[int, ...]:
    """The places of those that match, lapsed or not."""
    return tuple(place for place, exemption in enumerate(exemptions) if exemption.matches(runtime))


def longest(exemptions: Sequence[Exemption], places: Iterable[int]) -> Exemption | None:
    """Of the exemptions at these places, the one that ends last."""
    return max((exemptions[place] for place in places), key=lambda exemption: exemption.until, default=None)
