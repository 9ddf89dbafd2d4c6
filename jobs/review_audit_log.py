"""Ask the audit log: what did the runs do, why was a runtime deleted, is the log whole, what is due next.

Questions:
  runs                 one line for each run, and what fails again and again
  run RUN_ID|latest    one run: policy, counts, every act and failure
  why PROJECT/NAME     every decision about a runtime, in plain words
  diff RUN_A RUN_B     what one run condemned and the other did not, and why
  verify [RUN_ID ...]  whether the log is whole and honest; exit code 1 where anything is off
  upcoming             what the latest run says will be deleted, by project and creator
  report [RUN_A RUN_B] all of it on one HTML page that needs no network; two runs side by side: these, or the latest
                       two, if they are dry runs under different policies or as of different instants

Logs are JSON Lines as the jobs write them, or as a Cloud Logging sink does, also compressed (.gz), in any order; or
Cloud Logging itself, at most 55 reads of 1000 records a minute: --env reads the log of an environment.
"""

import argparse
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from core.clock import utc_now
from core.exit_code import ExitCode
from core.records.reader import AuditRecords, Record
from core.records.selection import EVERYTHING, Match, Wanted
from core.review import comparison
from core.review import questions as review
from core.review.sources import CLOUD_LOGGING, cannot_be_read, open_places
from core.review.verify import Verification, verify
from core.screen.diagnostics import reading
from core.screen.standard_output import say
from core.settings.durations import parse_duration
from core.settings.faults import UsageError
from core.settings.flags import add_environment, add_places, environment_file
from core.settings.reading import SILENT, Said, Source, load_google_settings, origins

FLAGS = ("audit_cloud_log", "google_emulator")
WITHIN = "3d"
SINCE = "7d"
ARGUMENTS: dict[str, tuple[Container[int], str]] = {
    "runs": ({0}, "no argument"),
    "run": ({1}, "RUN_ID or latest"),
    "why": ({1}, "PROJECT/NAME"),
    "diff": ({2}, "RUN_A and RUN_B"),
    "verify": (range(sys.maxsize), "any number of RUN_IDs"),
    "upcoming": ({0}, "no argument"),
    "report": ({0, 2}, "RUN_A and RUN_B, or no argument"),
}
"""How many words each question takes, and which."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", choices=list(ARGUMENTS), metavar="QUESTION", help=" | ".join(ARGUMENTS))
    parser.add_argument("words", nargs="*", metavar="RUN_ID|PROJECT/NAME", help="what the question is about")
    add_places(parser, required=False)
    add_environment(parser, "instead of --from: the environment whose log in Cloud Logging is read", required=False)
    parser.add_argument("--since", metavar="DURATION", help=f"of Cloud Logging: how far back it is read [{SINCE}]")
    parser.add_argument("--html", type=Path, metavar="FILE", help="for report: where to write it")
    parser.add_argument("--within", default=WITHIN, metavar="DURATION", help=f"for upcoming: how far ahead [{WITHIN}]")
    parser.add_argument(
        "--output",
        choices=["auto", "json", "table"],
        default="auto",
        help="json, tables, or auto: tables on a terminal [auto]",
    )


def serve(arguments: argparse.Namespace) -> int:
    """Answer one question. Raises UsageError where it cannot be asked, or where nothing is known."""
    if arguments.show_config:
        _show(arguments)
        return ExitCode.DONE
    within = _checked(arguments)
    if arguments.question == "report":
        return _report(arguments)
    draw = _drawing(arguments.output)
    try:
        with reading() as read:
            log = _opened(arguments, read)
            answer = _answer(arguments.question, arguments.words, log, within, utc_now())
    except OSError as error:
        raise UsageError(f"from: {cannot_be_read(error)}") from None
    except review.UnknownError as error:
        raise UsageError(str(error)) from None
    if draw is None:
        say(msgspec.json.encode(answer) + b"\n")
    else:
        draw(answer)
    if isinstance(answer, Verification):
        return ExitCode.DONE if answer.ok else ExitCode.FAILED
    for remark in (*log.torn, *log.faults):
        print(f"{remark.place}: {remark.what}", file=sys.stderr)
    return ExitCode.DONE


def _installed(arguments: argparse.Namespace) -> Source:
    """The log of the environment that is asked about, where one is."""
    if arguments.env is None:
        return SILENT
    from core.settings.deployment import environment_of  # noqa: PLC0415 - 35 ms that files do without

    return {
        "environment": Said("--env", arguments.env),
        "audit_cloud_log": Said(str(environment_file(arguments)), environment_of(arguments).audit_log),
    }


def _show(arguments: argparse.Namespace) -> None:
    from core.settings.shown import shown  # noqa: PLC0415 - an answer shows no settings

    flags, installed = vars(arguments), _installed(arguments)
    settings = load_google_settings(flags, deployed=installed, pins=arguments.pins)
    print(shown(settings, FLAGS, origins(flags, deployed=installed, pins=arguments.pins)), end="")


def _report(arguments: argparse.Namespace) -> int:
    try:
        from core.report.page import write_report  # noqa: PLC0415 - charts take a while to import
    except ImportError as error:
        raise UsageError(f"report: {error.name} is not installed; install leo-lifecycle[report]") from None
    try:
        with reading() as read:
            log = _opened(arguments, read)
            write_report(_some(log), arguments.html, utc_now(), log=log, compared=arguments.words)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise UsageError(f"report: {reason}") from None
    except review.UnknownError as error:
        raise UsageError(str(error)) from None
    print(f"the report is in {arguments.html}")
    return ExitCode.DONE


def _opened(arguments: argparse.Namespace, read: Callable[[int], None]) -> AuditRecords:
    """The records in the places that were named, as far as the question is about them. Raises UsageError."""
    places = arguments.places if arguments.env is None else [CLOUD_LOGGING]
    if arguments.since is not None and CLOUD_LOGGING not in places:
        raise UsageError("--since goes with --env or --from cloud-logging; files are read whole")
    try:
        begin = utc_now() - parse_duration(arguments.since or SINCE)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
    try:
        google = load_google_settings(vars(arguments), deployed=_installed(arguments), pins=arguments.pins)
        source = open_places(places, begin, google, read=read)
    except OSError as error:
        raise UsageError(f"from: {cannot_be_read(error)}") from None
    return AuditRecords(source, partial(_wanted, arguments.question, arguments.words))


def _wanted(question: str, words: list[str], openings: Sequence[Record]) -> Wanted:
    """What of a log the question is about, beside the first records of runs. Raises review.UnknownError."""
    match question:
        case "why":
            return (Match(path=words[0]),)
        case "run" | "verify" if words:
            return (Match(run_ids=tuple(review.run_ids(openings, words))),)
        case "diff":
            ids = review.run_ids(openings, words)
            return (Match(run_ids=tuple(ids)), Match(outcomes=tuple(sorted(review.ACCEPTED))))
        case "upcoming":
            return (Match(run_ids=tuple(review.run_ids(openings, [review.LATEST], is_latest=review.of_the_fleet))),)
        case "runs":  # its closing record counts what a run kept
            return (Match(events=review.SUMMED_UP), Match(severities=("WARNING", "ERROR")))
        case _:
            return EVERYTHING


def _checked(arguments: argparse.Namespace) -> timedelta:
    so_many, what = ARGUMENTS[arguments.question]
    if len(arguments.words) not in so_many:
        raise UsageError(f"{arguments.question} takes {what}")
    if (arguments.places is None) == (arguments.env is None):
        raise UsageError("from: name files or folders, or cloud-logging; or name an environment by --env")
    if (arguments.question == "report") != (arguments.html is not None):
        raise UsageError("--html FILE goes with report, and with nothing else")
    if arguments.question == "why" and not all(arguments.words[0].partition("/")):
        raise UsageError(f"why: {arguments.words[0]!r} is not PROJECT/NAME")
    try:
        return parse_duration(arguments.within)
    except ValueError as error:
        raise UsageError(f"within: {error}") from None


def _drawing(output: str) -> Callable[[object], None] | None:
    """What draws answers for a person; None where a machine reads them."""
    if output == "json" or (output == "auto" and not sys.stdout.isatty()):
        return None
    try:
        from core.screen import answers  # noqa: PLC0415 - rich is for a person only
    except ImportError as error:
        raise UsageError(f"output: {error.name} is not installed; install leo-lifecycle[console]") from None
    return answers.draw


def _answer(question: str, words: list[str], log: AuditRecords, within: timedelta, now: datetime) -> object:
    match question:
        case "runs":
            answer: object = review.runs(_some(log), now)
        case "run":
            answer = review.run(_some(log), words[0], now)
        case "why":
            answer = review.why(_some(log), words[0])
        case "diff":
            answer = comparison.diff(_some(log), words[0], words[1], now)
        case "upcoming":
            answer = review.upcoming(_some(log), within, now)
        case _:
            answer = _verified(words, log, now)
    return answer


def _verified(run_ids: list[str], log: AuditRecords, now: datetime) -> Verification:
    records: Iterable[Record] = _some(log)
    if run_ids:
        _, records = review.of_runs(records, run_ids)
    verdicts = verify(records, now)
    return Verification(
        ok=not log.faults and all(verdict.ok for verdict in verdicts),
        records=log.records,
        repeated=log.repeated,
        foreign=log.foreign,
        runs=verdicts,
        faults=log.faults,
        torn=log.torn,
    )


def _some(log: AuditRecords) -> Iterator[Record]:
    """The records, of which there must be one."""
    yield from log
    if not log.records:
        faults = [f"{fault.place}: {fault.what}" for fault in (*log.torn, *log.faults)]
        raise UsageError(*(faults or ["from: there is no audit record"]))
