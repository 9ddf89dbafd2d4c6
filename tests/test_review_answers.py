"""What each question is answered with, whole: records in, an answer out; logs of the program are in `test_review`."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET

from core.records.events import MOST_NAMES, ErrorDetail, ExemptionDetail
from core.records.reader import Record, ScopeDetail
from core.review import comparison
from core.review import questions as review
from core.review.comparison import CountOfBoth, Diff, Difference, OtherReason, Term
from core.review.deletions import Deleted, DeletedBy
from core.review.questions import (
    ActLine,
    Confirmed,
    CountLine,
    Entry,
    Failing,
    Incarnation,
    RunAnswer,
    RunLine,
    Runs,
    Why,
)
from core.review.upcoming import Due, Upcoming, upcoming
from core.review.which import UnknownError, run_ids, still_going
from core.verify.rejudge import AUTOPAUSE_JOB, DELETION_JOB
from tests import test_autopause, test_deletion

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MS = timedelta(milliseconds=1)
POLICY = test_deletion.POLICY.written()
SPARING = test_deletion.SPARING.written()
LAXER = POLICY | {"max_age_s": (90 * DAY).total_seconds(), "max_age_if_idle_s": (90 * DAY).total_seconds()}


ONE_DELETED = DeletedBy(
    month=[Deleted(name="2026-11", deletions=1, disks_lost=0)],
    project=[Deleted(name="terra-1", deletions=1, disks_lost=0)],
    creator=[Deleted(name="ada", deletions=1, disks_lost=0)],
)


def opening(run_id: str, at: datetime = NOW, **fields: Any) -> Record:
    told: dict[str, Any] = {"job": DELETION_JOB, "environment": "prod", "policy": POLICY, "policy_digest": "sha256:1"}
    return Record(event="run_started", run_id=run_id, **({"time": at, "now": at} | told | fields))


def record(run_id: str, event: str = "runtime_audited", number: int = 1, **fields: Any) -> Record:
    """Of runtime `number`; by default it is past the maximum age and used a day ago."""
    told: dict[str, Any] = {
        "job": DELETION_JOB,
        "environment": "prod",
        "time": NOW,
        "judged_at": NOW,
        "runtime_id": str(number),
        "project": f"terra-{number}",
        "name": "a",
        "cloud_provider": "GCP",
        "status": "Running",
        "creator": "ada",
        "created_date": NOW - 20 * DAY,
        "date_accessed": NOW - DAY,
        "age_s": (20 * DAY).total_seconds(),
        "idle_s": DAY.total_seconds(),
        "action": "delete",
        "reason": "max_age",
        "outcome": "would_delete",
        "message": f"said of terra-{number}/a: as it was then",
    }
    return Record(event=event, run_id=run_id, **(told | fields))


def kept(run_id: str, number: int = 1, reason: str = "within_policy", **fields: Any) -> Record:
    return record(run_id, number=number, **({"action": "keep", "reason": reason, "outcome": "kept"} | fields))


def of_run(run_id: str, event: str, **fields: Any) -> Record:
    """A record that is about no runtime."""
    told: dict[str, Any] = {"job": DELETION_JOB, "environment": "prod", "time": NOW}
    return Record(event=event, run_id=run_id, **(told | fields))


def closing(run_id: str, **fields: Any) -> Record:
    return of_run(run_id, "run_finished", **fields)


def line(run_id: str, **fields: Any) -> RunLine:
    told: dict[str, Any] = {
        "started_at": NOW,
        "job": DELETION_JOB,
        "environment": "prod",
        "dry_run": True,
        "started_by": None,
        "approved_by": None,
        "actor": None,
        "plan_run_id": None,
        "listed": 0,
        "asked": 0,
        "outcomes": {},
        "needs_person": 0,
        "acted": 0,
        "would_act": 0,
        "failed": 0,
        "would_be_refused_by": [],
        "as_of": None,
        "state": "open",
        "exit_code": None,
        "duration_s": None,
        "refused_by": [],
    }
    return RunLine(run_id=run_id, **(told | fields))


@pytest.fixture
def _far_from_greenwich() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


# runs


def test_a_whole_run_is_counted_by_the_closing_records_of_its_tasks() -> None:
    whole: dict[str, Any] = {"task_count": 3, "dry_run": False}
    records = [
        opening("a", **whole, started_by="cron"),
        of_run("a", "run_refused", **whole, guard="max_acts", message="too many"),
        of_run("a", "run_refused", **whole, message="for a reason of a later version"),
        record("a", outcome="deletion_accepted", **whole),
        of_run("a", "run_finished", **whole, listed=3, outcomes={"deletion_accepted": 2, "kept": 1}, exit_code=0),
        of_run("a", "run_finished", **whole, task_index=1, listed=1, outcomes={"stop_accepted": 1}, exit_code=3),
        of_run("a", "run_finished", **whole, task_index=2),
    ]
    counted = line(
        "a",
        dry_run=False,
        started_by="cron",
        listed=4,
        acted=3,
        outcomes={"deletion_accepted": 2, "kept": 1, "stop_accepted": 1},
        state="finished",
        exit_code=3,
        refused_by=["?", "max_acts"],
    )
    assert review.runs(records, NOW) == Runs(runs=[counted], failing=[], deleted=ONE_DELETED)


def test_a_run_without_all_its_closing_records_is_counted_by_its_decisions() -> None:
    records = [
        opening("a", task_count=2),
        kept("a", 1),
        record("a", number=2),
        record("a", number=3),
        record("a", number=4, reason="max_age_if_idle"),
        of_run("a", "run_finished", task_count=2, listed=1, outcomes={"kept": 1}, exit_code=1),
    ]
    counted = line("a", listed=4, would_act=3, outcomes={"would_delete": 3, "kept": 1})
    assert review.runs(records, NOW + 54 * MINUTE).runs == [counted]


def test_what_became_of_deletions_and_what_needs_a_person_count_in_a_run_that_has_ended_or_not() -> None:
    def confirmed(number: int, outcome: str) -> Record:
        return record(
            "c", "deletion_confirmed", number, action="", reason="", outcome=outcome, message=f"{outcome} {number}"
        )

    became = ["stuck", "confirmed", "pending", "pending"]
    of_run_c = [opening("c"), *(confirmed(number, outcome) for number, outcome in enumerate(became, start=1))]
    told: dict[str, Any] = {"asked": 4, "failed": 1, "needs_person": 1}
    outcomes = {"confirmed": 1, "pending": 2, "stuck": 1}
    assert review.runs(of_run_c, NOW).runs == [line("c", outcomes=outcomes, **told)]
    ended = closing("c", outcomes={"stuck": 2, "confirmed": 9}, exit_code=1)
    told |= {"asked": 11, "needs_person": 2, "state": "finished", "exit_code": 1}
    assert review.runs([*of_run_c, ended], NOW).runs == [line("c", outcomes={"stuck": 2, "confirmed": 9}, **told)]
    answer = review.run(of_run_c, "c", NOW)
    assert (answer.failures, answer.needs_person) == (["stuck 1"], ["stuck 1"])
    assert [(c.name, c.runtime_id, c.outcome) for c in answer.confirmations] == [
        ("a", "1", "stuck"),
        ("a", "2", "confirmed"),
        ("a", "3", "pending"),
        ("a", "4", "pending"),
    ]


def test_a_notice_that_was_not_delivered_has_failed() -> None:
    told = [opening("n", job="notify-owners"), record("n", "notice_sent", 1), record("n", "notice_failed", 2)]
    for of in told[1:]:
        of.action = of.reason = of.outcome = ""
    assert review.runs(told, NOW).runs == [
        line("n", job="notify-owners", outcomes={"notice_failed": 1, "notice_sent": 1}, failed=1)
    ]


def test_what_the_check_found_stuck_or_in_error_needs_a_person_and_has_not_failed() -> None:
    found = [opening("p", job=AUTOPAUSE_JOB), kept("p", 1, "stuck"), kept("p", 2, "errored"), kept("p", 3, "in_use")]
    (told,) = review.runs(found, NOW).runs
    assert (told.needs_person, told.failed) == (2, 0)
    (told,) = review.runs([*found, kept("p", 4, "stuck", outcome="a word of a later version")], NOW).runs
    assert (told.needs_person, told.failed) == (3, 0)
    (told,) = review.runs([*found, closing("p", reasons={"stuck": 3, "errored": 4, "in_use": 5})], NOW).runs
    assert (told.needs_person, told.failed) == (7, 0)
    assert len(review.run(found, "p", NOW).needs_person) == 2


def test_runs_stand_in_the_order_of_time_and_first_those_whose_beginning_is_not_told() -> None:
    records = [
        opening("late", NOW),
        opening("early", NOW - DAY),
        kept("unopened", time=None),
        of_run("late", "run_finished"),
        opening("twice", NOW - HOUR),
        opening("twice", NOW + HOUR, task_index=1, started_by="another task"),
    ]
    assert review.runs(records, NOW).runs == [
        line("unopened", started_at=None, listed=1, outcomes={"kept": 1}, state="cut_off"),
        line("early", started_at=NOW - DAY, state="cut_off"),
        line("twice", started_at=NOW - HOUR, state="cut_off"),
        line("late", state="finished"),
    ]


def test_what_failed_in_the_last_runs_of_a_job_is_shown_with_its_first_and_last_run() -> None:
    records: list[Record] = []
    for number in range(4):
        run_id, at = f"run-{number}", NOW + number * DAY
        records.append(opening(run_id, at))
        if number:
            records.append(record(run_id, number=1, outcome="failed", time=at))
        records.append(of_run(run_id, "project_unreadable", project="terra-2"))
        records.append(of_run(run_id, "project_unreadable"))
    records += [opening("once", environment="dev"), record("once", outcome="failed", environment="dev")]
    told: dict[str, Any] = {"job": DELETION_JOB, "environment": "prod", "last_run_id": "run-3"}
    assert review.runs(records, NOW).failing == [
        Failing(path="terra-1/a", runs=3, since=NOW + DAY, **told),
        Failing(path="terra-2", runs=4, since=NOW, **told),
        Failing(path="the list of all runtimes", runs=4, since=NOW, **told),
    ]


def test_deletions_are_added_up_by_month_project_and_creator_and_a_runtime_counts_once() -> None:
    def accepted(run_id: str, number: int, **fields: Any) -> Record:
        told: dict[str, Any] = {"outcome": "deletion_accepted", "dry_run": False, "disk": "kept"}
        return record(run_id, number=number, **(told | fields))

    records = [
        opening("a"),
        accepted("a", 1, disk="lost"),
        accepted("b", 1, disk="lost", time=NOW + 30 * DAY),  # it failed in Leonardo, and was deleted again
        accepted("b", 2, project="terra-1", creator=None, time=NOW + 11 * DAY),
        accepted("b", 3, time=None, judged_at=None, creator="grace", project=None),
        accepted("c", 1, environment="test"),
        accepted("d", 4, dry_run=True),
        record("d", number=5, outcome="failed", dry_run=False),
    ]

    def rows(deleted: list[Deleted]) -> list[tuple[str, int, int]]:
        return [(of.name, of.deletions, of.disks_lost) for of in deleted]

    answer = review.runs(records, NOW).deleted
    assert rows(answer.month) == [("2026-11", 2, 1), ("2026-12", 1, 0), ("?", 1, 0)]
    assert rows(answer.project) == [("terra-1", 3, 1), ("?", 1, 0)]
    assert rows(answer.creator) == [("ada", 2, 1), ("grace", 1, 0), ("not on record", 1, 0)]


# run


def test_a_run_is_told_with_everything_that_is_on_record() -> None:
    label = ExemptionDetail({"project": "terra-*", "label": ["a=b", "c=*"]}, NOW + DAY, "workshop", lapsed=False)
    creator = ExemptionDetail({"creator": "ada"}, NOW + 2 * DAY, "holiday", lapsed=False)
    error = ErrorDetail("http", "no such runtime", None)
    ids = {"persistent_disk_id": "9", "disk": "kept"}
    records = [
        opening("a", version="1.2", exemptions=[label, creator], approved_by="grace", plan={"run_id": "z"}),
        of_run("a", "run_refused", message="refused", guard="max_acts"),
        of_run("a", "run_skipped", message="skipped"),
        record("a", "deletion_requested", 1),
        record("a", number=1, outcome="withheld", creator=None, status=None, attempts=2, error=error, **ids),
        record("a", number=2, outcome="failed", message="failed to delete", age_s=None, idle_s=None),
        Record(event="runtime_audited", run_id="a", reason="malformed", action="keep", outcome="kept", message="torn"),
        Record(event="runtime_audited", run_id="a", reason="max_age", action="delete", outcome="failed"),
        *(kept("a", number) for number in (4, 5)),
        kept("a", 6, "exempt"),
        of_run("a", "project_unreadable", project="terra-8", message="no list of terra-8"),
        of_run("a", "project_unreadable", message="no list"),
        of_run("a", "runtime_missing", project="terra-9", name="a", message="no such runtime is listed"),
    ]
    assert review.run(records, "a", NOW) == RunAnswer(
        run=line(
            "a",
            approved_by="grace",
            plan_run_id="z",
            listed=7,
            outcomes={"kept": 4, "failed": 2, "withheld": 1},
            failed=5,
            refused_by=["max_acts"],
        ),
        version="1.2",
        policy=POLICY,
        policy_digest="sha256:1",
        exemptions=[
            "project terra-*, label a=b c=* until 2026-11-21 03:00: workshop (spares 0)",
            "creator ada until 2026-11-22 03:00: holiday (spares 0)",
        ],
        counts=[
            CountLine(outcome="failed", reason="max_age", count=2),
            CountLine(outcome="kept", reason="within_policy", count=2),
            CountLine(outcome="kept", reason="exempt", count=1),
            CountLine(outcome="kept", reason="malformed", count=1),
            CountLine(outcome="withheld", reason="max_age", count=1),
        ],
        acts=[
            ActLine(
                runtime_id="1",
                project="terra-1",
                name="a",
                creator=None,
                status=None,
                action="delete",
                reason="max_age",
                outcome="withheld",
                age_s=(20 * DAY).total_seconds(),
                idle_s=DAY.total_seconds(),
                disk="kept",
                attempts=2,
                error="no such runtime",
            ),
            ActLine(
                runtime_id="2",
                project="terra-2",
                name="a",
                creator="ada",
                status="Running",
                action="delete",
                reason="max_age",
                outcome="failed",
                age_s=None,
                idle_s=None,
                disk=None,
                attempts=0,
                error=None,
            ),
            ActLine(
                runtime_id=None,
                project=None,
                name=None,
                creator=None,
                status=None,
                action="delete",
                reason="max_age",
                outcome="failed",
                age_s=None,
                idle_s=None,
                disk=None,
                attempts=0,
                error=None,
            ),
        ],
        confirmations=[],
        left_standing=[],
        needs_person=[],
        causes=[],
        failures=["failed to delete", "", "no list of terra-8", "no list", "no such runtime is listed"],
        remarks=["refused", "skipped"],
    )


def test_failures_are_told_by_their_cause_and_what_was_announced_without_an_end_as_a_remark() -> None:
    no: dict[str, Any] = {"error": ErrorDetail("http", "no", None), "http_status": 503}
    records = [
        opening("a"),
        *(record("a", "deletion_requested", number) for number in (1, 3)),
        record("a", "stop_requested", 2, action="stop"),
        record("a", number=3, outcome="failed", **no),
        *(of_run("a", "project_unreadable", project=f"terra-{number}", **no) for number in (7, 8)),
        record("a", "notice_failed", 4, outcome="", **no),
        record("a", number=5, action="keep", reason="malformed", outcome="kept", **no),
    ]
    told = review.run(records, "a", NOW)
    assert told.causes == [
        "2 x could not list: http, HTTP 503: no (such as terra-7)",
        "1 x failed to delete: http, HTTP 503: no (terra-3/a)",
        "1 x could not tell its owner: http, HTTP 503: no (terra-4/a)",
        "1 x could not read: http, HTTP 503: no (terra-5/a)",
    ]
    assert told.remarks == [
        "announced to delete terra-1/a, and no outcome is on record",
        "announced to stop terra-2/a, and no outcome is on record",
    ]


def test_what_became_of_a_deletion_is_told_with_all_that_its_record_says() -> None:
    of_its_disk: dict[str, Any] = {"persistent_disk_id": "9", "disk_status": "Ready"}
    was: dict[str, Any] = {
        "outcome": "confirmed",
        "status": "Deleted",
        "evidence": "project_seen",
        "accepted_run_id": "z",
    }
    records = [opening("a", job="confirm-deletions"), record("a", "deletion_confirmed", **was, **of_its_disk)]
    told = review.run(records, "a", NOW)
    whom: dict[str, Any] = {"runtime_id": "1", "project": "terra-1", "name": "a"}
    assert told.confirmations == [Confirmed(**whom, **was, **of_its_disk)]
    assert told.counts == [CountLine(outcome="confirmed", reason="", count=1)]


def test_of_several_tasks_the_longest_counts_their_warnings_add_up_and_the_most_frequent_outcome_is_first() -> None:
    two: dict[str, Any] = {"task_count": 2}
    ended = {"withheld": 1, "failed": 1, "kept": 1}
    records = [
        opening("a", **two),
        of_run("a", "run_finished", **two, duration_s=5.0, warnings=["one"], outcomes=ended),
        of_run("a", "run_finished", **two, task_index=1, duration_s=3.0, warnings=["two"], outcomes={"kept": 1}),
    ]
    told = review.run(records, "a", NOW)
    assert (told.run.duration_s, told.remarks) == (5.0, ["one", "two"])
    assert [*told.run.outcomes.items()] == [("kept", 2), ("failed", 1), ("withheld", 1)]


def test_the_latest_run_is_the_finished_one_that_began_last() -> None:
    openings = [opening("b", NOW - DAY), opening("undated", time=None), opening("c"), opening("a")]
    closings = [closing(run_id) for run_id in ("b", "undated", "c", "a")]
    going = [opening("d", NOW + HOUR), opening("e", NOW + HOUR, task_count=2), closing("e", task_count=2)]
    assert run_ids([*openings, *going, *closings], ["latest", "b", "latest"]) == ["c", "b", "c"]
    with pytest.raises(UnknownError, match=r"^no such run has finished: d has no closing record$"):
        run_ids(going[:1], ["latest"])


def test_beside_a_run_the_latest_is_of_its_job_and_environment() -> None:
    frames = [opening("a"), opening("b", job=AUTOPAUSE_JOB), opening("c", environment="test"), opening("d")]
    frames += [opening("e", NOW + HOUR, job=AUTOPAUSE_JOB), opening("f", NOW + HOUR, environment="test")]
    frames += [closing(frame.run_id, job=frame.job, environment=frame.environment) for frame in frames]
    assert [run_ids(frames, [run_id, "latest"])[1] for run_id in "abcd"] == ["d", "e", "f", "d"]
    assert run_ids(frames, ["latest"], is_meant=lambda opening: opening.job == AUTOPAUSE_JOB) == ["e"]
    with pytest.raises(UnknownError, match=r"^there are records of several environments \(prod, test\): name one by "):
        run_ids(frames, ["latest"])


def test_the_latest_is_one_of_the_runs_that_may_be_meant() -> None:
    frames = [A, B, *(opening(run_id, NOW + HOUR) for run_id in "cde"), *(closing(run_id) for run_id in "abc")]
    how: dict[str, Any] = {"is_meant": lambda opening: opening.run_id in ("a", "b", "d")}
    told = review.run(frames, "latest", NOW + HOUR, **how)
    assert told.run.run_id == "b"
    assert told.remarks == ["newer, but not taken: run d (delete-old-runtimes, prod) is still going"]
    assert review.run(frames, "b", NOW + HOUR, **how).remarks == []
    diff = comparison.diff(frames, "a", "latest", NOW, **how)
    assert (diff.run_a.run_id, diff.run_b.run_id) == ("a", "b")


def test_what_is_newer_than_the_latest_and_not_over_is_told() -> None:
    late = opening("late", NOW + HOUR, limits={"deadline_s": 1e300})
    frames = [opening("a"), late, opening("few", NOW + HOUR, scope=ScopeDetail(only=["a/b"])), closing("a")]
    for now, told in (
        (NOW + 25 * HOUR + timedelta(minutes=10), "was cut off: it has no closing record"),
        (NOW + 25 * HOUR + timedelta(minutes=10, milliseconds=-1), "is still going"),
        (NOW + HOUR - timedelta(minutes=5), "is still going"),
        (NOW + HOUR - timedelta(minutes=5, milliseconds=1), "was cut off: it has no closing record"),
    ):
        sentence = f"run late (delete-old-runtimes, prod) {told}"
        assert upcoming(frames, DAY, now).remarks == [f"newer, but not taken: {sentence}"]
        going = still_going(frames, now)
        assert (sentence in going) == (told == "is still going")


def test_runtimes_of_two_environments_are_never_told_as_one() -> None:
    of_both = [opening("a"), kept("a", 1), opening("b", environment="test"), kept("b", 1, environment="test")]
    with pytest.raises(UnknownError, match="several environments"):
        review.why(of_both, "terra-1/a")
    with pytest.raises(UnknownError, match="several environments"):
        comparison.diff(of_both, "a", "b", NOW)
    accepted = record("x", number=2, outcome="deletion_accepted", dry_run=False)
    for environment, ours in (("prod", 1), ("test", 0)):
        accepted.environment = environment
        records = [opening("a"), opening("c", NOW + HOUR), kept("a", 2), accepted]
        answer = comparison.diff(records, "a", "c", NOW)
        assert (answer.gone_by_our_act, answer.gone_without_our_act) == (ours, 1 - ours)


def test_a_run_of_which_there_is_no_record_is_named_with_the_one_that_is_meant() -> None:
    for wanted, told in (
        (
            "delete-old-runtimes-w7l75",
            "there is no record of run 'delete-old-runtimes-w7l75'; did you mean delete-old-runtimes-w7l57?",
        ),
        ("delete-old-runtimes-8n7g2", "there is no record of run 'delete-old-runtimes-8n7g2'"),
        ("zzz", "there is no record of run 'zzz'"),
        ("latest", "there is no such run in the records"),
    ):
        records = (
            [] if wanted == "latest" else [opening("delete-old-runtimes-w7l57"), opening("delete-old-runtimes-c4s48")]
        )
        with pytest.raises(UnknownError) as unknown:
            review.run(records, wanted, NOW)
        assert str(unknown.value) == told


def test_a_sweep_names_what_is_in_error_for_it_passes_it_over() -> None:
    passed_over = [kept("a", n, "status_not_eligible", status=status) for n, status in ((1, "Error"), (2, "Starting"))]
    answer = review.run([opening("a"), *passed_over, kept("a", 3)], "a", NOW)
    assert [(row.project, row.status) for row in answer.left_standing] == [("terra-1", "Error")]


@pytest.mark.usefixtures("_far_from_greenwich")
def test_instants_are_told_in_utc_wherever_it_is_read() -> None:
    exemption = ExemptionDetail({"name": "a"}, NOW, "r", lapsed=False)
    assert review.run([opening("a", exemptions=[exemption])], "a", NOW).exemptions == [
        "name a until 2026-11-20 03:00: r (spares 0)"
    ]


def test_a_run_says_how_many_each_exemption_spares() -> None:
    spares, idle, lapsed = (
        ExemptionDetail({"name": name}, NOW, "r", lapsed=name == "lapsed") for name in ("spares", "idle", "lapsed")
    )

    def kept(reason: str, exemption: ExemptionDetail) -> Record:
        return Record(event="runtime_audited", run_id="a", reason=reason, action="keep", exemption=exemption)

    records = [
        opening("a", exemptions=[spares, idle, lapsed]),
        kept("exempt", spares),
        kept("exempt", spares),
        kept("autopause_overdue", spares),
        kept("within_policy", idle),
        kept("autopause_overdue", lapsed),
    ]
    told = [line.rpartition(" (")[2] for line in review.run(records, "a", NOW).exemptions]
    assert told == ["spares 3)", "spares 0)", "spares 0)"]


# why


def lines(records: list[Record]) -> list[str]:
    (incarnation,) = review.why(records, "terra-1/a").incarnations
    return [entry.line for entry in incarnation.entries]


def test_why_tells_each_incarnation_with_its_decisions() -> None:
    error = ErrorDetail("http", "no answer", None)
    records = [
        opening("a"),
        opening("b"),
        record("a", number=2, project="terra-1", created_date=None, creator=None, time=NOW + HOUR),
        kept("a", created_date=None, creator=None, age_s=DAY.total_seconds(), due_at=NOW + DAY),
        kept("b", age_s=(2 * DAY).total_seconds(), due_at=NOW + DAY, time=NOW + MINUTE),
        record("b", outcome="failed", error=error, due_at=NOW, time=NOW + 2 * MINUTE),
        kept("a", number=3),
        of_run("a", "run_finished"),
    ]
    assert review.why(records, "terra-1/a") == Why(
        asked="terra-1/a",
        incarnations=[
            Incarnation(
                path="terra-1/a",
                runtime_id="1",
                created_date=NOW - 20 * DAY,
                creator="ada",
                entries=[
                    Entry(
                        first_at=NOW,
                        last_at=NOW + MINUTE,
                        runs=2,
                        job=DELETION_JOB,
                        last_run_id="b",
                        action="keep",
                        reason="within_policy",
                        outcome="kept",
                        line="2026-11-20 03:00 to 2026-11-20 03:01, 2 runs: kept: 2 d old, limit 14 d;"
                        " due 2026-11-21 03:00",
                    ),
                    Entry(
                        first_at=NOW + 2 * MINUTE,
                        last_at=NOW + 2 * MINUTE,
                        runs=1,
                        job=DELETION_JOB,
                        last_run_id="b",
                        action="delete",
                        reason="max_age",
                        outcome="failed",
                        line="2026-11-20 03:02 failed to delete: 20 d old, limit 14 d; no answer",
                    ),
                ],
            ),
            Incarnation(
                path="terra-1/a",
                runtime_id="2",
                created_date=None,
                creator=None,
                entries=[
                    Entry(
                        first_at=NOW + HOUR,
                        last_at=NOW + HOUR,
                        runs=1,
                        job=DELETION_JOB,
                        last_run_id="a",
                        action="delete",
                        reason="max_age",
                        outcome="would_delete",
                        line="2026-11-20 04:00 would delete: 20 d old, limit 14 d",
                    )
                ],
            ),
        ],
    )


def test_what_was_announced_in_the_same_millisecond_stands_before_what_became_of_it() -> None:
    announced = record("a", "deletion_requested", message="about to delete terra-1/a", seq=3)
    accepted = record("a", outcome="deletion_accepted", seq=4)
    told = lines([opening("a"), accepted, announced])
    assert [line.split(":")[1].split(" ", 1)[1] for line in told] == ["about to delete", "Leonardo accepted to delete"]


def test_equal_decisions_fold_across_other_jobs_duplicates_and_announcements() -> None:
    records: list[Record] = []
    for number in range(2):
        at = NOW + number * DAY
        autopause: dict[str, Any] = {"job": AUTOPAUSE_JOB, "autopause_threshold_min": 30}
        records += [
            opening(f"a-{number}", at),
            record(f"a-{number}", time=at),
            kept(f"a-{number}", reason="duplicate", time=at + MINUTE),
            record(f"a-{number}", "deletion_requested", message="about to delete terra-1/a", time=at + 2 * MINUTE),
            opening(f"p-{number}", at, job=AUTOPAUSE_JOB, policy=test_autopause.POLICY.written()),
            kept(f"p-{number}", reason="in_use", time=at + 3 * MINUTE, idle_s=60.0, **autopause),
        ]
    assert lines(records) == [
        "2026-11-20 03:00 to 2026-11-21 03:00, 2 runs: would delete: 20 d old, limit 14 d",
        "2026-11-20 03:01 to 2026-11-21 03:01, 2 runs: kept: listed before",
        "2026-11-20 03:02 about to delete",
        "2026-11-20 03:03 to 2026-11-21 03:03, 2 runs: autopause: in use: idle for 1 min, threshold 30 min",
        "2026-11-21 03:02 about to delete",
    ]


@pytest.mark.parametrize("outcome", ["deletion_accepted", "failed", "in_doubt", "conflict"])
def test_acts_and_failures_stand_alone(outcome: str) -> None:
    runs = [opening("a"), opening("b")]
    assert len(lines([*runs, record("a", outcome=outcome), record("b", outcome=outcome)])) == 2
    assert len(lines([*runs, record("a", outcome=outcome, seq=1), record("a", outcome=outcome, seq=2)])) == 2


def test_a_decision_is_told_by_the_words_of_its_outcome() -> None:
    records = [
        opening("a"),
        kept("a", outcome="failed", due_at=NOW + DAY),
        record("a", outcome="gone", due_at=NOW + DAY, time=NOW + MINUTE),
        record("a", outcome="a_later_word", time=NOW + 2 * MINUTE),
        kept("a", reason="status_not_eligible", status="Error", time=NOW + 3 * MINUTE),
        record("p", action="stop", outcome="stop_accepted", job=AUTOPAUSE_JOB, time=NOW + 4 * MINUTE),
        record("p", action="stop", outcome="failed", job=AUTOPAUSE_JOB, time=NOW + 5 * MINUTE),
    ]
    assert lines(records) == [
        "2026-11-20 03:00 failed to check: 20 d old, limit 14 d; due 2026-11-21 03:00",
        "2026-11-20 03:01 already gone: 20 d old, limit 14 d",
        "2026-11-20 03:02 a later word: 20 d old, limit 14 d",
        "2026-11-20 03:03 kept: its status is Error",
        "2026-11-20 03:04 Leonardo accepted to stop: as it was then",
        "2026-11-20 03:05 failed to stop: as it was then",
    ]


def test_where_the_rule_is_not_known_a_record_speaks_for_itself() -> None:
    said = "said of terra-1/a: it is not terra-1/a: no"
    records = [
        opening("a"),
        opening("b", policy={}),
        kept("unopened", message=said),
        kept("a", reason="malformed", message=said, time=NOW + MINUTE),
        kept("a", reason="a_later_reason", message="a sentence of another form", time=NOW + 2 * MINUTE),
        kept("a", reason="another_reason", message="", time=NOW + 3 * MINUTE),
        kept("b", message=said, time=NOW + 4 * MINUTE),
        kept("c", message=said, job="another-job", time=NOW + 5 * MINUTE),
        kept("a", message=said, job=AUTOPAUSE_JOB, time=NOW + 6 * MINUTE),
    ]
    assert lines(records) == [
        "2026-11-20 03:00 kept: it is not terra-1/a: no",
        "2026-11-20 03:01 kept: it is not terra-1/a: no",
        "2026-11-20 03:02 kept: a sentence of another form",
        "2026-11-20 03:03 kept: another_reason",
        "2026-11-20 03:04 kept: it is not terra-1/a: no",
        "2026-11-20 03:05 kept: it is not terra-1/a: no",
        "2026-11-20 03:06 autopause: it is not terra-1/a: no",
    ]


def test_every_event_about_a_runtime_is_told_and_no_other() -> None:
    events = ("deletion_requested", "stop_requested", "deletion_confirmed", "runtime_missing", "run_finished")
    records = [record("a", event, message=f"{event} terra-1/a", seq=seq) for seq, event in enumerate(events)]
    assert lines(records) == [f"2026-11-20 03:00 {event}" for event in events[:-1]]


def test_a_record_without_its_time_is_told_at_its_judgement_or_first() -> None:
    records = [
        opening("a"),
        record("a", outcome="failed", time=NOW),
        record("a", outcome="failed", time=None, judged_at=NOW - HOUR, seq=1),
        record("a", outcome="failed", time=None, judged_at=None, seq=2),
    ]
    assert [entry.partition(" failed")[0] for entry in lines(records)] == [
        "1-01-01 00:00",
        "2026-11-20 02:00",
        "2026-11-20 03:00",
    ]


# diff


def differ(earlier: list[Record], later: list[Record], *others: Record, now: datetime = NOW) -> Diff:
    """Of runs a and b; the records that open them come first, as they are read."""
    records = [*earlier, *later, *others]
    return comparison.diff(sorted(records, key=lambda r: r.event != "run_started"), "a", "b", now)


def reasons(diff: Diff) -> list[tuple[str, str, str, str]]:
    return [(d.path, d.condemned_in, d.why_not_in_the_other, d.in_words) for d in diff.differences]


A, B = opening("a", NOW - DAY, scope=ScopeDetail()), opening("b", scope=ScopeDetail())


def test_two_runs_are_compared_by_what_they_condemned_and_listed() -> None:
    malformed = kept("a", reason="malformed", runtime_id=None, project=None, name=None)
    intent = record("b", "deletion_requested", 8)
    diff = differ(
        [A, record("a"), record("a", number=2), kept("a", 3), kept("a", 4), kept("a", 9), kept("a", 8), malformed],
        [B, record("b"), kept("b", 2), kept("b", 5), kept("b", 6), kept("b", 7), intent, kept("b", 8)],
        opening("c"),
        record("c", number=3, outcome="deletion_accepted", dry_run=False),
        record("c", number=4, outcome="failed", dry_run=False),
        record("c", number=9, outcome="already_deleting", dry_run=False),
        now=NOW + MINUTE,
    )
    assert (diff.run_a, diff.run_b) == (
        line(
            "a",
            started_at=NOW - DAY,
            listed=7,
            would_act=2,
            outcomes={"kept": 5, "would_delete": 2},
            failed=1,
            state="cut_off",
        ),
        line("b", listed=6, would_act=1, outcomes={"kept": 5, "would_delete": 1}),
    )
    assert (diff.same_policy, diff.terms) == (True, [])
    assert (diff.grew_by, diff.new, diff.gone_by_our_act, diff.gone_without_our_act) == (-1, 3, 2, 1)
    assert (diff.condemned_in_both, diff.other_reasons) == (1, [])
    assert reasons(diff) == [("terra-2/a", "a", "judged_otherwise", "kept by the later run (within_policy)")]


def test_policies_are_the_same_by_their_digests_only() -> None:
    undigested = [opening(run_id, policy_digest=None) for run_id in "ab"]
    assert not differ(undigested[:1], undigested[1:]).same_policy
    assert not differ([A], [opening("b", policy_digest="sha256:2")]).same_policy
    assert not differ([kept("a")], [kept("b")]).same_policy


def test_the_acts_of_a_dry_run_are_nobodys() -> None:
    doctored = record("c", outcome="deletion_accepted", dry_run=True)
    diff = differ([A, kept("a")], [B], opening("c"), doctored)
    assert (diff.gone_by_our_act, diff.gone_without_our_act) == (0, 1)


def test_a_run_does_not_differ_from_itself() -> None:
    with pytest.raises(UnknownError, match=r"^b does not differ from itself$"):
        comparison.diff([A, B, closing("b")], "b", "latest", NOW)


def test_what_the_earlier_run_condemned_and_the_later_did_not_has_its_reason() -> None:
    used, before = NOW - HOUR, NOW - 2 * DAY
    ours = record("c", number=2, outcome="deletion_accepted", dry_run=False)
    diff = differ(
        [A, *(record("a", number=number) for number in range(1, 10)), record("a", number=10, date_accessed=None)],
        [
            B,
            kept("b", 3, "exempt"),
            kept("b", 4, "status_not_eligible", status="Error"),
            kept("b", 5, "status_unknown", status=None),
            kept("b", 6, date_accessed=used),
            kept("b", 7),
            kept("b", 8, date_accessed=before),
            kept("b", 9, "undated", date_accessed=None),
            kept("b", 10, date_accessed=used),
        ],
        opening("c"),
        ours,
    )
    assert reasons(diff) == [
        ("terra-1/a", "a", "gone_without_our_act", "gone without our act"),
        ("terra-10/a", "a", "judged_otherwise", "kept by the later run (within_policy)"),
        ("terra-2/a", "a", "gone_by_our_act", "gone by our act"),
        ("terra-3/a", "a", "exempt", "exempt in the later run"),
        ("terra-4/a", "a", "status_changed", "its status is Error now"),
        ("terra-5/a", "a", "status_changed", "its status is missing now"),
        ("terra-6/a", "a", "used_since", "used since, on 2026-11-20 02:00"),
        ("terra-7/a", "a", "judged_otherwise", "kept by the later run (within_policy)"),
        ("terra-8/a", "a", "judged_otherwise", "kept by the later run (within_policy)"),
        ("terra-9/a", "a", "judged_otherwise", "kept by the later run (undated)"),
    ]


def test_what_the_later_run_condemned_and_the_earlier_did_not_has_its_reason() -> None:
    began = NOW - DAY
    diff = differ(
        [
            A,
            kept("a", 1, "exempt"),
            kept("a", 1, "duplicate"),
            kept("a", 2, "status_not_eligible", status="Error"),
            kept("a", 3, "status_unknown", status=None),
            kept("a", 4),
        ],
        [
            B,
            *(record("b", number=number) for number in range(1, 5)),
            record("b", number=5, created_date=began + MINUTE),
            record("b", number=6, created_date=began),
            record("b", number=7, created_date=None),
        ],
    )
    assert reasons(diff) == [
        ("terra-1/a", "b", "exempt", "exempt in the earlier run"),
        ("terra-2/a", "b", "status_changed", "its status was Error"),
        ("terra-3/a", "b", "status_changed", "its status was missing"),
        ("terra-4/a", "b", "due_since", "it has become due since"),
        ("terra-5/a", "b", "new", "created since, on 2026-11-19 03:01"),
        ("terra-6/a", "b", "new", "not in the earlier run's list"),
        ("terra-7/a", "b", "new", "not in the earlier run's list"),
    ]
    undated = differ([opening("a", began, now=None)], [B, record("b", created_date=NOW)])
    unopened = differ([kept("a", 2, time=began)], [B, record("b", created_date=NOW)])
    assert reasons(undated) == reasons(unopened) == [("terra-1/a", "b", "new", "not in the earlier run's list")]


def test_what_ended_without_us_was_not_condemned() -> None:
    intent = record("b", "deletion_requested", dry_run=False)
    for outcome in ("gone", "replaced"):
        assert reasons(differ([A, kept("a")], [B, intent, record("b", outcome=outcome, dry_run=False)])) == []


def test_what_another_policy_keeps_is_told_to_be_the_policys_doing() -> None:
    idle = {"reason": "max_age_if_idle", "created_date": NOW - 8 * DAY}
    for policy, condemned, kind in (
        (LAXER, {}, "policy_changed"),
        (POLICY, {}, "judged_otherwise"),
        (LAXER, {"judged_at": None}, "judged_otherwise"),
        ({}, {}, "judged_otherwise"),
        (SPARING, idle, "policy_changed"),
        (POLICY, idle, "judged_otherwise"),
    ):
        other = opening("b", policy=policy, policy_digest="sha256:2", scope=ScopeDetail())
        assert [words[2] for words in reasons(differ([A, record("a", **condemned)], [other, kept("b")]))] == [kind]
    earlier = opening("a", NOW - DAY, policy=LAXER, policy_digest="sha256:2")
    said = {
        reasons(differ([A, record("a")], [opening("b", policy=LAXER, policy_digest="sha256:2"), kept("b")]))[0][2:],
        reasons(differ([earlier, kept("a")], [B, record("b")]))[0][2:],
    }
    assert said == {
        ("policy_changed", "the later run's policy or exemptions keep it"),
        ("policy_changed", "the earlier run's policy or exemptions keep it"),
    }
    unopened = differ([A, record("a")], [kept("b", time=NOW)])
    assert [words[2] for words in reasons(unopened)] == ["judged_otherwise"]


def test_a_run_looked_at_what_its_scope_holds_and_its_lists_told() -> None:
    first = [f"terra-{number}" for number in range(100, 100 + MOST_NAMES)]
    gone, new = ("gone_without_our_act", "new"), ("not_looked_at", "not_looked_at")
    for scope, failed, expected in (
        (None, [], gone),
        (ScopeDetail(), [], gone),
        (ScopeDetail(only=["terra-1/a"]), [], gone),
        (ScopeDetail(only=["terra-2/a"]), [], new),
        (ScopeDetail(projects=["terra-1"]), [], gone),
        (ScopeDetail(projects=["terra-2"]), [], new),
        (ScopeDetail(projects=["terra-1"], only=["terra-2/a"]), [], new),
        (ScopeDetail(projects=first, project_count=MOST_NAMES), [], new),
        (ScopeDetail(projects=first, project_count=MOST_NAMES + 1), [], gone),
        (ScopeDetail(), [{"project": "terra-1"}], new),
        (ScopeDetail(), [{"project": "terra-2"}], gone),
        (ScopeDetail(), [{"project": None}], new),
    ):
        a, b = opening("a", NOW - DAY, scope=scope), opening("b", scope=scope)
        lists = {run_id: [of_run(run_id, "project_unreadable", **fields) for fields in failed] for run_id in "ab"}
        found = [
            *reasons(differ([A, record("a")], [b, *lists["b"]])),
            *reasons(differ([a, *lists["a"]], [B, record("b")])),
        ]
        assert tuple(kind for _, _, kind, _ in found) == expected
    assert reasons(differ([A, record("a")], [opening("b", scope=ScopeDetail(only=[]))])) == [
        ("terra-1/a", "a", "not_looked_at", "the later run did not list it")
    ]
    assert reasons(differ([opening("a", NOW - DAY, scope=ScopeDetail(only=[]))], [B, record("b")])) == [
        ("terra-1/a", "b", "not_looked_at", "the earlier run did not list it")
    ]
    assert reasons(differ([A, record("a")], [kept("b", 2, time=NOW)]))[0][2] == "gone_without_our_act"


def test_a_difference_tells_the_runtime_as_the_run_saw_it_that_condemned_it() -> None:
    told: dict[str, Any] = {
        "project": "terra-1",
        "creator": "ada",
        "status": "Running",
        "created_date": NOW - 20 * DAY,
        "date_accessed": NOW - DAY,
        "judged_at": NOW,
        "disk": "kept",
        "reason": "max_age",
        "outcome": "would_delete",
    }
    a_numbered = record("a", number=1, disk="kept")
    without_numbers = record("b", number=1, runtime_id="2", name="b", disk="kept", age_s=UNSET, idle_s=UNSET)
    assert differ([A, a_numbered], [B, kept("b", status="Error"), without_numbers]).differences == [
        Difference(
            runtime_id="1",
            path="terra-1/a",
            age_s=(20 * DAY).total_seconds(),
            idle_s=DAY.total_seconds(),
            condemned_in="a",
            why_not_in_the_other="judged_otherwise",
            in_words="kept by the later run (within_policy)",
            **told,
        ),
        Difference(
            runtime_id="2",
            path="terra-1/b",
            age_s=None,
            idle_s=None,
            condemned_in="b",
            why_not_in_the_other="new",
            in_words="not in the earlier run's list",
            **told,
        ),
    ]


def test_those_that_lose_their_data_are_told_first_then_by_project_creator_and_name() -> None:
    in_order: list[dict[str, Any]] = [
        {"disk": "lost", "project": "Z"},
        {"project": None, "creator": "zoe"},
        {"project": "A", "creator": None},
        {"project": "A", "creator": "A", "name": "b"},
        {"project": "A", "creator": "B", "name": "a"},
        {"project": "A", "creator": "B", "name": "b"},
        {"project": "A", "creator": "B", "name": "b"},
        {"project": "B", "creator": "A", "name": "a"},
    ]
    condemned = [record("b", number=number, **fields) for number, fields in enumerate(in_order)]
    differences = differ([A], [B, *condemned[::-1]]).differences
    assert [int(difference.runtime_id) for difference in differences] == list(range(len(in_order)))


def test_what_both_condemned_for_other_reasons_is_counted_the_most_frequent_first() -> None:
    pairs = [
        ("max_age_if_idle", "max_age"),
        ("max_age", "max_age_if_idle"),
        ("max_age", "max_age"),
        ("stuck", "max_age"),
        ("stuck", "max_age"),
    ]
    a = [record("a", number=number, reason=in_a) for number, (in_a, _) in enumerate(pairs)]
    b = [record("b", number=number, reason=in_b) for number, (_, in_b) in enumerate(pairs)]
    diff = differ([A, *a], [B, *b])
    assert (diff.condemned_in_both, diff.differences) == (5, [])
    assert diff.other_reasons == [
        OtherReason(reason_a="stuck", reason_b="max_age", count=2),
        OtherReason(reason_a="max_age", reason_b="max_age_if_idle", count=1),
        OtherReason(reason_a="max_age_if_idle", reason_b="max_age", count=1),
    ]


def test_the_counts_of_both_stand_the_largest_first_and_what_was_kept_last() -> None:
    diff = differ(
        [A, record("a", number=1), *(kept("a", number) for number in range(2, 7)), kept("a", 7, "exempt")],
        [
            B,
            *(record("b", number=number, reason="max_age_if_idle") for number in range(1, 4)),
            record("b", number=4, outcome="failed"),
            kept("b", 5),
        ],
    )
    assert diff.counts == [
        CountOfBoth(outcome="would_delete", reason="max_age_if_idle", a=0, b=3),
        CountOfBoth(outcome="failed", reason="max_age", a=0, b=1),
        CountOfBoth(outcome="would_delete", reason="max_age", a=1, b=0),
        CountOfBoth(outcome="kept", reason="within_policy", a=5, b=1),
        CountOfBoth(outcome="kept", reason="exempt", a=1, b=0),
    ]


def test_what_two_runs_judged_by_and_is_not_the_same_is_told_with_both_values() -> None:
    exemption = ExemptionDetail({"name": "a"}, NOW + DAY, "holiday", lapsed=False)
    ahead = ScopeDetail(projects=["terra-1"], only=["terra-1/a"], as_of=NOW + DAY, inventory="fleet.jsonl")
    b = opening("b", now=NOW + DAY, policy=LAXER, exemptions=[exemption], scope=ahead)
    fortnight, quarter = POLICY["max_age_s"], LAXER["max_age_s"]
    assert differ([A], [b]).terms == [
        Term(name="now", a="2026-11-19T03:00:00Z", b="2026-11-21T03:00:00Z"),
        Term(name="max_age_s", a=fortnight, b=quarter),
        Term(name="max_age_if_idle_s", a=POLICY["max_age_if_idle_s"], b=quarter),
        Term(name="exemptions", a=[], b=["name a until 2026-11-21 03:00: holiday"]),
        Term(name="projects", a=None, b=["terra-1"]),
        Term(name="only", a=None, b=["terra-1/a"]),
        Term(name="inventory", a=None, b="fleet.jsonl"),
    ]


def test_what_is_not_due_at_the_later_runs_instant_is_told_with_it() -> None:
    ahead = record("a", judged_at=NOW + MINUTE)
    assert reasons(differ([A, ahead], [B, kept("b")])) == [
        ("terra-1/a", "a", "not_due_yet", "not due yet on 2026-11-20 03:00")
    ]


def test_how_the_fleet_changed_is_told_in_words() -> None:
    for before, after, words in (
        ([1], [1], "the fleet is the same"),
        ([1], [2], "the fleet is as large: 1 new, 0 gone by our act, 1 gone without our act"),
        ([1], [1, 2, 3], "the fleet grew by 2: 2 new, 0 gone by our act, 0 gone without our act"),
        ([1, 2], [1], "the fleet shrank by 1: 0 new, 0 gone by our act, 1 gone without our act"),
    ):
        a, b = [kept("a", number) for number in before], [kept("b", number) for number in after]
        assert differ([A, *a], [B, *b]).fleet_in_words == words
    unnamed = kept("b", reason="malformed", runtime_id=None)
    ours = record("c", outcome="deletion_accepted", dry_run=False)
    assert [differ([A, kept("a")], [B, unnamed], opening("c"), *acts).fleet_in_words for acts in ([], [ours])] == [
        "the fleet is as large: 0 new, 0 gone by our act, 1 gone without our act",
        "the fleet is as large: 0 new, 1 gone by our act, 0 gone without our act",
    ]
    in_its_place = differ([A, kept("a", reason="malformed", runtime_id=None)], [B, kept("b")])
    assert in_its_place.fleet_in_words == "the fleet is as large: 1 new, 0 gone by our act, 0 gone without our act"


def test_projects_of_which_nothing_is_listed_any_more_are_named_unless_that_is_by_our_act() -> None:
    before = [
        kept("a", 1),
        kept("a", 2, project="terra-1"),
        record("a", number=3),
        kept("a", 4),
        kept("a", 7, project=None),
    ]
    still_seen = kept("a", 5, project="terra-9"), kept("b", 6, project="terra-9")
    ours = record("c", number=4, outcome="deletion_accepted", dry_run=False)
    diff = differ([A, *before, still_seen[0]], [B, still_seen[1]], opening("c"), ours)
    assert diff.projects_gone == {"terra-1": 2, "terra-3": 1}


def test_the_latest_two_runs_are_set_side_by_side_if_they_are_rehearsals_that_differ() -> None:
    changes: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["b", "a"]),
        ({"policy_digest": "b"}, []),
        ({"policy_digest": "b", "scope": ScopeDetail(as_of=NOW + DAY)}, ["b", "a"]),
        ({"dry_run": False}, []),
        ({"job": AUTOPAUSE_JOB}, ["c", "b"]),
        ({"scope": ScopeDetail(only=["terra-1/a"])}, ["c", "b"]),
    ]
    for of_the_last, expected in changes:
        undated, before = opening("c", time=None, policy_digest="c"), opening("b", NOW - DAY, policy_digest="b")
        openings = [undated, before, opening("a", **({"policy_digest": "a"} | of_the_last))]
        going = opening("d", NOW + HOUR, policy_digest="d")
        frames = [*openings, going, *(closing(run_id) for run_id in "abc")]
        assert comparison.rehearsals_that_differ(frames) == expected
        assert comparison.rehearsals_that_differ(frames[::-1]) == expected
    assert comparison.rehearsals_that_differ([]) == []


# upcoming


def test_what_is_due_is_told_by_creator_and_time_the_overdue_first_up_to_the_last_millisecond() -> None:
    at = NOW + 3 * DAY
    late = at + timedelta(milliseconds=1)
    records = [
        opening("older", NOW - DAY),
        opening("fleet", actor="robot", scope=ScopeDetail()),
        opening("few", NOW + HOUR, scope=ScopeDetail(only=["terra-1/a"])),
        opening("other", NOW + HOUR, job=AUTOPAUSE_JOB),
        *(
            closing(run_id, listed=13, outcomes={"deletion_accepted": 1}, exit_code=0)
            for run_id in ("older", "fleet", "few", "other")
        ),
        kept("fleet", 2, due_at=at, disk="lost"),
        kept("fleet", 1, due_at=at, creator="Grace", name="c"),
        kept("fleet", 1, due_at=at, creator="Grace", name="b"),
        kept("fleet", 1, due_at=at - DAY, creator="ada"),
        kept("fleet", 1, due_at=at, creator=None, runtime_id=None, status=None),
        kept("fleet", 1, due_at=NOW, project=None, name=None, creator=None),
        kept("fleet", 3, due_at=late),
        kept("fleet", 4, "undated", due_at=None),
        kept("fleet", 5),
        kept("fleet", 8, due_at=at, created_date=at - 14 * DAY - MS),
        kept("fleet", 9, "exempt", due_at=at, exemption=ExemptionDetail({"name": "a"}, at, "r", lapsed=False)),
        *(
            record("fleet", number=6, due_at=NOW, outcome=outcome, dry_run=False)
            for outcome in ("deletion_accepted", "already_deleting", "gone", "replaced")
        ),
        record("fleet", "deletion_requested", 6, due_at=NOW),
        record("older", number=7, due_at=NOW),
    ]

    def due(number: int, **fields: Any) -> Due:
        told: dict[str, Any] = {
            "due_at": at,
            "project": f"terra-{number}",
            "creator": "ada",
            "name": "a",
            "runtime_id": str(number),
            "status": "Running",
            "disk": None,
            "reason": "within_policy",
            "overdue": False,
            "final_at": NOW - 6 * DAY + MS,
            "limit": "max_age",
        }
        return Due(**(told | fields))

    assert upcoming(records, 3 * DAY, NOW) == Upcoming(
        run=line(
            "fleet", actor="robot", listed=13, acted=1, outcomes={"deletion_accepted": 1}, state="finished", exit_code=0
        ),
        until=at,
        remarks=[],
        due=[
            due(1, due_at=NOW, overdue=True, project="?", name="?", creator=None),
            due(1, creator=None, runtime_id=None, status=None),
            due(1, creator="Grace", name="b"),
            due(1, creator="Grace", name="c"),
            due(1, due_at=at - DAY),
            due(2, disk="lost"),
            due(8, final_at=at),
            due(9, final_at=at, reason="exempt", limit="exemption"),
        ],
    )


def test_what_using_a_runtime_puts_off_is_told_from_what_it_does_not() -> None:
    def first_due(created: datetime, due_at: datetime, policy: dict[str, Any] = POLICY) -> tuple[Any, ...]:
        records = [opening("a", policy=policy), closing("a"), kept("a", created_date=created, due_at=due_at)]
        (due,) = upcoming(records, 90 * DAY, NOW).due
        return due.limit, due.final_at, due.is_final

    latest = NOW + DAY + MS
    assert first_due(NOW - 13 * DAY, latest) == ("max_age", latest, True)
    assert first_due(NOW - 13 * DAY, latest - MS) == ("max_age_if_idle", latest, False)
    assert first_due(NOW - 13 * DAY, latest, {}) == (None, None, False)


def test_nothing_is_upcoming_where_no_run_swept_the_fleet() -> None:
    with pytest.raises(UnknownError, match=r"^there is no such run in the records$"):
        upcoming([opening("a", scope=ScopeDetail(only=[]))], DAY, NOW)
