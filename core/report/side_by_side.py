"""The report's chapters about two runs and about two policies: of what `review` found, as much as a page can bear."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from core.review.comparison import Diff, Difference
from core.review.simulation import Simulated, Taken
from core.runtime import Disk

MOST_ROWS = 500
MOST_OWNERS = 20


class Share(NamedTuple):
    """What a project or a creator has of that which one of two runs alone condemned."""

    condemned: int
    lost: int
    """How many of the condemned lose their data."""


@dataclass(frozen=True, slots=True)
class OnlyIn:
    """What one of two runs alone condemned."""

    side: str
    other: str
    count: int
    lost: int
    why: list[tuple[str, int]]
    rows: list[Difference]


@dataclass(frozen=True, slots=True)
class Owners:
    """The projects or the creators in which most differs, what they have by side, and how many others there are."""

    noun: str
    rows: list[tuple[str, dict[str, Share]]]
    rest: int


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two runs as the page shows them."""

    diff: Diff
    only: list[OnlyIn]
    """In B alone, in A alone: what a new policy adds comes first."""
    owners: list[Owners]

    @property
    def condemned(self) -> tuple[int, int]:
        """By A, by B."""
        only_b, only_a = self.only
        return self.diff.condemned_in_both + only_a.count, self.diff.condemned_in_both + only_b.count


@dataclass(frozen=True, slots=True)
class Policies:
    """A simulated policy and the one that was in force, as the page shows them."""

    simulated: Simulated
    owners: list[Owners]
    rows: list[Taken]
    """What one of the two takes alone or earlier: those that lose their data first, then whose users were back."""
    rest: int


def policies(simulated: Simulated) -> Policies:
    differing = sorted(simulated.differing, key=lambda row: (row.disk != Disk.LOST, row.back_at is None))
    sides = {kind: [row for row in differing if row.kind == kind] for kind in ("only_simulated", "both")}
    return Policies(simulated, list(_owners(sides)), differing[:MOST_ROWS], len(differing[MOST_ROWS:]))


def side_by_side(diff: Diff) -> SideBySide:
    sides = {"B": diff.only_in(diff.run_b), "A": diff.only_in(diff.run_a)}
    return SideBySide(
        diff=diff,
        only=[_only_in(side, other, sides[side]) for side, other in (("B", "A"), ("A", "B"))],
        owners=list(_owners(sides)),
    )


def _only_in(side: str, other: str, differences: Sequence[Difference]) -> OnlyIn:
    return OnlyIn(
        side=side,
        other=other,
        count=len(differences),
        lost=sum(difference.disk == Disk.LOST for difference in differences),
        why=Counter(difference.why_not_in_the_other for difference in differences).most_common(),
        rows=list(differences[:MOST_ROWS]),
    )


def _owners(sides: Mapping[str, Sequence[Difference | Taken]]) -> Iterator[Owners]:
    for noun in ("project", "creator"):
        owner = attrgetter(noun)
        counts = {side: Counter(map(owner, differences)) for side, differences in sides.items()}
        lost = {
            side: Counter(owner(d) for d in differences if d.disk == Disk.LOST) for side, differences in sides.items()
        }
        names = {name for of_side in counts.values() for name in of_side} - {None}
        rows = [(name, {side: Share(counts[side][name], lost[side][name]) for side in sides}) for name in names]
        rows.sort(key=lambda row: ([(-share.condemned, -share.lost) for share in row[1].values()], row[0]))
        if rows:
            yield Owners(noun, rows[:MOST_OWNERS], len(rows[MOST_OWNERS:]))
