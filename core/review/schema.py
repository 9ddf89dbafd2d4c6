"""The JSON Schema of the answers as programs read them; each says which of them it is by its `schema`."""

import json
import sys
from typing import Any

import msgspec

from core.review.comparison import Diff
from core.review.disks import Disks
from core.review.promise import Promised
from core.review.questions import RunAnswer, Runs, Why
from core.review.simulation import Simulated
from core.review.upcoming import Upcoming
from core.verify.verdict import Verification

ANSWERS: tuple[type[msgspec.Struct], ...] = (
    Runs,
    RunAnswer,
    Why,
    Diff,
    Verification,
    Upcoming,
    Simulated,
    Disks,
    Promised,
)


def schema() -> dict[str, Any]:
    """Of one answer to any question: within v1 fields are added, never renamed or removed."""
    answers, components = msgspec.json.schema_components(ANSWERS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "leo-lifecycle/answers",
        "oneOf": list(answers),
        "$defs": components,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
