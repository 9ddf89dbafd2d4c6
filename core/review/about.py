"""Whom a question is about, as far as it is narrowed; which of several runs is meant is said in `which`."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from core.records.reader import Record
from core.records.selection import Match, Wanted, is_creator

ANNOUNCED = ("deletion_requested", "stop_requested", "deletion_confirmed")
"""Events about a runtime that do not name its creator: others tell whose it is."""
TOLD = (*ANNOUNCED, "runtime_audited", "runtime_missing", "notice_sent", "notice_failed")
"""Events that are about one runtime."""
GLOB = frozenset("*?[")


class NobodyError(ValueError):
    """The words name no runtime, and nobody whose runtimes could be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """All given must hold; what is None narrows nothing."""

    path: str | None = None
    """`PROJECT/NAME`, or a glob of it."""
    runtime_id: str | None = None
    creator: str | None = None
    """An e-mail or a glob of it, in capitals or not."""
    project: str | None = None
    """Or a glob of it."""
    outcome: str | None = None

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """All but what is about other runtimes."""
        whose = _Whose(self.creator)
        for record in records:
            yield from filter(self._matches, whose.told(record))

    def _matches(self, record: Record) -> bool:
        if not _is_about_a_runtime(record):
            return True
        return (
            self.runtime_id in (None, record.runtime_id)
            and self.outcome in (None, record.outcome)
            and (self.path in (None, record.path) or fnmatchcase(record.path, self.path or ""))
            and (self.project is None or fnmatchcase(record.project or "", self.project))
        )

    @property
    def wanted(self) -> Wanted:
        """What a source has to give, which may leave out all else."""
        if self.runtime_id is not None:
            return (Match(runtime_ids=(self.runtime_id,)),)
        if self.path is not None and not GLOB & {*self.path}:
            return (Match(path=self.path),)
        if self.creator is not None and not GLOB & {*self.creator}:
            return (Match(creators=(self.creator,)), Match(events=ANNOUNCED))
        return (Match(events=TOLD),)

    def __str__(self) -> str:
        told = {"creator": self.creator, "project": self.project, "outcome": self.outcome}
        return ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)


class _Whose:
    """The records about one creator's runtimes; those that name no creator wait until it is known whose they are."""

    def __init__(self, creator: str | None) -> None:
        self._creator = creator
        self._theirs: set[tuple[str, str | None]] = set()
        self._waiting: defaultdict[tuple[str, str | None], list[Record]] = defaultdict(list)

    def told(self, record: Record) -> Iterable[Record]:
        """Those that are known to be meant now."""
        if self._creator is None or not _is_about_a_runtime(record):
            return [record]
        runtime = record.environment, record.runtime_id
        if record.event in ANNOUNCED and runtime not in self._theirs:
            self._waiting[runtime].append(record)
            return []
        if record.event not in ANNOUNCED and not is_creator(record.creator, self._creator):
            return []
        self._theirs.add(runtime)
        return [*self._waiting.pop(runtime, []), record]


def _is_about_a_runtime(record: Record) -> bool:
    return record.event == "runtime_audited" or record.name is not None or record.runtime_id is not None


def about_whom(words: str) -> About:
    """`PROJECT/NAME` or a glob of it, a runtime's id, or a creator's e-mail. Raises NobodyError."""
    if "/" in words:
        if not all(words.partition("/")):
            raise NobodyError(words)
        return About(path=words)
    if words.isdecimal():
        return About(runtime_id=words)
    if "@" in words:
        return About(creator=words)
    raise NobodyError(words)
