"""The search for bytes that break a promise of `any_bytes`, led by what of the program they reach; no test.

It needs `atheris`, which nothing else here does, in a virtual environment with `tests/constraints.txt`. For an hour:

    python -m tests.fuzz list FOLDER tests/corpus/list -max_total_time=3600

Bytes that reach something new are kept in FOLDER, and bytes that break a promise end the search. To keep the fewest of
them that reach as much: `-set_cover_merge=1 NEW_FOLDER FOLDER` instead. `error` and `log` are searched alike.
"""

import importlib
import json
import re
import sys
from random import Random
from typing import Any

import atheris

with atheris.instrument_imports(include=["core", "tests.any_bytes"]):
    from tests.any_bytes import HOLD, PYTHON
    from tests.test_errors import SPELT, TOKEN
    from tests.test_hostile import HOSTILE
    from tests.test_wire import an_item, compact

LONGEST = 4096

WORDS = [
    *(b'},{ }] [{ [] {} \\ \\" " , : ] [ { } null true 7 -0 1e400 1E-7 NaN \\u0000 \\ud83e\\udd81 \\ud800'.split(b" ")),
    *(sign.encode() for sign in "é🦁\u2028\x85\xa0\x0b"),
    *(b"\xff", b"\xef\xbb\xbf", b"\n", b"\t", b"9" * 20, b"18446744073709551616", b"0.5"),
    *(b"[" * 1200, b'{"id":' * 600, b"]" * 1200, b" " * 40, b"\r\n"),
    *(compact(text) for text in HOSTILE.values() if len(text) < 300),
    *(compact(name) for name in an_item()["auditInfo"] | an_item()["runtimeConfig"] | an_item()),
    *(b'"2024-09-30T14:02:11.482913999Z" "0001-01-01T00:00:00+14:00" "9999-12-31T23:59:59-23:59"'.split()),
    *(b'"2024-W40-1T14Z" "20240930T140211,5+0000" "2016-12-31T23:59:60Z" "GceWithPdConfig" "Running"'.split()),
    *(b"<title> </title> <b> <TITLE\n> 503 429 404 401 Retry-After".split(b" ")),
    *(b"Wed, 21 Oct 2015 07:28:00 GMT|-0000|+9999|class |SamException|AuthProviderException".split(b"|")),
    TOKEN.encode(),
    SPELT.encode(),
    *(b'"message" "exceptionClass" "jsonPayload" "leo-lifecycle/audit/v1" "run_started" "seq" "insertId"'.split()),
]

ODD: list[Any] = [
    *([], {}, None, 7, -1, 2**64, 1.5, 1e300, True, "", "},{", '\\"},{', *HOSTILE.values()),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-23:59"),
]


def _mutated(data: bytes, longest: int, seed: int) -> bytes:
    """After one or a few small changes of the text, or of the values that it says."""
    random = Random(seed)  # noqa: S311
    for _ in range(random.choice([1, 1, 2, 4])):
        change = random.choice([_value_changed, _value_changed, _word_put, _word_put, _part_moved, _any_change])
        data = change(data, random, longest)
    return data[:longest]


def _any_change(data: bytes, _: Random, longest: int) -> bytes:
    return bytes(atheris.Mutate(data[:longest], longest))


def _word_put(data: bytes, random: Random, _: int) -> bytes:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice([0, 0, 1, 3, 20]))
    return data[:start] + random.choice(WORDS) + data[end:]


def _part_moved(data: bytes, random: Random, _: int) -> bytes:
    """A piece that begins and ends at a mark of JSON's is repeated elsewhere, or what follows a place cut off."""
    marks = [mark.start() for mark in re.finditer(rb"[\[\]{},:\"\n]", data)] or [0]
    (start, end), there = sorted(random.choices(marks, k=2)), random.choice(marks)
    return random.choice([data[:there] + data[start:end] + data[there:], data[:start] + data[end:], data[:end]])


def _value_changed(data: bytes, random: Random, _: int) -> bytes:
    head, newline, said = data.rpartition(b"\n") if random.random() < 0.5 else (b"", b"", data)
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return data
    nodes: list[tuple[Any, Any]] = [([value], 0)]
    for holder, key in nodes:
        inner = holder[key]
        keys = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        nodes += [(inner, inner_key) for inner_key in list(keys)]
    (holder, key), (donor, other) = random.choice(nodes), random.choice(nodes)
    changed = json.loads(json.dumps(random.choice([donor[other], *ODD])))
    if isinstance(holder, list) and random.random() < 0.5:
        holder.insert(key, changed)
    elif isinstance(holder, dict) and random.random() < 0.2:
        holder[random.choice([*holder, "id", "labels", "},{"])] = holder.pop(key)
    else:
        holder[key] = changed
    separators = random.choice([(",", ":"), (",", ":"), (", ", ": "), (" ,", " :")])
    text = json.dumps(nodes[0][0][0], ensure_ascii=random.random() < 0.5, separators=separators)
    return head + newline + text.encode(errors="surrogatepass")


READERS = {
    "json.decoder": ("JSONObject", "JSONArray", "py_scanstring"),
    "json.scanner": ("py_make_scanner",),
    "email._parseaddr": ("_parsedate_tz",),
}
"""How Python reads a text shows what is new in it: most of our own reading is done in C, where nothing is seen."""


def _watch_readers() -> None:
    for module, names in READERS.items():
        for name in names:
            atheris.instrument_func(getattr(importlib.import_module(module), name))
    python: Any = PYTHON
    python.parse_string, python.memo = json.decoder.py_scanstring, {}  # type: ignore[attr-defined]
    python.scan_once = json.scanner.py_make_scanner(python)  # type: ignore[attr-defined]


if __name__ == "__main__":
    what, *options = sys.argv[1:]
    itself = f"{sys.executable} -m tests.fuzz {what}"  # is started anew for a merge
    _watch_readers()
    atheris.Setup([itself, *options, f"-max_len={LONGEST}"], HOLD[what], custom_mutator=_mutated)
    atheris.Fuzz()
