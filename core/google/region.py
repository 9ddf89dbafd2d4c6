"""In which project and region a Cloud Run job lives: as the settings say, else as the metadata server does."""

import os
import re
from typing import NamedTuple

import httpx

METADATA = "metadata.google.internal"
TIMEOUT = 3.0
"""Seconds between two bytes; the metadata server is on the same machine."""
NAME = re.compile(r"[a-z0-9.:/-]{1,100}")


class Place(NamedTuple):
    project: str
    region: str


def place_of(project: str | None, region: str | None) -> Place:
    """Both, whatever is not given asked of the metadata server. Raises OSError where it does not tell.

    It may take as long as the server likes to send bytes.
    """
    return Place(project or _metadata("project/project-id"), region or _metadata("instance/region").rpartition("/")[2])


def _metadata(path: str) -> str:
    """`GCE_METADATA_HOST` names another server, as it does for Google's libraries."""
    host = os.environ.get("GCE_METADATA_HOST") or METADATA
    try:
        answer = httpx.get(
            f"http://{host}/computeMetadata/v1/{path}",
            headers={"Metadata-Flavor": "Google"},
            timeout=TIMEOUT,
            trust_env=False,
        )
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"the metadata server does not tell {path}: {error}") from None
    name = answer.text.strip()
    if not NAME.fullmatch(name):
        raise OSError(f"the metadata server does not tell {path}: {name[:50]!r} is no name")
    return name
