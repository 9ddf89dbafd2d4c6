"""What somebody may move between the runs and tasks of a log, and what befalls its files: the rest of `doctoring`."""

import copy
import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from core.verify.finding import Kind
from jobs.__main__ import main
from tests.conftest import a_machine, delete
from tests.doctoring import INSERT_ID, LABELS, Line, Lines, forged_counts, numbered, of

Parts = list[Lines]
"""The records of three runs, or of the tasks of one."""


@dataclass(frozen=True, slots=True)
class Moving:
    """One thing that is done to several runs or tasks at once, and how it shows."""

    name: str
    edit: Callable[[Parts], None]
    kinds: tuple[Kind, ...]
    tasks: bool = False
    """Whether it is done to two tasks of one run, instead of to three runs."""


def write_tasks(folder: Path) -> Parts:
    """The records of two tasks of one run, each of which sweeps its share and keeps some of it."""
    fleet = [a_machine(n, project=f"terra-{n % 9}", days=20 if n % 2 else 2) for n in range(1, 19)]
    projects = [word for n in range(9) for word in ("--project", f"terra-{n}")]
    parts: Parts = []
    with serving(Leonardo(fleet)) as server:
        for task in ("0", "1"):
            log = folder / f"{task}.jsonl"
            of_task = {"EXECUTION": "execution-1", "TASK_COUNT": "2", "TASK_INDEX": task}
            os.environ.update({f"CLOUD_RUN_{name}": value for name, value in of_task.items()})
            main(delete(server, *projects, "--max-act-share", "1", "--audit-file", str(log)))
            for name in of_task:
                del os.environ[f"CLOUD_RUN_{name}"]
            parts.append([json.loads(line) for line in log.read_text().splitlines()])
    return parts


def _into(part: Lines, *lines: Line) -> None:
    """Made records of this part, in front of its last."""
    closing = part.pop()
    for line in lines:
        for name in ("run_id", "environment", "job"):
            line[name] = line[LABELS][name] = closing[name]
        for name in ("task_index", "task_count", "dry_run"):
            line[name] = closing[name]
    part += [*lines, closing]
    numbered(part)


def _out_of(part: Lines, *lines: Line) -> None:
    part[:] = numbered([line for line in part if line not in lines])


def _about(part: Lines, number: int) -> Lines:
    return [line for line in part if line.get("name") == f"all-of-us-{number}"]


def moved(begin: int, end: int, number: int, *, again: bool = False, counted: bool = False) -> Callable[[Parts], None]:
    """All that is said of a runtime moved from one part to another, or there again; counts made good or not."""

    def edit(parts: Parts) -> None:
        lines = _about(parts[begin], number)
        if not again:
            _out_of(parts[begin], *lines)
        _into(parts[end], *copy.deepcopy(lines))
        for part in (parts[begin], parts[end]) if counted else ():
            forged_counts(lambda _: None)(part)

    return edit


def exchanged(one: int, other: int, at: int) -> Callable[[Parts], None]:
    """The first or last records of two parts, each made one of the other."""

    def edit(parts: Parts) -> None:
        mine, theirs = parts[one][at], parts[other][at]
        stamp = ("run_id", "seq", INSERT_ID, LABELS, "task_index", "task_count", "dry_run", "time")
        parts[one][at] = theirs | {name: mine[name] for name in stamp}
        parts[other][at] = mine | {name: theirs[name] for name in stamp}

    return edit


def _again(parts: Parts) -> None:
    """A whole run under another id."""
    text = json.dumps(parts[1]).replace(parts[1][0]["run_id"], "20990101T000000-copied")
    parts.append(json.loads(text))


def _removed(at: int) -> Callable[[Parts], None]:
    def edit(parts: Parts) -> None:
        parts[at] = []

    return edit


def _one_task_less(parts: Parts) -> None:
    del parts[1]
    for line in parts[0]:
        line["task_count"] = 1


def _one_task_more(parts: Parts) -> None:
    for line in (line for part in parts for line in part):
        line["task_count"] = 3


def _changed_places(parts: Parts) -> None:
    for index, part in enumerate(reversed(parts)):
        for line in part:
            line["task_index"] = index
        numbered(part)


def _other_limits(parts: Parts) -> None:
    parts[1][0]["limits"]["max_acts"] = 400


def _again_in_itself(parts: Parts) -> None:
    _into(parts[1], copy.deepcopy(of(parts[1], 4, "runtime_audited")))


MOVINGS = [
    Moving("a kept one into a later run", moved(1, 2, 4), (Kind.COUNTS, Kind.INSTANT)),
    Moving("the same, and counted there", moved(1, 2, 4, counted=True), (Kind.INSTANT,)),
    Moving("an act into a dry run", moved(1, 2, 1), (Kind.COUNTS, Kind.INTENT)),
    Moving("the same, and counted there", moved(1, 2, 1, counted=True), (Kind.CALLS, Kind.INTENT)),
    Moving("an act into a dry run too", moved(1, 2, 1, again=True), (Kind.COPY,)),
    Moving("a kept one of a dry run into the live one", moved(0, 1, 2), (Kind.COUNTS, Kind.INSTANT)),
    Moving("a planned one of a dry run into the live one", moved(0, 1, 1), (Kind.COUNTS, Kind.OUTCOME)),
    Moving("the first records of two runs", exchanged(0, 2, 0), (Kind.INSTANT, Kind.INSTANT)),
    Moving("the last records of two runs", exchanged(0, 2, -1), (Kind.COUNTS, Kind.COUNTS)),
    Moving("a decision twice in one run", _again_in_itself, (Kind.INCARNATION,)),
    Moving("a run again under another id", _again, (Kind.COPY,)),
    Moving("the middle run removed", _removed(1), (Kind.PREDECESSOR,)),
    Moving("a decision into another task", moved(0, 1, 9), (Kind.COUNTS, Kind.SHARE), tasks=True),
    Moving("the same, and counted there", moved(0, 1, 9, counted=True), (Kind.SHARE,), tasks=True),
    Moving("a decision into another task too", moved(0, 1, 9, again=True), (Kind.SHARE,), tasks=True),
    Moving("a kept one into another task too", moved(0, 1, 2, again=True), (Kind.SHARE,), tasks=True),
    Moving("a task removed", _removed(0), (Kind.MISSING_TASK,), tasks=True),
    Moving("a task removed, and not counted any more", _one_task_less, (Kind.LISTS,), tasks=True),
    Moving("one task more than there is", _one_task_more, (Kind.MISSING_TASK, Kind.SHARE), tasks=True),
    Moving("the places of two tasks", _changed_places, (Kind.SHARE,), tasks=True),
    Moving("the last records of two tasks", exchanged(0, 1, -1), (Kind.COUNTS, Kind.PROMISE), tasks=True),
    Moving("the first records of two tasks", exchanged(0, 1, 0), (Kind.INSTANT,), tasks=True),
    Moving("the limits of one task", _other_limits, (Kind.TASKS,), tasks=True),
]


# files


def _cut(share: float) -> Callable[[bytes], bytes]:
    """Cut behind this share of the lines, and in the middle of the next."""

    def change(log: bytes) -> bytes:
        lines = log.splitlines(keepends=True)
        at = int(len(lines) * share)
        return b"".join(lines[:at]) + lines[at][:200]

    return change


def _line(change: Callable[[bytes], bytes], event: bytes = b'"runtime_audited"') -> Callable[[bytes], bytes]:
    """Something done to one line of this event, in the middle of the log."""

    def damage(log: bytes) -> bytes:
        lines = log.splitlines(keepends=True)
        at = next(n for n, line in enumerate(lines) if n > len(lines) // 3 and event in line[:40])
        return b"".join([*lines[:at], change(lines[at]), *lines[at + 1 :]])

    return damage


def _without_lines(log: bytes) -> bytes:
    """A block of the disk lost, with what began and ended in it."""
    lines = log.splitlines(keepends=True)
    at = len(lines) // 2
    return b"".join(lines[: at - 1])[:-100] + b"".join(lines[at + 1 :])


NOT_READABLE, MISSING = "not readable as a record", Kind.MISSING_RECORD.value
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], tuple[str, ...]]] = {
    "the end lost, in the middle of a line": (_cut(0.6), (Kind.MISSING_CLOSING, "is torn")),
    "the beginning lost": (lambda log: log[300:], (NOT_READABLE, Kind.MISSING_OPENING)),
    "a line lost": (_line(lambda _: b""), (MISSING,)),
    "lines lost": (_without_lines, (NOT_READABLE, MISSING)),
    "a line cut short": (_line(lambda line: line[:300] + b"\n"), (NOT_READABLE, MISSING)),
    "a line without its beginning": (_line(lambda line: line[300:]), (NOT_READABLE, MISSING)),
    "two lines in one": (_line(lambda line: line[:-1]), (NOT_READABLE, MISSING)),
    "zeros instead of a line": (_line(lambda line: bytes(len(line) - 1) + b"\n"), (NOT_READABLE, MISSING)),
    "zeros in a line": (_line(lambda line: line[:300] + bytes(9) + line[309:]), (NOT_READABLE, MISSING)),
    "a quote lost": (_line(lambda line: line.replace(b'"status"', b'"status', 1)), (NOT_READABLE, MISSING)),
    "a letter changed in a text": (_line(lambda line: line.replace(b"kept", b"kent", 1)), (Kind.DIGEST,)),
    "a blank more": (_line(lambda line: line.replace(b":", b": ", 1)), ()),
    "a digit more": (_line(lambda line: line.replace(b'"age_s":', b'"age_s":9', 1)), (Kind.JUDGEMENT,)),
    "a line again": (_line(lambda line: line * 2), ()),
    "a line again, changed": (
        _line(lambda line: line + line.replace(b"all-of-us", b"all-of-them")), ("other content than before",),
    ),
    "the lines turned round": (lambda log: b"".join(log.splitlines(keepends=True)[::-1]), ()),
    "the whole log twice": (lambda log: log * 2, ()),
    "Windows' ends of lines": (lambda log: log.replace(b"\n", b"\r\n"), ()),
    "compressed": (gzip.compress, ()),
    "compressed and cut": (lambda log: gzip.compress(log)[:-300], ("ends early", Kind.MISSING_CLOSING)),
    "compressed and damaged": (
        lambda log: gzip.compress(log)[:-6] + b"\0\0" + gzip.compress(log)[-4:], ("the file is not readable",),
    ),
    "UTF-16": (lambda log: log.decode().encode("utf-16"), ("UTF-16",)),
    "nothing left": (lambda _: b"", ()),
}  # fmt: skip
"""What befalls a file, and how each shows: the kind of a finding, or words of what is said of the file."""
