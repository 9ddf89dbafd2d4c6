"""Writes the rows of an answer as CSV, for a spreadsheet; what a person sees on a screen is drawn by `answers`."""

import csv
import io
from typing import Any, get_args, get_type_hints

import msgspec

from core.review.comparison import Diff
from core.review.disks import Disks
from core.review.promise import Left, Promised
from core.review.questions import RunAnswer, Runs
from core.review.simulation import Simulated
from core.review.upcoming import Upcoming

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula: a name in it may be anybody's."""
ROWS: dict[type, tuple[str, ...]] = {
    Runs: ("runs",),
    RunAnswer: ("acts", "confirmations", "left_standing"),
    Diff: ("differences",),
    Upcoming: ("due",),
    Promised: ("over_age",),
    Simulated: ("rows",),
    Disks: ("disks",),
}
"""The list that an answer is about, whose elements are structs: the first that is not empty.

Where it was asked when those made before an instant are gone, the answer is about these.
"""


def in_csv(answer: object) -> bytes:
    """One line a row, below the names of the fields; for answers that are one table."""
    kind, rows = _table(answer)
    written = io.StringIO(newline="")
    sheet = csv.writer(written)
    sheet.writerow(kind.__struct_fields__)
    for row in rows:
        sheet.writerow([_cell(value) for value in msgspec.to_builtins(row).values()])
    return written.getvalue().encode(errors="replace")


def _table(answer: object) -> tuple[Any, list[Any]]:
    """What its rows are, and they."""
    if isinstance(answer, Promised) and answer.horizon is not None:
        return Left, answer.horizon.rows
    names = ROWS[type(answer)]
    name = next((name for name in names if getattr(answer, name)), names[0])
    (kind,) = get_args(get_type_hints(type(answer))[name])
    return kind, getattr(answer, name)


def _cell(value: Any) -> Any:
    match value:
        case str():
            return f"'{value}" if value.startswith(FORMULA) else value
        case bool():
            return str(value).lower()
        case list():
            return _cell("; ".join(map(str, value)))
        case dict():
            return _cell("; ".join(f"{name} {count}" for name, count in value.items()))
        case _:
            return value
