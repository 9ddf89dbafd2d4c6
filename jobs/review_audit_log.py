"""Ask the audit log what was decided, why, and whether the log is whole.

Questions:
  runs                 one line for each run, what fails again and again, what was deleted in which month and whose
  run RUN_ID|latest    one run: policy, counts, every act and failure
  why WHOM             every decision in plain words about a runtime, named PROJECT/NAME or by its id, about those of a
                       glob (terra-12/*), or about those of a creator, named by e-mail
  diff RUN_A RUN_B     what one run condemned and the other did not, and why
  verify [RUN_ID ...]  whether the log is whole and honest; exit code 1 where anything is off
  upcoming             what will be deleted by the latest sweep, if nobody uses it or whatever anybody does, by creator
  promise              whether every runtime has its maximum age: since when not, what breaks it and what to do, when
                       those made before an instant are gone (--made-before), and which exemption spares whom
  simulate             what another policy would have done over the months on record, to whom, and who would have come
                       back: --max-age 10d --max-age-if-idle 5d; what is not given stays as each run had it
  disks                the disks that the newest check-disks found attached to no runtime, by project and creator
  report [RUN_A RUN_B] all of it on one HTML page that needs no network; two runs side by side: these, or the latest
                       two, if they are dry runs under different policies or as of different instants; with --max-age
                       and the like another policy beside the one in force, as simulate has it

Logs are what the jobs write, a Cloud Logging sink does or Logs Explorer downloads, also rotated or compressed, in any
order; or Cloud Logging itself, at most 55 reads of 1000 records a minute: --env alone reads the log of an environment.
--since, --until, --creator, --project and --outcome narrow a question, and it is said that they did.
What cannot be read of a log is said, and makes the exit code 1, or 2 where nothing is known.
"""

import argparse
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from core.clock import utc_now
from core.exit_code import ExitCode
from core.records import digest
from core.records.outcome import CONFIRMATIONS, LEAVING, OUTCOMES, Outcome
from core.records.reader import AuditRecords, Record
from core.records.selection import EVERYTHING, Match, Only, Wanted
from core.review import comparison
from core.review import questions as review
from core.review.about import About, NobodyError, about_whom
from core.review.disks import disks
from core.review.fleet import fleet_of
from core.review.promise import Promised, newest_sweep, promise
from core.review.simulation import Simulation, simulate
from core.review.sources import CLOUD_LOGGING, cannot_be_read, not_read, open_places, passed_over, some, unnamed
from core.review.upcoming import upcoming
from core.review.which import LATEST, NotThereError, UnknownError, latest, of_runs, run_ids, still_going
from core.rules.deletion import DeletionPolicy
from core.rules.disks import DiskPolicy
from core.rules.exemptions import Exemption
from core.rules.policy import EXEMPTIONS
from core.screen.diagnostics import reading
from core.screen.standard_output import say, tell
from core.settings.durations import parse_duration, parse_instant
from core.settings.exemptions import read_exemptions
from core.settings.faults import UsageError, did_you_mean, flag_of, not_installed
from core.settings.flags import add_environment, add_limits, add_places, environment_file
from core.settings.reading import SILENT, Said, Source, load_google_settings, origins
from core.verify import verify
from core.verify.chain import expected_digest_findings
from core.verify.verdict import Verification

EXAMPLES = (
    "leo-lifecycle review-audit-log run latest --from audit/   # policy, counts, every act and failure",
    "leo-lifecycle review-audit-log why terra-12/all-of-us-7 --env prod   # out of Cloud Logging",
    "leo-lifecycle review-audit-log report --html report.html --from audit/   # on one page",
)
FLAGS = ("audit_cloud_log", "google_emulator")
WITHIN = "3d"
REPORT = Path("report.html")
SINCE = "7d"
POLICY = (*DeletionPolicy.limits(), EXEMPTIONS)
"""What `simulate` and `report` may be told of another policy."""
ARGUMENTS: dict[str, tuple[Container[int], str]] = {
    "runs": ({0}, "no argument"),
    "run": ({1}, "RUN_ID or latest"),
    "why": ({1}, "PROJECT/NAME, a glob of it, a runtime's id or an e-mail"),
    "diff": ({2}, "RUN_A and RUN_B"),
    "verify": (range(sys.maxsize), "any number of RUN_IDs"),
    "upcoming": ({0}, "no argument"),
    "promise": ({0}, "no argument"),
    "simulate": ({0}, "no argument"),
    "disks": ({0}, "no argument"),
    "report": ({0, 2}, "RUN_A and RUN_B, or no argument"),
}
"""How many words each question takes, and which."""

ABOUT_RUNTIMES = ("why", "run", "diff", "upcoming", "simulate", "disks")
"""Questions that can be narrowed to a creator or a project; the others are about whole runs."""
IN_ROWS = ("runs", "run", "diff", "upcoming", "promise", "simulate", "disks")
"""Questions whose answers are about one table, which a spreadsheet can hold."""
READS_NEWEST = {
    **dict.fromkeys(("upcoming", "promise"), f"{DeletionPolicy.job} over the whole fleet"),
    "disks": DiskPolicy.job,
}
"""Of which runs each reads the newest."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "question", nargs="?", type=_question, choices=list(ARGUMENTS), metavar="QUESTION", help=" | ".join(ARGUMENTS)
    )
    parser.add_argument("words", nargs="*", metavar="RUN_ID|WHOM", help="what the question is about")
    add_places(parser, required=False)
    add_environment(
        parser,
        "beside --from: only records of this environment; alone: the environment whose log in Cloud Logging is read",
        required=False,
    )
    parser.add_argument("--job", help=f"the job whose newest finished run is meant by {LATEST} [any]")
    _add_narrowing(parser)
    parser.add_argument(
        "--expect-digest", metavar="DIGEST", help="for verify: the records_digest that the newest run must have"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help=f"for report: where to write it [{REPORT}]")
    parser.add_argument("--within", default=WITHIN, metavar="DURATION", help=f"for upcoming: how far ahead [{WITHIN}]")
    parser.add_argument(
        "--made-before", metavar="INSTANT", help="for promise: when those made before it are gone, as after a roll-out"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help=f"for promise: end with {ExitCode.FOUND} unless it is kept"
    )
    parser.add_argument(
        "--output",
        choices=["auto", "json", "table", "csv"],
        default="auto",
        help="json, tables, csv of the rows, or auto: tables on a terminal [auto]",
    )
    add_limits(
        parser,
        POLICY,
        "for simulate, and for report to set beside the one in force: what is not given stays as each run had it",
    )


def _add_narrowing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help=f"only runs that began then or later: 7d ago, or 2026-11-01 [Cloud Logging is read back {SINCE}]",
    )
    parser.add_argument("--until", metavar="WHEN", help="only runs that began before")
    parser.add_argument("--creator", metavar="EMAIL", help="only runtimes of this creator, or a glob (*@example.org)")
    parser.add_argument("--project", metavar="GLOB", help="only runtimes of this project, or of a glob")
    parser.add_argument("--outcome", help="only what ended so: failed, stuck, deletion_accepted ...")


def _question(word: str) -> str:
    if word not in ARGUMENTS:
        others = did_you_mean(word, ARGUMENTS) or f"; there are {', '.join(ARGUMENTS)}"
        raise argparse.ArgumentTypeError(f"there is no question {word!r}{others}")
    return word


def serve(arguments: argparse.Namespace) -> int:
    """Answer one question. Raises UsageError where it cannot be asked, or where nothing is known."""
    if arguments.show_config:
        _show(arguments)
        return ExitCode.DONE
    if arguments.question is None:
        tell(f"{__doc__.strip()}\n")
        return ExitCode.DONE
    within = _check_arguments(arguments)
    reported = arguments.question == "report"
    answering = _load_report() if reported else _answer
    show = print if reported else _choose_output(arguments.output)
    now = utc_now()
    with reading() as read:
        log = _open_log(arguments, read)
        try:
            answer = answering(arguments, log, within, now)
        except OSError as error:
            raise UsageError(_in_a_line(error, reported=reported)) from None
        except NotThereError as error:
            raise UsageError("; ".join([str(error), *_where_it_was_sought(arguments)]), *not_read(log)) from None
        except UnknownError as error:
            raise UsageError(str(error), *not_read(log)) from None
    show(answer)
    if narrowed := str(_narrowed(arguments)):
        print(f"narrowed to {narrowed}", file=sys.stderr)
    code = _tell_what_is_missing(answer, log, now)
    broken = isinstance(answer, Promised) and not answer.kept
    return ExitCode.FOUND if code == ExitCode.DONE and broken and arguments.exit_code else code


def _where_it_was_sought(arguments: argparse.Namespace) -> Iterator[str]:
    """What of the log was looked at: what is not there may be older."""
    if runs := READS_NEWEST.get(arguments.question):
        yield f"{arguments.question} reads the newest run of {runs}"
    if since := arguments.since or (SINCE if CLOUD_LOGGING in _places(arguments) else None):
        yield f"only runs since {since} were read: name what is older by a longer --since"
    if arguments.until:
        yield f"only runs before --until {arguments.until} were read"


def _in_a_line(error: OSError, *, reported: bool) -> str:
    if not reported:
        return f"from: {cannot_be_read(error)}"
    return f"report: {error.filename}: {error.strerror}" if error.filename else f"report: {error}"


def _tell_what_is_missing(answer: object, log: AuditRecords, now: datetime) -> int:
    """How it ends: what could not be read may be what was asked for."""
    if isinstance(answer, Verification):
        remarks, whole = passed_over(log), answer.ok
    else:
        remarks = [*passed_over(log), *not_read(log), *unnamed(log), *still_going(log.frames, now)]
        whole = not (log.unread or log.unnamed)
    for remark in remarks:
        print(remark, file=sys.stderr)
    return ExitCode.DONE if whole else ExitCode.FAILED


def _of_environment_file(arguments: argparse.Namespace) -> bool:
    """Whether the log is the one of the environment that is named; beside other places the name is a filter."""
    return arguments.env is not None and arguments.places is None


def _places(arguments: argparse.Namespace) -> list[str]:
    return [CLOUD_LOGGING] if _of_environment_file(arguments) else arguments.places


def _source_of_environment(arguments: argparse.Namespace) -> Source:
    """The log of the environment that is asked about, where one is."""
    if not _of_environment_file(arguments):
        return SILENT
    from core.settings.deployment import environment_of  # noqa: PLC0415 - 35 ms that files do without

    return {
        "environment": Said("--env", arguments.env),
        "audit_cloud_log": Said(str(environment_file(arguments)), environment_of(arguments).audit_log),
    }


def _show(arguments: argparse.Namespace) -> None:
    from core.settings.shown import show_settings  # noqa: PLC0415 - an answer shows no settings

    flags, installed = vars(arguments), _source_of_environment(arguments)
    settings = load_google_settings(flags, deployed=installed, pins=arguments.pins)
    tell(show_settings(settings, FLAGS, origins(flags, deployed=installed, pins=arguments.pins)))


def _load_report() -> Callable[[argparse.Namespace, AuditRecords, timedelta, datetime], str]:
    """What writes the report. Raises UsageError before anything is read where its libraries are missing."""
    try:
        from core.report.page import write_report  # noqa: PLC0415 - charts take a while to import
    except ImportError as error:
        raise not_installed("report", error, "report") from None

    def report(arguments: argparse.Namespace, log: AuditRecords, _: timedelta, now: datetime) -> str:
        page = arguments.html or REPORT
        limits, exemptions = _other_policy(arguments)
        simulation = Simulation(limits, exemptions) if limits or exemptions is not None else None
        write_report(some(log), page, now, log=log, compared=arguments.words, simulation=simulation)
        return f"the report is in {page}"

    return report


def _open_log(arguments: argparse.Namespace, read: Callable[[int], None]) -> AuditRecords:
    """The records in the places that were named, as far as the question is about them. Raises UsageError."""
    places = _places(arguments)
    since, until = _when("--since", arguments.since), _when("--until", arguments.until)
    begin = since or utc_now() - parse_duration(SINCE)
    whom = about_whom(arguments.words[0]) if arguments.question == "why" else About()
    creator = arguments.creator or whom.creator
    try:
        google = load_google_settings(vars(arguments), deployed=_source_of_environment(arguments), pins=arguments.pins)
        source = open_places(places, begin, google, read=read)
    except OSError as error:
        raise UsageError(f"from: {cannot_be_read(error)}") from None
    everything = arguments.question == "verify" and not arguments.words
    return AuditRecords(
        source,
        None if everything else partial(_select_records, arguments),
        only=Only(environment=arguments.env, since=since, until=until, creator=creator),
        may_repeat=arguments.question == "simulate",
    )


def _select_records(arguments: argparse.Namespace, frames: Sequence[Record]) -> Wanted:
    """What of a log the question is about, beside the frames of runs. Raises UnknownError."""
    words = arguments.words
    match arguments.question:
        case "why":
            return about_whom(words[0]).wanted
        case "run" | "verify" if words:
            whose = _narrowed(arguments).wanted if arguments.creator else ()  # confirmations do not say it
            return (Match(run_ids=tuple(run_ids(frames, words, is_meant=_meant(arguments)))), *whose)
        case "diff":
            ids = run_ids(frames, words, is_meant=_meant(arguments))
            return (Match(run_ids=tuple(ids)), Match(outcomes=tuple(sorted(LEAVING))))
        case "promise":
            started, *_ = newest_sweep(frames)
            return (Match(run_ids=(started.run_id,)),)
        case "upcoming":
            return (Match(run_ids=(latest(frames, fleet_of(frames).is_meant).run_id,)),)
        case "simulate":
            return (Match(events=("runtime_audited",)),)
        case "disks":
            return (Match(events=("disk_audited",)),)
        case "runs":  # its closing record counts what a run kept
            accepted = Match(outcomes=(Outcome.DELETION_ACCEPTED,))
            return (Match(events=review.SUMMED_UP), Match(severities=("WARNING", "ERROR")), accepted)
        case _:
            return EVERYTHING


def _meant(arguments: argparse.Namespace) -> Callable[[Record], bool]:
    return lambda opening: arguments.job in (None, opening.job)


def _check_arguments(arguments: argparse.Namespace) -> timedelta:
    """How far ahead is looked. Raises UsageError where the question cannot be asked so."""
    so_many, what = ARGUMENTS[arguments.question]
    if len(arguments.words) not in so_many:
        raise UsageError(f"{arguments.question} takes {what}")
    if arguments.places is None and arguments.env is None:
        raise UsageError("from: name files or folders, or cloud-logging; or name an environment by --env")
    if arguments.job is not None and LATEST not in arguments.words:
        raise UsageError("--job says of which job the run is that is called latest")
    _check_flags(arguments)
    if arguments.question == "why":
        try:
            about_whom(arguments.words[0])
        except NobodyError as error:
            raise UsageError(f"why: {str(error)!r} is not {ARGUMENTS['why'][1]}") from None
    try:
        return parse_duration(arguments.within)
    except ValueError as error:
        raise UsageError(f"within: {error}") from None


def _check_flags(arguments: argparse.Namespace) -> None:
    """Raises UsageError where a flag goes with another question, or says what it cannot."""
    given = [
        ("--expect-digest", arguments.expect_digest is not None, ("verify",)),
        ("--html FILE", arguments.html is not None, ("report",)),
        ("--made-before", arguments.made_before is not None, ("promise",)),
        ("--exit-code", arguments.exit_code, ("promise",)),
        ("--output csv", arguments.output == "csv", IN_ROWS),
        ("--creator", arguments.creator is not None, ABOUT_RUNTIMES),
        ("--project", arguments.project is not None, ABOUT_RUNTIMES),
        ("--outcome", arguments.outcome is not None, ("why", "run")),
        *((flag_of(name), name in arguments, ("simulate", "report")) for name in POLICY),
    ]
    for flag, is_given, questions in given:
        if is_given and arguments.question not in questions:
            *most, last = questions
            those = f"{', '.join(most)} and {last}" if most else last
            raise UsageError(f"{flag} goes with {those}, and with nothing else")
    if arguments.expect_digest is not None and not digest.FORM.fullmatch(arguments.expect_digest):
        raise UsageError(f"--expect-digest: {arguments.expect_digest!r} is no digest, sha256: and 64 digits")
    known = [*OUTCOMES, *CONFIRMATIONS]
    if arguments.outcome not in (None, *known):
        raise UsageError(f"--outcome: there is no {arguments.outcome!r}{did_you_mean(arguments.outcome, known)}")
    _other_policy(arguments)
    _made_before(arguments)


def _narrowed(arguments: argparse.Namespace) -> About:
    """Whom it is asked about; when is settled as the log is read."""
    return About(creator=arguments.creator, project=arguments.project, outcome=arguments.outcome)


def _when(flag: str, text: str | None) -> datetime | None:
    """An instant, or how long ago it is. Raises UsageError."""
    for parse in (parse_instant, lambda text: utc_now() - parse_duration(text)):
        with suppress(ValueError, OverflowError):
            return None if text is None else parse(text)
    raise UsageError(f"{flag}: {text!r} is no date or instant, and no duration such as 7d")


def _made_before(arguments: argparse.Namespace) -> datetime | None:
    """Raises UsageError."""
    try:
        return None if arguments.made_before is None else parse_instant(arguments.made_before)
    except ValueError as error:
        raise UsageError(f"--made-before: {error}") from None


def _other_policy(arguments: argparse.Namespace) -> tuple[dict[str, timedelta | bool], tuple[Exemption, ...] | None]:
    """The limits that were given, and the exemptions. Raises UsageError."""
    given = {name: value for name, value in vars(arguments).items() if name in POLICY}
    read: dict[str, Any] = {}
    for name, value in given.items():
        try:
            read[name] = read_exemptions(value) if name == EXEMPTIONS else value
            if isinstance(value, str) and name != EXEMPTIONS:
                read[name] = parse_duration(value)
        except ValueError as error:
            raise UsageError(f"{flag_of(name)}: {error}") from None
    exemptions = read.pop(EXEMPTIONS, None)
    if read.keys() >= {"max_age", "max_age_if_idle"} and read["max_age_if_idle"] > read["max_age"]:
        raise UsageError("--max-age-if-idle is above --max-age: no run can be told so")
    return read, exemptions


def _choose_output(output: str) -> Callable[[object], None]:
    """What shows an answer, to a person or a machine."""
    if output == "csv":
        from core.screen.spreadsheet import in_csv  # noqa: PLC0415 - for those who ask for it

        return lambda answer: say(in_csv(answer))
    if output == "json" or (output == "auto" and not sys.stdout.isatty()):
        return _say_in_json
    from core.screen import answers  # noqa: PLC0415 - for a person only

    return answers.draw


def _say_in_json(answer: object) -> None:
    say(msgspec.json.encode(answer))  # and not once more with its end: it may be large
    say(b"\n")


def _answer(arguments: argparse.Namespace, log: AuditRecords, within: timedelta, now: datetime) -> object:
    words, records, meant = arguments.words, some(log), _meant(arguments)
    if arguments.question in ABOUT_RUNTIMES:
        records = _narrowed(arguments).of(records)
    match arguments.question:
        case "runs":
            answer: object = review.runs(records, now)
        case "run":
            answer = review.run(records, words[0], now, is_meant=meant)
        case "why":
            answer = review.why(records, words[0])
        case "diff":
            answer = comparison.diff(records, words[0], words[1], now, is_meant=meant)
        case "upcoming":
            answer = upcoming(records, within, now)
        case "promise":
            answer = promise(records, now, _made_before(arguments))
        case "simulate":
            answer = simulate(records, *_other_policy(arguments))
        case "disks":
            answer = disks(records, now)
        case _:
            chosen = of_runs(records, words, is_meant=meant)[1] if words else records
            answer = _verify_runs(chosen, log, now, arguments.expect_digest)
    return answer


def _verify_runs(records: Iterable[Record], log: AuditRecords, now: datetime, expected: str | None) -> Verification:
    verdicts = verify(records, now, lambda: log.frames)
    findings = [] if expected is None else list(expected_digest_findings(log.frames, expected))
    return Verification(
        ok=not log.faults and not findings and all(verdict.ok for verdict in verdicts),
        records=log.records,
        repeated=log.repeated,
        foreign=log.foreign,
        runs=verdicts,
        findings=findings,
        faults=log.faults,
        torn=log.torn,
    )
