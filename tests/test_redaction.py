"""Whatever an answer hands back, nothing of a token and nothing of a user's reaches what is kept."""

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.leonardo.errors import error_from_answer
from core.leonardo.redaction import hide_quotes, redact

TOKEN = "ya29.c.b0Aaek-Xk_7~Pq/Z+9==QwErTyUiOp"  # noqa: S105 - nobody's
SPELLINGS = {
    "plain": TOKEN,
    "in another word": f"x{TOKEN}y",
    "its beginning": TOKEN[:10],
    "its middle": TOKEN[13:23],
    "its end": TOKEN[-10:],
    "hexadecimal": TOKEN.encode().hex(),
    "capital hexadecimal": TOKEN.encode().hex().upper(),
    "hexadecimal of ten": TOKEN[5:15].encode().hex(),
    "base64": b64encode(TOKEN.encode()).decode(),
    "base64 behind one": b64encode(b"x" + TOKEN.encode()).decode(),
    "base64 behind two": b64encode(b"Bearer: " + TOKEN.encode()).decode(),
    "base64 for URLs": urlsafe_b64encode(TOKEN.encode()).decode(),
    "base64 of ten": b64encode(b"?" + TOKEN[5:15].encode() + b"?").decode(),
    "percent": quote(TOKEN, safe=""),
    "percent throughout": "".join(f"%{byte:02x}" for byte in TOKEN.encode()),
    "percent twice": "".join(f"%25{byte:02X}" for byte in TOKEN.encode()),
    "base64 and percent": quote(b64encode(TOKEN.encode()).decode(), safe=""),
    "JSON": "".join(f"\\u{ord(letter):04x}" for letter in TOKEN),
    "JSON in JSON": json.dumps(json.dumps(TOKEN.replace("/", "\\/"))),
    "HTML": "".join(f"&#{ord(letter)};" for letter in TOKEN),
    "hexadecimal HTML": "".join(f"&#x{ord(letter):x};" for letter in TOKEN),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_a_token_is_hidden_however_it_is_spelt(how: str) -> None:
    text = f"before {SPELLINGS[how]} behind"
    told = redact(text, token=TOKEN)
    assert "[token]" in told
    assert told.startswith("before ")
    assert told.endswith(" behind")
    assert len(told.replace("[token]", "")) <= len("before  behind") + 14  # the ends of a spelling tell too little


@given(st.integers(0, len(TOKEN)), st.integers(0, len(TOKEN)), st.text(max_size=20), st.text(max_size=20))
def test_ten_characters_in_a_row_are_hidden_and_nine_are_not(start: int, stop: int, before: str, behind: str) -> None:
    part = TOKEN[start:stop]
    told = redact(f"{before} {part} {behind}", token=TOKEN)
    assert not [n for n in range(len(TOKEN) - 9) if TOKEN[n : n + 10] in told]
    if len(part) < 10:
        assert told == redact(f"{before} ", token=None) + part + redact(f" {behind}", token=None)


@given(st.text(max_size=300))
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    if not any(word in text.lower() for word in ("proxy", "custom")):
        assert redact(text, token=TOKEN) == text


def test_a_short_token_is_hidden_as_a_whole() -> None:
    assert redact("Bearer sesame, open sesam", token="sesame") == "Bearer [token], open sesam"  # noqa: S106
    assert redact("nothing was sent", token=None) == redact("nothing was sent", token="") == "nothing was sent"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('bad row: {"id":1,"customEnvironmentVariables":{"A":"sesame"}}', 'bad row: {"id":1,"[hidden]'),
        ("Runtime(1,CUSTOM_ENVIRONMENT_VARIABLES -> Map(A -> sesame))", "Runtime(1,[hidden]"),
        ('{"message": "\\u0063ustomEnvironmentVariables: sesame"}', '{"message": "[hidden]'),
        ('no "proxyUrl": "https://sesame.example.org/x"', 'no "[hidden]'),
        ("see https://leo.example.org/proxy/terra-1/sesame/jupyter, please", "see [proxy URL], please"),
        (r"see https:\/\/leo.example.org\/proxy\/terra-1\/sesame", "see [proxy URL]"),
        ("see https://leo.example.org/api/google/v1/runtimes", "see https://leo.example.org/api/google/v1/runtimes"),
    ],
)
def test_what_is_a_users_own_is_hidden(text: str, expected: str) -> None:
    assert redact(text, token=TOKEN) == expected
    assert "sesame" not in error_from_answer(500, text.encode()).message
    assert "sesame" not in error_from_answer(500, json.dumps({"message": text}).encode()).message
    assert "sesame" not in str(error_from_answer(404, b'{"exceptionClass":%b}' % json.dumps(text).encode()))


@pytest.mark.parametrize(
    "sign", ['"', "\\", "%", "%25", "&#", "<", "<title>", "https://", "https://proxy", "proxy", "/"]
)
def test_no_text_takes_long_to_be_read(sign: str) -> None:
    """Those that a pattern could try again from each of their signs; a test that hangs fails."""
    error = error_from_answer(500, (sign * 4_000_000).encode()[:4_000_000], token=TOKEN)
    assert len(error.message) <= 500


def test_what_repeats_another_text_is_left_out_of_a_sentence() -> None:
    answer = "service-account-key-of-somebody"
    assert hide_quotes(f"it said: {answer}, twice: {answer[3:]}", answer) == "it said: [hidden], twice: [hidden]"
    assert hide_quotes("it said: service", answer) == "it said: service"
    assert hide_quotes("it said: no", "no") == hide_quotes("it said: no", "") == "it said: no"
