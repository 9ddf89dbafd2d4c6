"""Whether the jobs keep a fleet young over a year of users, outages, pauses and a lost role, and their log says so."""

from collections import Counter

import pytest

from core.exit_code import ExitCode
from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.review.promise import PATIENCE, promise
from core.review.simulation import simulate
from core.verify import verify
from tests.year import BETWEEN_RUNS, DAY, DELETIONS, GIVEN_BACK_AT, HOUR, LOST_AT, OTHERS, Year

REFUSALS = (GIVEN_BACK_AT - LOST_AT) * HOUR // BETWEEN_RUNS
A_DAY = DAY // BETWEEN_RUNS


@pytest.mark.parametrize("days", [24, pytest.param(365, marks=pytest.mark.chaos)])
def test_a_year_in_the_life_of_a_fleet(days: int) -> None:
    """All that befalls a year befalls its first weeks, where the whole would take too long."""
    year = Year(days, users=200, seed=11)
    year.live()
    assert year.leonardo.against_the_rule == []
    assert len(year.leonardo.ours) > 15 * days
    down = {day: Counter({ExitCode.UNREADABLE: A_DAY}) for day in year.outages}
    assert year.ends["delete"] == down | {year.role_lost: Counter({ExitCode.REFUSED: REFUSALS})}
    wrong = {day: Counter({ExitCode.FAILED: 1}) for day in year.wrong_days - year.pauses}
    assert year.ends["confirm"] == wrong | {day: Counter({ExitCode.UNREADABLE: 1}) for day in year.outages}
    assert set(year.ends) == {"delete", "confirm"}
    assert year.unnamed == []
    held_up = {day + 1 for day in (year.outages | year.pauses) - year.pauses.intersection({d - 1 for d in year.pauses})}
    late = {day for day, seconds in year.late.items() if seconds > PATIENCE.total_seconds()}
    assert late <= held_up | {year.role_lost}
    _says_the_log(year)


def _says_the_log(year: Year) -> None:
    """The log is whole, tells how the promise was kept, and the policy in force is what it shows."""
    answer = promise(AuditRecords(AuditFiles([DELETIONS])), year.now)
    assert len(answer.days) == year.days - len(year.pauses)
    above = [day.day for day in answer.days if day.over_age]
    assert bool(answer.over_age) <= bool(above)
    assert {kind.kept_by for kind in answer.kinds} <= {"Error", "Deleting", "not_run"}
    again = simulate(AuditRecords(AuditFiles([DELETIONS]), may_repeat=True), {})
    assert (again.only_simulated, again.cut_off, again.only_in_force, again.unknown) == (0, 0, 0, 0)
    assert (again.both, again.earlier_s) == (len(year.leonardo.ours), 0)
    newest = sorted(DELETIONS.iterdir())[-7:]
    records = AuditRecords(AuditFiles([*newest, OTHERS]))
    findings = [fault for verdict in verify(records, year.now) for fault in (*verdict.findings, *verdict.in_doubt)]
    assert findings == []
    assert records.faults == []
