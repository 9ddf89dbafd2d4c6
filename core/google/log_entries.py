"""Reads entries of one log back, as lines that a Cloud Logging sink would export; writing them lives in `log_sink`."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from google.api_core.retry import Retry, if_exception_type
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.types import ListLogEntriesRequest, ListLogEntriesResponse
from google.protobuf.json_format import MessageToDict

from core.google.api import MAY_PASS, client, told
from core.records.reader import Fault, Line
from core.records.selection import Match, Wanted

PAGE = 1000
"""Entries of one read: the most that the API gives."""
READS_A_MINUTE = 55
"""The quota is 60 for the whole project (entries.list); others read too."""
MINUTE = 60.0
TRY_AGAIN = Retry(predicate=if_exception_type(*MAY_PASS), initial=1, maximum=30, timeout=300)
TIMEOUT = 60.0
"""Seconds for one read."""


class CloudLogEntries:
    """The entries of one log since an instant; each look asks the API again."""

    def __init__(
        self,
        log: str,
        since: datetime,
        *,
        emulator: str | None,
        read: Callable[[int], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`log` is `projects/P/logs/NAME`; `read` is told how many entries have come so far.

        Raises GoogleError where there are no credentials.
        """
        self.name = log
        self.torn: list[Fault] = []
        self.faults: list[Fault] = []
        self.passed_over: list[str] = []
        self._since = since
        with told("no client for Cloud Logging"):
            self._client = client(LoggingServiceV2Client, emulator)
        self._read = read
        self._sleep = sleep
        self._monotonic = monotonic
        self._reads: deque[float] = deque(maxlen=READS_A_MINUTE)

    def lines(self, wanted: Wanted, *, since: datetime | None = None) -> Iterator[Line]:
        """The wanted entries in the order of time, perhaps only the younger ones. Raises GoogleError."""
        request = ListLogEntriesRequest(
            resource_names=["/".join(self.name.split("/")[:2])],
            filter=self.query(wanted, since or self._since),
            order_by="timestamp asc",
            page_size=PAGE,
        )
        count = 0
        while True:
            page = self._page(request)
            count += len(page.entries)
            self._read(count)
            for entry in page.entries:
                text = msgspec.json.encode(MessageToDict(entry))
                yield Line(self.name, entry.insert_id, text)
            if not page.next_page_token:  # a page without entries may have a token: the search is not over
                return
            request.page_token = page.next_page_token

    def query(self, wanted: Wanted, since: datetime) -> str:
        """In the logging query language: what the server leaves out need not be read.

        Its comparisons ignore case, so that it may leave in a little more.
        """
        clauses = [f"logName={_quoted(self.name)}", f"timestamp>={_quoted(since.isoformat())}"]
        if alternatives := list(filter(None, map(_clause, wanted))):
            clauses.append(f"({' OR '.join(alternatives)})")
        return " AND ".join(clauses)

    def _page(self, request: ListLogEntriesRequest) -> Any:
        self._pace()
        with told(f"{self.name} cannot be read"):
            pager = self._client.list_log_entries(request, timeout=TIMEOUT, retry=TRY_AGAIN)
            return ListLogEntriesResponse.pb(next(iter(pager.pages)))

    def _pace(self) -> None:
        if len(self._reads) == READS_A_MINUTE:
            self._sleep(max(0.0, self._reads[0] + MINUTE - self._monotonic()))
        self._reads.append(self._monotonic())


def _clause(match: Match) -> str:
    """What one match asks for; empty where it asks for nothing."""
    project, _, name = (match.path or "").rpartition("/")
    fields = {
        "jsonPayload.event": match.events,
        "labels.run_id": match.run_ids,
        "labels.environment": match.environments,
        "jsonPayload.runtime_id": match.runtime_ids,
        "jsonPayload.creator": match.creators,
        "jsonPayload.project": (project,) if match.path else (),
        "jsonPayload.name": (name,) if match.path else (),
        "jsonPayload.action": match.actions,
        "jsonPayload.outcome": match.outcomes,
        "severity": match.severities,
    }
    asked = [f"{field}={_any_of(values)}" for field, values in fields.items() if values]
    return f"({' AND '.join(asked)})" if asked else ""


def _any_of(values: tuple[str, ...]) -> str:
    return f"({' OR '.join(_quoted(value) for value in values)})"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
