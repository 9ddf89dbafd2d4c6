"""The program: finds the job, reads its settings, turns what happens into an exit code."""

import argparse
import atexit
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from core import __version__
from core.exit_code import ExitCode
from core.screen.standard_output import open_standard_streams, tell
from core.settings.faults import PREFIX, UsageError, did_you_mean
from core.settings.pins import FLAG, Pins, drop_variables, take_pins

PROGRAM = "leo-lifecycle"


def _first_line(job: Path) -> str:
    """Of its docstring, read without importing what the job needs."""
    with job.open(encoding="utf-8") as source:
        return source.readline().strip().strip('"')


JOBS = {
    job.stem.replace("_", "-"): _first_line(job)
    for job in sorted(Path(__file__).parent.glob("*.py"))
    if not job.stem.startswith("_")
}
"""Every module beside this one is a job."""
OVERVIEW = (
    f"""\
{PROGRAM} keeps the notebook runtimes of a Leonardo installation young; nothing is changed without --no-dry-run.

  {PROGRAM} JOB ...

jobs:
"""
    + "".join(f"  {name:<20} {what}\n" for name, what in JOBS.items())
    + f"""
examples:
  {PROGRAM} delete-old-runtimes --sandbox   # try it out on a made-up fleet
  {PROGRAM} delete-old-runtimes --help      # settings and examples of a job
  {PROGRAM} --version

Settings are flags, {PREFIX}* variables, or --config FILE. {FLAG} NAME=VALUE before JOB holds one to its value.
"""
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def name_arguments(self) -> None:
        """In the first line of the help, without its many flags."""
        words = [str(action.metavar or action.dest) for action in self._actions if not action.option_strings]
        self.usage = " ".join([self.prog, *words, "[--flag VALUE ...]"])

    def all_flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def require_nothing(self) -> None:
        """For somebody who only wants to see the settings."""
        for action in self._actions:
            action.required = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job."""
    # Until a run takes over, a signal ends the program; without a handler PID 1 would not even notice SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.STOPPED))
    # Hardly a cycle is made here: to look for them takes 15 ms at the start, and 30 at the end, when all is given back.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    if not open_standard_streams():
        print(f"{PROGRAM}: standard output is closed: nothing could be kept or shown", file=sys.stderr)
        return ExitCode.UNRECORDED
    try:
        pins, words = take_pins(sys.argv[1:] if argv is None else argv)
        drop_variables(pins, os.environ)
        return _main(words, pins)
    except UsageError as error:
        for fault in error.faults:
            print(f"{PROGRAM}: {fault}", file=sys.stderr)
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.STOPPED
    except Exception:  # noqa: BLE001 - the one place where a bug becomes an exit code
        traceback.print_exc()
        print(f"{PROGRAM}: this is a bug in the program, please report the lines above", file=sys.stderr)
        return ExitCode.BUG


def main_dry_run() -> int:
    """The command that cannot act: asked to, it is a usage error."""
    return main([FLAG, "dry-run=yes", *sys.argv[1:]])


def _main(argv: Sequence[str], pins: Pins) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        tell(OVERVIEW)
        return 0
    if argv[0] == "--version":
        tell(f"{PROGRAM} {__version__}\n")
        return 0
    if pins:
        from core.settings.reading import check_pins  # noqa: PLC0415 - most commands pin nothing

        check_pins(pins)
    name, *arguments = argv
    job = _job_named(name)
    parser = _Parser(
        prog=f"{PROGRAM} {name}",
        description=job.__doc__,
        epilog=_epilog(job),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_arguments(parser, job)
    parser.name_arguments()
    if "--show-config" in arguments:
        parser.require_nothing()
    parser.set_defaults(
        pins=pins, typed=argv, job_named=_job_named, add_jobs=_add_jobs
    )  # for jobs that are about other jobs
    parsed = _parse(parser, arguments)
    return int(job.serve(parsed)) if hasattr(job, "serve") else _run_job(job, parsed)


def _job_named(name: str) -> ModuleType:
    if name not in JOBS:
        raise UsageError(f"there is no job {name!r}{did_you_mean(name, JOBS) or '; there are ' + ', '.join(JOBS)}")
    return importlib.import_module(f"jobs.{name.replace('-', '_')}")


def _add_arguments(parser: argparse.ArgumentParser, job: ModuleType) -> None:
    if hasattr(job, "add_arguments"):
        job.add_arguments(parser)
    if not hasattr(job, "serve"):
        parser.add_argument(
            "--config", type=Path, metavar="FILE", help="YAML file with settings, below the environment"
        )
    if hasattr(job, "FLAGS"):
        from core.settings.flags import add_flags  # noqa: PLC0415 - jobs without settings do without these 100 ms

        parser.add_argument(
            "--show-config", action="store_true", help="print the settings as a config file with their origins, and end"
        )
        add_flags(parser, job.FLAGS)


def _epilog(job: ModuleType) -> str:
    examples = "\n".join(["examples:", *(f"  {example}" for example in job.EXAMPLES)])
    if not hasattr(job, "FLAGS"):
        return examples
    note = f"Each setting is also a variable ({PREFIX}MAX_AGE=14d) and a key of the config file (max_age: 14d)."
    return f"{note}\n\n{examples}"


def _add_jobs(program: argparse.ArgumentParser) -> None:
    """Every job as a subcommand, for completion; a run imports and parses its own job alone."""
    jobs = program.add_subparsers()
    for name, what in JOBS.items():
        _add_arguments(jobs.add_parser(name, help=what), _job_named(name))


def _run_job(job: ModuleType, parsed: argparse.Namespace) -> int:
    from core.clock import deadline_counts_from, monotonic, utc_now  # noqa: PLC0415 - help does without
    from core.settings.reading import load_settings, origins  # noqa: PLC0415

    began = monotonic()
    flags = {name: value for name, value in vars(parsed).items() if name in job.FLAGS}
    if getattr(parsed, "cases", None) is not None:
        return int(job.judge_cases(flags, parsed))
    settings = load_settings(flags, parsed.config, utc_now(), pins=parsed.pins, shown=parsed.show_config)
    if parsed.show_config:
        from core.settings.shown import show_settings  # noqa: PLC0415 - a run shows nothing

        tell(show_settings(settings, job.FLAGS, origins(flags, parsed.config, pins=parsed.pins)))
        return 0
    with deadline_counts_from(began):
        return int(job.main(settings, parsed))


def _parse(parser: _Parser, arguments: Sequence[str]) -> argparse.Namespace:
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        known = parser.all_flags()
        raise UsageError(
            *(f"{word}: unknown argument{did_you_mean(word, known, prefix='--')}" for word in flags or unknown)
        )
    return parsed


if __name__ == "__main__":
    sys.exit(main())
