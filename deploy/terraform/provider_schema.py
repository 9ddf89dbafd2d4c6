"""Writes what the Google provider takes, for the resources used here; whether they are used rightly is tested.

Terraform's own schema needs the provider, a download of 100 MB. The npm package that carries the same schema as types
needs none: `make provider` fetches it, and this reads its jsii assembly (names, types, required or not, the words that
the descriptions allow) and its JavaScript (lists or sets). The package is under the MPL-2.0, and so is what is taken
from it: `provider.schema.LICENSE`, the package's own, stands beside.
"""

import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGE = "@cdktf/provider-google"
Types = dict[str, Any]

FORCES_REPLACEMENT = {
    "google_cloud_run_v2_job": ["location", "name", "project"],
    "google_cloud_run_v2_job_iam_member": ["condition", "location", "member", "name", "project", "role"],
    "google_cloud_scheduler_job": ["name", "project", "region"],
    "google_logging_metric": ["metric_descriptor.labels", "project"],
    "google_logging_project_bucket_config": ["bucket_id", "location", "project"],
    "google_logging_project_sink": ["name", "project"],
    "google_monitoring_alert_policy": ["project"],
    "google_monitoring_dashboard": ["project"],
    "google_project_iam_custom_role": ["project", "role_id"],
    "google_project_iam_member": ["condition", "member", "project", "role"],
    "google_project_service": ["project", "service"],
    "google_service_account": ["account_id", "project"],
    "google_storage_bucket": ["enable_object_retention", "hierarchical_namespace", "location", "name", "project"],
    "google_storage_bucket_iam_member": ["bucket", "condition", "member", "role"],
    "google_storage_bucket_object": ["bucket", "content_type", "metadata", "name", "source", "storage_class"],
}
"""`ForceNew` in the provider's source (hashicorp/terraform-provider-google v6.50.0, MPL-2.0): the package has no word
of it, so that a resource that is new here must be looked up there."""

PATTERNS = {
    "google_cloud_run_v2_job.template.template.timeout": r"[0-9]+(\.[0-9]{1,9})?s",
    "google_cloud_run_v2_job_iam_member.member": r".+:.+|allUsers|allAuthenticatedUsers",
    "google_cloud_scheduler_job.http_target.body": r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
    "google_project_iam_custom_role.role_id": r"[a-zA-Z0-9_.]{3,64}",
    "google_project_iam_member.member": r".+:.+|allUsers|allAuthenticatedUsers",
    "google_project_service.service": r".+\..+",
    "google_service_account.account_id": r"[a-z][-a-z0-9]{4,28}[a-z0-9]",
    "google_storage_bucket_iam_member.member": r".+:.+|allUsers|allAuthenticatedUsers",
}
"""What the same source wants of a whole text beyond its type: its `ValidateFunc`s, by their meaning."""


def schema(package: Path) -> dict[str, Any]:
    """The provider's own block and each resource that a .tf file here names, with the versions they come from."""
    with tarfile.open(package) as archive:
        assembly, manifest = (json.loads(_text(archive, name)) for name in (".jsii", "package.json"))
        (HERE / "provider.schema.LICENSE").write_text(_text(archive, "LICENSE"))
        types = assembly["types"]
        text = "".join(path.read_text() for path in sorted(HERE.glob("*.tf")))
        used = sorted(set(re.findall(r'^resource "(google_\w+)"', text, re.MULTILINE)))
        resources = {resource: _resource(archive, types, resource) for resource in used}
    return {
        "package": f"{PACKAGE} {manifest['version']}",
        "license": manifest["license"],
        "provider": manifest["cdktf"]["provider"]["version"],
        "google": _block(types, "provider.GoogleProviderConfig", set(), "google"),
        "resources": resources,
    }


def _text(archive: tarfile.TarFile, name: str) -> str:
    member = archive.extractfile(f"package/{name}")
    if member is None:
        raise ValueError(f"the package has no {name}")
    return member.read().decode()


def _resource(archive: tarfile.TarFile, types: Types, resource: str) -> dict[str, Any]:
    words = resource.removeprefix("google_").split("_")
    name = "".join(word.capitalize() for word in words)
    path = f"{name[0].lower()}{name[1:]}"
    block = _block(types, f"{path}.{name}Config", _sets(_text(archive, f"lib/{'-'.join(words)}/index.js")), resource)
    for member in types[f"{PACKAGE}.{path}.{name}"]["properties"]:
        attribute, type_ = _snake(member["name"]), _type(member["type"], is_set=False)
        computed = type_ is not None and not member.get("static") and not member["name"].endswith("Input")
        if computed and attribute not in block["attributes"] | block["blocks"] and attribute not in NOT_ITS_OWN:
            block["attributes"][attribute] = {"type": type_, "need": "computed"}
    block["attributes"]["id"] = {"type": "string", "need": "computed"}
    return block | {"forces_replacement": FORCES_REPLACEMENT[resource]}


NOT_ITS_OWN = {"fqn", "friendly_unique_id", "terraform_meta_attributes", "terraform_resource_type", "cdktf_stack"}
"""What a class of the package has beside its resource's attributes."""


def _sets(javascript: str) -> set[str]:
    """Attributes and blocks without an order: `type.name` of blocks, names of attributes."""
    blocks = re.findall(r'new (\w+)List\(this, "\w+", true\)', javascript)
    return {*blocks, *re.findall(r"Fn\.tolist\(this\.getListAttribute\('(\w+)'\)\)", javascript)}


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", name).lower()


def _type(told: dict[str, Any], *, is_set: bool) -> Any:
    """As Terraform writes a type in JSON; None for what is none of its own."""
    if "primitive" in told:
        return {"boolean": "bool"}.get(told["primitive"], told["primitive"])
    if "collection" in told:
        inner = _type(told["collection"]["elementtype"], is_set=False)
        kind = "map" if told["collection"]["kind"] == "map" else "set" if is_set else "list"
        return inner and [kind, inner]
    if "union" in told:
        inner = [_type(one, is_set=is_set) for one in told["union"]["types"]]
        return next((one for one in inner if one), None)
    return {"cdktf.IResolvable": None, "cdktf.StringMap": ["map", "string"]}.get(told["fqn"])


def _block(types: Types, path: str, sets: set[str], where: str) -> dict[str, Any]:
    block: dict[str, Any] = {"attributes": {}, "blocks": {}}
    for member in types[f"{PACKAGE}.{path}"].get("properties", ()):
        text = f"{member['docs'].get('summary', '')} {member['docs'].get('remarks', '')}"
        name = re.findall(r"#(\w+) \w+#", text)[-1]
        required = not member.get("optional", False)
        nested = re.findall(rf'"{re.escape(PACKAGE)}\.([\w.]+)"', json.dumps(member["type"]))
        if nested:
            inner = _block(types, nested[0], sets, f"{where}.{name}")
            many = '"kind": "array"' in json.dumps(member["type"])
            nesting = "single" if name == "timeouts" else "set" if nested[0].split(".")[-1] in sets else "list"
            block["blocks"][name] = {"required": required, "many": many, "nesting": nesting} | inner
        else:
            block["attributes"][name] = _attribute(member["type"], text, name in sets, f"{where}.{name}", required)
    return block


def _attribute(told: dict[str, Any], text: str, is_set: bool, where: str, required: bool) -> dict[str, Any]:  # noqa: FBT001 - facts
    attribute = {"type": _type(told, is_set=is_set), "need": "required" if required else "optional"}
    if values := re.search(r"Possible values: (\[[^]]*\])", text):
        attribute["values"] = json.loads(values[1])
    if where in PATTERNS:
        attribute["pattern"] = PATTERNS[where]
    return attribute


if __name__ == "__main__":
    (HERE / "provider.schema.json").write_text(json.dumps(schema(Path(sys.argv[1])), separators=(",", ":")) + "\n")
