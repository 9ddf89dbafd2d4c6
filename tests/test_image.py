"""The build steps run as they stand there; the image itself is built and run where there is an engine (make image)."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_string
from importlib.metadata import version
from pathlib import Path

import pytest

from core import __version__
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from tests.conftest import Ended, a_machine, delete, paths

ROOT = Path(__file__).parents[1]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "deploy/Dockerfile").read_text())
BUILD, FINAL = re.split(r"(?m)^FROM .*\n", DOCKERFILE)[1:]
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}
"""As in the image: what is not compiled stays so, and shows."""
MOST_BYTES = 160 * 2**20
"""Of the image; 138 MB are in it."""
UNREACHABLE = re.compile(r"NewConnectionError|NameResolutionError|ProxyError|ConnectTimeout|Network is unreachable")


def steps(stage: str, word: str) -> list[str]:
    return re.findall(rf"(?m)^{word} (.+)$", stage)


def lay_out(context: Path) -> None:
    """What .dockerignore lets into the build."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    left_out = {line.rpartition("/")[2] for line in lines[1:] if not line.startswith("!")}
    for path in (line[1:] for line in lines if line.startswith("!")):
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, context / path, ignore=shutil.ignore_patterns(*left_out))
        else:
            shutil.copy(ROOT / path, context / path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the build stage leaves behind, in another place than the image's."""
    there = tmp_path_factory.mktemp("image")
    context, prefix = there / "build", there / "leo-lifecycle"
    lay_out(context)
    subprocess.run([sys.executable, "-m", "venv", there / "base"], check=True)
    environment = {
        "PATH": f"{there / 'base/bin'}:/usr/bin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "BUILD_IMAGE": "build@sha256:0",
        "RUNTIME_IMAGE": "runtime@sha256:0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    for step in steps(BUILD, "RUN"):
        command = step.replace("/opt/leo-lifecycle", str(prefix))
        ran = subprocess.run(
            ["/bin/sh", "-c", command], cwd=context, env=environment, capture_output=True, text=True, check=False
        )
        if UNREACHABLE.search(ran.stderr):
            pytest.skip("the package index cannot be reached")
        assert ran.returncode == 0, f"{step}\n{ran.stderr}"
    yield prefix
    shutil.rmtree(there)


def run_from(prefix: Path, command: str, *arguments: str) -> Ended:
    command = str(prefix / "bin" / command)
    ran = subprocess.run(
        [command, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    return Ended(ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.chaos
def test_the_program_runs_from_what_is_installed_and_from_nothing_else(installed: Path) -> None:
    told = run_from(installed, "leo-lifecycle", "--version")
    assert (told.code, told.out) == (0, f"leo-lifecycle {version('leo-lifecycle')}\n")
    with serving(Leonardo([a_machine(1), a_machine(2, days=1)])) as server:
        rehearsed = run_from(installed, "leo-lifecycle-dry-run", *delete(server))
        live = run_from(installed, "leo-lifecycle", *delete(server, "--no-dry-run"))
    assert [rehearsed.outcome(path)[2] for path in paths(1, 2)] == ["would_delete", "kept"]
    assert [live.outcome(path)[2] for path in paths(1, 2)] == ["deletion_accepted", "kept"]
    for google in ("google.cloud.run_v2", "google.cloud.logging", "google.auth.transport.requests"):
        assert run_from(installed, "python", "-c", f"import {google}").code == 0


@pytest.mark.chaos
def test_it_carries_its_licence_and_its_version(installed: Path) -> None:
    (metadata,) = installed.glob("lib/python3.*/site-packages/leo_lifecycle-*.dist-info")
    assert metadata.name == f"leo_lifecycle-{__version__}.dist-info"
    told = message_from_string((metadata / "METADATA").read_text())
    assert (told["Version"], told["License-Expression"]) == (__version__, "BSD-3-Clause")
    assert (metadata / "licenses/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.chaos
def test_neither_sandbox_nor_tools_are_in_it_and_everything_is_compiled(installed: Path) -> None:
    (packages,) = installed.glob("lib/python3.*/site-packages")
    there = {path.name.lower() for path in packages.iterdir()}
    assert {"core", "jobs", "google", "msgspec"} <= there
    tools = {"pip", "setuptools", "hatchling", "shtab", "pytest", "tests"}
    assert there & {*tools, "rich", "jinja2", "matplotlib", "starlette", "uvicorn"} == set()
    assert not (packages / "core/sandbox").exists()
    assert {path.name for path in (installed / "bin").iterdir() if "python" not in path.name} == {
        "leo-lifecycle",
        "leo-lifecycle-dry-run",
    }
    assert [path for path in packages.rglob("test*") if path.is_dir() and path.name in ("test", "tests")] == []
    assert all((packages / package / "py.typed").exists() for package in ("core", "jobs"))
    assert "PYTHONDONTWRITEBYTECODE=1" in FINAL
    for package in ("core", "jobs", "httpx", "google/cloud/run_v2"):
        for module in (packages / package).rglob("*.py"):
            assert list((module.parent / "__pycache__").glob(f"{module.stem}.*.pyc")), module
    told = run_from(installed, "leo-lifecycle", "delete-old-runtimes", "--sandbox")
    assert (told.code, told.out) == (2, "")
    assert "sandbox: core.sandbox is not installed" in told.err


def test_a_base_without_a_digest_is_refused() -> None:
    step = steps(BUILD, "RUN")[0]
    for build, runtime, code in (("a", "b@sha256:0", 1), ("a@sha256:0", "b", 1), ("a@sha256:0", "b@sha256:0", 0)):
        given = {"BUILD_IMAGE": build, "RUNTIME_IMAGE": runtime}
        assert subprocess.run(["/bin/sh", "-c", step], env=given, capture_output=True, check=False).returncode == code


def test_the_final_stage_runs_as_nobody_in_particular_and_takes_cloud_runs_arguments() -> None:
    assert re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) == ["${BUILD_IMAGE}", "${RUNTIME_IMAGE}"]
    assert set(re.findall(r"(?m)^ARG \w+_IMAGE(.*)$", DOCKERFILE)) == {""}, "no digest is known here"
    assert not steps(FINAL, "RUN"), "there is no shell"
    (user,) = steps(FINAL, "USER")
    assert user.split(":")[0] not in ("", "0", "root")
    assert steps(FINAL, "ENTRYPOINT") == ['["leo-lifecycle"]']
    (label,) = steps(FINAL, "LABEL")
    labels = dict(item.split("=", 1) for item in shlex.split(label))
    assert (labels["org.opencontainers.image.version"], labels["org.opencontainers.image.revision"]) == (
        "$VERSION",
        "$REVISION",
    )
    assert steps(FINAL, "COPY") == ["--from=build /opt/leo-lifecycle /opt/leo-lifecycle"]


def test_the_image_holds_what_the_tests_ran_on_and_no_address() -> None:
    def versions(name: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text()))

    tested = versions("tests/constraints.txt")
    for name in ("deploy/constraints.txt", "deploy/build.constraints.txt"):
        assert versions(name).items() <= tested.items(), "run: make constraints"
        assert not re.search(r"https?://|index-url|find-links", (ROOT / name).read_text())


TOOLS = ("buildah", "mmdebstrap", "unshare")
engine = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs root, {', '.join(TOOLS)}"
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root file system of the image, built by its script from nothing but packages, and mounted to be read only."""
    home = tmp_path_factory.mktemp("engine")
    storage = {"driver": "vfs", "graphroot": str(home / "images"), "runroot": str(home / "run")}
    (home / "storage.conf").write_text(
        "[storage]\n" + "".join(f'{key} = "{value}"\n' for key, value in storage.items())
    )
    environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(home / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}

    def done(*command: str | Path) -> str:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return ran.stdout.strip()

    done(ROOT / "deploy/build_image.sh", "localhost/leo-lifecycle:tested")
    root = Path(done("buildah", "mount", done("buildah", "from", "--pull=never", "localhost/leo-lifecycle:tested")))
    done("mount", "--bind", root, root)
    done("mount", "-o", "remount,bind,ro", root)
    yield root
    done("umount", root)
    shutil.rmtree(home)


def as_pid_1(image: Path, *command: str) -> "subprocess.Popen[str]":
    """As Cloud Run starts it: the first process, nobody in particular, on a file system that it cannot write."""
    user = ("--setuid", "10001", "--setgid", "10001")
    return subprocess.Popen(
        ["unshare", "--fork", "--pid", f"--root={image}", *user, *command],  # noqa: S607 - wherever it is installed
        env={"PATH": "/opt/leo-lifecycle/bin:/usr/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@engine
@pytest.mark.chaos
def test_the_program_is_the_first_process_of_its_image_and_obeys_sigterm(image: Path) -> None:
    program = ("/opt/leo-lifecycle/bin/python", "-I", "-m", "jobs")
    for words, code in ((("--version",), 0), (("delete-old-runtimes",), 2)):
        process = as_pid_1(image, *program, *words)
        process.communicate(timeout=60)
        assert process.returncode == code
    with serving(Leonardo([]), faults=[Fault(call="list", hang=True)]) as server:
        process = as_pid_1(image, *program, *delete(server, "--no-dry-run"))
        assert process.stdout is not None
        opening = process.stdout.readline()
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        rest, err = process.communicate(timeout=60)
    ended = Ended(process.returncode, opening + rest, err)
    assert (ended.code, ended.finished["exit_code"]) == (5, 5)


@engine
@pytest.mark.chaos
def test_the_image_holds_an_interpreter_and_the_program_and_nothing_to_go_on_with(image: Path) -> None:
    commands = {path.name for folder in ("bin", "sbin", "usr/bin", "usr/sbin") for path in (image / folder).glob("*")}
    assert commands == {"python3", "python3.11"}
    assert not list(image.rglob("dpkg*"))
    modules = (image / "usr/lib/python3.11").rglob("*.py")
    assert all(list((module.parent / "__pycache__").glob(f"{module.stem}.*.pyc")) for module in modules)
    size = sum(path.lstat().st_size for path in image.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < MOST_BYTES
