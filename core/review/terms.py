"""What a person calls the fields of a run's first record, and their values in words."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from core.records.events import ExemptionDetail, exemption_in_words
from core.rules.words import duration, minute

NOT_GIVEN = {"projects": "all", "only": "all", "inventory": "asked live"}
"""What it means where a run's first record holds nothing."""


def label(name: str) -> str:
    """What a person calls a field of a run's first record; the unit stands with the value."""
    return {"now": "judged as of"}.get(name, name.removesuffix("_s"))


def terms_of(policy: Mapping[str, bool | float | str], exemptions: Iterable[ExemptionDetail]) -> dict[str, str]:
    """What a run judges by, in words, by the names of limits and exemptions."""
    exempt = "; ".join(sorted(map(exemption_in_words, exemptions)))
    return {label(name): value(name, of) for name, of in policy.items()} | ({"exemptions": exempt} if exempt else {})


def value(name: str, of: bool | float | str | list[str] | None) -> str:  # noqa: FBT001 - a value like others
    """Of the field of this name, in words."""
    match of:
        case bool():
            return "yes" if of else "no"
        case int() | float():
            return duration(of) if name.endswith("_s") else f"{of:g}"
        case list():
            return "; ".join(of) or "none"
        case str() if name == "now":
            return minute(datetime.fromisoformat(of))
        case str():
            return of
        case None:
            return NOT_GIVEN.get(name, "-")
