"""Keeps audit records in Cloud Logging: in batches, each acknowledged; reading them back lives in `entries`.

The library's own handlers send from a background thread, which drops what it holds when the process ends: not used.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import tenacity
from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2AsyncClient
from google.cloud.logging_v2.types import WriteLogEntriesRequest

from core.clock import OutOfTimeError, RunClock
from core.google.api import MAY_PASS, GoogleError, async_client, told
from core.google.log_entry import to_entry

MOST_ENTRIES = 500
MOST_BYTES = 5 * 2**20
"""Of one write; the API takes 10 MB, and a record grows a little on its way into an entry."""
TIMEOUT = 20.0
"""Seconds for one try of a write."""
LAST_TRY = 1.0
"""Seconds for a write when the run's time is over: after SIGTERM, Cloud Run leaves that much beside `GRACE`."""
WAITS = tenacity.wait_random_exponential(multiplier=0.2, max=10)


class CloudLog:
    """A log of Cloud Logging that takes the lines of one run."""

    def __init__(
        self, log: str, client: Any, clock: RunClock, *, resource: MonitoredResource, labels: Mapping[str, str]
    ) -> None:
        """`log` is `projects/P/logs/NAME`; `labels` stand on every entry beside the record's own."""
        self.name = log
        self._client = client
        self._clock = clock
        self._resource = resource
        self._labels = labels
        self._lines: list[bytes] = []

    @property
    def waiting(self) -> int:
        return len(self._lines)

    def write(self, *lines: bytes) -> None:
        self._lines += lines

    async def make_durable(self) -> None:
        """Send what waits; a request is made once, and sent again as it is. Raises GoogleError where one is refused."""
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
        """As often as it takes, while there is time; once more when there is none."""
        tries = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((*MAY_PASS, TimeoutError)),
            wait=WAITS,
            sleep=self._clock.sleep,
        )
        try:
            async for attempt in tries:
                with attempt:
                    await self._try(request)
        except OutOfTimeError:
            try:
                await self._try(request)
            except TimeoutError:
                raise GoogleError("not acknowledged in time") from None

    async def _try(self, request: WriteLogEntriesRequest) -> None:
        async with self._clock.bound(TIMEOUT, at_least=LAST_TRY):
            await self._client.write_log_entries(request, timeout=TIMEOUT, retry=None)


def open_log(
    log: str, clock: RunClock, *, emulator: str | None, cloud_run: Mapping[str, str], labels: Mapping[str, str]
) -> AbstractAsyncContextManager[CloudLog]:
    """A log to write to; `cloud_run` are the labels of the resource that a Cloud Run job is, if the process is one.

    Raises GoogleError at once where there are no credentials.
    """
    with told("no client for Cloud Logging"):
        client = async_client(LoggingServiceV2AsyncClient, emulator)
    kind, about = ("cloud_run_job", cloud_run) if cloud_run else ("global", {"project_id": log.split("/")[1]})

    @asynccontextmanager
    async def opened() -> AsyncIterator[CloudLog]:
        try:
            yield CloudLog(log, client, clock, resource=MonitoredResource(type=kind, labels=about), labels=labels)
        finally:
            await client.transport.close()

    return opened()
