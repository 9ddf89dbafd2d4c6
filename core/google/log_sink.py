"""Keeps audit records in Cloud Logging: in batches, each acknowledged; reading them back lives in `log_entries`.

The library's own handlers send from a background thread, which drops what it holds when the process ends: not used.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import google.api_core.exceptions as failures
import tenacity
from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2AsyncClient
from google.cloud.logging_v2.types import WriteLogEntriesRequest

from core.google.api import MAY_PASS, async_client, told
from core.google.log_entry import to_entry

MOST_ENTRIES = 500
MOST_BYTES = 5 * 2**20
"""Of one write; the API takes 10 MB, and a record grows a little on its way into an entry."""
TIMEOUT = 20.0
"""Seconds for one try of a write."""
ALSO_PASS = (failures.Aborted, failures.Cancelled, failures.Unknown)
"""An entry that is written twice is one entry, so that whatever does not refuse a write is reason to repeat it."""
TOKEN_TRIES = 5
"""Writes in a row that may be answered with UNAUTHENTICATED: a token expires on its way, and the library renews it."""
WAITS = tenacity.wait_random_exponential(multiplier=0.2, max=3)
"""Short enough for another try between a signal and the end of the process."""


class CloudLog:
    """A log of Cloud Logging that takes the lines of one run."""

    def __init__(self, log: str, client: Any, *, resource: MonitoredResource, labels: Mapping[str, str]) -> None:
        """`log` is `projects/P/logs/NAME`; `labels` stand on every entry beside the record's own."""
        self.name = log
        self._client = client
        self._resource = resource
        self._labels = labels
        self._lines: list[bytes] = []

    @property
    def full(self) -> bool:
        return len(self._lines) >= MOST_ENTRIES

    def write(self, *lines: bytes) -> None:
        self._lines += lines

    async def catch_up(self) -> None:
        await self.make_durable()

    async def make_durable(self) -> None:
        """Send what waits; a request is made once, and sent again as it is. Raises GoogleError where one is refused.

        It is tried as often as it takes: how long that may be is for whoever waits to say.
        """
        while batch := self._batch():
            request = WriteLogEntriesRequest.wrap(
                WriteLogEntriesRequest.pb()(
                    log_name=self.name,
                    resource=self._resource,
                    labels=self._labels,
                    entries=[to_entry(line) for line in batch],
                    partial_success=True,  # one entry that is refused must not take the others with it
                )
            )
            with told("not acknowledged"):
                await self._send(request)
            del self._lines[: len(batch)]

    def _batch(self) -> list[bytes]:
        size = 0
        batch: list[bytes] = []
        for line in self._lines[:MOST_ENTRIES]:
            size += len(line)
            if batch and size > MOST_BYTES:
                break
            batch.append(line)
        return batch

    async def _send(self, request: WriteLogEntriesRequest) -> None:
        tries = tenacity.AsyncRetrying(retry=_may_pass, wait=WAITS, sleep=asyncio.sleep, reraise=True)
        async for attempt in tries:
            with attempt:
                async with asyncio.timeout(TIMEOUT):
                    await self._client.write_log_entries(request, timeout=TIMEOUT, retry=None)


def _may_pass(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, failures.Unauthenticated):
        return state.attempt_number < TOKEN_TRIES
    return isinstance(error, (*MAY_PASS, *ALSO_PASS, TimeoutError))


@asynccontextmanager
async def open_log(
    log: str, *, emulator: str | None, cloud_run: Mapping[str, str], labels: Mapping[str, str]
) -> AsyncIterator[CloudLog]:
    """A log to write to; `cloud_run` are the labels of the resource that a Cloud Run job is, if the process is one.

    Raises GoogleError where there are no credentials.
    """
    with told("no client for Cloud Logging"):
        client = await async_client(LoggingServiceV2AsyncClient, emulator)
    kind, about = ("cloud_run_job", cloud_run) if cloud_run else ("global", {"project_id": log.split("/")[1]})
    try:
        yield CloudLog(log, client, resource=MonitoredResource(type=kind, labels=about), labels=labels)
    finally:
        await client.transport.close()
