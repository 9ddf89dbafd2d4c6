"""Whether the jobs keep a fleet young over a year of users, outages, pauses and a lost role, and their log says so."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pytest

from core.exit_code import ExitCode
from core.records.files import AuditFiles
from core.records.reader import AuditRecords, Record
from core.review.promise import PATIENCE, promise
from core.review.simulation import simulate
from core.rules.decision import Reason
from core.verify import verify
from tests.year import (
    BETWEEN_RUNS,
    DAY,
    DELETIONS,
    GIVEN_BACK_AT,
    HOUR,
    IDLE_AFTER,
    LOG,
    LOST_AT,
    NOTICE_PERIOD,
    OTHERS,
    ROTATED,
    SOONER,
    Year,
    receiving,
)

pytestmark = [pytest.mark.unmeasured, pytest.mark.long]
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


PAUSED_AFTER = timedelta(minutes=30)
CONDEMNED = (Reason.MAX_AGE, Reason.MAX_AGE_IF_IDLE, Reason.NOT_NOTICED)
AT_REST = ("Running", "Stopped")


@pytest.mark.parametrize(("days", "users"), [(16, 16), pytest.param(365, 24, marks=pytest.mark.chaos)])
def test_no_runtime_of_a_year_is_deleted_unannounced(days: int, users: int) -> None:
    """Told by the real job over TCP; what is held against the promise is read from the log alone."""
    with receiving() as mailer:
        year = Year(days, users=users, seed=5, mailer=mailer)
        year.live()
    assert (year.leonardo.against_the_rule, year.unnamed) == ([], [])
    dead = {day for day, ends in year.ends["notify"].items() if ends[ExitCode.FAILED]}
    assert dead <= {*year.mailer_dead} - year.pauses
    assert len(dead) > 4
    log = [record for record in AuditRecords(AuditFiles([ROTATED, LOG])) if record.time is not None]
    assert [fault for verdict in verify(log, year.now) for fault in (*verdict.findings, *verdict.in_doubt)] == []
    sent = [record for record in log if record.event == "notice_sent"]
    told = {record.runtime_id: record for record in sent}
    assert len(told) == len(mailer.told) > days
    assert {record.notice_id for record in sent} == {*mailer.told}
    acts = [record for record in log if record.event == "deletion_requested"]
    assert len(acts) >= len(year.leonardo.ours) > days
    for act in acts:
        announced = min((of for of in sent if of.runtime_id == act.runtime_id), key=_time)
        assert announced.not_before is not None
        assert _time(act) - _time(announced) >= NOTICE_PERIOD
        assert _time(act) >= announced.not_before
    assert [fault for lived, of in _lives(log, told) for fault in _times_that_were_wrong(lived, of)] == []
    _tells_of_the_mailer(year, log)


def _time(record: Record) -> datetime:
    assert record.time is not None
    return record.time


def _lives(log: Iterable[Record], told: dict[str | None, Record]) -> Iterator[tuple[list[Record], Record]]:
    """Of each runtime that was told of, what deletion runs judged of it, and the notice."""
    lives: defaultdict[str | None, list[Record]] = defaultdict(list)
    for record in log:
        if record.event == "runtime_audited" and record.status in AT_REST and record.runtime_id in told:
            lives[record.runtime_id].append(record)
    for runtime_id, lived in lives.items():
        yield sorted(lived, key=_time), told[runtime_id]


def _times_that_were_wrong(lived: list[Record], notice: Record) -> Iterator[str]:
    """By what was told, `due_at` if nobody uses it and `final_at` in any case, against what was then decided."""
    assert notice.final_at is not None
    assert isinstance(notice.due_at, datetime)
    *_, found = (record for record in lived if _time(record) <= _time(notice))
    assert found.date_accessed is not None
    assert found.created_date is not None
    for record in lived:
        at, accessed = record.judged_at, record.date_accessed
        assert at is not None
        assert accessed is not None
        if at >= notice.final_at and record.reason not in (Reason.MAX_AGE, Reason.NOT_NOTICED):
            yield f"{record.message}, final was {notice.final_at}"
        if at < notice.final_at and record.reason == Reason.MAX_AGE:
            yield f"{record.message}, final would have been {notice.final_at}"
        paused = found.status == "Running" and found.date_accessed < accessed <= found.date_accessed + PAUSED_AFTER
        due = max(notice.due_at, min(accessed + IDLE_AFTER, notice.final_at)) if paused else notice.due_at
        unused = accessed == found.date_accessed or paused
        if unused and at >= _time(found) and (record.reason in CONDEMNED) != (at >= due):
            yield f"{record.message} at {at}, due was {notice.due_at}, used {found.date_accessed}, then {accessed}"


def _tells_of_the_mailer(year: Year, log: list[Record]) -> None:
    """What was not announced lived on, and the fields by which somebody is called say why."""
    silent = [year.begin + day * DAY for day in (year.mailer_dead.start, year.mailer_dead.stop)]
    assert not [of for of in log if of.event == "notice_sent" and silent[0] <= _time(of) < silent[1]]
    closings = [of for of in log if of.event == "run_finished" and of.job == "delete-old-runtimes"]
    calling = [
        closing
        for closing in closings
        if closing.oldest is not None
        and closing.oldest.status in AT_REST  # another is on its way
        and closing.oldest.age_s > (SOONER + PATIENCE).total_seconds()
    ]
    of_the_week = [of for of in calling if silent[0] <= _time(of) < silent[1]]
    assert len(of_the_week) > 4
    for closing in of_the_week:
        assert closing.oldest is not None
        assert closing.over_age is not None
        assert closing.oldest.reason == Reason.NOT_NOTICED
        assert closing.over_age[Reason.NOT_NOTICED] > 0
    then = _time(of_the_week[-1])
    answer = promise([of for of in log if _time(of) <= then], then)
    (unannounced,) = (kind for kind in answer.kinds if kind.kept_by == Reason.NOT_NOTICED)
    assert not answer.kept
    assert "notify-owners" in unannounced.what_to_do
