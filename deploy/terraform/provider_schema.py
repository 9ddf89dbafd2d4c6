"""Writes what the Google provider takes, for the resources used here; whether they are used rightly is tested.

Terraform's own schema needs the provider, a download of 100 MB. The npm package that carries the same schema as types
needs none: `make provider` fetches it, and this reads its jsii assembly.
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


def schema(package: Path) -> dict[str, Any]:
    """The provider's own block and each resource that a .tf file here names, with the versions they come from."""
    with tarfile.open(package) as archive:
        assembly, manifest = (_member(archive, name) for name in (".jsii", "package.json"))
    types = assembly["types"]
    text = "".join(path.read_text() for path in sorted(HERE.glob("*.tf")))
    used = sorted(set(re.findall(r'^resource "(google_\w+)"', text, re.MULTILINE)))
    return {
        "package": f"{PACKAGE} {manifest['version']}",
        "provider": manifest["cdktf"]["provider"]["version"],
        "google": _block(types, f"{PACKAGE}.provider.GoogleProviderConfig"),
        "resources": {resource: _resource(types, resource) for resource in used},
    }


def _member(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    member = archive.extractfile(f"package/{name}")
    if member is None:
        raise ValueError(f"the package has no {name}")
    return json.loads(member.read())  # type: ignore[no-any-return]


def _resource(types: Types, resource: str) -> dict[str, Any]:
    words = resource.removeprefix("google_").split("_")
    name = "".join(word.capitalize() for word in words)
    path = f"{PACKAGE}.{name[0].lower()}{name[1:]}.{name}"
    readable = {_snake(p["name"]) for p in types[path]["properties"] if not p["name"].endswith("Input")}
    return _block(types, f"{path}Config") | {"readable": sorted(readable)}


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", r"_\1", name).lower()


def _block(types: Types, path: str) -> dict[str, Any]:
    block: dict[str, Any] = {"attributes": {}, "blocks": {}}
    for member in types[path].get("properties", ()):
        text = f"{member['docs'].get('summary', '')} {member['docs'].get('remarks', '')}"
        name = re.findall(r"#(\w+) \w+#", text)[-1]
        required = not member.get("optional", False)
        nested = re.findall(rf'"({re.escape(PACKAGE)}\.[\w.]+)"', json.dumps(member["type"]))
        if nested:
            many = '"kind": "array"' in json.dumps(member["type"])
            block["blocks"][name] = {"required": required, "many": many} | _block(types, nested[0])
        else:
            block["attributes"][name] = required
    return block


if __name__ == "__main__":
    (HERE / "provider.schema.json").write_text(json.dumps(schema(Path(sys.argv[1])), separators=(",", ":")) + "\n")
