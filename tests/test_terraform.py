"""What Terraform makes of the files: counts of what the program really writes, alerts, rights, jobs, the runbook."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import yaml
from google.cloud import run_v2

from core.records.events import EVENTS
from core.records.events import schema as record_schema
from core.rules.guards import Guard
from core.sandbox.faults import Fault
from core.sandbox.google_cloud import Google, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import serving
from core.settings.deployment import read_cron
from core.settings.exemptions import read_exemptions
from core.settings.fields import Settings
from core.settings.yaml_text import load_yaml
from tests.conftest import Ended, a_machine, delete, start
from tests.drills import alert_text
from tests.terraform import ENVIRONMENTS, ROOT, SCHEMA, copied, initialised, needs_terraform

RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text()
TEXT = "\n".join(path.read_text() for path in sorted((ROOT / "deploy/terraform").glob("*.tf")))
RECORD = record_schema()["$defs"]
MOST_IN_AN_ALERT = 8192
"""Characters, by the description of Cloud Monitoring's AlertPolicy."""
LONGEST_WINDOW = 25 * 60 * 60
"""Seconds, of a condition that is no query, by the documentation of alerting policies."""
MOST_CONDITIONS = 6
"""Of one policy, by the same."""
USER = "logging.googleapis.com/user/"
LIFTED = re.compile(r"severity|time|logging\.googleapis\.com/.*")
"""The fields of a record that Cloud Logging takes out of an entry's jsonPayload."""
Resources = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    """Every resource of prod, by its address, with all that is known once it is there."""
    root = tmp_path_factory.mktemp("prod")
    with copied(initialised(tmp_path_factory.mktemp("terraform")), root) as tree:
        tree.planned("prod")
        tree.apply()
        state = json.loads(tree.run("show", "-json").stdout)
    return {resource["address"]: resource["values"] for resource in state["values"]["root_module"]["resources"]}


def of(deployed: Resources, kind: str) -> list[dict[str, Any]]:
    return [values for address, values in deployed.items() if address.startswith(f"{kind}.")]


def alerts(deployed: Resources) -> dict[str, dict[str, Any]]:
    return {policy["display_name"]: policy for policy in of(deployed, "google_monitoring_alert_policy")}


def title(policy: str) -> str:
    """Of the runbook's section; where each job has a policy of its own, the job stands behind it."""
    return policy.partition(": ")[0]


def conditions(deployed: Resources) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Each condition: its alert, its job, its kind and what it says."""
    for name, policy in alerts(deployed).items():
        for condition in policy["conditions"]:
            ((kind, (body,)),) = [(k, v) for k, v in condition.items() if k.startswith("condition_") and v]
            yield title(name), condition["display_name"], kind, body


def filters(deployed: Resources) -> Iterator[str]:
    """Everything that asks for a count: of alerts, and of the dashboard's charts."""
    for _, _, _, body in conditions(deployed):
        yield from (body[name] for name in ("filter", "denominator_filter") if body.get(name))
    (board,) = of(deployed, "google_monitoring_dashboard")
    for tile in json.loads(board["dashboard_json"])["mosaicLayout"]["tiles"]:
        for data in tile["widget"]["xyChart"]["dataSets"]:
            yield data["timeSeriesQuery"]["timeSeriesFilter"]["filter"]


def compared(with_: str, text: str) -> Iterator[tuple[str, str | None]]:
    """The fields that a filter names, and the values that it compares them with."""
    for name, group, value in re.findall(rf'{with_}\.([\w.]+)(?:=(?:one_of)?(?:\(([^)]*)\)|("[^"]*"|\w+)))?', text):
        values: list[str | None] = [*re.findall(r'"([^"]*)"', group)] or [value.strip('"') or None]
        yield from ((name, value) for value in values)


def claims(deployed: Resources) -> set[tuple[str, str, str | None]]:
    """Each event, field and value of a record that a metric, an alert or a chart relies on."""
    found: set[tuple[str, str, str | None]] = set()
    events: dict[str, str] = {}
    for metric in of(deployed, "google_logging_metric"):
        fields = list(compared("jsonPayload", metric["filter"]))
        if not fields:
            assert 'resource.type="cloud_scheduler_job"' in metric["filter"], "the one that counts no records of ours"
            continue
        ((_, event),) = [(name, value) for name, value in fields if name == "event"]
        assert event is not None
        events[metric["name"]] = event
        read = [*(metric["label_extractors"] or {}).values(), metric["value_extractor"] or ""]
        fields += [(name, None) for text in read for name in re.findall(r"EXTRACT\(jsonPayload\.([\w.]+)\)", text)]
        found |= {(event, name, value) for name, value in fields}
    labels = {m["name"]: set(m["label_extractors"] or {}) for m in of(deployed, "google_logging_metric")}
    for text in filters(deployed):
        (metric_type,) = re.findall(r'metric\.type="([^"]+)"', text)
        name = metric_type.removeprefix(USER)
        for label, value in compared(r"metric\.label", text):
            assert label in labels[name], f"{name} has no label {label}"
            found.add((events[name], label, value))
    return found


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def property_of(event: str, name: str) -> dict[str, Any] | None:
    of_event = next((d for d in RECORD.values() if d.get("properties", {}).get("event") == {"enum": [event]}), None)
    known: dict[str, Any] = RECORD["Common"]["properties"] | ({} if of_event is None else of_event["properties"])
    return known.get(name)


@needs_terraform
def test_every_field_and_value_that_is_counted_or_alerted_on_is_in_the_schema_of_records(deployed: Resources) -> None:
    assert len(claims(deployed)) > 40
    reasons = {word for definition in RECORD.values() for word in definition.get("enum", ())}
    for event, path, value in claims(deployed):
        name, _, key = path.partition(".")
        assert property_of(event, "event") == {"enum": [event]}, event
        what = property_of(event, name)
        assert what is not None, f"{event} has no {name}"
        nested = {
            field for way in what.get("anyOf", ()) if "$ref" in way for field in RECORD[way["$ref"][8:]]["properties"]
        }
        assert not key or key in reasons | nested, f"{event}.{name} never counts {key}"
        words = RECORD[what["$ref"].rpartition("/")[2]]["enum"] if "$ref" in what else what.get("enum")
        assert value is None or words is None or value in words, f"{event}.{name} is never {value}"


def skipped(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> Ended:
    """A live run beside an older one."""
    executions = "projects/p/locations/us-central1/jobs/delete-old-runtimes/executions"
    monkeypatch.setenv("CLOUD_RUN_JOB", "delete-old-runtimes")
    monkeypatch.setenv("CLOUD_RUN_EXECUTION", "younger")
    with serving_google(Google()) as google, serving(Leonardo([a_machine(1)])) as server:
        for name in ("older", "younger"):
            google.add_execution(f"{executions}/{name}", run_v2.Container(args=["--no-dry-run"]))
        place = ("--google-emulator", google.address, "--google-project", "p", "--google-region", "us-central1")
        return run(*delete(server, "--no-dry-run", *place))


def bad_days(run: Callable[..., Ended]) -> Iterator[Ended]:
    """Runs that end in every way that an alert or a chart is about."""
    old, young = [a_machine(number, project="terra-1") for number in (1, 2, 3)], a_machine(4, project="terra-1", days=1)
    live = ("--no-dry-run", "--audit-file", "audit/live.jsonl")
    with serving(Leonardo([*old, young], deletion_takes=None)) as server:
        yield run(*delete(server, *live))
    old[0].accessed -= timedelta(hours=3)
    old[1].status = TrueStatus.STOPPED
    with serving(Leonardo([*old[:2], young], deletion_takes=None)) as server:
        yield run("confirm-deletions", *delete(server)[1:], "--from", "audit")
    lost = {f"terra-{number}": Role.NONE for number in (1, 2, 3)}
    with serving(Leonardo([a_machine(number) for number in (1, 2, 3)])) as server:
        yield run(*delete(server, "--no-dry-run", "--audit-file", "lost.jsonl"))
        server.leonardo.roles.update(lost)
        yield run("confirm-deletions", *delete(server)[1:], "--from", "lost.jsonl")
    with serving(Leonardo([a_machine(1), a_machine(2)], deletion_takes=timedelta(0))) as server:
        server.leonardo.machine("terra-1", "all-of-us-1").deletion_ends_in = "error"
        yield run(*delete(server, "--no-dry-run", "--audit-file", "errored.jsonl"))
        yield run("confirm-deletions", *delete(server)[1:], "--from", "errored.jsonl")
    doubtful = [Fault(call="delete", status=500, project="terra-1"), Fault(call="project_list", status=403)]
    denied = Fault(call="delete", status=403, times=None)
    with serving(Leonardo([a_machine(1), a_machine(2)]), faults=[*doubtful, denied]) as server:
        yield run(*delete(server, "--no-dry-run"))
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="notice", status=400)]) as server:
        yield run(*delete(server, "--audit-file", "told.jsonl"))
        told = ("--audit-file", "told.jsonl", "--notice-url", f"{server.url}/notices", "--no-dry-run")
        yield run("notify-owners", *delete(server)[1:], *told)
    with serving(Leonardo([a_machine(1)])) as server:
        yield run(*delete(server, "--no-dry-run", "--audit-file", "/dev/full"))
    with serving(Leonardo([])) as server:
        yield run(*delete(server, "--no-dry-run"))
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", status=401, times=None)]) as server:
        yield run(*delete(server, "--no-dry-run"))
    found = [
        a_machine(1, days=5, idle_hours=30),
        a_machine(2, days=5, idle_hours=20),
        a_machine(3, days=5, idle_hours=0),
        a_machine(4, status=TrueStatus.STARTING),
        a_machine(5, status=TrueStatus.ERROR),
    ]
    with serving(Leonardo(found)) as server:
        yield run("check-autopause", *delete(server)[1:])


def cut_short() -> Ended:
    """A run that is told to stop before it has a list."""
    with serving(Leonardo([]), faults=[Fault(call="list", hang=True)]) as server:
        process = start(*delete(server, "--no-dry-run"))
        assert process.stdout is not None
        opening = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, err = process.communicate(timeout=60)
    return Ended(process.returncode, opening + rest, err)


@pytest.mark.unmeasured
@needs_terraform
def test_every_field_and_value_that_is_counted_or_alerted_on_is_really_written(
    deployed: Resources, run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [*bad_days(run), cut_short(), skipped(run, monkeypatch)]
    assert [one.code for one in ended] == [0, 1, 0, 1, 0, 1, 1, 0, 1, 6, 3, 4, 0, 5, 0]
    written = {
        (record["event"], path, value)
        for one in ended
        for record in one.records
        for name, field in record.items()
        if not LIFTED.fullmatch(name)
        for path in (name, *(f"{name}.{key}" for key in (field if isinstance(field, dict) else ())))
        for value in (None, as_text(field))
    }
    assert claims(deployed) - written == set()


def sections() -> dict[str, str]:
    """What the runbook says of each alert."""
    chapter = RUNBOOK.partition("\n## When an alert calls")[2].partition("\n## ")[0]
    return {section.partition("\n")[0]: section for section in chapter.split("\n### ")[1:]}


@needs_terraform
def test_every_alert_is_a_section_of_the_runbook_and_carries_it_with_commands_that_can_be_pasted(
    deployed: Resources,
) -> None:
    where_owners_are_told = {"Owners are not told"}
    assert sections().keys() == {*map(title, alerts(deployed))} | where_owners_are_told
    assert {guard for guard in Guard if f"`{guard}`" not in sections()["Refused by a guard"]} == set()
    for name, policy in alerts(deployed).items():
        (text,) = [documentation["content"] for documentation in policy["documentation"]]
        assert text == alert_text(title(name), "prod", "${condition.display_name}")
        assert set(re.findall(r"\$\{([^}]*)\}", text)) <= {"condition.display_name"}
        assert re.search(r"\b(ENV|REGION|P|JOB)\b|\]\(#|\n## ", text) is None
        assert len(text) < MOST_IN_AN_ALERT
        assert policy["notification_channels"] == ["projects/all-of-us-rw-prod/notificationChannels/12"]
    silence = alerts(deployed)["A job has not run: check-disks"]["documentation"][0]["content"]
    assert "--job ${condition.display_name} --region us-central1 --project all-of-us-rw-prod" in silence


def hours(body: dict[str, Any]) -> float:
    return float(body["aggregations"][0]["alignment_period"].removesuffix("s")) / 3600


@needs_terraform
def test_each_condition_watches_one_live_job_by_its_name_and_no_rehearsal(deployed: Resources) -> None:
    jobs = {job.job for entry in read_cron(ROOT / "cron.yaml").cron if (job := entry.at("prod")) is not None}
    for alert, watched_job, _, body in conditions(deployed):
        texts = [body[name] for name in ("filter", "denominator_filter", "query") if body.get(name)]
        assert watched_job in jobs
        for text in texts:
            assert set(re.findall(r'(?:job_name|job_id)="([^"]*)"', text)) == {watched_job}, alert
    watched: dict[str, set[str]] = {}
    for alert, watched_job, _, _ in conditions(deployed):
        watched.setdefault(alert, set()).add(watched_job)
    everywhere = {alert for alert, of_alert in watched.items() if of_alert == jobs}
    assert everywhere == {
        "A job has not run",
        "Refused by a guard",
        "The inventory could not be read",
        "A record could not be kept",
        "Runs keep warning",
        "Runs are stopped early again and again",
        "Runs are skipped again and again",
        "A schedule could not start its job",
        "A run ended without a word",
    }


@needs_terraform
def test_no_policy_has_more_conditions_than_there_may_be_in_any_environment(deployed: Resources) -> None:
    for policy in of(deployed, "google_monitoring_alert_policy"):
        names = [condition["display_name"] for condition in policy["conditions"]]
        assert len(names) == len({*names}), f"{policy['display_name']}: one for each job"
        if any(condition["condition_prometheus_query_language"] for condition in policy["conditions"]):
            assert policy["display_name"].endswith(f": {names[0]}")
            assert len(names) == 1, "Cloud Monitoring takes no second one beside a query"
    for environment in ENVIRONMENTS:
        jobs = [entry.job for entry in read_cron(ROOT / "cron.yaml").cron if entry.at(environment) is not None]
        assert len(jobs) <= MOST_CONDITIONS


@needs_terraform
def test_one_cause_is_one_incident_as_a_window_outlasts_the_interval_and_needs_as_many_bad_runs_as_it_says(
    deployed: Resources,
) -> None:
    intervals = {entry.job: entry.interval_hours for entry in read_cron(ROOT / "cron.yaml").cron}
    for alert, job, kind, body in conditions(deployed):
        if kind == "condition_prometheus_query_language":
            windows = [int(window) for window in re.findall(r"\[(\d+)h\]", body["query"])]
            if alert == "A job has not run":
                remembered, silent = windows
                assert remembered >= max(7 * 24, 6 * intervals[job]), "one incident for as long as it is silent"
                assert silent == intervals[job] * (2 if intervals[job] < 24 else 1) + 1, "one of many is no silence"
            else:
                assert windows == [min(intervals[job] + 1, 25)] * 2
        elif intervals[job] > 24:
            assert (hours(body), body["threshold_value"]) == (25, 0)
        elif alert == "Too many may be busy":
            assert hours(body) == intervals[job] + 1
        else:
            runs = int(body["threshold_value"]) + 1
            assert runs * intervals[job] < hours(body) <= LONGEST_WINDOW / 3600
            assert runs == 1 or hours(body) < (runs + 1) * intervals[job] + 1
            assert set(body["aggregations"][0]["group_by_fields"] or ()) <= {"metric.label.outcome"}


@needs_terraform
def test_what_crashed_is_told_by_counts_that_there_are_and_a_record_that_was_not_kept_where_it_still_is(
    deployed: Resources,
) -> None:
    metrics = {metric["name"]: metric["filter"] for metric in of(deployed, "google_logging_metric")}
    for alert, _, _, body in conditions(deployed):
        if alert == "A run ended without a word":
            (counted,) = re.findall(r"logging_googleapis_com:user_(\w+)\{", body["query"])
            assert counted == "leo_lifecycle_runs_ended_badly"
    stdout = 'logName="projects/all-of-us-rw-prod/logs/run.googleapis.com%2Fstdout"'
    for name in ("leo_lifecycle/runs_ended_badly", "leo_lifecycle/runs_unrecorded"):
        assert metrics.pop(name).startswith(stdout)
    assert metrics.pop("leo_lifecycle/schedule_errors")
    audit = 'logName="projects/all-of-us-rw-prod/logs/leo-lifecycle-audit"'
    assert all(text.startswith(audit) for text in metrics.values())


CHANGES = re.compile(r"\.(create|update|delete|setIamPolicy|actAs)$")


@needs_terraform
def test_only_approvers_and_the_schedule_can_start_a_live_run_and_only_deployers_can_change_a_job(
    deployed: Resources,
) -> None:
    roles = {role["id"]: role for role in of(deployed, "google_project_iam_custom_role")}
    starting = {role["role_id"] for role in roles.values() if any("run.jobs.run" in p for p in role["permissions"])}
    assert starting == {"leo_lifecycle_starter"}
    assert not [
        p for role in roles.values() for p in role["permissions"] if CHANGES.search(p) and "logEntries" not in p
    ]
    on_jobs = of(deployed, "google_cloud_run_v2_job_iam_member")
    may_start = {
        (g["member"], g["name"]) for g in on_jobs if "starter" in g["role"] or g["role"] == "roles/run.invoker"
    }
    live = {job["name"] for job in of(deployed, "google_cloud_run_v2_job") if not job["name"].endswith("-dry-run")}
    assert {member for member, job in may_start if job in live} == {
        "group:runtime-approvers@researchallofus.org",
        "serviceAccount:leo-lifecycle-scheduler@all-of-us-rw-prod.iam.gserviceaccount.com",
    }
    on_project: dict[str, set[str]] = {}
    for grant in of(deployed, "google_project_iam_member"):
        name = roles[grant["role"]]["role_id"] if grant["role"] in roles else grant["role"]
        on_project.setdefault(grant["member"].partition("@")[0], set()).add(name)
    assert on_project.pop("group:runtime-deployers") >= {"roles/run.admin", "roles/iam.serviceAccountUser"}
    looking = {"roles/logging.viewer", "roles/monitoring.viewer", "roles/monitoring.snoozeEditor"}
    assert on_project == {
        "group:runtime-on-call": {"leo_lifecycle_observer", *looking},
        "group:runtime-approvers": {"leo_lifecycle_observer", "leo_lifecycle_resumer", *looking},
        "serviceAccount:leo-lifecycle-runner": {"leo_lifecycle_runner"},
    }


@needs_terraform
def test_who_is_told_to_name_a_quota_project_may_use_it(deployed: Resources) -> None:
    assert "set-quota-project P" in RUNBOOK
    observer = deployed['google_project_iam_custom_role.role["observer"]']
    assert "serviceusage.services.use" in observer["permissions"]


@needs_terraform
def test_an_execution_is_never_repeated_and_a_new_schedule_waits_for_a_person(deployed: Resources) -> None:
    for job in of(deployed, "google_cloud_run_v2_job"):
        (task,) = job["template"][0]["template"]
        assert (task["max_retries"], task["timeout"]) == (0, "2820s")
        assert task["service_account"] == "leo-lifecycle-runner@all-of-us-rw-prod.iam.gserviceaccount.com"
    for schedule in of(deployed, "google_cloud_scheduler_job"):
        assert (schedule["paused"], schedule["retry_config"][0]["retry_count"]) == (True, 0)
        (target,) = schedule["http_target"]
        path = f"projects/all-of-us-rw-prod/locations/us-central1/jobs/{schedule['name']}"
        assert target["uri"] == f"https://run.googleapis.com/v2/{path}:run"


def test_the_schema_is_that_of_the_pinned_provider_and_has_its_licence_beside_it() -> None:
    (pinned,) = re.findall(r'source += "hashicorp/google"\n +version = "([^"]+)"', TEXT)
    assert re.fullmatch(r"~> \d+\.\d+\.\d+", pinned), "the release is pinned to its minor version"
    assert pinned == f"~> {SCHEMA['provider']}"
    assert re.fullmatch(r"@cdktf/provider-google \d+\.\d+\.\d+", SCHEMA["package"])
    assert SCHEMA["license"] == "MPL-2.0"
    licence = (ROOT / "deploy/terraform/provider.schema.LICENSE").read_text()
    assert "Mozilla Public License, version 2.0" in licence
    used = set(re.findall(r'(?m)^resource "(google_\w+)"', TEXT))
    assert used == SCHEMA["resources"].keys(), "run: make provider"


def test_terraform_is_told_nothing_by_hand_but_the_environment_so_that_no_apply_undoes_another() -> None:
    assert re.findall(r'(?m)^variable "(\w+)"', TEXT) == ["environment"]
    commands = re.findall(r"terraform (init|plan|apply|import)\b([^`\n]*)", RUNBOOK)
    assert {command for command, _ in commands} == {"init", "plan", "apply", "import"}
    for command, words in commands:
        assert re.findall(r"-(?:var|reconfigure)\b(?: \S+)?", words)[:1] == (
            ["-reconfigure -backend-config=bucket=P-terraform"] if command == "init" else ["-var environment=ENV"]
        )
        assert words.count("-var") <= 1


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_typed_yaml_says_what_its_text_says(name: str) -> None:
    """The program reads YAML as text, Terraform with types: `007` or `off` would be two things."""

    def typed(value: object) -> object:
        if isinstance(value, bool):
            return json.dumps(value)
        if isinstance(value, dict):
            return {key: typed(item) for key, item in value.items()}
        return [typed(item) for item in value] if isinstance(value, list) else str(value)

    path = ROOT / f"deploy/environments/{name}.yaml"
    assert typed(yaml.safe_load(path.read_text())) == load_yaml(path.read_text(), name)
    exemptions = path.with_suffix(".exemptions.yaml")
    handed_over = json.dumps(yaml.safe_load(exemptions.read_text()), default=date.isoformat)
    assert read_exemptions(handed_over) == read_exemptions(str(exemptions))


def test_the_runbook_names_fields_and_settings_that_there_are() -> None:
    known = {name for definition in RECORD.values() for name in definition.get("properties", {})}
    known |= {word for definition in RECORD.values() for word in definition.get("enum", ())}
    known |= {str(event.__struct_config__.tag) for event in EVENTS}
    known |= {*Settings.model_fields, *re.findall(r"\w+", TEXT)}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", RUNBOOK))
    assert named - known == set()
    assert len(named) > 10


def test_the_runbook_opens_with_links_to_all_of_its_chapters_and_each_of_its_links_leads_somewhere() -> None:
    def anchor(heading: str) -> str:
        return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")

    headings = {level: re.findall(rf"(?m)^{level} (.+)$", RUNBOOK) for level in ("##", "###")}
    anchors = [anchor(heading) for level in headings.values() for heading in level]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= set(anchors)
    parts = (RUNBOOK.partition("\n## ")[0], "".join(sections().values()))
    index, in_alerts = (re.findall(r"\[([^]]+)\]\(#([^)]+)\)", part) for part in parts)
    assert all(anchor(heading) == link for heading, link in [*index, *in_alerts]), "an alert shows the words alone"
    assert {*headings["##"], *sections()} == {heading for heading, _ in index}
