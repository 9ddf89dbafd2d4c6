"""Tokens from Google: asked for once, with few scopes, and renewed where one was refused."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth.credentials
import google.auth.exceptions
import pytest

from core.leonardo.credentials import SCOPES, GoogleCredentials
from core.leonardo.errors import CredentialsError
from tests.conftest import finish, one_of_each, script, start

JOB = "job@example.iam.gserviceaccount.com"
EMAIL, PROFILE = (f"https://www.googleapis.com/auth/userinfo.{part}" for part in ("email", "profile"))


class MetadataServer(ThreadingHTTPServer):
    """What Cloud Run's metadata server says of a job's own account, with a new token for each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.lifetime: object = 3600
        self.broken: str | None = None
        """What it says instead of a token, with its status in front."""
        self.scopes: list[list[str]] = []
        """Those that each token was asked for with."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/computeMetadata/v1/").rstrip("/")
        if path in ("instance/service-accounts/default", f"instance/service-accounts/{JOB}"):
            self._answer(200, {"email": JOB, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]})
        elif path.startswith("instance/service-accounts/") and path.endswith("/token"):
            if self.server.broken is not None:
                status, _, body = self.server.broken.partition(" ")
                self._answer(int(status), None, body, as_json=True)
                return
            self.server.scopes.append(parse_qs(url.query).get("scopes", [""])[0].split(","))
            token = f"token-{len(self.server.scopes)}"
            self._answer(200, {"access_token": token, "expires_in": self.server.lifetime, "token_type": "Bearer"})
        elif path == "":
            self._answer(200, {})
        elif path == "project/project-id":
            self._answer(200, None, "terra-jobs")
        else:
            self._answer(404, None, "not found")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, _, body = (self.server.broken or "200 {}").partition(" ")
        self._answer(int(status), None, body, as_json=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, value: object, text: str | None = None, *, as_json: bool = False) -> None:
        body = (json.dumps(value) if text is None else text).encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if text is None or as_json else "application/text")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


BEGINNING = """
import asyncio, json, warnings
from core.leonardo.credentials import google_credentials
from core.leonardo.errors import CredentialsError

warnings.simplefilter("error")

def said(make):
    try:
        return make()
    except CredentialsError as error:
        return f"CredentialsError: {error}"

async def token(credentials, refused=None):
    try:
        return await credentials.token(refused=refused)
    except CredentialsError as error:
        return f"CredentialsError: {error}"
"""


def outcome(lines: str, tmp_path: Path, **environment: str) -> Any:
    """What a process prints that finds these credentials, and no others, where google-auth looks for them."""
    outside = ("GOOGLE_", "GCE_", "CLOUDSDK_", "NO_GCE_CHECK")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(outside) and not name.upper().endswith("_PROXY")
    }
    of_home = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)}
    done = finish(start(program=script(BEGINNING + lines), env=inherited | of_home | environment))
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def on_google(metadata: MetadataServer) -> dict[str, str]:
    """The environment of a process on Cloud Run."""
    names = ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT")
    return dict.fromkeys(names, metadata.host) | {"GCE_METADATA_DETECT_RETRIES": "1"}


# Credentials of a process on Google Cloud


def test_a_job_gets_tokens_of_its_own_account(metadata: MetadataServer, tmp_path: Path) -> None:
    lines = """
async def main():
    credentials = google_credentials(None)
    before = credentials.actor
    at_once = await asyncio.gather(*(token(credentials) for _ in range(100)))
    later = await token(credentials)
    renewed = await asyncio.gather(*(token(credentials, refused="token-1") for _ in range(20)))
    told_late = await token(credentials, refused="token-1")
    return [before, at_once, later, renewed, told_late, credentials.actor]
print(json.dumps(asyncio.run(main())))
"""
    assert outcome(lines, tmp_path, **on_google(metadata)) == [
        None,
        ["token-1"] * 100,
        "token-1",
        ["token-2"] * 20,
        "token-2",
        JOB,
    ]
    assert metadata.scopes == [[EMAIL, PROFILE], [EMAIL, PROFILE]]


def test_a_proxy_of_the_environment_is_not_asked(metadata: MetadataServer, tmp_path: Path) -> None:
    nobody = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    lines = "print(json.dumps(asyncio.run(token(google_credentials(None)))))"
    assert outcome(lines, tmp_path, **on_google(metadata), **nobody) == "token-1"


SECRET = "ya29.c.b0Aaek-a-token-of-somebody"  # noqa: S105 - nobody's


@pytest.mark.parametrize(
    "answer", [f"403 {SECRET}", f'403 {{"error":"no","access_token":"{SECRET}"}}', f"404 <p>{SECRET}"]
)
def test_a_token_that_cannot_be_had_is_told_in_words_and_not_in_those_of_the_answer(
    answer: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    metadata.broken = answer
    lines = "print(json.dumps(asyncio.run(token(google_credentials(None)))))"
    sentence = outcome(lines, tmp_path, **on_google(metadata))
    assert sentence.startswith("CredentialsError: no access token: RefreshError: Failed to retrieve http://")
    assert f"Status: {answer[:3]}" in sentence
    assert not [n for n in range(len(SECRET) - 9) if SECRET[n : n + 10] in sentence]
    assert " object at 0x" not in sentence
    assert "\n" not in sentence


def misread_at(answer: str) -> tuple[str, str]:
    """What stands first, and what stands for the end of the token's life."""
    return answer[4:6], answer.partition('"expires_in":')[2][:1]


@pytest.mark.parametrize(
    "answer",
    one_of_each(
        (
            f"200 {SECRET}",
            f'200 {{"access_token":"{SECRET}"',
            f'200 "{SECRET}"',
            f'200 ["{SECRET}"]',
            f'200 {{"access_token":"{SECRET}"}}',
            f'200 {{"access_token":null,"{SECRET}":1,"expires_in":3600}}',
            '200 {"access_token":7,"expires_in":3600}',
            '200 {"access_token":"","expires_in":3600}',
            *(
                f'200 {{"access_token":"{SECRET}","expires_in":{end}}}'
                for end in ("1e300", "1e9999", "NaN", "[]", "1" * 99)
            ),
            *(f'200 {{"access_token":"{SECRET}","expires_in":{end}}}' for end in ('"soon"', "null", f'"{SECRET}"')),
            "200 " + "[" * 100_000,
            "200 ",
        ),
        kind=misread_at,
        name=lambda answer: answer[:60],
    ),
)
def test_an_answer_that_gives_no_token_is_told_in_one_line(
    answer: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    metadata.broken = answer
    lines = "print(json.dumps(asyncio.run(token(google_credentials(None)))))"
    sentence = outcome(lines, tmp_path, **on_google(metadata))
    assert sentence.startswith("CredentialsError: no access token: ")
    assert not [n for n in range(len(SECRET) - 9) if SECRET[n : n + 10] in sentence]
    assert len(sentence) < 400
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (f"400 {SECRET}", "[hidden]"),
        (f'400 {{"error":"invalid_grant","error_description":"{SECRET}"}}', "invalid_grant"),
        (f'400 {{"error":"{SECRET}","error_description":"{SECRET}"}}', "[hidden]: [hidden]"),
        (f'400 {{"{SECRET}":1}}', "[hidden] 1}"),
    ],
)
def test_a_person_whose_login_has_ended_is_told_so_and_no_more(
    answer: str, said: str, metadata: MetadataServer, tmp_path: Path
) -> None:
    metadata.broken = answer
    login = {
        "client_id": "a",
        "client_secret": "b",
        "refresh_token": SECRET[::-1],
        "token_uri": f"http://{metadata.host}/token",
    }
    lines = f"""
from google.oauth2.credentials import Credentials
from core.leonardo.credentials import GoogleCredentials
own = Credentials(None, **{login})
print(json.dumps(asyncio.run(token(GoogleCredentials(own)))))
"""
    sentence = outcome(lines, tmp_path, NO_GCE_CHECK="true")
    assert sentence == f"CredentialsError: no access token: RefreshError: {said}"


def test_impersonation_acts_as_the_account_with_the_same_scopes(metadata: MetadataServer, tmp_path: Path) -> None:
    lines = """
acting = google_credentials("other@example.iam.gserviceaccount.com")
inside = acting._credentials
print(json.dumps([acting.actor, inside._target_principal, inside._target_scopes, inside._source_credentials._scopes]))
"""
    other = "other@example.iam.gserviceaccount.com"
    actor, target, scopes, own = outcome(lines, tmp_path, **on_google(metadata))
    assert (actor, target, scopes) == (other, other, [EMAIL, PROFILE])
    assert own in ("https://www.googleapis.com/auth/iam", ["https://www.googleapis.com/auth/iam"])


def test_without_any_credentials_the_sentence_says_so(tmp_path: Path) -> None:
    lines = """
print(json.dumps([said(lambda: google_credentials(None)), said(lambda: google_credentials("other@example.org"))]))
"""
    plain, acting = outcome(lines, tmp_path, NO_GCE_CHECK="true")
    assert plain == acting
    assert plain.startswith("CredentialsError: no Google credentials: ")
    assert "credentials were not found" in plain


def test_a_key_file_that_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    broken = tmp_path / "key.json"
    broken.write_text("{")
    lines = "print(json.dumps(said(lambda: google_credentials(None))))"
    sentence = outcome(lines, tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(broken), NO_GCE_CHECK="true")
    assert sentence.startswith("CredentialsError: no Google credentials: ")
    assert str(broken) in sentence


# Any credentials


class Counting(google.auth.credentials.Credentials):
    """Credentials with a new token at each refresh, or always the same one, or none."""

    def __init__(self, *, lifetime: timedelta = timedelta(hours=1), same: bool = False, fails: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refreshes = 0
        self._lifetime, self._same, self._fails = lifetime, same, fails

    def refresh(self, request: object) -> None:
        assert callable(request)
        self.refreshes += 1
        if self._fails:
            raise google.auth.exceptions.TransportError("nobody answers")  # type: ignore[no-untyped-call]
        self.token = "token" if self._same else f"token-{self.refreshes}"
        # google-auth compares with instants that have no zone
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + self._lifetime


def tokens(own: Counting, *refused: str | None) -> list[str]:
    async def ask() -> list[str]:
        credentials = GoogleCredentials(own)
        return [await credentials.token(refused=each) for each in refused]

    return asyncio.run(ask())


def test_the_scopes_are_those_of_userinfo_and_no_more() -> None:
    assert SCOPES == (EMAIL, PROFILE)


def test_a_token_is_kept_while_it_is_fresh() -> None:
    own = Counting(lifetime=timedelta(seconds=285))
    assert tokens(own, None, None, "another") == ["token-1"] * 3


def test_a_token_is_renewed_well_before_it_expires() -> None:
    own = Counting(lifetime=timedelta(seconds=224))
    assert tokens(own, None, None) == ["token-1", "token-2"]


def test_a_refused_token_is_renewed() -> None:
    own = Counting()
    assert tokens(own, None, "token-1", "token-1", "token-2") == ["token-1", "token-2", "token-2", "token-3"]


def test_a_renewal_may_give_the_same_token_again() -> None:
    own = Counting(same=True)
    assert tokens(own, None, "token") == ["token", "token"]
    assert own.refreshes == 2


def test_a_failed_refresh_is_tried_again_by_the_next_caller() -> None:
    own = Counting(fails=True)

    async def ask() -> list[str | BaseException]:
        credentials = GoogleCredentials(own)
        return await asyncio.gather(*(credentials.token() for _ in range(2)), return_exceptions=True)

    errors = asyncio.run(ask())
    assert [(type(error), str(error)) for error in errors] == [
        (CredentialsError, "no access token: TransportError: nobody answers")
    ] * 2
    assert own.refreshes == 2


def test_nobody_is_named_where_the_account_is_unknown() -> None:
    assert GoogleCredentials(Counting()).actor is None
