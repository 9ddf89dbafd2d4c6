"""Bearer tokens from Google; the only module that asks google-auth for them, imported where a run needs a token."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.impersonated_credentials
import google.oauth2.id_token
import requests
from google.auth.transport.requests import Request

from core.background import in_background
from core.leonardo.errors import CredentialsError
from core.leonardo.redaction import hide_quotes
from core.rules.words import shortened

SCOPES = (
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/userinfo.profile",
)
"""What an API caller of Leonardo needs, and no more (as the workbench's own service calls)."""

ANSWERS_WITHIN = 10.0
"""Seconds waited for an answer; google-auth itself would wait for 120, and try five times."""

NO_TOKEN = (
    google.auth.exceptions.GoogleAuthError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""How a refresh fails; all but the first where an answer says yes, and gives no token or an impossible end of it."""

LONGEST_SENTENCE = 300
LARGEST_QUOTED = 2**16
"""Bytes of an answer that could be told again."""
OAUTH_ERRORS = (
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
)
"""The words of RFC 6749, section 5.2; what an answer says beside them is not told."""
ANSWER = re.compile(r" ?Response(?: details)?:|(?<=metadata service:)")
"""Behind this google-auth quotes an answer."""


class GoogleCredentials:
    """Application default credentials, refreshed 225 s before they expire (google-auth's threshold)."""

    def __init__(self, credentials: google.auth.credentials.Credentials) -> None:
        self._credentials = credentials
        self._request = _Impatient()
        self._lock = asyncio.Lock()

    @property
    def actor(self) -> str | None:
        account = getattr(self._credentials, "service_account_email", None)
        return account if isinstance(account, str) and account != "default" else None

    async def token(self, *, refused: str | None = None) -> str:
        async with self._lock:
            if not self._credentials.valid or self._credentials.token == refused:
                try:
                    await in_background(self._credentials.refresh, self._request)
                except NO_TOKEN as error:
                    said = _sentence(error, self._request.answered)
                    raise CredentialsError(f"no access token: {type(error).__name__}: {said}") from None
            token = self._credentials.token
            if not isinstance(token, str) or not token:
                raise CredentialsError("no access token: the answer holds none")
            return token


def google_credentials(impersonate: str | None) -> GoogleCredentials:
    """The caller's own credentials, or those of the account it acts as. Raises CredentialsError."""
    asking = _Impatient()
    try:
        own, _ = google.auth.default(scopes=SCOPES, request=asking)
    except google.auth.exceptions.GoogleAuthError as error:
        raise CredentialsError(f"no Google credentials: {_sentence(error, asking.answered)}") from None
    if impersonate is None:
        return GoogleCredentials(own)
    acting = google.auth.impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
        source_credentials=own, target_principal=impersonate, target_scopes=list(SCOPES)
    )
    return GoogleCredentials(acting)


def google_identity(audience: str) -> GoogleCredentials:
    """Identity tokens of the caller's own account, for the service at that address. Raises CredentialsError."""
    asking = _Impatient()
    try:
        own = google.oauth2.id_token.fetch_id_token_credentials(audience, request=asking)  # type: ignore[no-untyped-call]
    except google.auth.exceptions.GoogleAuthError as error:
        raise CredentialsError(f"no Google identity: {_sentence(error, asking.answered)}") from None
    return GoogleCredentials(own)


class _Impatient(Request):
    """A refresh runs on a thread that nothing can stop, and others wait for its token.

    It goes past the proxies of the environment: none may see a call to the metadata server.
    """

    def __init__(self) -> None:
        session = requests.Session()
        session.trust_env = False
        super().__init__(session)
        self.answered = ""
        """The last answer: google-auth repeats what must not be repeated of it."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = ANSWERS_WITHIN,
        **others: Any,
    ) -> Any:
        self.answered = ""
        answer = super().__call__(url, method, body, headers, timeout, **others)  # type: ignore[no-untyped-call]
        self.answered = answer.data[:LARGEST_QUOTED].decode(errors="replace")
        return answer


def _sentence(error: BaseException, answered: str) -> str:
    """What the innermost error says in its own words, without those of an answer."""
    while error.args and isinstance(error.args[0], BaseException):  # google-auth wraps errors in errors
        error = error.args[0]
    text = str(error.args[0]) if error.args else ""
    word = text.partition(":")[0]
    if word in OAUTH_ERRORS:
        return word
    return shortened(" ".join(hide_quotes(ANSWER.split(text, maxsplit=1)[0], answered).split()), LONGEST_SENTENCE)
