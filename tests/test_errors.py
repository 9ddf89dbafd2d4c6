"""What is read out of an error answer, whatever shape it comes in."""

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.leonardo.errors import (
    LONGEST_MESSAGE,
    CredentialsError,
    ErrorKind,
    LeonardoError,
    LookAgainError,
    asked_to_wait,
    error_from_answer,
    is_sam_fault,
)

MODEL = "org.broadinstitute.dsde.workbench.leonardo.model."
SAM = "org.broadinstitute.dsde.workbench.leonardo.dao.sam.SamException"
NOT_FOUND = "Runtime Gcp/terra-1/all-of-us-1 not found"


def five_keys(status: int, message: str | None, exception_class: str | None, trace_id: str | None = None) -> bytes:
    """An error body as Leonardo sends it."""
    body = {
        "source": "leonardo",
        "message": message,
        "statusCode": status,
        "exceptionClass": exception_class,
        "traceId": trace_id,
    }
    return json.dumps(body).encode()


def kind(status: int, exception_class: str | None = None) -> ErrorKind:
    return error_from_answer(status, five_keys(status, "no", exception_class)).kind


@pytest.mark.parametrize(
    ("status", "message", "exception_class", "expected"),
    [
        (404, NOT_FOUND, f"{MODEL}RuntimeNotFoundException", ErrorKind.NOT_VISIBLE),
        (403, "job@example.org is unauthorized. Check billing", f"{MODEL}ForbiddenError", ErrorKind.DENIED),
        (401, "AuthProvider error: unknown user", f"{MODEL}AuthProviderException", ErrorKind.DENIED),
        (
            409,
            "Runtime Gcp/terra-1/all-of-us-1 cannot be deleted in PreStarting status, please wait and try again",
            f"{MODEL}RuntimeCannotBeDeletedException",
            ErrorKind.REFUSED,
        ),
        (400, "bad parameter", f"{MODEL}ParseLabelsException", ErrorKind.REFUSED),
        (500, "no disk", f"{MODEL}AzureRuntimeHasInvalidRuntimeConfig", ErrorKind.UNAVAILABLE),
        (503, "Error calling Sam", SAM, ErrorKind.UNAVAILABLE),
    ],
)
def test_leonardos_own_error_is_read_whole(
    status: int, message: str, exception_class: str, expected: ErrorKind
) -> None:
    error = error_from_answer(status, five_keys(status, message, f"class {exception_class}", "2f6c"))
    assert error == LeonardoError(expected, message, status, exception_class)
    assert str(error) == f"HTTP {status}: {message}"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, ErrorKind.REFUSED),
        (401, ErrorKind.DENIED),
        (402, ErrorKind.REFUSED),
        (403, ErrorKind.DENIED),
        (404, ErrorKind.NOT_VISIBLE),
        (405, ErrorKind.REFUSED),
        (408, ErrorKind.REFUSED),
        (409, ErrorKind.REFUSED),
        (415, ErrorKind.REFUSED),
        (428, ErrorKind.REFUSED),
        (429, ErrorKind.THROTTLED),
        (430, ErrorKind.REFUSED),
        (499, ErrorKind.REFUSED),
        (500, ErrorKind.UNAVAILABLE),
        (502, ErrorKind.UNAVAILABLE),
        (503, ErrorKind.UNAVAILABLE),
        (504, ErrorKind.UNAVAILABLE),
        (599, ErrorKind.UNAVAILABLE),
        (302, ErrorKind.REFUSED),
        (304, ErrorKind.REFUSED),
    ],
)
def test_the_status_decides_the_kind_whatever_the_body(status: int, expected: ErrorKind) -> None:
    bodies = (b"", b"no", b"<title>no</title>", five_keys(status, "no", None), five_keys(404, "no", None))
    assert {error_from_answer(status, body).kind for body in bodies} == {expected}


@pytest.mark.parametrize("name", [f"{MODEL}AuthProviderException", SAM])
def test_a_404_of_sams_says_nothing_of_the_runtime(name: str) -> None:
    for exception_class in (name, f"class {name}"):
        assert kind(404, exception_class) is ErrorKind.DENIED
        assert is_sam_fault(exception_class)
        assert kind(500, exception_class) is ErrorKind.UNAVAILABLE
        assert kind(409, exception_class) is ErrorKind.REFUSED


@pytest.mark.parametrize(
    "name", [f"{MODEL}RuntimeNotFoundException", f"{SAM}Handler", "AuthProviderExceptions", "", None, "sam"]
)
def test_any_other_404_is_not_visible(name: str | None) -> None:
    assert kind(404, name) is ErrorKind.NOT_VISIBLE
    assert not is_sam_fault(name)


def test_the_class_is_sams_only_where_leonardo_says_so() -> None:
    assert error_from_answer(404, b"SamException").kind is ErrorKind.NOT_VISIBLE


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"The request content was malformed:\nunexpected end", "The request content was malformed: unexpected end"),
        (b"Request is missing required HTTP header 'X'", "Request is missing required HTTP header 'X'"),
        (b'"The requested resource could not be found."', "The requested resource could not be found."),
        (b'"line one\\n  line\\ttwo"', "line one line two"),
        (b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>", "502 Bad Gateway"),
        (b"<HTML><TITLE>\n Error 403\n (Forbidden)\n</TITLE>", "Error 403 (Forbidden)"),
        (b"<html><body><h1>Service  unavailable</h1><p>Try later</p></body></html>", "Service unavailable Try later"),
        (b"<title>cut off", "cut off"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe broken", "�� broken"),
        (b"[1, 2]", "[1, 2]"),
        (b"null", "null"),
        (b'{"message": 7}', '{"message": 7}'),
        (b'{"message": "cut of', '{"message": "cut of'),
        (b'{"message":"\xff"}', '{"message":"�"}'),
    ],
)
def test_any_other_body_gives_its_text_in_one_line(body: bytes, message: str) -> None:
    assert error_from_answer(400, body) == LeonardoError(ErrorKind.REFUSED, message, 400, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n",
        b'""',
        b'" "',
        b"{}",
        b'{"message":null}',
        b'{"message":""}',
        b"<html></html>",
        b"<title></title>",
        five_keys(502, None, None),
    ],
)
def test_an_answer_without_a_message_gives_the_statuss_own_words(body: bytes) -> None:
    assert error_from_answer(502, body) == LeonardoError(ErrorKind.UNAVAILABLE, "Bad Gateway", 502, None)
    assert error_from_answer(599, body) == LeonardoError(ErrorKind.UNAVAILABLE, "no message", 599, None)


def test_a_null_message_keeps_its_class() -> None:
    body = five_keys(500, None, "class java.lang.NullPointerException")
    expected = LeonardoError(ErrorKind.UNAVAILABLE, "Internal Server Error", 500, "java.lang.NullPointerException")
    assert error_from_answer(500, body) == expected


@pytest.mark.parametrize("exception_class", [None, "", "class ", "  "])
def test_no_class_is_none(exception_class: str | None) -> None:
    assert error_from_answer(500, five_keys(500, "no", exception_class)).exception_class is None


def test_an_unknown_key_does_not_hide_the_known_ones() -> None:
    body = b'{"message":"no","exceptionClass":"class X","causes":[],"stackTrace":[{"line":1}]}'
    assert error_from_answer(409, body) == LeonardoError(ErrorKind.REFUSED, "no", 409, "X")


@pytest.mark.parametrize("shape", ["%s", '"%s"', '{"message":"%s"}', "<title>%s</title>"])
def test_a_very_long_message_is_cut(shape: str) -> None:
    def message(length: int) -> str:
        return error_from_answer(500, (shape % ("x" * length)).encode()).message

    assert message(LONGEST_MESSAGE) == "x" * LONGEST_MESSAGE
    assert message(LONGEST_MESSAGE + 1) == "x" * (LONGEST_MESSAGE - 1) + "…"
    assert len(message(1_000_000)) == LONGEST_MESSAGE


def test_a_very_long_class_is_cut_and_in_one_line() -> None:
    error = error_from_answer(500, five_keys(500, "no", "class a\nb " + "x" * 1000))
    assert error.exception_class is not None
    assert error.exception_class.startswith("a b xxx")
    assert len(error.exception_class) == LONGEST_MESSAGE


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"message":' * 100_000, b'{"a":' + b"[" * 100_000])
def test_a_body_that_nests_without_end_is_just_text(body: bytes) -> None:
    error = error_from_answer(500, body)
    assert (error.kind, len(error.message)) == (ErrorKind.UNAVAILABLE, LONGEST_MESSAGE)


@given(st.integers(300, 999), st.binary(max_size=200) | st.text().map(str.encode))
def test_any_answer_is_one_short_line(status: int, body: bytes) -> None:
    error = error_from_answer(status, body)
    assert error.http_status == status
    assert 0 < len(error.message) <= LONGEST_MESSAGE
    assert error.message == " ".join(error.message.split())


@given(st.text(max_size=80))
def test_any_message_of_leonardos_comes_through_but_for_its_spaces(message: str) -> None:
    error = error_from_answer(409, five_keys(409, message, None))
    assert error.message == (" ".join(message.split()) or "Conflict")


TOKEN = "ya29.a0AfB_by-Xk"  # noqa: S105 - nobody's
SPELT = TOKEN.replace("a", "\\u0061")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"Bearer {TOKEN}", "Bearer [token]"),
        (f"<title>{TOKEN}</title>", "[token]"),
        (f'"{SPELT}"', "[token]"),
        (f'{{"message":"{SPELT} and {TOKEN}"}}', "[token] and [token]"),
        (" " * 3990 + TOKEN, "[token]"),
    ],
)
def test_the_token_that_was_sent_is_hidden_however_it_is_spelt(body: str, message: str) -> None:
    assert error_from_answer(403, body.encode(), token=TOKEN).message == message


def test_the_token_is_hidden_in_a_class_too() -> None:
    error = error_from_answer(500, b'{"message":"no","exceptionClass":"class x.%b"}' % SPELT.encode(), token=TOKEN)
    assert error.exception_class == "x.[token]"


NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("120", 120.0),
        ("0", 1.0),
        ("9" * 400, math.inf),
        ("Fri, 20 Nov 2026 03:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 03:00:30 -0000", 30.0),
        ("Fri, 20 Nov 2026 01:00:00 GMT", 1.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0661", None),
        ("Fri, 20 Nov 99999999999 03:00:30 GMT", None),
        ("Fri, 20 Nov 2026 03:00:30 +99999999999999999999", None),
    ],
)
def test_a_wait_that_was_asked_for_is_a_number_or_a_date(retry_after: str, seconds: float | None) -> None:
    assert asked_to_wait(429, retry_after, NOW) == asked_to_wait(503, retry_after, NOW) == seconds
    assert asked_to_wait(500, retry_after, NOW) is None


def test_an_error_without_a_status_is_just_its_message() -> None:
    assert str(LeonardoError(ErrorKind.UNAVAILABLE, "no answer in time")) == "no answer in time"


def test_errors_that_say_the_same_are_equal() -> None:
    answer = LeonardoError(ErrorKind.THROTTLED, "slower", 429)
    assert LookAgainError(answer) == LookAgainError(LeonardoError(ErrorKind.THROTTLED, "slower", 429))
    assert LookAgainError(answer) != LookAgainError()
    assert str(CredentialsError("no token")) == "no token"
