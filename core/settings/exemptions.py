"""Exemptions as operators write them, checked entry by entry; what they spare is said in `core.rules.exemptions`."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from core.rules.exemptions import Exemption
from core.settings.durations import Instant
from core.settings.faults import where_and_why
from core.settings.yaml_text import load_yaml, read_text

Glob = Annotated[str, Field(min_length=1, max_length=128)]
NEVER = re.compile(r"[\s'\"`{},/]")
"""What neither a project nor a runtime's name holds: such a pattern was meant otherwise."""
NEVER_IN_AN_ADDRESS = re.compile(r"[\s\"`{},]")
"""An apostrophe may stand in the e-mail address of a Google account (support.google.com/a/answer/9193374)."""
ANYTHING = frozenset("*?[@")
"""One of these stands in each address, and in each pattern of addresses."""
EVERYBODY = "*?@"
"""Of these alone is a pattern that spares everything."""


def _matches_something(glob: str) -> str:
    if NEVER.search(glob):
        raise ValueError(
            f"{glob!r} can match nothing: no blanks, quotes, braces, commas or slashes; one pattern an entry"
        )
    return glob


def _is_of_an_address(glob: str) -> str:
    if NEVER_IN_AN_ADDRESS.search(glob) or not ANYTHING.intersection(glob):
        raise ValueError(f"{glob!r} can match nothing: it is no e-mail address, and no pattern of one")
    return glob


Word = Annotated[Glob, AfterValidator(_matches_something)]
Address = Annotated[Glob, AfterValidator(_is_of_an_address)]


class _Match(BaseModel):
    model_config = ConfigDict(extra="forbid")

    project: Word | None = None
    name: Word | None = None
    creator: Address | None = None
    label: tuple[Glob, ...] = ()

    @field_validator("label", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("label")
    @classmethod
    def _key_and_glob(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            key, equals, _ = label.partition("=")
            if not (key and equals):
                raise ValueError(f"{label!r} is not key=glob")
            if any(character in key for character in "*?["):
                raise ValueError(f"{label!r} can match nothing: a label's key is no glob")
        return labels

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.project or self.name or self.creator or self.label):
            raise ValueError("it needs project, name, creator or label: an empty match would spare everything")
        if not self.label and not any(
            (word or "").strip(EVERYBODY) for word in (self.project, self.name, self.creator)
        ):
            raise ValueError("wildcards alone would spare everything: say what is meant")
        return self


class _ExemptionEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    match: _Match
    until: Instant
    reason: Annotated[str, Field(min_length=1, max_length=200)]

    def exemption(self) -> Exemption:
        return Exemption(until=self.until, reason=self.reason, **self.match.model_dump())


_exemption_entries = TypeAdapter(Annotated[list[_ExemptionEntry], Field(max_length=100)])


def read_exemptions(value: object) -> object:
    """A YAML file's path, or the same as inline JSON (or as a list in the config file), to exemptions."""
    if isinstance(value, str):
        inline = value.lstrip().startswith(("[", "{"))
        value = load_yaml(value, "inline") if inline else load_yaml(read_text(Path(value)), value)
    try:
        entries = _exemption_entries.validate_python([] if value is None else value)
    except ValidationError as error:
        faults = [f"entry {where_and_why(fault)}" for fault in error.errors()]
        raise ValueError("; ".join(faults)) from None
    return tuple(entry.exemption() for entry in entries)
