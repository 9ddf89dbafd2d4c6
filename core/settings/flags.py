"""Settings as command-line flags, each with its default and unit; what they are set to is read in `reading`."""

import argparse
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from core.exit_code import ExitCode
from core.settings.durations import format_duration
from core.settings.faults import REPEATED_FLAGS, flag_of
from core.settings.fields import Settings

SCOPE_FLAGS = ("dry_run", "leonardo_url", "sandbox", "projects", "projects_file", "only", "except", "at_most", "as_of")
GUARD_FLAGS = (
    "max_acts",
    "max_act_share",
    "allow_empty",
    "expect_at_least",
    "max_shrink",
    "allow_shrunken",
    "plan",
    "plan_max_age",
)
CONNECTION_FLAGS = (
    "deadline",
    "request_timeout",
    "read_concurrency",
    "write_concurrency",
    "auth",
    "impersonate_service_account",
    "google_project",
    "google_region",
    "google_emulator",
)
REPORT_FLAGS = (
    "environment",
    "started_by",
    "approved_by",
    "audit_file",
    "audit_cloud_log",
    "audit_creator",
    "output",
    "log_level",
)
POLICY = "policy"
GROUPS = {
    "what": ("which runtimes are looked at, and whether anything is done", (*SCOPE_FLAGS, "inventory")),
    POLICY: ("what becomes of each", ()),
    "guards": ("when the whole run must not act", GUARD_FLAGS),
    "connection": ("how Leonardo and Google are asked, and for how long", (*CONNECTION_FLAGS, "notice_url")),
    "output": ("what is said of the run, and where it is kept", REPORT_FLAGS),
}
"""The settings by subject, as help and reference show them; those in no other group are of the policy."""
ENVIRONMENTS = Path("deploy/environments")
METAVARS = {
    "projects": "PROJECT",
    "only": "PROJECT/NAME",
    "except": "PROJECT/NAME",
    "leonardo_url": "URL",
    "notice_url": "URL",
    "as_of": "INSTANT",
    "max_act_share": "SHARE",
    "max_shrink": "SHARE",
    "projects_file": "FILE",
    "inventory": "FILE",
    "plan": "FILE|RUN_ID",
    "exemptions": "FILE",
    "audit_file": "FILE",
    "audit_cloud_log": "LOG",
    "google_emulator": "HOST:PORT",
}


def group_by_subject(names: Iterable[str]) -> dict[str, list[str]]:
    """These settings by the group they belong to, in the order of the groups and of their own members."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in names:
        groups[next((group for group, (_, members) in GROUPS.items() if name in members), POLICY)].append(name)
    return {
        group: sorted(members, key=GROUPS[group][1].index) if GROUPS[group][1] else members
        for group, members in groups.items()
        if members
    }


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """One flag for each named setting, explained with its default and unit, in groups."""
    for group, members in group_by_subject(names).items():
        section = parser.add_argument_group(group, GROUPS[group][0])
        for name in members:
            info = Settings.model_fields[name]
            _add_flag(section, name, f"{info.description} [{default_text(info)}]")


def add_limits(parser: argparse.ArgumentParser, names: Iterable[str], what: str) -> None:
    """A flag for each limit of a policy that is only thought of: what is not given has no default."""
    group = parser.add_argument_group("another policy", what)
    for name in names:
        _add_flag(group, name, f"{Settings.model_fields[name].description}")


def _add_flag(group: argparse._ArgumentGroup, name: str, text: str) -> None:
    info = Settings.model_fields[name]
    how: dict[str, Any] = {
        "action": "append" if name in REPEATED_FLAGS else "store",
        "metavar": METAVARS.get(name, _metavar(info)),
    }
    if info.annotation is bool:
        how = {"action": argparse.BooleanOptionalAction}
    group.add_argument(flag_of(name), dest=name, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **how)


YES, EXIT_CODE = "--yes", "--exit-code"


def add_words_of_acting(parser: argparse.ArgumentParser) -> None:
    """For the jobs that act; no settings, since they change nothing of a run, only what whoever types them meets."""
    parser.add_argument(YES, action="store_true", help="at a terminal, act without a plan and without being asked")
    parser.add_argument(
        EXIT_CODE, action="store_true", help=f"of a dry run: end with {ExitCode.FOUND} where something would be done"
    )


def add_places(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """`--from`, for the jobs that read audit records."""
    parser.add_argument(
        "--from",
        dest="places",
        action="append",
        required=required,
        metavar="FILE|FOLDER|cloud-logging",
        help="audit files of earlier runs, also as a Cloud Logging sink writes or Logs Explorer downloads them, or"
        " Cloud Logging itself, which audit-cloud-log names; the flag repeats",
    )


def add_environment(parser: argparse.ArgumentParser, what: str, *, required: bool = True) -> None:
    """`--env`, for the commands that are about an installation; its file is read by `core.settings.deployment`."""
    parser.add_argument("--env", required=required, metavar="ENV", help=what)
    parser.add_argument(
        "--environments",
        type=Path,
        default=ENVIRONMENTS,
        metavar="FOLDER",
        help=f"where ENV.yaml says what is deployed where [{ENVIRONMENTS}]",
    )


def environment_file(arguments: argparse.Namespace) -> Path:
    """Of the environment that `--env` names."""
    folder: Path = arguments.environments
    return folder / f"{arguments.env}.yaml"


def default_text(info: FieldInfo) -> str:
    match info.default:
        case None | ():
            return "none"
        case bool():
            return "yes" if info.default else "no"
        case timedelta():
            return format_duration(info.default)
        case default:
            return str(default)


def _metavar(info: FieldInfo) -> str:
    if get_origin(info.annotation) is Literal:
        return "|".join(get_args(info.annotation))
    return {timedelta: "DURATION", int: "N"}.get(info.annotation, "TEXT")  # type: ignore[arg-type]
