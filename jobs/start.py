"""Start a job on Cloud Run from elsewhere, and watch it to its end.

A dry run starts JOB-dry-run, which cannot act. With --no-dry-run JOB itself is started, but only when the environment's
name is typed or given by --yes-i-mean, and, where JOB takes a plan, only with --plan, the run id of a dry run
(notify-owners takes none: it tells each owner once). Settings that no flag names stay as they were deployed. What is
shown, and the exit code, are those of the run; Ctrl-C asks whether to cancel it.
"""

import argparse
import getpass
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from core.clock import utc_now
from core.exit_code import IN_WORDS, ExitCode
from core.records.events import Common, Event
from core.rules.decision import CLOCK_TOLERANCE
from core.rules.words import counted
from core.run.opening import shows_table, watching
from core.run.prepare import find_plan
from core.run.running import Nobody
from core.screen.columns import together
from core.screen.standard_output import say, tell
from core.settings.deployment import Environment, ScheduledJob, deployed_job, environment_of
from core.settings.faults import UsageError, flag_of
from core.settings.fields import Settings
from core.settings.flags import add_environment, environment_file
from core.settings.pins import FLAG, Pins
from core.settings.reading import Source, from_file, load_settings, origins

if TYPE_CHECKING:
    from core.google.executions import CloudRunJob, State
    from core.google.follow import Following

EXAMPLES = (
    "leo-lifecycle start delete-old-runtimes --env prod --project terra-12   # the rehearsal, which cannot act",
    "leo-lifecycle start delete-old-runtimes --env prod --no-dry-run --plan RUN_ID   # asks for the name once more",
    "leo-lifecycle start delete-old-runtimes --env prod --show-config   # with which settings it would run",
)
STARTED = tuple(
    job.stem.replace("_", "-")
    for job in sorted(Path(__file__).parent.glob("[a-z]*.py"))
    if "\ndef main(" in job.read_text(encoding="utf-8")
)
"""Every job that is a run: a command has `serve` instead of `main`."""
NOT_PASSED_ON = (
    *("environment", "leonardo_url", "notice_url", "sandbox", "auth", "impersonate_service_account"),
    *("google_project", "google_region", "google_emulator"),
    *("projects_file", "inventory", "exemptions"),
    *("deadline", "request_timeout"),
    *("audit_file", "audit_cloud_log", "audit_creator", "output", "log_level"),
)
"""Where an execution runs, whom it talks to, what it keeps and what holds for all is as it was deployed."""
PASSED_ON = tuple(name for name in Settings.model_fields if name not in NOT_PASSED_ON)
"""What may be said anew for one execution."""
FLAGS = (*PASSED_ON, "google_emulator")
SHOWN = (*FLAGS, "projects_file", "exemptions")
PLAN = "plan"


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
    if arguments.env is None:
        raise UsageError("--env: the settings of which environment?")
    environment = environment_of(arguments)
    installed = _read_deployed(environment, environment_file(arguments))
    given = _collect_flags(arguments)
    settings = load_settings(
        given, None, utc_now(), deployed=installed, pins=arguments.pins, shown=arguments.show_config
    )
    if arguments.show_config:
        from core.settings.shown import show_settings  # noqa: PLC0415 - a start shows no settings

        tell(show_settings(settings, SHOWN, origins(given, deployed=installed, pins=arguments.pins)))
        return ExitCode.DONE
    _require_passable(arguments.pins, installed)
    deployed = deployed_job(arguments.job, environment.name)
    job = _job(arguments)
    if not settings.dry_run:
        _approve(arguments, settings, job)
    try:
        words = _write_words({name: value for name, value in given.items() if name in job.FLAGS}, settings)
        return _start(arguments, environment, deployed, job, words, settings)
    except OSError as error:
        raise UsageError(str(error)) from None


def _collect_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """What this start says of settings. Pins are flags here: the execution cannot know of them."""
    held = {pin.name: pin.text for pin in arguments.pins}
    pinned = {name: text for name, text in held.items() if text and name in FLAGS}
    given = pinned | {name: value for name, value in vars(arguments).items() if name in FLAGS}
    for name, value in (("dry_run", True), ("started_by", _somebody())):
        if name not in held:
            given.setdefault(name, value)
    if given.get("dry_run") is False and "approved_by" not in held:
        given.setdefault("approved_by", given.get("started_by"))
    return given


def _require_passable(pins: Pins, installed: Source) -> None:
    """Raises UsageError where a pin is of a setting that neither this start nor the environment's file says."""
    lost = [pin.name for pin in pins if pin.text and pin.name not in (*FLAGS, *installed)]
    if lost:
        raise UsageError(*(f"{FLAG} {name.replace('_', '-')}: a start cannot hold an execution to it" for name in lost))


def _read_deployed(environment: Environment, file: Path) -> Source:
    """What the jobs of the environment are told as they are deployed, for which its file speaks."""
    derived = {
        "environment": environment.name,
        "google_project": environment.project,
        "google_region": environment.region,
        "audit_cloud_log": environment.audit_log,
    }
    if environment.projects_file is not None:
        derived["projects_file"] = str(environment.projects_file)
    return from_file(file, {**environment.settings, **derived})


def _job(arguments: argparse.Namespace) -> Any:
    """The job, once it is one that can be started so. Raises UsageError."""
    job = arguments.job_named(arguments.job)
    foreign = [name for name in vars(arguments) if name in PASSED_ON and name not in job.FLAGS]
    if foreign:
        raise UsageError(*(f"{flag_of(name)}: {arguments.job} has no such setting" for name in foreign))
    return job


def _approve(arguments: argparse.Namespace, settings: Settings, job: Any) -> None:
    """Show what is to be done, and have it confirmed. Raises UsageError where it is not meant, or cannot be."""
    if PLAN in job.FLAGS and settings.plan is None:
        raise UsageError("plan: by hand a live run is started only with --plan RUN_ID, the run id of a dry run")
    meant = arguments.yes_i_mean
    if meant != arguments.env and not (meant is None and sys.stdin.isatty()):
        raise UsageError(f"not started: type the environment's name, or give --yes-i-mean {arguments.env}")
    _say(job.__doc__.partition("\n")[0] if settings.plan is None else _read_plan(settings.plan, arguments, settings))
    if meant is None:
        meant = input(f"A live run of {arguments.job}. Type the environment's name to go on: ")
    if meant != arguments.env:
        raise UsageError(f"not started: {meant!r} was typed, not {arguments.env}")


def _read_plan(place: str, arguments: argparse.Namespace, settings: Settings) -> str:
    """What it says is to be done. Raises UsageError where it cannot be used."""
    now = utc_now()
    plan = find_plan(place, settings, now)
    refusals = plan.refusals(
        job=arguments.job,
        environment=arguments.env,
        policy_digest=plan.policy_digest,  # by which policy the run goes it says itself
        terms=plan.terms,
        now=now,
        max_age=settings.plan_max_age,
    )
    if faults := [refusal.detail for refusal in refusals]:
        raise UsageError(*faults)
    return plan.in_words(now)


def _start(
    arguments: argparse.Namespace,
    environment: Environment,
    deployed: ScheduledJob,
    started: Any,
    words: list[str],
    settings: Settings,
) -> int:
    from core.google.executions import CloudRunJob  # noqa: PLC0415
    from core.google.follow import Following  # noqa: PLC0415
    from core.google.log_entries import CloudLogEntries  # noqa: PLC0415 - a second that usage errors do without

    name = deployed.rehearsal if settings.dry_run else deployed.job
    emulator = settings.google_emulator
    job = CloudRunJob(environment.project, environment.region, name, emulator=emulator)
    begun = utc_now() - CLOCK_TOLERANCE  # Google dates the records
    log = CloudLogEntries(environment.audit_log, begun, emulator=emulator)
    usual = [word for word in job.arguments() if word != "--no-dry-run"]
    execution = job.start([*usual, *words])
    _say(f"started {execution} in {arguments.env}; its records: {environment.audit_log}")
    as_table = shows_table(arguments.output)
    with watching(started.VIEW, [environment.audit_log]) if as_table else nullcontext(Nobody()) as watcher:

        def seen(event: Event, common: Common) -> None:
            watcher.seen(event)
            if not as_table:
                say(b"%b,%b\n" % (msgspec.json.encode(event)[:-1], msgspec.json.encode(common)[1:]))

        following = Following(job, execution, log, begun, seen)
        state = _to_the_end(job, execution, following, arguments.env)
    if state is None:
        return ExitCode.STOPPED
    code = _exit_code(job, execution, following, state, arguments.env)
    applies = settings.dry_run and code == 0 and "dry_run" in started.FLAGS
    applied = f"; to apply it: {_live_command(arguments, started, execution)}" if applies else ""
    _say(f"{execution} has ended with exit code {code} ({IN_WORDS[code]}){applied}")
    return code


def _live_command(arguments: argparse.Namespace, job: Any, plan: str) -> str:
    held = f" --plan {plan}" if PLAN in job.FLAGS else ""
    return f"leo-lifecycle start {arguments.job} --env {arguments.env} --no-dry-run{held}"


def _write_words(given: dict[str, Any], settings: Settings) -> list[str]:
    """Flags with their values, as one would type them; a dry run is what the rehearsal is anyway."""
    words = [] if settings.dry_run else ["--no-dry-run"]
    for name, value in given.items():
        flag, parsed = flag_of(name), getattr(settings, name)
        if name == "dry_run" or name not in PASSED_ON:
            continue
        if isinstance(parsed, bool):
            words.append(flag if parsed else f"--no-{flag.removeprefix('--')}")
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


def _exit_code(job: "CloudRunJob", execution: str, following: "Following", state: "State", env: str) -> int:
    """That of the run, by its closing records; where one is missing, by what Cloud Run says of the tasks.

    Never 0 where not every record has come: what was shown is not all that the run has decided.
    """
    if len(following.finished) >= state.tasks:
        code = together(following.finished).exit_code
        if not following.missing:
            return code
        _say(
            f"INCOMPLETE: {counted(following.missing, 'record')} of {execution} did not become visible, and what is"
            f" shown lacks them: leo-lifecycle review-audit-log run {execution} --env {env}"
        )
        return code or ExitCode.FAILED
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
