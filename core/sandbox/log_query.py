"""As much of Cloud Logging's query language as questions to the audit log use; the entries live in `google_cloud`."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

Entry = Mapping[str, Any]
"""A log entry in its JSON form."""
Test = Callable[[Entry], bool]

SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
_token = re.compile(r'\s*("(?:\\.|[^"\\])*"|\(|\)|!=|>=|<=|=|>|<|:|[\w./-]+)')
_compare: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


def parse(query: str) -> Test:
    """What an entry must satisfy. Raises ValueError."""
    words = _words(query)
    test = _any(words) if words else lambda _: True
    if words:
        raise ValueError(f"unexpected {words[0]!r}")
    return test


def _words(query: str) -> list[str]:
    words, at = [], 0
    query = query.rstrip()
    while at < len(query):
        found = _token.match(query, at)
        if found is None:
            raise ValueError(f"unreadable at {query[at : at + 20]!r}")
        words.append(found[1])
        at = found.end()
    return words


def _any(words: list[str]) -> Test:
    return _joined(words, "OR", _all, any)


def _all(words: list[str]) -> Test:
    return _joined(words, "AND", _one, all)


def _joined(
    words: list[str], by: str, part: Callable[[list[str]], Test], hold: Callable[[Iterable[bool]], bool]
) -> Test:
    """Parts with a word between them, and how many of them must hold."""
    tests = [part(words)]
    while words and words[0] == by:
        words.pop(0)
        tests.append(part(words))
    return lambda entry: hold(test(entry) for test in tests)


def _one(words: list[str]) -> Test:
    word = _next(words)
    if word == "NOT":
        test = _one(words)
        return lambda entry: not test(entry)
    if word == "(":
        inner = _any(words)
        if _next(words) != ")":
            raise ValueError("a bracket is not closed")
        return inner
    operator = _next(words)
    if operator not in _compare:
        raise ValueError(f"{word} is compared by {operator!r}")
    values = _values(words)
    compare = _compare[operator]
    return lambda entry: any(_holds(compare, word, _field(entry, word), value) for value in values)


def _values(words: list[str]) -> list[str]:
    first = _next(words)
    if first != "(":
        return [_text(first)]
    values = [_text(_next(words))]
    while (word := _next(words)) == "OR":
        values.append(_text(_next(words)))
    if word != ")":
        raise ValueError("a list of values is not closed")
    return values


def _next(words: list[str]) -> str:
    if not words:
        raise ValueError("it ends early")
    return words.pop(0)


def _text(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word


def _field(entry: Entry, path: str) -> Any:
    """None where the entry has no such field; keys of labels may hold dots themselves."""
    first, _, rest = path.partition(".")
    value = entry.get(first)
    if not rest:
        return value
    if not isinstance(value, Mapping):
        return None
    return value[rest] if rest in value else _field(value, rest) if "." in rest else None


def _holds(compare: Callable[[Any, Any], bool], path: str, found: Any, asked: str) -> bool:
    """Text ignores case, as in the real service; a field that is missing satisfies nothing."""
    if found is None:
        return False
    if path == "timestamp":
        return compare(datetime.fromisoformat(found), datetime.fromisoformat(asked))
    if path == "severity":
        return compare(SEVERITIES.index(found), SEVERITIES.index(asked.upper()))
    if isinstance(found, int | float) and not isinstance(found, bool):
        return compare(float(found), float(asked))
    return compare(str(found).lower(), asked.lower())
