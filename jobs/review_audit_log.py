"""Ask the audit log: what did the runs do, why was a runtime deleted, is the log whole, what is due next.

Questions:
  runs                 one line for each run, and what fails again and again
  run RUN_ID|latest    one run: policy, counts, every act and failure
  why PROJECT/NAME     every decision about a runtime, in plain words
  diff RUN_A RUN_B     what one run condemned and the other did not, and why
  verify [RUN_ID ...]  whether the log is whole and honest; exit code 1 where anything is off
  upcoming             what the latest run says will be deleted, by project and creator

Logs are JSON Lines as the jobs write them, or as a Cloud Logging sink does, also compressed (.gz), in any order.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from core.records import review
from core.records.reader import AuditFiles, Record
from core.records.verify import Verification, verify
from core.run_clock import utc_now
from core.settings.durations import parse_duration
from core.settings.faults import UsageError
from core.settings.flags import add_places

WITHIN = "3d"
EXIT_DONE = 0
EXIT_OFF = 1
ARGUMENTS = {
    "runs": (0, 0, "no argument"),
    "run": (1, 1, "RUN_ID or latest"),
    "why": (1, 1, "PROJECT/NAME"),
    "diff": (2, 2, "RUN_A and RUN_B"),
    "verify": (0, None, "any number of RUN_IDs"),
    "upcoming": (0, 0, "no argument"),
    "report": (0, 0, "no argument"),
}
"""How many words each question takes, and which."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", choices=list(ARGUMENTS), metavar="QUESTION", help=" | ".join(ARGUMENTS))
    parser.add_argument("words", nargs="*", metavar="RUN_ID|PROJECT/NAME", help="what the question is about")
    add_places(parser)
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
    within = _checked(arguments)
    if arguments.question == "report":
        return _report(arguments.places, arguments.html)
    draw = _drawing(arguments.output)
    try:
        log = AuditFiles(arguments.places)
        answer = _answer(arguments.question, arguments.words, log, within, utc_now())
    except OSError as error:
        raise UsageError(f"from: {error.filename} cannot be read: {error.strerror or error}") from None
    except review.UnknownError as error:
        raise UsageError(str(error)) from None
    if draw is None:
        _write(msgspec.json.encode(answer) + b"\n")
    else:
        draw(answer)
    if isinstance(answer, Verification):
        return EXIT_DONE if answer.ok else EXIT_OFF
    for remark in (*log.torn, *log.faults):
        print(f"{remark.place}: {remark.what}", file=sys.stderr)
    return EXIT_DONE


def _report(places: list[Path], out: Path) -> int:
    try:
        from core.records.report import write_report  # noqa: PLC0415 - charts take a while to import
    except ImportError as error:
        raise UsageError(f"report: {error.name} is not installed; install leo-lifecycle[report]") from None
    try:
        log = AuditFiles(places)
        write_report(_some(log), out, utc_now(), log=log)
    except OSError as error:
        raise UsageError(f"report: {error.filename}: {error.strerror or error}") from None
    print(f"the report is in {out}")
    return EXIT_DONE


def _checked(arguments: argparse.Namespace) -> timedelta:
    least, most, what = ARGUMENTS[arguments.question]
    if len(arguments.words) < least or (most is not None and len(arguments.words) > most):
        raise UsageError(f"{arguments.question} takes {what}")
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
        from core import answers  # noqa: PLC0415 - rich is for a person only
    except ImportError as error:
        raise UsageError(f"output: {error.name} is not installed; install leo-lifecycle[console]") from None
    return answers.draw


def _answer(question: str, words: list[str], log: AuditFiles, within: timedelta, now: datetime) -> object:
    match question:
        case "runs":
            answer: object = review.runs(_some(log), now)
        case "run":
            answer = review.run(_some(log), words[0], now)
        case "why":
            answer = review.why(_some(log), words[0])
        case "diff":
            answer = review.diff(_some(log), words[0], words[1], now)
        case "upcoming":
            answer = review.upcoming(_some(log), within, now)
        case _:
            answer = _verified(words, log, now)
    return answer


def _verified(run_ids: list[str], log: AuditFiles, now: datetime) -> Verification:
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


def _some(log: AuditFiles) -> Iterator[Record]:
    """The records, of which there must be one."""
    yield from log
    if not log.records:
        faults = [f"{fault.place}: {fault.what}" for fault in (*log.torn, *log.faults)]
        raise UsageError(*(faults or ["from: there is no audit record"]))


def _write(answer: bytes) -> None:
    """To standard output, whose reader may have seen enough before the end."""
    try:
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
