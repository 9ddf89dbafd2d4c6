"""How Google's own client libraries are reached, and how they fail; what they are asked lives beside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google.api_core.exceptions as failures
import google.auth
import grpc
import grpc.aio
from google.auth.exceptions import GoogleAuthError

from core.background import in_background

MAY_PASS = (
    failures.ServiceUnavailable,
    failures.ResourceExhausted,
    failures.InternalServerError,
    failures.DeadlineExceeded,
)
"""UNAVAILABLE, RESOURCE_EXHAUSTED, INTERNAL and DEADLINE_EXCEEDED: the same request may succeed later."""
CHANNEL = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),  # by default a server that is back is not noticed for two minutes
    ("grpc.max_receive_message_length", -1),  # as the libraries' own channels
)


class GoogleError(OSError):
    """Google did not do what it was asked; the message says what that was, and what it answered.

    It is an OSError, as every other failure to read or to keep something: who does so need not know where it is.
    """


def client(kind: Any, emulator: str | None) -> Any:
    """A client of a generated class, with application default credentials unless an emulator stands in for Google.

    `emulator` is HOST:PORT. Raises google-auth's errors, which `told` tells.
    """
    if emulator is None:
        return kind()
    return kind(transport=kind.get_transport_class("grpc")(channel=grpc.insecure_channel(emulator, CHANNEL)))


async def async_client(kind: Any, emulator: str | None) -> Any:
    """The same for a class that is awaited; the metadata server, which may not answer, holds up nobody else."""
    transport = kind.get_transport_class("grpc_asyncio")
    if emulator is None:
        credentials, _ = await in_background(google.auth.default, default_scopes=transport.AUTH_SCOPES)
        return kind(credentials=credentials)
    return kind(transport=transport(channel=grpc.aio.insecure_channel(emulator, CHANNEL)))


@contextmanager
def told(what: str) -> Iterator[None]:
    """Failures of the libraries in our words: "what: what they say"."""
    try:
        yield
    except failures.GoogleAPICallError as error:
        name = error.grpc_status_code.name if error.grpc_status_code else type(error).__name__
        raise GoogleError(f"{what}: {name}: {_line(error.message)}") from None
    except (failures.GoogleAPIError, GoogleAuthError) as error:
        raise GoogleError(f"{what}: {_line(str(error))}") from None


def _line(text: str | None) -> str:
    return " ".join((text or "no message").split())[:500]
