"""The real Terraform in a copy of the files that it reads, beside a provider that stands in for Google's."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.terraform_provider import Cloud, serving_provider

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "deploy/terraform/provider.schema.json").read_text())
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "deploy/environments").glob("*.yaml") if "." not in path.stem)
DEPLOYED = [name for name in ENVIRONMENTS if name != "local"]
"""In local nothing is scheduled."""
PROD = "deploy/environments/prod.yaml"
CHANNEL = "projects/all-of-us-rw-prod/notificationChannels/12"
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


@dataclass
class Tree:
    """A copy of the files that Terraform reads, and what it has made of them."""

    root: Path
    variables: dict[str, str]
    cloud: Cloud

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["terraform", *words],  # noqa: S607 - wherever it is installed
            cwd=self.root / "deploy/terraform",
            env=os.environ | self.variables | {"GOGC": "400"},  # it does not live long enough to look for garbage
            capture_output=True,
            text=True,
            check=False,
        )

    def edit(self, path: str, was: str, becomes: str) -> None:
        text = (self.root / path).read_text()
        assert was in text, f"{path} no longer says {was}"
        (self.root / path).write_text(text.replace(was, becomes, 1))

    def plan(self, environment: str, *how: str) -> "subprocess.CompletedProcess[str]":
        return self.run("plan", "-no-color", "-input=false", f"-var=environment={environment}", "-out=plan", *how)

    def apply(self) -> None:
        ran = self.run("apply", "-no-color", "-input=false", "plan")
        assert ran.returncode == 0, ran.stderr

    def planned(self, environment: str) -> dict[str, Any]:
        """The plan as Terraform tells it to programs."""
        ran = self.plan(environment)
        assert ran.returncode == 0, ran.stderr
        told: dict[str, Any] = json.loads(self.run("show", "-json", "plan").stdout)
        return told

    def changes(self, environment: str) -> set[tuple[str, str]]:
        """Each type of resource that would not stay as it is, with what would be done, as a plan says by the way."""
        ran = self.plan(environment, "-json")
        assert ran.returncode == 0, ran.stdout
        told = map(json.loads, ran.stdout.splitlines())
        changes = [line["change"] for line in told if line["type"] == "planned_change"]
        return {
            (change["resource"]["resource_type"], change["action"])
            for change in changes
            if change["action"] not in ("noop", "read")
        }


def lay_out(root: Path) -> None:
    """What Terraform reads, with a state on this machine, and somebody whom prod's alerts call."""
    for folder in ("deploy/environments", "deploy/terraform"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    for path in ("cron.yaml", "deploy/RUNBOOK.md"):
        shutil.copy(ROOT / path, root / path)
    prod = root / PROD
    prod.write_text(prod.read_text().replace("channels: []", f"channels: [{CHANNEL}]"))
    (root / "deploy/terraform/backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')


@contextmanager
def copied(from_: Path, root: Path) -> Iterator[Tree]:
    shutil.copytree(from_, root, dirs_exist_ok=True)
    cloud = Cloud(SCHEMA)
    with serving_provider(cloud) as variables:
        yield Tree(root, variables, cloud)


def initialised(root: Path) -> Path:
    """The files, in a folder of their own, once `terraform init` is done with them."""
    lay_out(root / "written")
    with copied(root / "written", root / "new") as made:
        assert made.run("init", "-input=false").returncode == 0
    return root / "new"
