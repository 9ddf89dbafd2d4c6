"""Terraform's files hold together, fit the provider, and name only what the program really writes.

No provider can be had in a test. What Terraform computes of the two files is asked of Terraform where it is installed.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
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
from core.sandbox.server import serving
from core.settings.deployment import read_cron, read_environment
from core.settings.durations import parse_duration
from core.settings.exemptions import read_exemptions
from core.settings.fields import Settings
from core.settings.yaml_text import load_yaml
from tests.conftest import Ended, a_machine, delete

ROOT = Path(__file__).parents[1]
TERRAFORM = ROOT / "deploy/terraform"
RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text()
TEXT = "\n".join(re.sub(r"(?m)(^|\s)#.*$", "", path.read_text()) for path in sorted(TERRAFORM.glob("*.tf")))
PROVIDER = json.loads((TERRAFORM / "provider.schema.json").read_text())
RECORD = record_schema()["$defs"]
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "deploy/environments").glob("*.yaml") if "." not in path.stem)
META = {"for_each", "count", "depends_on", "lifecycle", "provider", "__is_block__"}
MOST_IN_AN_ALERT = 8192
"""Characters, by the description of Cloud Monitoring's AlertPolicy."""
LIFTED = re.compile(r"severity|time|logging\.googleapis\.com/.*")
"""The fields of a record that Cloud Logging takes out of an entry's jsonPayload."""


def plain(node: Any) -> Any:
    """Text without the quotes that the parser keeps, and no comments."""
    if isinstance(node, dict):
        return {plain(key): plain(value) for key, value in node.items() if not re.fullmatch(r"__\w*comments__", key)}
    if isinstance(node, list):
        return [plain(item) for item in node]
    if isinstance(node, str) and len(node) > 1 and node[0] == node[-1] == '"':
        return re.sub(r"\\(.)", r"\1", node[1:-1])
    return node


@cache
def blocks() -> dict[str, list[Any]]:
    """Every block of every file, by its kind."""
    found: dict[str, list[Any]] = {}
    for path in sorted(TERRAFORM.glob("*.tf")):
        for kind, items in plain(hcl2.loads(path.read_text())).items():
            found.setdefault(kind, []).extend(items)
    return found


def resources() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (kind, name): body
        for block in blocks()["resource"]
        for kind, named in block.items()
        if kind != "__is_block__"
        for name, body in named.items()
        if name != "__is_block__"
    }


def local_values() -> dict[str, Any]:
    return {name: value for block in blocks()["locals"] for name, value in block.items() if name != "__is_block__"}


def variables() -> dict[str, Any]:
    return {name: body for block in blocks()["variable"] for name, body in block.items() if name != "__is_block__"}


def blocks_in(block: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The nested blocks, by kind; what a dynamic one generates counts once."""
    inner = {
        name: value
        for name, value in block.items()
        if isinstance(value, list) and any(isinstance(item, dict) and "__is_block__" in item for item in value)
    }
    for dynamic in inner.pop("dynamic", []):
        for kind, body in dynamic.items():
            if kind not in META:
                inner[kind] = inner.get(kind, []) + body["content"]
    return {kind: contents for kind, contents in inner.items() if kind not in META}


def misfits(block: dict[str, Any], takes: dict[str, Any], where: str) -> Iterator[str]:
    """Everything in a block that the provider does not take, or misses."""
    inner = blocks_in(block)
    arguments = block.keys() - inner.keys() - META - {"dynamic"}
    needed = {name for name, need in takes["attributes"].items() if need}
    needed_blocks = {name for name, nested in takes["blocks"].items() if nested["required"]}
    yield from (f"{where}: no argument {name}" for name in sorted(arguments - takes["attributes"].keys()))
    yield from (f"{where}: no block {name}" for name in sorted(inner.keys() - takes["blocks"].keys()))
    yield from (f"{where}: {name} is missing" for name in sorted(needed - arguments))
    yield from (f"{where}: block {name} is missing" for name in sorted(needed_blocks - inner.keys()))
    for name in sorted(inner.keys() & takes["blocks"].keys()):
        nested = takes["blocks"][name]
        if len(inner[name]) > 1 and not nested["many"]:
            yield f"{where}: {name} stands there {len(inner[name])} times"
        for content in inner[name]:
            yield from misfits(content, nested, f"{where}.{name}")


def test_every_resource_is_what_the_provider_takes() -> None:
    assert sorted({kind for kind, _ in resources()}) == sorted(PROVIDER["resources"]), "run: make provider"
    found = [
        fault
        for (kind, name), body in resources().items()
        for fault in misfits(body, PROVIDER["resources"][kind], f"{kind}.{name}")
    ]
    (google,) = (block["google"] for block in blocks()["provider"])
    assert [*found, *misfits(google, PROVIDER["google"], "provider")] == []


def test_the_schema_is_that_of_the_pinned_provider() -> None:
    (terraform,) = blocks()["terraform"]
    pinned = terraform["required_providers"][0]["google"]["version"]
    assert re.fullmatch(r"~> \d+\.\d+\.\d+", pinned), "the release is pinned to its minor version"
    assert pinned == f"~> {PROVIDER['provider']}"
    assert re.fullmatch(r"@cdktf/provider-google \d+\.\d+\.\d+", PROVIDER["package"])


def test_every_variable_and_local_is_there_and_used() -> None:
    assert set(re.findall(r"\bvar\.(\w+)", TEXT)) == set(variables())
    assert set(re.findall(r"\blocal\.(\w+)", TEXT)) == set(local_values())
    assert all(body["type"] and body["description"] for body in variables().values())


def test_terraform_is_told_nothing_by_hand_but_the_environment_so_that_no_apply_undoes_another() -> None:
    assert set(variables()) == {"environment"}
    bucket = resources()["google_storage_bucket", "audit"]["retention_policy"][0]
    assert bucket["retention_period"] == "${local.environment.retention.days * 24 * 60 * 60}"
    assert bucket["is_locked"] == "${local.environment.retention.locked}"
    log_bucket = resources()["google_logging_project_bucket_config", "audit"]
    assert log_bucket["retention_days"] == "${local.environment.retention.days}"
    assert log_bucket["locked"] == "${local.environment.retention.locked}"
    called = {body["notification_channels"] for (kind, _), body in resources().items() if "alert_policy" in kind}
    assert called == {"${local.environment.alerts.channels}"}
    above = local_values()["alerts_on_a_count"]["Autopause is overdue for many"]["above"]
    assert above == "${local.environment.alerts.autopause_overdue}"
    commands = re.findall(r"terraform (init|plan|apply|import)\b([^`\n]*)", RUNBOOK)
    assert {command for command, _ in commands} == {"init", "plan", "apply", "import"}
    for command, words in commands:
        assert re.findall(r"-(?:var|reconfigure)\b(?: \S+)?", words)[:1] == (
            ["-reconfigure -backend-config=bucket=P-terraform"] if command == "init" else ["-var environment=ENV"]
        )
        assert words.count("-var") <= 1


def test_every_reference_to_a_resource_names_one_and_something_that_can_be_read_of_it() -> None:
    for kind, name in re.findall(r"\b(google_\w+)\.(\w+)", TEXT):
        assert (kind, name) in resources(), f"{kind}.{name}"
    read = re.findall(r"\b(google_\w+)\.\w+(?:\[[^\]]+\])?\.(\w+)", TEXT)
    assert read
    for kind, attribute in read:
        assert attribute in PROVIDER["resources"][kind]["readable"], f"{kind}.{attribute}"


def test_every_each_and_key_is_one_that_is_looped_over() -> None:
    for (kind, name), body in resources().items():
        if re.search(r"\beach\.", json.dumps({k: v for k, v in body.items() if k != "for_each"})):
            assert "for_each" in body, f"{kind}.{name}"
    for kind, name, key in re.findall(r'\b(google_\w+)\.(\w+)\["([^"]+)"\]', TEXT):
        keys = resources()[kind, name]["for_each"]
        if isinstance(keys, str):
            (looped,) = re.findall(r"^\$\{local\.(\w+)\}$", keys)
            keys = local_values()[looped]
        assert key in keys, f'{kind}.{name}["{key}"]'


def expanded(text: str) -> str:
    """With every local that is plain text written out."""
    known = {name: value for name, value in local_values().items() if isinstance(value, str)}
    while (longer := re.sub(r"\$\{local\.(\w+)\}", lambda m: known.get(m[1], "…"), text)) != text:
        text = longer
    return text


def words_in(node: Any) -> str:
    """All the text of a part of the files, at any depth."""
    if isinstance(node, dict):
        return " ".join(map(words_in, node.values()))
    return " ".join(map(words_in, node)) if isinstance(node, list) else str(node)


def questions(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything with a filter, as text and as it stands there: it asks something of records, or of their counts."""
    if isinstance(node, dict) and "filter" in node:
        yield expanded(words_in(node)), node
    elif isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from questions(item)


def asked(of: str, text: str) -> Iterator[tuple[str, str | None]]:
    """The fields that a filter names, and the values that it compares them with."""
    for name, group, value in re.findall(rf'{of}\.(\w+)(?:=(?:one_of)?(?:\(([^)]*)\)|("[^"]*"|\w+)))?', text):
        values: list[str | None] = [*re.findall(r'"([^"]*)"', group)] or [value.strip('"') or None]
        yield from ((name, value) for value in values)


@cache
def claims() -> frozenset[tuple[str, str, str | None]]:
    """Each event, field and value that a metric, an alert or a chart relies on."""
    found: set[tuple[str, str, str | None]] = set()
    events: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    for name, count in local_values()["counts"].items():
        ((events[name],),) = [re.findall(r'jsonPayload\.event="(\w+)"', count["filter"])]
        labels[name] = set(count["labels"])
    for name, distribution in local_values()["distributions"].items():
        events[name], labels[name] = "run_finished", {"job", "dry_run"}
        found.add(("run_finished", distribution["field"], None))
    found |= {(events[name], label, None) for name in labels for label in labels[name]}
    for chart in (*local_values()["charts"], *local_values()["histograms"]):
        assert set(chart.get("by", [])) <= labels[chart["metric"]], chart
    for text, question in questions([local_values(), list(resources().values())]):
        fields = list(asked("jsonPayload", text))
        named = {value for name, value in fields if name == "event" and value}
        assert len(named) == bool(fields), f"not of one event: {text}"
        found |= {(event, name, value) for event in named for name, value in fields}
        counted = {question["metric"]} if "metric" in question else set(re.findall(r'metric\.\w+\["(\w+)"\]', text))
        for label, value in asked(r"metric\.label", text) if "run.googleapis.com/job" not in text else ():
            for metric in counted or local_values()["counts"]:
                assert label in labels[metric], f"{metric} has no label {label}"
                found.add((events[metric], label, value))
    return frozenset(found)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def property_of(event: str, name: str) -> dict[str, Any] | None:
    of_event = next((d for d in RECORD.values() if d.get("properties", {}).get("event") == {"enum": [event]}), None)
    known: dict[str, Any] = RECORD["Common"]["properties"] | ({} if of_event is None else of_event["properties"])
    return known.get(name)


def test_every_field_and_value_that_is_counted_or_alerted_on_is_in_the_schema_of_records() -> None:
    assert len(claims()) > 30
    for event, name, value in claims():
        assert property_of(event, "event") == {"enum": [event]}, event
        what = property_of(event, name)
        assert what is not None, f"{event} has no {name}"
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
    doubtful = [Fault(call="delete", status=500, project="terra-1"), Fault(call="confirming_list", status=403)]
    denied = Fault(call="delete", status=403, times=None)
    with serving(Leonardo([a_machine(1), a_machine(2)]), faults=[*doubtful, denied]) as server:
        yield run(*delete(server, "--no-dry-run"))
    with serving(Leonardo([a_machine(1)])) as server:
        yield run(*delete(server, "--no-dry-run", "--audit-file", "/dev/full"))
    with serving(Leonardo([])) as server:
        yield run(*delete(server, "--no-dry-run"))
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call="list", status=401, times=None)]) as server:
        yield run(*delete(server, "--no-dry-run"))
    with serving(Leonardo([a_machine(1, days=5, idle_hours=30)])) as server:
        yield run("check-autopause", *delete(server)[1:])


def test_every_field_and_value_that_is_counted_or_alerted_on_is_really_written(
    run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [*bad_days(run), skipped(run, monkeypatch)]
    assert [one.code for one in ended] == [0, 1, 1, 6, 3, 4, 0, 0]
    written = {
        (record["event"], name, value)
        for one in ended
        for record in one.records
        for name, field in record.items()
        if not LIFTED.fullmatch(name)
        for value in (None, as_text(field))
    }
    assert claims() - written == set()


def sections() -> dict[str, str]:
    """What the runbook says of each alert."""
    chapter = RUNBOOK.partition("\n## When an alert calls")[2].partition("\n## ")[0]
    return {section.partition("\n")[0]: section for section in chapter.split("\n### ")[1:]}


def test_every_alert_is_a_section_of_the_runbook() -> None:
    single = [
        body["display_name"] for (kind, _), body in resources().items() if kind == "google_monitoring_alert_policy"
    ]
    names = {name for name in single if name != "${each.key}"}
    names |= set(local_values()["alerts_on_a_record"]) | set(local_values()["alerts_on_a_count"])
    assert sorted(sections()) == sorted(names)
    assert set(re.findall(r'local\.texts\["([^"]+)"\]', TEXT)) == {*single} - {"${each.key}"}
    assert {guard for guard in Guard if f"`{guard}`" not in sections()["Refused by a guard"]} == set()


def test_only_approvers_and_the_schedule_can_start_a_live_run() -> None:
    roles = local_values()["roles"]
    starting = {name for name, role in roles.items() if any(p.startswith("run.jobs.run") for p in role["permissions"])}
    changing = re.compile(r"\.(create|update|delete|setIamPolicy|actAs)$")
    assert starting == {"starter"}
    assert not [
        p for role in roles.values() for p in role["permissions"] if changing.search(p) and "logEntries" not in p
    ]
    grants = [body for (kind, _), body in resources().items() if kind == "google_cloud_run_v2_job_iam_member"]
    may_start = [body for body in grants if "starter" in body["role"] or body["role"] == "roles/run.invoker"]
    assert {body["member"] for body in may_start if "rehearsals" not in str(body["for_each"])} == {
        "${local.approvers}",
        '${google_service_account.account["scheduler"].member}',
    }
    on_projects = [body for (kind, _), body in resources().items() if kind == "google_project_iam_member"]
    assert not [body for body in on_projects if "starter" in body["role"]]


def test_who_is_told_to_name_a_quota_project_may_use_it() -> None:
    assert "set-quota-project P" in RUNBOOK
    assert "serviceusage.services.use" in local_values()["roles"]["observer"]["permissions"]


def test_an_execution_is_never_repeated_and_a_new_schedule_waits_for_a_person() -> None:
    template = resources()["google_cloud_run_v2_job", "job"]["template"][0]["template"][0]
    assert template["service_account"] == '${google_service_account.account["runner"].email}'
    assert template["timeout"] == "${local.task_timeout}"
    schedule = resources()["google_cloud_scheduler_job", "schedule"]
    assert template["max_retries"] == 0
    assert schedule["retry_config"][0]["retry_count"] == 0
    assert schedule["paused"] is True
    assert schedule["lifecycle"][0]["ignore_changes"] == ["paused"]


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
    known |= set(Settings.model_fields)
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


WORKSHOP = """\
- match: {project: "terra-workshop-*", label: "purpose=teaching*"}
  until: 2026-12-01
  reason: genomics workshop
"""
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


def computed(root: Path, expression: str, *arguments: str) -> Any:
    """What Terraform makes of an expression over the locals of a tree, without a provider."""
    console = subprocess.run(
        ["terraform", "console", *arguments],  # noqa: S607 - wherever it is installed
        cwd=root / "deploy/terraform",
        input=f"jsonencode({expression})",
        capture_output=True,
        text=True,
        check=False,
    )
    assert console.returncode == 0, console.stderr
    return json.loads(json.loads(console.stdout))


def laid_out(root: Path) -> None:
    """The tree that Terraform reads, its environments with a list and an exemption more than they have."""
    (root / "deploy/terraform").mkdir(parents=True)
    shutil.copytree(ROOT / "deploy/environments", root / "deploy/environments")
    for path in ("cron.yaml", "deploy/RUNBOOK.md", "deploy/terraform/locals.tf", "deploy/terraform/variables.tf"):
        shutil.copy(ROOT / path, root / path)
    for name in ENVIRONMENTS:
        written = root / f"deploy/environments/{name}.yaml"
        written.write_text(written.read_text().replace("  deadline", "  projects: [terra-1, terra-2]\n  deadline"))
        written.with_suffix(".exemptions.yaml").write_text(WORKSHOP)


@needs_terraform
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_terraform_computes_the_jobs_of_an_environment(tmp_path: Path, name: str) -> None:
    laid_out(tmp_path)
    asked_for = "[local.live, local.rehearsals, local.variables, local.task_timeout, local.environment]"
    live, rehearsals, given, timeout, read = computed(tmp_path, asked_for, f"-var=environment={name}")
    environment = read_environment(tmp_path / f"deploy/environments/{name}.yaml")
    jobs = [job for entry in read_cron(ROOT / "cron.yaml").cron if (job := entry.at(name)) is not None]
    assert live == {job.job: {"command": "leo-lifecycle", "args": [job.job, *job.args]} for job in jobs}
    assert {rehearsal: made["args"][0] for rehearsal, made in rehearsals.items()} == {j.rehearsal: j.job for j in jobs}
    for made in rehearsals.values():
        assert made["command"] == "leo-lifecycle-dry-run"
        assert "--no-dry-run" not in made["args"]
    exemptions = tmp_path / f"deploy/environments/{name}.exemptions.yaml"
    assert read_exemptions(given.pop("LIFECYCLE_EXEMPTIONS")) == read_exemptions(str(exemptions))
    assert given == {
        "LIFECYCLE_ENVIRONMENT": name,
        "LIFECYCLE_GOOGLE_PROJECT": environment.project,
        "LIFECYCLE_GOOGLE_REGION": environment.region,
        "LIFECYCLE_AUDIT_CLOUD_LOG": environment.audit_log,
        "LIFECYCLE_OUTPUT": "json",
    } | {
        f"LIFECYCLE_{key.upper()}": value if isinstance(value, str) else ",".join(value)
        for key, value in environment.settings.items()
    }
    assert given["LIFECYCLE_PROJECTS"] == "terra-1,terra-2"
    assert parse_duration(timeout) == parse_duration(environment.settings["deadline"]) + timedelta(minutes=2)
    assert read["alerts"] == environment.alerts.model_dump(mode="json")
    assert read["retention"] == environment.retention.model_dump(mode="json")


@needs_terraform
def test_terraform_computes_what_is_counted_alerted_on_and_drawn(tmp_path: Path) -> None:
    """The metrics' names stand in for the metrics, which only a provider can make."""
    laid_out(tmp_path)
    for name in ("metrics", "alerts", "dashboard"):
        text = (TERRAFORM / f"{name}.tf").read_text()
        values = text[text.index("locals {") : text.index("\n}\n", text.index("locals {")) + 3]
        named = re.sub(r"google_logging_metric\.\w+\[([^]]+)\]\.name", r'"leo_lifecycle/${\1}"', values)
        (tmp_path / f"deploy/terraform/{name}.tf").write_text(named)
    asked_for = "[local.alerts_on_a_record, local.alerts_on_a_count, local.tiles, local.live_deletions, local.texts]"
    records, counts, tiles, silence, texts = computed(tmp_path, asked_for, "-var=environment=prod")
    log = 'logName="projects/all-of-us-rw-prod/logs/leo-lifecycle-audit"'
    assert all(log in alert["filter"] for alert in records.values())
    assert {alert["metric"] for alert in counts.values()} <= set(local_values()["counts"])
    assert 'metric.type="logging.googleapis.com/user/leo_lifecycle/runs"' in silence
    assert len({tile["title"] for tile in tiles}) == len(tiles) >= 10
    for tile in tiles:
        assert re.match(r'metric\.type="logging\.googleapis\.com/user/leo_lifecycle/\w+" AND resource', tile["filter"])
        assert all(re.fullmatch(r"metric\.label\.\w+", field) for field in tile["aggregation"]["groupByFields"])
    for alert in sections():
        text, known = texts[alert], {"resource.label.job_name"}
        if alert in records:
            known = {f"log.extracted_label.{label}" for label in records[alert]["labels"]}
        elif alert in counts:
            known = {"metric.label.job"}  # by which it is grouped
        assert text.startswith(f"{alert}\n")
        assert set(re.findall(r"\$\{([^}]*)\}", text)) <= known
        assert re.search(r"\b(ENV|REGION|P|RUN_ID|JOB)\b|\]\(#|\n## ", text) is None
        assert len(text) < MOST_IN_AN_ALERT
    assert "review-audit-log run ${log.extracted_label.run_id} --env prod" in texts["Refused by a guard"]
    assert "--region us-central1 --project all-of-us-rw-prod" in texts["An execution failed"]
