"""What is said of each run, and how a run stands: finished, still going, or cut off."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from core.records.reader import Fault, Record
from core.rules.decision import CLOCK_TOLERANCE
from core.verify.finding import Finding

State = Literal["finished", "open", "cut_off"]
DEADLINE = timedelta(minutes=45)
"""The deadline of a run that did not write its own down: the default."""
LONGEST_DEADLINE = timedelta(hours=24)
"""The most that the setting takes: no run is waited for any longer, whatever it says."""
SETTLED_AFTER = timedelta(minutes=10)
"""How long after its deadline a run without a closing record counts as still going: logs arrive late."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of one run's records."""

    run_id: str
    job: str
    environment: str
    started_at: datetime | None
    state: State
    records: int
    listed: int
    acts: int
    findings: list[Finding]
    """One for each cause."""
    in_doubt: list[str]
    """`PROJECT/NAME (id)` of the runtimes whose act was announced and has no outcome."""

    @property
    def ok(self) -> bool:
        return not self.findings


class Verification(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="leo-lifecycle/answers/verify/v1"
):
    """Whether anything is off, run by run, between runs, and in the files themselves."""

    ok: bool
    records: int
    repeated: int
    foreign: int
    runs: list[Verdict]
    findings: list[Finding]
    """Of no run on record."""
    faults: list[Fault]
    torn: list[Fault]


def state_of(started: Record | None, *, finished: bool, now: datetime) -> State:
    """How a run stands at `now`."""
    if finished:
        return "finished"
    if started is None or started.time is None:
        return "cut_off"
    return "open" if -CLOCK_TOLERANCE <= now - started.time < _deadline(started) + SETTLED_AFTER else "cut_off"


def _deadline(started: Record) -> timedelta:
    try:
        return min(timedelta(seconds=float(started.limits["deadline_s"])), LONGEST_DEADLINE)
    except OverflowError:
        return LONGEST_DEADLINE
    except (KeyError, ValueError):
        return DEADLINE
