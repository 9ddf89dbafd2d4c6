"""What Leonardo, or something in front of it, answers instead of a result; what to do about it is the caller's."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

import msgspec

from core.leonardo.redaction import redact
from core.rules.words import shortened

LONGEST_MESSAGE = 500
SHORTEST_WAIT = 1.0
"""Seconds waited for a Retry-After of 0, so that it cannot turn into a tight loop."""
RETRY_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class ErrorKind(StrEnum):
    """The words stand in records, so they never change."""

    DENIED = "denied"
    """401, 403, and a 404 with which Sam, Leonardo's authorisation service, answered for it."""
    NOT_VISIBLE = "not_visible"
    """404: gone, or hidden from us; Leonardo does not say which."""
    UNAVAILABLE = "unavailable"
    """5xx, a timeout, a broken connection."""
    THROTTLED = "throttled"
    REFUSED = "refused"
    """Any other status."""
    UNREADABLE = "unreadable"
    """An answer that says yes, in a shape that we do not understand."""


@dataclass
class LeonardoError(Exception):
    """One failed exchange with Leonardo."""

    kind: ErrorKind
    message: str
    http_status: int | None = None
    exception_class: str | None = None

    def __str__(self) -> str:
        return self.message if self.http_status is None else f"HTTP {self.http_status}: {self.message}"


@dataclass
class LookAgainError(Exception):
    """The look is too old, or Leonardo asked for a wait (the next look keeps it) or another token (had by now)."""

    answer: LeonardoError | None = None
    """What Leonardo said; None where nothing was sent."""
    asked_to_wait: bool = False
    """Whether Leonardo did: such a look is not held against the runtime."""


class CredentialsError(Exception):
    """No token can be had; the message says what to do."""


class _FiveKeys(msgspec.Struct):
    """Leonardo's own error body, as far as it is used; the published schema asks for keys that are never sent."""

    message: str | None = None
    exceptionClass: str | None = None  # noqa: N815 - Leonardo's word


_five_keys = msgspec.json.Decoder(_FiveKeys)
_string = msgspec.json.Decoder(str)


def error_from_answer(status: int, body: bytes, *, token: str | None = None) -> LeonardoError:
    """Read an error answer as it comes: five-key JSON, a bare JSON string, text, HTML from a proxy, or nothing.

    It may echo the `token` that it was sent, or a whole runtime: what is secret of them does not reach a record.
    """
    message, exception_class = (_one_line(text, token) for text in _read(body))
    return LeonardoError(
        kind=_kind(status, exception_class),
        message=message or _phrase(status),
        http_status=status,
        exception_class=exception_class or None,
    )


def _read(body: bytes) -> list[str]:
    """The message and the class, empty where there is none."""
    try:
        known = _five_keys.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [_read_text(body), ""]
    return [known.message or "", (known.exceptionClass or "").removeprefix("class ")]


def _read_text(body: bytes) -> str:
    try:
        return _string.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body[: 8 * LONGEST_MESSAGE].decode(errors="replace")
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return title[1] if title else re.sub(r"<[^>]*>", " ", text)


def _one_line(text: str, token: str | None) -> str:
    return shortened(redact(" ".join(text[: 8 * LONGEST_MESSAGE].split()), token=token), LONGEST_MESSAGE)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no message"


def _kind(status: int, exception_class: str | None) -> ErrorKind:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ErrorKind.DENIED
    if status == HTTPStatus.NOT_FOUND:
        return ErrorKind.DENIED if is_sam_fault(exception_class) else ErrorKind.NOT_VISIBLE
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ErrorKind.THROTTLED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ErrorKind.UNAVAILABLE
    return ErrorKind.REFUSED


def is_sam_fault(exception_class: str | None) -> bool:
    """Whether Sam's status was passed on as Leonardo's: then a 404 says nothing of the runtime."""
    return (exception_class or "").endswith(("AuthProviderException", "SamException"))


def asked_to_wait(status: int | None, retry_after: str, now: datetime) -> float | None:
    """Seconds of an answer's Retry-After (a number or a date), None where it has none to obey."""
    if status not in RETRY_LATER or not retry_after:
        return None
    try:
        digits = retry_after.isascii() and retry_after.isdigit()
        seconds = float(retry_after) if digits else (http_instant(retry_after) - now).total_seconds()
    except ValueError:
        return None
    return max(SHORTEST_WAIT, seconds)


def http_instant(http_date: str) -> datetime:
    """Raises ValueError."""
    try:
        instant = parsedate_to_datetime(http_date)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)  # `-0000` is UTC too
