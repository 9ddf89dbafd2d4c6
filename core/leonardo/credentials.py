"""Bearer tokens from Google; the only room that asks google-auth for them, imported where a run needs a token."""

import asyncio
from collections.abc import Mapping
from typing import Any

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.impersonated_credentials
import requests
from google.auth.transport.requests import Request

from core.background import in_background
from core.leonardo.errors import CredentialsError

SCOPES = (
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/userinfo.profile",
)
"""What an API caller of Leonardo needs, and no more (as the workbench's own service calls)."""

ANSWERS_WITHIN = 10.0
"""Seconds waited for an answer; google-auth itself would wait for 120, and try five times."""

NO_TOKEN = (google.auth.exceptions.GoogleAuthError, KeyError, TypeError, ValueError)
"""How a refresh fails; the last three where the metadata server says yes and gives no token."""


class GoogleCredentials:
    """Application default credentials, refreshed 225 s before they expire (google-auth's threshold)."""

    def __init__(self, credentials: google.auth.credentials.Credentials) -> None:
        self._credentials = credentials
        self._request = _direct()
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
                    raise CredentialsError(f"no access token: {type(error).__name__}: {_sentence(error)}") from None
            return str(self._credentials.token)


def google_credentials(impersonate: str | None) -> GoogleCredentials:
    """The caller's own credentials, or those of the account it acts as. Raises CredentialsError."""
    try:
        own, _ = google.auth.default(scopes=SCOPES, request=_direct())
    except google.auth.exceptions.GoogleAuthError as error:
        raise CredentialsError(f"no Google credentials: {_sentence(error)}") from None
    if impersonate is None:
        return GoogleCredentials(own)
    acting = google.auth.impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
        source_credentials=own, target_principal=impersonate, target_scopes=list(SCOPES)
    )
    return GoogleCredentials(acting)


class _Impatient(Request):
    """A refresh runs on a thread that nothing can stop, and others wait for its token."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = ANSWERS_WITHIN,
        **others: Any,
    ) -> Any:
        return super().__call__(url, method, body, headers, timeout, **others)  # type: ignore[no-untyped-call]


def _direct() -> Request:
    """Past the proxies of the environment: none may see a call to the metadata server."""
    session = requests.Session()
    session.trust_env = False
    return _Impatient(session)


def _sentence(error: BaseException) -> str:
    """What the innermost error says; google-auth wraps errors in errors and puts response objects behind sentences."""
    inner = error.args[0] if error.args else ""
    return _sentence(inner) if isinstance(inner, BaseException) else " ".join(str(inner).split())
