"""What must not reach a record is taken out of a text: tokens in any spelling, users' variables, proxy URLs."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import lru_cache
from sys import maxunicode

HIDDEN_TOKEN, HIDDEN_URL, HIDDEN_REST = "[token]", "[proxy URL]", "[hidden]"
TELLING = 10
"""So many characters of a token in a row give it away."""
IN_BASE64 = 12
URL_SAFE = str.maketrans("-_", "+/")
# Possessive, so that no text takes longer than its length: each sign is tried as an escape once.
SIGN = re.compile(
    r"%(?:25)*+([0-9A-Fa-f]{2})|\\++(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(/))"
    r"|&#(?:([0-9]{1,7})|[xX]([0-9A-Fa-f]{1,6}));|(.)",
    re.DOTALL,
)
URL = re.compile(r"https?://[^\s\"'<>,;]*+", re.IGNORECASE)
PRIVATE = re.compile(r"custom[_ -]?environment[_ -]?variables|proxy[_ -]?url", re.IGNORECASE)

Span = tuple[int, int, str]
"""From, to, and what to say instead."""


def redact(text: str, *, token: str | None) -> str:
    """Any 10 characters of the token are hidden, plain, in base64, hexadecimal, or escaped for a URL, JSON or HTML.

    So is a proxy URL, and whatever stands behind the name of users' variables or of such a URL: how far they reach is
    not known.
    """
    signs = list(SIGN.finditer(text))
    plain = "".join(map(_unescaped, signs))
    told, end = "", 0
    for start, stop, instead in sorted([*_tokens(plain, token), *_urls(plain), *_rest(plain)]):
        if start >= end:
            told += text[_place(signs, end) : _place(signs, start)] + instead
        end = max(end, stop)
    return told + text[_place(signs, end) :]


def hide_quotes(text: str, quoted: str) -> str:
    """Without what it repeats of another text, 10 characters or more at a time."""
    told, end = "", 0
    for start, stop in _matches(text, _parts(quoted, TELLING), TELLING):
        told, end = told + text[end:start] + HIDDEN_REST, stop
    return told + text[end:]


def _unescaped(sign: re.Match[str]) -> str:
    percent, unicode, hexadecimal, slash, decimal, entity, literal = sign.groups()
    if literal or slash:
        return literal or slash
    code = int(decimal) if decimal else int(percent or unicode or hexadecimal or entity, 16)
    return chr(code) if code <= maxunicode else "?"


def _place(signs: list[re.Match[str]], number: int) -> int:
    """Where in the text the sign begins, or the text ends."""
    if number < len(signs):
        return signs[number].start()
    return signs[-1].end() if signs else 0


def _tokens(plain: str, token: str | None) -> Iterator[Span]:
    for parts, length, readings in _spellings(token) if token else ():
        for start, stop in _matches(readings(plain), parts, length):
            yield start, stop, HIDDEN_TOKEN


@lru_cache(maxsize=4)
def _spellings(token: str) -> list[tuple[frozenset[str], int, Callable[[str], str]]]:
    """What gives the token away, its length, and how a text is read to find it.

    Base64 has three, by where its triples begin; ten characters fill at least twelve of its own.
    """
    length = min(TELLING, len(token))
    spellings: list[tuple[frozenset[str], int, Callable[[str], str]]] = [(_parts(token, length), length, str)]
    if length == TELLING:
        spelt = token.encode(errors="replace")
        spellings.append((_parts(spelt.hex(), 2 * TELLING), 2 * TELLING, str.lower))
        for before, foreign in ((0, 0), (1, 2), (2, 3)):
            coded = b64encode(b"\0" * before + spelt).decode()[foreign : (before + len(spelt)) * 8 // 6]
            spellings.append((_parts(coded, IN_BASE64), IN_BASE64, _as_standard_base64))
    return spellings


def _as_standard_base64(text: str) -> str:
    return text.translate(URL_SAFE)


def _parts(text: str, length: int) -> frozenset[str]:
    return frozenset(text[place : place + length] for place in range(len(text) - length + 1))


def _matches(text: str, parts: frozenset[str], length: int) -> Iterator[tuple[int, int]]:
    """Where the text has parts of this length, those that overlap as one."""
    start = end = -1
    for place in range(len(text) - length + 1):
        if text[place : place + length] in parts:
            if place >= end:
                if end > 0:
                    yield start, end
                start = place
            end = place + length
    if end > 0:
        yield start, end


def _urls(plain: str) -> Iterator[Span]:
    for url in URL.finditer(plain):
        if "/proxy/" in url[0]:
            yield url.start(), url.end(), HIDDEN_URL


def _rest(plain: str) -> Iterator[Span]:
    if named := PRIVATE.search(plain):
        yield named.start(), len(plain), HIDDEN_REST
