"""What holds of any bytes that Leonardo or a log hands us; `test_corpus` tries some, `fuzz` searches for worse."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout, suppress
from datetime import datetime, timedelta
from functools import partial
from io import BytesIO, TextIOWrapper
from itertools import pairwise
from random import Random
from typing import Any
from urllib.parse import unquote
from zlib import crc32

import msgspec

from core.leonardo.client import runtime_path
from core.leonardo.errors import (
    LONGEST_MESSAGE,
    SHORTEST_WAIT,
    ErrorKind,
    LeonardoError,
    asked_to_wait,
    error_from_answer,
)
from core.leonardo.redaction import redact
from core.leonardo.wire import runtime_from_get
from core.records import events
from core.records.outcome import Outcome
from core.records.reader import AuditRecords, Fault, Line, Record
from core.records.selection import Wanted
from core.records.writer import AuditLog
from core.review import comparison
from core.review import questions as review
from core.review.upcoming import upcoming
from core.review.which import UnknownError
from core.runtime import MalformedRuntime, Runtime
from core.screen.answers import draw
from core.screen.styled import printable
from core.verify import verify
from core.verify.verdict import Verification
from tests.conftest import hold_to_the_schema
from tests.test_deletion import POLICY
from tests.test_errors import TOKEN
from tests.test_hostile import UNSEEN
from tests.test_wire import received
from tests.test_writer import IDENTITY, START, Memory

Item = Runtime | MalformedRuntime

OPENING, COMMA, CLOSING = (re.compile(rf"[ \t\n\r]*{sign}[ \t\n\r]*") for sign in (r"\[", ",", r"\]"))
SHORT = 512
"""Bytes that are also sent one by one."""

PYTHON = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=dict[str, int]().__getitem__)
"""Reads JSON as we do, numbers of any length and no NaN among them; what it makes of numbers is of no use."""


# A list, and a single runtime


def hold_list(body: bytes) -> None:
    """The same items come of it however it is cut, each what it is alone, and a body that is no list ends in an error.

    What is no JSON costs its item alone where it stands between braces: half a character (a lone surrogate) and NaN,
    though Python takes both; what nobody reads of an item may be no UTF-8, or a number that none can hold.
    """
    alone: list[Item] = []
    try:
        sound = all(_hold_alone(raw, alone) for raw in _raw_items(body))
    except (ValueError, KeyError, RecursionError):  # it is no JSON to Python, which tells nothing of single items
        sound = received(body)[1] is None
        alone = max((received(*chunks)[0] for chunks in _cuts(body)), key=len)
        for item in alone:
            _hold_kept(item)
    for chunks in _cuts(body):
        items, error = received(*chunks)
        assert (error is None) is sound, [*map(len, chunks)]
        assert items == (alone if sound else alone[: len(items)]), [*map(len, chunks)]
        if error is not None:
            assert error.kind is ErrorKind.UNREADABLE
            _hold_recorded(events.project_unreadable(None, error))
    for single in (body, body.strip(b"[] \n")):
        _hold_single(single)


def _raw_items(body: bytes) -> Iterator[bytes]:
    """The items of an array, found by another reader of JSON.

    Raises ValueError or KeyError where it ends, if that is no end of an array; RecursionError.
    """
    text = body.decode("latin-1")  # the bytes, one by one: JSON's own signs are the same
    before = OPENING.match(text)
    end = before.end() if before else len(text)
    if CLOSING.match(text, end):
        before = None
    while before:
        start, end = before.end(), PYTHON.raw_decode(text, before.end())[1]
        yield body[start:end]
        before = COMMA.match(text, end)
    if not CLOSING.fullmatch(text, end):
        raise ValueError


def _hold_alone(raw: bytes, alone: list[Item]) -> bool:
    """Whether it can be read, and then it is the next of these."""
    items, error = received(b"[" + raw + b"]")
    if error is not None:
        assert not _is_text(raw), raw
        return False
    (item,) = items
    if item not in alone:
        _hold_kept(item)
    _hold_read(raw, item)
    alone.append(item)
    return True


def _is_text(raw: bytes) -> bool:
    """Whether Python can read and write this JSON: it is as strict as we, but for texts that nobody uses."""
    try:
        json.dumps(json.loads(raw.decode(), object_pairs_hook=list), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _cuts(body: bytes) -> Iterator[list[bytes]]:
    """Whole, at and around every guess, in pieces of equal and of any size."""
    random = Random(crc32(body))  # noqa: S311 - the same for the same body
    guesses = [guess.start() for guess in re.finditer(rb"\},\{", body)]
    size = random.choice([2, 3, 5, 16, 64])
    some = [random.randint(0, len(body)) for _ in range(random.randint(1, 9))]
    every = range(len(body) if len(body) <= SHORT else 0)
    around = [guess + n for n in range(4) for guess in guesses]
    for places in ([], every, around, [guess + 1 for guess in guesses], range(0, len(body), size), some):
        inner = sorted(place for place in places if place < len(body))
        yield [body[start:end] for start, end in zip([0, *inner], [*inner, len(body)], strict=True)]


def _hold_read(raw: bytes, item: Item) -> None:
    """What another reader of JSON finds is what the item says."""
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return
    fields = _of(value)
    context, audit, config = (_of(fields.get(name)) for name in ("cloudContext", "auditInfo", "runtimeConfig"))
    labels = fields.get("labels")
    if item == MalformedRuntime("the item is no object"):
        assert not isinstance(value, dict)
    elif isinstance(item, Runtime) or not re.search("^no JSON|characters", item.detail):
        assert item.id == _number(fields.get("id"))
        assert item.project == (_text(context.get("cloudResource")) or _text(fields.get("googleProject")))
        assert item.name == _text(fields.get("runtimeName"))
    if isinstance(item, Runtime):
        disk = _number(config.get("persistentDiskId"))
        without = "detached" if config.get("configType") == "GceWithPdConfig" else "lost"
        assert (item.persistent_disk_id, item.disk) == (disk, without if disk is None else "kept")
        assert item.labels == (labels if isinstance(labels, dict) and _all_texts(labels.values()) else None)
        words = (fields.get("status"), context.get("cloudProvider"), audit.get("creator"))
        assert (item.status, item.cloud_provider, item.creator) == tuple(map(_text, words))
        for word, date in (("createdDate", item.created_date), ("dateAccessed", item.date_accessed)):
            assert date is None or date == datetime.fromisoformat(audit[word])


def _of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _all_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _number(value: object) -> str | None:
    return str(value) if type(value) is int else None


def _hold_single(body: bytes) -> None:
    """A single answer is a runtime, or unreadable."""
    try:
        _hold_kept(runtime_from_get(body))
    except LeonardoError as error:
        assert error.kind is ErrorKind.UNREADABLE  # noqa: PT017 - that it is raised is no promise
        _hold_recorded(events.project_unreadable(None, error))


def _hold_kept(item: Item) -> None:
    """It stays within its URL segments, its log line and its table cell."""
    if isinstance(item, MalformedRuntime):
        _hold_recorded(events.malformed_audited(item, START))
        return
    segments = runtime_path(item.project, item.name).removeprefix("/api/google/v1/runtimes/").split("/")
    assert [unquote(segment) for segment in segments] == [item.project, item.name]
    assert all(re.fullmatch(r"[A-Za-z0-9_.~%-]+", one) and one not in (".", "..") for one in segments)
    decision = POLICY.judge(item, START)
    sentence = POLICY.explain(item, decision)
    outcome = Outcome.KEPT
    record = _hold_recorded(events.runtime_audited(item, decision, outcome, sentence, name_creator=True))
    assert record.truncated or record.runtime_id == item.id
    assert not UNSEEN.search(printable(item.path).text)


def _hold_recorded(event: events.Event) -> Record:
    """One line by the published schema, which is read back as what was written."""
    kept = Memory()
    AuditLog(IDENTITY, [kept], now=lambda: START).write(event)
    (line,) = kept.lines
    assert not re.search(rb"[\x00-\x1f]", line.removesuffix(b"\n"))
    written = json.loads(line)
    hold_to_the_schema(written)
    source = Lines(line)
    records = AuditRecords(source)
    (record,) = records
    assert (records.faults, records.torn, records.foreign) == ([], [], 0)
    assert (record.project, record.message) == (written["project"], written["message"])
    return record


# An error


def hold_error(answer: bytes) -> None:
    """One short line of a known kind without the token, whatever the answer: status, Retry-After, line break, body."""
    head, _, body = answer.partition(b"\n")
    status = int(head[:3]) if re.match(rb"[1-9]\d\d", head) else 500
    error = error_from_answer(status, body, token=TOKEN)
    assert error.http_status == status
    for line in (error.message, error.exception_class):
        assert line is None or (0 < len(line) <= LONGEST_MESSAGE and line == " ".join(line.split()))
    told = f"{error} {error.exception_class}"
    assert not [start for start in range(len(TOKEN) - 9) if TOKEN[start : start + 10] in told]
    _hold_recorded(events.project_unreadable("p", error))
    wait = asked_to_wait(status, head[3:].decode("latin-1").strip(), START)
    assert wait is None or (wait >= SHORTEST_WAIT and status in (429, 503))
    _hold_message(body, error)


def _hold_message(body: bytes, error: LeonardoError) -> None:
    """Leonardo's own error is told in its own words."""
    said = _of(json.loads(body.decode())) if _is_text(body) else {}
    message, name = said.get("message"), said.get("exceptionClass")
    if isinstance(message, str) and isinstance(name, str | None):
        plain = redact(" ".join(message.split()), token=TOKEN)
        assert error.message == plain or len(plain) > LONGEST_MESSAGE or not plain, plain


# A log


class Lines:
    """A log of these lines, which may be torn at its end."""

    def __init__(self, log: bytes) -> None:
        self.torn: list[Fault] = []
        self.faults: list[Fault] = []
        self.passed_over: list[str] = []
        self._lines = [line for line in map(bytes.strip, log.split(b"\n")) if line]

    def lines(self, wanted: Wanted) -> Iterator[Line]:  # noqa: ARG002 - all may be given
        for number, line in enumerate(self._lines, 1):
            yield Line("log", number, line)


def hold_log(log: bytes) -> None:
    """Every line is a record, one met before, another program's, torn or a fault; and records answer every question."""
    source = Lines(log)
    records = AuditRecords(source)
    read = list(records)
    lines = len(list(source.lines(())))
    assert len(read) == records.records
    places = {fault.place for fault in (*records.faults, *records.torn)}
    assert lines - len(places) <= records.records + records.repeated + records.foreign <= lines
    shown = BytesIO()
    with redirect_stdout(TextIOWrapper(shown, encoding="utf-8", write_through=True)) as screen:
        for answer in _answers(read) if read else ():
            assert msgspec.json.encode(answer)
            draw(answer)
        screen.flush()
    assert not UNSEEN.search(shown.getvalue().decode())


def _answers(read: list[Record]) -> Iterator[object]:
    """Of every kind."""
    yield Verification(
        ok=False, records=len(read), repeated=0, foreign=0, runs=verify(read, START), findings=[], faults=[], torn=[]
    )
    yield review.runs(read, START)
    paths, ids = {record.path for record in read}, {record.run_id: None for record in read}
    asked: list[Callable[[], object]] = [
        partial(upcoming, read, timedelta(days=7), START),
        *(partial(review.why, read, path) for path in paths),
        *(partial(review.run, read, run_id, START) for run_id in ids),
        *(partial(comparison.diff, read, *pair, START) for pair in pairwise(ids)),
    ]
    for ask in asked:
        with suppress(UnknownError):
            yield ask()


HOLD: dict[str, Callable[[bytes], None]] = {"list": hold_list, "error": hold_error, "log": hold_log}
