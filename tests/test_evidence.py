"""What a project's lists prove: a name that is taken, a project that is seen, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.confirmation import role_may_be_lost
from core.rules.evidence import Evidence, Incarnation, Sighting, too_many_unlisted
from core.runtime import MalformedDisk, MalformedRuntime, PersistentDisk, Runtime

ME = "runner@jobs.iam.gserviceaccount.com"
ASKED = Incarnation("1001", "all-of-us")


def a_runtime(identity: str, name: str = "other", creator: str | None = "ann@x.org", project: str = "p1") -> Runtime:
    return Runtime(identity, project, name, {}, creator=creator)


def a_disk(
    identity: str, creator: str | None = "ann@x.org", project: str = "p1", status: str = "Ready"
) -> PersistentDisk:
    return PersistentDisk(identity, project, f"disk-{identity}", status, creator=creator)


def seen(*runtimes: Runtime | MalformedRuntime, caller: str | None = ME) -> Sighting:
    sighting = Sighting("p1", caller)
    sighting.see_runtimes(runtimes)
    return sighting


def test_what_is_listed_is_not_gone() -> None:
    assert seen(a_runtime("1001", "all-of-us")).evidence(ASKED) is None
    assert seen(a_runtime("1001", "another-name"), a_runtime("1002", "all-of-us")).evidence(ASKED) is None


def test_another_id_under_the_name_proves_the_deletion_whoever_made_it() -> None:
    assert seen(a_runtime("1002", "all-of-us")).evidence(ASKED) is Evidence.NAME_TAKEN
    assert seen(a_runtime("1002", "all-of-us", creator=ME)).evidence(ASKED) is Evidence.NAME_TAKEN


def test_anothers_runtime_or_disk_shows_that_the_project_is_seen() -> None:
    assert seen(a_runtime("7")).evidence(ASKED) is Evidence.PROJECT_SEEN
    by_disk = seen()
    by_disk.see_disks([a_disk("5")])
    assert by_disk.evidence(ASKED) is Evidence.PROJECT_SEEN


def test_what_the_caller_made_itself_takes_nothing_back_from_what_others_made() -> None:
    assert seen(a_runtime("7"), a_runtime("8", creator=ME)).evidence(ASKED) is Evidence.PROJECT_SEEN
    by_disk = seen()
    by_disk.see_disks([a_disk("5"), a_disk("6", creator=ME)])
    by_disk.see_disks([a_disk("7", creator=ME)])
    assert by_disk.evidence(ASKED) is Evidence.PROJECT_SEEN
    assert [by_disk.disk_status(number) for number in ("5", "7", "8")] == ["Ready", "Ready", "missing"]


@pytest.mark.parametrize("creator", [ME, ME.upper(), None])
def test_what_the_caller_made_itself_or_nobody_knows_who_made_proves_nothing(creator: str | None) -> None:
    sighting = seen(a_runtime("7", creator=creator))
    sighting.see_disks([a_disk("5", creator=creator)])
    assert sighting.evidence(ASKED) is Evidence.UNLISTED


def test_where_the_caller_is_unknown_everything_is_anothers() -> None:
    assert seen(a_runtime("7"), caller=None).evidence(ASKED) is Evidence.PROJECT_SEEN


def test_what_belongs_to_another_project_or_cannot_be_read_proves_nothing() -> None:
    sighting = seen(a_runtime("1001", "all-of-us", project="p9"), MalformedRuntime("no object", "1001"))
    sighting.see_disks([a_disk("5", project="p9"), MalformedDisk("no object", "5")])
    assert sighting.evidence(ASKED) is Evidence.UNLISTED
    assert sighting.disk_status("5") is None


def test_a_kept_disk_has_its_status_is_missing_or_cannot_be_seen() -> None:
    unread, empty, full = seen(a_runtime("7")), seen(), seen(a_runtime("7"))
    empty.see_disks([])
    full.see_disks([a_disk("5", status="Deleting")])
    assert (unread.disk_status("5"), empty.disk_status("5")) == (None, None)
    assert (full.disk_status("5"), full.disk_status("6")) == ("Deleting", "missing")


def test_a_disk_is_not_said_to_be_missing_where_a_row_may_be_any_disk() -> None:
    sighting = seen(a_runtime("7"))
    sighting.see_disks([a_disk("5"), MalformedDisk("no object")])
    assert (sighting.disk_status("5"), sighting.disk_status("6")) == ("Ready", None)


@pytest.mark.parametrize(
    ("unlisted", "candidates", "too_many"),
    [
        (10, 10, False),
        (11, 11, True),
        (11, 43, True),
        (11, 44, False),
        (12, 44, True),
        (25, 100, False),
        (26, 100, True),
    ],
)
def test_more_than_ten_and_more_than_a_quarter_without_evidence_are_too_many(
    unlisted: int, candidates: int, *, too_many: bool
) -> None:
    assert too_many_unlisted(unlisted, candidates) is too_many


@given(unlisted=st.integers(0, 60), seen_too=st.integers(0, 60), with_disk=st.booleans())
def test_confirmations_without_evidence_are_doubted_sooner_where_disks_were_kept(
    unlisted: int, seen_too: int, *, with_disk: bool
) -> None:
    asked = [(Evidence.UNLISTED, with_disk)] * unlisted + [(Evidence.PROJECT_SEEN, with_disk)] * seen_too
    fewest = 3 if with_disk else 11
    assert role_may_be_lost(asked) is (unlisted >= fewest and 4 * unlisted > unlisted + seen_too)


def test_where_one_kept_a_disk_only_those_that_did_count() -> None:
    emptied = [(Evidence.UNLISTED, False)] * 50
    assert role_may_be_lost(emptied)
    assert not role_may_be_lost([*emptied, (Evidence.PROJECT_SEEN, True)])
    assert not role_may_be_lost([*emptied, *[(Evidence.UNLISTED, True)] * 2])
    assert role_may_be_lost([*emptied, *[(Evidence.UNLISTED, True)] * 3])
    assert not role_may_be_lost([*[(Evidence.UNLISTED, True)] * 3, *[(None, True)] * 9])
    assert role_may_be_lost([*[(Evidence.UNLISTED, True)] * 3, *[(None, True)] * 8])
