"""Each limit of each policy is written down, digested, read back, and bears its setting's name."""

from dataclasses import MISSING, fields, replace
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest

from core.records.events import policy_digest
from core.rules.autopause import AutopausePolicy
from core.rules.confirmation import ConfirmationPolicy
from core.rules.deletion import DeletionPolicy
from core.rules.policy import Policy, PolicyNotRecordedError, RuntimePolicy
from core.settings.fields import Settings
from core.verify.rejudge import POLICIES
from jobs.__main__ import JOBS

DAY = timedelta(days=1)
DELETION = DeletionPolicy(max_age=14 * DAY, max_age_if_idle=7 * DAY, idle_after=DAY / 6)
AUTOPAUSE = AutopausePolicy(autopause_max_threshold=10 * DAY, stuck_after=DAY / 12)
CONFIRMATION = ConfirmationPolicy(stuck_after=DAY / 12)
NOTICED = replace(DELETION, notice_period=DAY)
EVERY_LIMIT = [(policy, name) for policy in (NOTICED, AUTOPAUSE, CONFIRMATION) for name in policy.limits()]


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case timedelta():
            return value + timedelta(milliseconds=1)
        case str() | None:
            return f"{value} and another"
        case _:
            raise AssertionError(value)


@pytest.mark.parametrize(("policy", "name"), EVERY_LIMIT, ids=[f"{type(p).__name__}.{name}" for p, name in EVERY_LIMIT])
def test_a_limit_that_changes_is_written_digested_and_read_back(policy: Policy, name: str) -> None:
    changed = replace(policy, **{name: another(getattr(policy, name))})
    assert changed.written() != policy.written()
    assert policy_digest(changed.written(), ()) != policy_digest(policy.written(), ())
    assert type(policy).read(changed.written()) == changed


@pytest.mark.parametrize("policy", [DELETION, AUTOPAUSE, CONFIRMATION])
def test_every_limit_bears_the_name_and_the_default_of_its_setting(policy: Policy) -> None:
    for field in fields(policy):
        if field.name == "notices":  # which the log has
            continue
        setting = Settings.model_fields[field.name]
        if field.default is not MISSING:  # what an older record does not say was what it is by default
            assert setting.default == field.default, field.name


def test_every_job_that_judges_runtimes_has_a_policy_by_which_its_records_are_judged_again() -> None:
    jobs = [import_module(f"jobs.{name.replace('-', '_')}") for name in JOBS]
    assert {job.NAME for job in jobs if hasattr(job, "SweepingJob")} == set(POLICIES)


def test_every_policy_that_judges_runtimes_is_that_of_a_job() -> None:
    of_jobs = {policy.__name__ for policy in POLICIES.values()}
    assert of_jobs == {policy.__name__ for policy in RuntimePolicy.__subclasses__()}


def test_whole_numbers_and_doubles_have_one_digest() -> None:
    written = DELETION.written()
    as_read = {name: int(value) if isinstance(value, float) else value for name, value in written.items()}
    assert as_read["max_age_s"] == 1_209_600
    assert policy_digest(as_read, ()) == policy_digest(written, ())


def test_what_an_older_record_does_not_say_has_its_default() -> None:
    written = {"max_age_s": 86_400, "max_age_if_idle_s": 3600, "idle_after_s": 60}
    assert DeletionPolicy.read(written) == DeletionPolicy(
        max_age=DAY, max_age_if_idle=timedelta(hours=1), idle_after=timedelta(minutes=1)
    )


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"max_age_s": 86_400, "max_age_if_idle_s": 3600}, "the policy lacks idle_after_s"),
        ({"max_age_s": 1e300}, "the policy's max_age_s is no duration: 1e+300"),
        ({"max_age_s": "14d"}, "the policy's max_age_s is no duration: 14d"),
        ({"max_age_s": float("nan")}, "the policy's max_age_s is no duration: nan"),
    ],
)
def test_a_limit_that_is_missing_or_makes_no_sense_is_named(written: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PolicyNotRecordedError, match=f"^{sentence.replace('+', '.')}$"):
        DeletionPolicy.read(written)


def test_a_policy_says_itself_in_a_sentence() -> None:
    loose = replace(DELETION, spare_possibly_busy=True, delete_errored=True)
    assert [str(policy) for policy in (DELETION, loose, AUTOPAUSE, CONFIRMATION)] == [
        "delete what is older than 14 d, or older than 7 d and not accessed for 4 h",
        "delete what is older than 14 d, or older than 7 d and not accessed for 4 h, unless a kernel may be busy,"
        " in Error too",
        "a Running runtime is paused within 15 min of its threshold, or of 1 d if a kernel may be busy; say where it is"
        " not",
        "a deletion that was asked for has happened when Leonardo does not list the runtime any more; one that lasts"
        " 2 h is stuck",
    ]
