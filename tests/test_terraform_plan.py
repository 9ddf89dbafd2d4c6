"""The real Terraform plans each environment by the genuine schema; no edit costs what cannot come back."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import one_of_each
from tests.terraform import CHANNEL, DEPLOYED, PROD, Tree, copied, initialised, needs_terraform

pytestmark = [needs_terraform, pytest.mark.unmeasured]


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialised(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="module")
def deployed(new: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The files, and a state of an environment in which all was new that its plan names."""

    @cache
    def deployed(name: str) -> Path:
        root = tmp_path_factory.mktemp(name)
        with copied(new, root) as made:
            assert {action for _, action in made.changes(name)} == {"create"}
            made.apply()
        return root

    return deployed


@pytest.fixture
def tree(new: Path, tmp_path: Path) -> Iterator[Tree]:
    with copied(new, tmp_path) as made:
        yield made


@pytest.fixture
def applied(deployed: Callable[[str], Path], tmp_path: Path) -> Iterator[Tree]:
    with copied(deployed("prod"), tmp_path) as made:
        yield made


@pytest.mark.parametrize("name", one_of_each(sorted(DEPLOYED, key="prod".__ne__), kind=bool))
def test_an_environment_is_planned_and_once_applied_there_is_nothing_left_to_do(
    deployed: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    with copied(deployed(name), tmp_path) as tree:
        assert tree.changes(name) == set()


def test_where_nothing_is_scheduled_there_is_nothing_to_deploy(tree: Tree) -> None:
    refused = tree.plan("local")
    assert refused.returncode == 1
    assert "cron.yaml schedules nothing in local" in refused.stderr


JOB, SCHEDULE, ALERT = "google_cloud_run_v2_job", "google_cloud_scheduler_job", "google_monitoring_alert_policy"
METRIC, GRANT = "google_logging_metric", "google_cloud_run_v2_job_iam_member"
FILE = "google_storage_bucket_object"
UPDATE, CREATE, DELETE = "update", "create", "delete"
RETAINED = {("google_logging_project_bucket_config", UPDATE), ("google_storage_bucket", UPDATE)}
SKIPPED = 'timezone: Etc/UTC\n    args: []\n    environments:\n      prod: {skip: "not now"}'
EDITS = [
    ("the image", PROD, "leo-lifecycle:0.1.0", f"leo-lifecycle@sha256:{'0' * 64}", {(JOB, UPDATE)}),
    ("a limit", PROD, "max_age_if_idle: 7d", "max_age_if_idle: 9d", {(FILE, UPDATE)}),
    ("the maximum age", PROD, "max_age: 14d", "max_age: 21d", {(FILE, UPDATE), (METRIC, UPDATE)}),
    ("the deadline", PROD, "deadline: 45m", "deadline: 60m", {(JOB, UPDATE), (FILE, UPDATE)}),
    ("tasks", PROD, "settings:", "tasks: 3\nsettings:", {(JOB, UPDATE)}),
    ("Leonardo", PROD, "notebooks.firecloud.org", "notebooks.example.org", {(JOB, UPDATE), (FILE, UPDATE)}),
    ("a channel", PROD, "Channels/12]", f"Channels/12, {CHANNEL}3]", {(ALERT, UPDATE)}),
    ("what is too many", PROD, "stuck: 10", "stuck: 40", {(METRIC, UPDATE)}),
    ("a share", PROD, "busy_share: 0.5", "busy_share: 0.7", {(ALERT, UPDATE)}),
    ("retention", PROD, "days: 400", "days: 800", RETAINED),
    ("a lock", PROD, "locked: false", "locked: true", RETAINED),
    ("the schedule", "cron.yaml", '"7 */3 * * *"', '"17 */3 * * *"', {(SCHEDULE, UPDATE)}),
    ("an interval", "cron.yaml", "interval_hours: 3", "interval_hours: 6", {(ALERT, UPDATE)}),
    ("a shadow", "cron.yaml", "args: [--no-dry-run]", "args: [--dry-run]", {(JOB, UPDATE)}),
    ("the runbook", "deploy/RUNBOOK.md", "A guard stopped", "One guard stopped", {(ALERT, UPDATE)}),
    (
        "an exemption",
        "deploy/environments/prod.exemptions.yaml",
        "[]",
        '- {match: {project: "terra-1"}, until: 2026-12-24, reason: a workshop}',
        {(FILE, UPDATE)},
    ),
    (
        "a job that is skipped",
        "cron.yaml",
        "timezone: Etc/UTC\n    args: []\n    environments:",
        SKIPPED,
        {(kind, DELETE) for kind in (JOB, SCHEDULE, GRANT)} | {(ALERT, UPDATE), (ALERT, DELETE)},
    ),
]


def of_what_it_does(edit: tuple[str, str, str, str, set[tuple[str, str]]]) -> tuple[frozenset[str], bool]:
    """Which actions, and whether to resources of one type only."""
    return frozenset(action for _, action in edit[-1]), len(edit[-1]) == 1


@pytest.mark.parametrize("edit", one_of_each(EDITS, kind=of_what_it_does, name=lambda edit: edit[0]))
def test_an_edit_changes_in_place_what_it_is_about_and_nothing_else(
    applied: Tree, edit: tuple[str, str, str, str, set[tuple[str, str]]]
) -> None:
    _, path, was, becomes, changed = edit
    applied.edit(path, was, becomes)
    assert applied.changes("prod") == changed


def test_projects_are_listed_and_changed_without_a_new_image(applied: Tree) -> None:
    listed = applied.root / "deploy/environments/prod.projects.txt"
    listed.write_text("terra-1\n")
    assert applied.changes("prod") == {(FILE, CREATE), (FILE, UPDATE)}
    applied.apply()
    listed.write_text("terra-1\nterra-2\n")
    assert applied.changes("prod") == {(FILE, UPDATE)}


def test_a_schedule_that_somebody_resumed_or_paused_by_hand_stays_so(applied: Tree) -> None:
    for paused in (False, True):
        applied.cloud.by_hand = {SCHEDULE: {"paused": paused}}
        assert applied.changes("prod") == set()


@pytest.mark.parametrize(
    ("environment", "was", "becomes", "kept"),
    [
        ("stable", "", "", ["google_storage_bucket.audit", "terraform_data.environment_of_this_state"]),
        (
            "prod",
            "region: us-central1",
            "region: us-east1",
            ["google_storage_bucket.audit", "google_logging_project_bucket_config.audit"],
        ),
        ("prod", "runner: leo-lifecycle-runner@", "runner: leo-runner@", ['google_service_account.account["runner"]']),
    ],
    ids=["the state of another environment", "another region", "another runner"],
)
def test_a_plan_that_would_destroy_what_cannot_come_back_is_refused(
    applied: Tree, environment: str, was: str, becomes: str, kept: list[str]
) -> None:
    applied.edit(PROD, was, becomes)
    refused = applied.plan(environment)
    assert refused.returncode == 1
    for resource in kept:
        assert f"Resource {resource} has lifecycle.prevent_destroy set" in re.sub(r"\s+", " ", refused.stderr)


def test_alerts_that_call_nobody_are_told_at_every_plan_and_refused_for_prod(tree: Tree) -> None:
    warned = tree.plan("test")
    assert warned.returncode == 0
    assert "alerts.channels is empty in deploy/environments/test.yaml" in re.sub(r"\s+", " ", warned.stdout)
    assert "alerts.channels" not in tree.plan("prod").stdout
    tree.edit(PROD, f"[{CHANNEL}]", "[]")
    refused = tree.plan("prod")
    assert refused.returncode == 1
    assert "alerts.channels is empty in deploy/environments/prod.yaml" in re.sub(r"\s+", " ", refused.stderr)


MISTAKES = [
    ("alerts.tf", 'severity = "ERROR", metric = "runs_refused"', 'severity = "WARN", metric = "runs_refused"', "WARN"),
    ("alerts.tf", '"COMPARISON_GT"', '"GT"', "none of COMPARISON_GT"),
    ("alerts.tf", '"REDUCE_SUM"', '"SUM"', "none of REDUCE_NONE"),
    ("alerts.tf", "alignment_period ", "alignment ", 'An argument named "alignment" is not expected here'),
    ("alerts.tf", "local.metric_types[told.metric]", "local.metric_types[told.metrics]", "Unsupported attribute"),
    ("alerts.tf", "local.texts[each.key]", "local.texts[each.key", "Missing"),
    ("alerts.tf", 'local.texts["Too many may be busy"]', 'local.texts["Too many are busy"]', "Invalid index"),
    ("metrics.tf", '"DELTA"', '"RATE"', "none of DELTA"),
    ("metrics.tf", "bucket_options {", "buckets {", 'Blocks of type "buckets" are not expected here'),
    ("access.tf", '"leo_lifecycle_${each.key}"', '"leo-lifecycle-${each.key}"', "does not match"),
    ("access.tf", '"group:${local.environment.accounts.on_call}"', "local.environment.accounts.on_call", "not match"),
    ("access.tf", '["runner"].id', '["walker"].id', "Invalid index"),
    ("access.tf", "member  = local.deployers", "members = [local.deployers]", 'argument "member" is required'),
    ("jobs.tf", 'base64encode("{}")', '"{}"', "does not match"),
    ("jobs.tf", "max_retries     = 0", 'max_retries     = "none"', "a number is required"),
    ("jobs.tf", "each.value.schedule", "each.value.cron", "Unsupported attribute"),
    (
        "jobs.tf",
        "service_account = google_service_account",
        "service_account = data.google_service_account",
        "not been",
    ),
    ("jobs.tf", "local.task_timeout", "local.environment.settings.deadline", "does not match"),
    ("audit_log.tf", "location                    =", "locations                   =", "is not expected here"),
    ("audit_log.tf", "google_storage_bucket.audit.name}", "google_storage_bucket.audit.names}", "no argument, nested"),
    ("locals.tf", "settings.deadline", "settings.dead_line", "Unsupported attribute"),
    (
        "access.tf",
        "depends_on = [google_project_service.needed]",
        "depends_on = [google_project_iam_member.runner]",
        "Cycle",
    ),
]


def of_its_kind(mistake: tuple[str, str, str, str]) -> str:
    told = mistake[-1]
    return next((kind for kind in ("none of", "expected here", "attribute", "match") if kind in told), told)


@pytest.mark.parametrize("mistake", one_of_each(MISTAKES, kind=of_its_kind, name=lambda m: f"{m[0]}: {m[2]}"))
def test_a_mistake_of_the_kind_that_a_person_makes_is_told_by_the_plan(
    tree: Tree, mistake: tuple[str, str, str, str]
) -> None:
    file, was, becomes, told = mistake
    tree.edit(f"deploy/terraform/{file}", was, becomes)
    refused = tree.plan("prod")
    assert refused.returncode == 1
    assert told in re.sub(r"\s+", " ", refused.stderr)
