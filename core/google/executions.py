"""Executions of a Cloud Run job: listed, started, watched, cancelled; the only module that knows google-cloud-run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from google.api_core.retry import Retry, if_exception_type
from google.cloud import run_v2
from pydantic import TypeAdapter, ValidationError

from core.google.api import MAY_PASS, client, told

log = structlog.get_logger(__name__)

TIMEOUT = 20.0
"""Seconds for one call; the library knows neither a timeout nor a retry of its own for Cloud Run."""
TRY_AGAIN = Retry(predicate=if_exception_type(*MAY_PASS), initial=0.5, maximum=5, timeout=30)
"""For what changes nothing."""
LATE = timedelta(hours=1)
"""How much longer than its deadline a run is taken to be alive: its container has to start, and to end."""
_bool = TypeAdapter(bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How an execution stands."""

    name: str
    """Without the path: the run id of its records."""
    running: bool
    tasks: int
    succeeded: int
    failed: int
    cancelled: int
    log_uri: str

    @property
    def verdict(self) -> str:
        counts = {"succeeded": self.succeeded, "failed": self.failed, "cancelled": self.cancelled}
        return ", ".join(f"{count} {how}" for how, count in counts.items() if count) or "no task has ended"


class CloudRunJob:
    """One job of Cloud Run, and its executions. Every method raises GoogleError."""

    def __init__(self, project: str, region: str, name: str, *, emulator: str | None) -> None:
        self.path = f"projects/{project}/locations/{region}/jobs/{name}"
        with told("no client for Cloud Run"):
            self._jobs = client(run_v2.JobsClient, emulator)
            self._executions = client(run_v2.ExecutionsClient, emulator)
            self._tasks = client(run_v2.TasksClient, emulator)

    def arguments(self) -> list[str]:
        """What its container is started with."""
        with told(self.path):
            job = self._jobs.get_job(name=self.path, timeout=TIMEOUT, retry=TRY_AGAIN)
        return list(job.template.template.containers[0].args)

    def start(self, arguments: Sequence[str]) -> str:
        """Start an execution with other arguments; its name. Asked once: a second try could start a second one."""
        override = run_v2.RunJobRequest.Overrides.ContainerOverride(args=arguments)
        request = run_v2.RunJobRequest(
            name=self.path, overrides=run_v2.RunJobRequest.Overrides(container_overrides=[override])
        )
        with told(f"{self.path} was not started, or nobody knows"):
            operation = self._jobs.run_job(request, timeout=TIMEOUT, retry=None)
        return _short(operation.metadata.name)

    def state(self, execution: str) -> State:
        with told(execution):
            found = self._executions.get_execution(name=self._execution(execution), timeout=TIMEOUT, retry=TRY_AGAIN)
        return State(
            name=execution,
            running=not found.completion_time,
            tasks=found.task_count,
            succeeded=found.succeeded_count,
            failed=found.failed_count,
            cancelled=found.cancelled_count,
            log_uri=found.log_uri,
        )

    def exit_codes(self, execution: str) -> list[int | None]:
        """Of each task that has ended; None for one that a signal ended."""
        with told(execution):
            tasks = self._tasks.list_tasks(parent=self._execution(execution), timeout=TIMEOUT, retry=TRY_AGAIN)
            results = [task.last_attempt_result for task in tasks if task.completion_time]
        return [None if result.term_signal else result.exit_code for result in results]

    def cancel(self, execution: str) -> None:
        with told(execution):
            self._executions.cancel_execution(name=self._execution(execution), timeout=TIMEOUT, retry=TRY_AGAIN)

    def older_live_execution(self, own: str, now: datetime, deadline: timedelta) -> str | None:
        """The oldest execution that may act, has not ended, and began before ours.

        One that is older than any run of its `deadline` can get is left out: it must not hold up all that come after.
        """
        with told(self.path):
            pages = self._executions.list_executions(parent=self.path, timeout=TIMEOUT, retry=TRY_AGAIN)
            running = [found for found in pages if found.create_time and not found.completion_time]
        ours = next((_order(execution) for execution in running if _short(execution.name) == own), None)
        older = sorted(
            _order(execution)
            for execution in running
            if _short(execution.name) != own
            and (ours is None or _order(execution) < ours)
            and now - execution.create_time < deadline + LATE
            and _may_act(execution)
        )
        return _short(older[0][1]) if older else None

    def _execution(self, name: str) -> str:
        return f"{self.path}/executions/{name}"


def _order(execution: Any) -> tuple[datetime, str]:
    return execution.create_time, execution.name


def _short(path: str) -> str:
    return path.rpartition("/")[2]


def _may_act(execution: Any) -> bool:
    """Whether the run was told to act, by its arguments or else by its variables."""
    if not execution.template.containers:
        log.warning("cannot tell whether an older run may act: going on", execution=_short(execution.name))
        return False
    container = execution.template.containers[0]
    told_by_flag = [word for word in container.args if word in ("--dry-run", "--no-dry-run")]
    if told_by_flag:
        return bool(told_by_flag[-1] == "--no-dry-run")
    variables = {variable.name: variable.value for variable in container.env}
    try:
        return not _bool.validate_python(variables.get("LIFECYCLE_DRY_RUN") or "true")
    except ValidationError:
        return False
