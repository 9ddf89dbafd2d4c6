"""How a measurement is told: one row, ours beside the floor, and whether the target is met."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    floor: str
    ours: str
    ratio: str
    target: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.floor} | {self.ours} | {self.ratio} | {self.target} |"


HEAD = "| what | floor or peer | ours | ratio | target |\n|---|---|---|---|---|"


def times(ours: list[float], floors: list[float]) -> float:
    """The median of the ratios of neighbours in time: what slows the machine down slows both."""
    return median(one / floor for one, floor in zip(ours, floors, strict=True))
