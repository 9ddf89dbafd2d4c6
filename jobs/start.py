"""Start a job on Cloud Run from elsewhere, watch it to its end, and show what it shows when it runs here.

A dry run starts JOB-dry-run, which cannot act. With --no-dry-run JOB itself is started: only with --plan, the run id of
a dry run, and only when the environment's name is typed (or given by --yes-i-mean). What no flag says is as it was
deployed. Ctrl-C asks whether to cancel the execution. The exit code is that of the run.
"""

import argparse
import getpass
import socket
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from core.clock import utc_now
from core.exit_code import ExitCode
from core.records.events import Common, Event
from core.run.opening import Nobody, shows_table, watching
from core.screen.columns import View, together
from core.screen.standard_output import say
from core.settings.deployment import Environment, ScheduledJob, deployed_job, environment_of
from core.settings.faults import UsageError, flag_of
from core.settings.fields import Settings
from core.settings.flags import add_environment, environment_file
from core.settings.reading import Source, from_file, load_google_settings, load_settings, origins

if TYPE_CHECKING:
    from core.google.executions import CloudRunJob, State
    from core.google.follow import Following

STARTED = ("delete-old-runtimes", "check-autopause", "confirm-deletions")
PASSED_ON = (
    "dry_run",
    "plan",
    "plan_max_age",
    "projects",
    "only",
    "max_age",
    "max_age_if_idle",
    "idle_after",
    "spare_possibly_busy",
    "stop_overdue",
    "autopause_max_threshold",
    "autopause_margin",
    "kernel_busy_limit",
    "stuck_after",
    "as_of",
    "max_acts",
    "max_act_share",
    "allow_empty",
    "expect_at_least",
    "read_concurrency",
    "write_concurrency",
    "started_by",
    "approved_by",
)
"""What may be said anew for one execution; where it runs and whom it talks to may not."""
FLAGS = (*PASSED_ON, "google_emulator")
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far our clock may be ahead of the one that dates the records."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="|".join(STARTED), help="what is started")
    add_environment(parser, "the environment whose job is started")
    parser.add_argument("--yes-i-mean", metavar="ENV", help="for a live run: the environment once more, not asked for")
    parser.add_argument(
        "--output",
        choices=["auto", "json", "table"],
        default="auto",
        help="the run's records, a table, or auto: a table on a terminal [auto]",
    )


def serve(arguments: argparse.Namespace) -> int:
    """Raises UsageError where nothing was started, or where Google does not say what became of it."""
    typed = {name: value for name, value in vars(arguments).items() if name in PASSED_ON}
    if arguments.env is None:
        raise UsageError("--env: the settings of which environment?")
    environment = environment_of(arguments)
    live = typed.get("dry_run") is False
    given = {**typed, "dry_run": not live}
    given.setdefault("started_by", _somebody())
    if live:
        given.setdefault("approved_by", given["started_by"])
    installed = _installed(environment, environment_file(arguments))
    settings = load_settings(given, None, utc_now(), deployed=installed)
    if arguments.show_config:
        _show(settings, installed, arguments)
        return ExitCode.DONE
    deployed = deployed_job(arguments.job, environment.name)
    view = _view(arguments, typed)
    del given["dry_run"]
    if live:
        _approve(arguments, given)
    emulator = load_google_settings(vars(arguments)).google_emulator
    try:
        return _start(arguments, environment, deployed, view, given, live=live, emulator=emulator)
    except OSError as error:
        raise UsageError(str(error)) from None


def _installed(environment: Environment, file: Path) -> Source:
    """What the jobs of the environment are told as they are deployed, for which its file speaks."""
    derived = {
        "environment": environment.name,
        "google_project": environment.project,
        "google_region": environment.region,
        "audit_cloud_log": environment.audit_log,
    }
    return from_file(file, {**environment.settings, **derived})


def _show(settings: Settings, installed: Source, arguments: argparse.Namespace) -> None:
    from core.settings.shown import shown  # noqa: PLC0415 - a start shows no settings

    typed = vars(arguments)
    origin = origins(typed, deployed=installed)
    google = load_google_settings(typed)
    print(shown(settings, PASSED_ON, origin) + shown(google, ("google_emulator",), origin), end="")


def _view(arguments: argparse.Namespace, given: dict[str, Any]) -> View:
    """How the job shows itself, once it is one that can be started so."""
    job = arguments.job_named(arguments.job)
    foreign = [name for name in given if name not in job.FLAGS]
    if foreign:
        raise UsageError(*(f"{flag_of(name)}: {arguments.job} has no such setting" for name in foreign))
    view: View = job.VIEW
    return view


def _approve(arguments: argparse.Namespace, given: dict[str, Any]) -> None:
    """Raises UsageError where a live run is not meant."""
    if "plan" not in given:
        raise UsageError("plan: by hand a live run is started only with --plan RUN_ID, the run id of a dry run")
    typed = arguments.yes_i_mean
    if typed is None and sys.stdin.isatty():
        typed = input(f"A live run of {arguments.job}. Type the environment's name to go on: ")
    if typed != arguments.env:
        raise UsageError(f"not started: type the environment's name, or give --yes-i-mean {arguments.env}")


def _start(
    arguments: argparse.Namespace,
    environment: Environment,
    deployed: ScheduledJob,
    view: View,
    given: dict[str, Any],
    *,
    live: bool,
    emulator: str | None,
) -> int:
    from core.google.executions import CloudRunJob  # noqa: PLC0415
    from core.google.follow import Following  # noqa: PLC0415
    from core.google.log_entries import CloudLogEntries  # noqa: PLC0415 - a second that usage errors do without

    name = deployed.job if live else deployed.rehearsal
    job = CloudRunJob(environment.project, environment.region, name, emulator=emulator)
    begun = utc_now() - CLOCKS_DIFFER
    log = CloudLogEntries(environment.audit_log, begun, emulator=emulator)
    usual = [word for word in job.arguments() if word != "--no-dry-run"]
    words = [*usual, *(["--no-dry-run"] if live else []), *_as_typed(given)]
    execution = job.start(words)
    _say(f"started {execution} in {arguments.env}; its records: {environment.audit_log}")
    as_table = shows_table(arguments.output)
    with watching(view, [environment.audit_log]) if as_table else nullcontext(Nobody()) as watcher:

        def seen(event: Event, common: Common) -> None:
            watcher.seen(event)
            if not as_table:
                say(b"%b,%b\n" % (msgspec.json.encode(event)[:-1], msgspec.json.encode(common)[1:]))

        following = Following(job, execution, log, begun, seen)
        state = _to_the_end(job, execution, following, arguments.env)
    return ExitCode.STOPPED if state is None else _exit_code(job, execution, following, state)


def _as_typed(given: dict[str, Any]) -> list[str]:
    """Flags with their values, as one would type them."""
    words = []
    for name, value in given.items():
        flag = flag_of(name)
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        else:
            words += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return words


def _to_the_end(job: "CloudRunJob", execution: str, following: "Following", env: str) -> "State | None":
    """None where somebody does not want to watch any more and lets it run."""
    while True:
        try:
            return following.to_the_end()
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                _say(f"{execution} goes on; nobody watches it any more")
                return None
            if input(f"\nCancel {execution}? What it has not begun it will not do. [y/N] ").lower() != "y":
                _say(f"{execution} goes on: leo-lifecycle review-audit-log run {execution} --env {env}")
                return None
            job.cancel(execution)


def _exit_code(job: "CloudRunJob", execution: str, following: "Following", state: "State") -> int:
    """That of the run, by its closing records; where one is missing, by what Cloud Run says of the tasks."""
    if len(following.finished) >= state.tasks:
        return together(following.finished).exit_code
    codes = job.exit_codes(execution)
    _say(f"{execution} has ended ({state.verdict}), not all of its closing records came; see {state.log_uri}")
    return max((ExitCode.STOPPED if code is None else code for code in codes), default=0) or ExitCode.FAILED


def _somebody() -> str:
    """Who sits here, as far as the machine knows; Google's own audit log knows better."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


def _say(line: str) -> None:
    print(f"leo-lifecycle: {line}", file=sys.stderr)
