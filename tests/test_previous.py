"""What earlier runs lead to expect, by their opening and closing records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.records.events import FailedBefore
from core.records.reader import ListsDetail, Record, ScopeDetail
from core.rules.guards import Expected
from core.run.previous import Earlier, Kind, earlier

NOW = datetime(2026, 11, 20, tzinfo=UTC)
URL = "http://127.0.0.1:8080"
KIND = Kind(job="delete-old-runtimes", leonardo_url=URL, of_projects=False, task_index=0, task_count=1)


def a_run(
    run_id: str,
    hours_ago: float,
    living: int | None = 100,
    *,
    dry_run: bool = False,
    accepted: int = 0,
    scope: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    **closing: Any,
) -> list[Record]:
    began = NOW - timedelta(hours=hours_ago)
    same: dict[str, Any] = {"job": KIND.job, "run_id": run_id, "dry_run": dry_run, "environment": "prod"}
    same |= {name: closing.pop(name) for name in ("job", "task_index", "task_count") if name in closing}
    last = {
        "listed": living,
        "living": living,
        "lists": ListsDetail(read=1, unread=0),
        "outcomes": {"kept": 3, "deletion_accepted": accepted},
        **closing,
    }
    asked = ScopeDetail(**{"leonardo_url": URL, **(scope or {})})
    return [
        Record(event="run_started", time=began, scope=asked, limits=limits or {}, **same),
        Record(event="run_finished", time=began + timedelta(minutes=5), **same, **last),
    ]


def expected(*runs: list[Record], live: bool = True, kind: Kind = KIND) -> tuple[str, int] | None:
    told = earlier([record for run in runs for record in run], kind, live=live).expected
    return None if told is None else (told.run_id, told.living)


def test_without_an_earlier_run_nothing_is_expected() -> None:
    assert earlier([], KIND, live=True) == Earlier()


def test_the_run_that_leads_to_expect_the_most_counts_not_the_newest() -> None:
    assert expected(a_run("a", 48, 100), a_run("b", 24, 80), a_run("c", 3, 64)) == ("a", 100)


def test_what_was_accepted_since_is_not_expected_any_more() -> None:
    assert expected(
        a_run("a", 48, 100, accepted=7), a_run("b", 24, 90, accepted=10), a_run("c", 3, 60, accepted=30)
    ) == (
        "a",
        60,
    )


def test_what_another_job_or_task_accepted_is_told_apart() -> None:
    by_hand = a_run("b", 24, 5, accepted=5, job="another-job")
    other_task = a_run("c", 12, 5, accepted=50, task_index=1, task_count=4)
    rehearsal = a_run("d", 6, 5, accepted=50, dry_run=True)
    assert expected(a_run("a", 48, 100), by_hand, other_task, rehearsal) == ("a", 95)


def test_the_number_of_lists_is_told_with_it() -> None:
    of_projects = a_run("a", 3, 100, scope={"projects": ["p"]}, lists=ListsDetail(read=40, unread=0))
    kind = Kind(job=KIND.job, leonardo_url=URL, of_projects=True, task_index=0, task_count=1)
    assert earlier(of_projects, kind, live=True).expected == Expected(run_id="a", living=100, lists=40)


@pytest.mark.parametrize(
    "other",
    [
        a_run("b", 1, 900, job="check-autopause"),
        a_run("b", 1, 900, scope={"leonardo_url": "https://elsewhere.example"}),
        a_run("b", 1, 900, scope={"only": ["p/a"]}),
        a_run("b", 1, 900, scope={"as_of": NOW}),
        a_run("b", 1, 900, scope={"inventory": "list.json"}),
        a_run("b", 1, 900, scope={"projects": ["p"]}),
        a_run("b", 1, 900, task_index=0, task_count=2),
        a_run("b", 1, 900, lists=ListsDetail(read=5, unread=1)),
        a_run("b", 1, 900, lists=ListsDetail(read=0, unread=0)),
        a_run("b", 1, 900, lists=None),
        a_run("b", 1, None),
        *[
            a_run("b", 1, 900, refused_by=[guard])
            for guard in ("empty_inventory", "expect_at_least", "shrunken_inventory", "clock_skew")
        ],
        a_run("b", 1, 900, dry_run=True),
        a_run("b", 1, 900)[:1],  # killed
        a_run("b", 1, 900)[1:],
    ],
)
def test_a_run_of_another_kind_or_one_that_was_not_answered_in_full_does_not_count(other: list[Record]) -> None:
    assert expected(a_run("a", 2, 100), other) == ("a", 100)


@pytest.mark.parametrize("guard", ["max_acts", "max_act_share", "plan", "failing"])
def test_a_run_that_was_refused_for_what_it_would_do_counts_for_what_it_listed(guard: str) -> None:
    assert expected(a_run("a", 2, 100), a_run("b", 1, 900, refused_by=[guard])) == ("b", 900)


def test_a_dry_run_is_held_to_all_and_a_live_run_to_dry_ones_only_where_there_is_no_live_one() -> None:
    live, dry = a_run("a", 2, 100), a_run("b", 1, 900, dry_run=True)
    assert expected(live, dry, live=False) == ("b", 900)
    assert expected(live, dry) == ("a", 100)
    assert expected(dry) == ("b", 900)


@pytest.mark.parametrize("dry_run", [True, False])
def test_once_a_shrunken_inventory_was_accepted_later_runs_are_held_to_the_new_size(*, dry_run: bool) -> None:
    told = a_run("b", 24, 40, dry_run=dry_run, limits={"allow_shrunken": True})
    for live in (True, False):
        assert expected(a_run("a", 48, 100), told, live=live) == ("b", 40)
        assert expected(a_run("a", 48, 100), told, a_run("c", 2, 41), live=live) == ("c", 41)


def test_a_task_knows_whether_its_newest_comparable_run_had_nothing_to_list_either() -> None:
    empty, full = a_run("a", 24, 0), a_run("b", 3, 5)
    assert [earlier(runs, KIND, live=True).listed_nothing for runs in (empty, full, empty + full, [])] == [
        True,
        False,
        False,
        False,
    ]
    assert not earlier(a_run("a", 3, 0, refused_by=["empty_inventory"]), KIND, live=True).listed_nothing


def test_what_failed_in_live_runs_of_this_job_is_counted_since_the_first() -> None:
    runs = [
        *a_run("a", 48, failed=["p/a", "p/b"]),
        *a_run("b", 24, failed=["p/a", "p9"]),
        *a_run("c", 12, dry_run=True, failed=["p/c"]),
        *a_run("d", 12, job="check-autopause", failed=["p/d"]),
    ]
    assert earlier(runs, KIND, live=True).failed_before == {
        "p/a": FailedBefore(times=2, since=NOW - timedelta(hours=48)),
        "p/b": FailedBefore(times=1, since=NOW - timedelta(hours=48)),
        "p9": FailedBefore(times=1, since=NOW - timedelta(hours=24)),
    }


def test_the_newest_run_with_an_accepted_act_is_known() -> None:
    runs = [*a_run("a", 48, accepted=1), *a_run("b", 24), *a_run("c", 12, accepted=9, dry_run=True)]
    assert earlier(runs, KIND, live=True).accepted_last == NOW - timedelta(hours=48) + timedelta(minutes=5)
