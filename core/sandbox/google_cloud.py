"""A Google on loopback, over gRPC: Cloud Run, which runs jobs as processes here, and Cloud Logging.

It answers in the services' own protobuf types, so that the real client libraries talk to it.
"""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import grpc
import msgspec
from google.cloud import run_v2
from google.cloud.logging_v2.types import (
    ListLogEntriesRequest,
    ListLogEntriesResponse,
    WriteLogEntriesRequest,
    WriteLogEntriesResponse,
)
from google.longrunning.operations_pb2 import Operation
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict

from core.clock import utc_now
from core.sandbox.log_query import parse
from core.settings.deployment import AUDIT_LOG

Process = subprocess.Popen[bytes]
HOST = "127.0.0.1"
MOST_IN_ENTRY = 256 * 1024
MOST_IN_WRITE = 10 * 2**20
MOST_ON_PAGE = 1000
FEW_ON_PAGE = 50
"""Where the page's size is not asked for."""
READS_A_MINUTE = 60
MINUTE = 60.0
A_DAY = timedelta(hours=24)
"""How far back a query reaches that does not say so itself."""
JOBS: dict[str, tuple[str, ...]] = {
    "delete-old-runtimes": ("--no-dry-run",),
    "check-autopause": (),
    "confirm-deletions": ("--from", "cloud-logging"),
    "check-disks": (),
    "notify-owners": ("--no-dry-run",),
}
"""What is deployed, and with which arguments; each has its rehearsal `<job>-dry-run`."""
ENVIRONMENT = "sandbox"
PROJECT = "leo-lifecycle-sandbox"


def environment_file(leonardo: str) -> str:
    """What `deploy/environments` would say of an installation that sweeps the Leonardo at this address."""
    return f"""\
project: {PROJECT}
region: us-central1
image: localhost/leo-lifecycle:sandbox
accounts:
  runner: leo-lifecycle-runner@{PROJECT}.iam.gserviceaccount.com
  scheduler: leo-lifecycle-scheduler@{PROJECT}.iam.gserviceaccount.com
  on_call: on-call@example.org
  approvers: approvers@example.org
  deployers: deployers@example.org
alerts:
  channels: []
  autopause_overdue: 10
  stuck: 10
  errored: 10
  busy_share: 0.5
retention:
  days: 400
  locked: false
settings:
  leonardo_url: {leonardo}
  auth: none
  deadline: 45m
"""


class RefusedError(Exception):
    """An answer that is no answer."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(kw_only=True)
class GoogleFault:
    """What befalls the next calls of a method."""

    method: str
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    """How it ends instead of with an answer; None where it is only held up."""
    skip: int = 0
    """So many calls pass first."""
    times: int = 1
    act_first: bool = False
    """Whether the call is carried out and only its answer is lost."""
    arrived: threading.Event | None = None
    """Told when the call is there."""
    held_until: threading.Event | None = None


@dataclass
class Execution:
    """One execution and its processes."""

    message: run_v2.Execution
    processes: list[Process] = field(default_factory=list)
    exit_codes: dict[int, int] = field(default_factory=dict)


def _deployed(path: str, variables: Mapping[str, str]) -> run_v2.Job:
    """The job of this path, which may be a rehearsal."""
    _, project, _, region, _, name = path.split("/")
    job = name.removesuffix("-dry-run")
    if job not in JOBS:
        raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Job {name} not found.")
    dry = name != job
    told = {
        "LIFECYCLE_GOOGLE_PROJECT": project,
        "LIFECYCLE_GOOGLE_REGION": region,
        "LIFECYCLE_AUDIT_CLOUD_LOG": f"projects/{project}/logs/{AUDIT_LOG}",
        "LIFECYCLE_OUTPUT": "json",
        **variables,
    }
    container = run_v2.Container(
        command=["leo-lifecycle-dry-run" if dry else "leo-lifecycle"],
        args=[job, *(word for word in JOBS[job] if not (dry and word == "--no-dry-run"))],
        env=[run_v2.EnvVar(name=variable, value=value) for variable, value in told.items()],
    )
    return run_v2.Job(
        name=path, template=run_v2.ExecutionTemplate(template=run_v2.TaskTemplate(containers=[container]))
    )


def _start_tasks(message: run_v2.Execution, start: Callable[..., Process]) -> Iterator[Process]:
    """A process of this machine for each task of an execution."""
    container = message.template.containers[0]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("LIFECYCLE_")}
    command = [str(Path(sys.executable).with_name(container.command[0])), *container.args]
    for index in range(message.task_count):
        environment = {
            **outside,
            **{variable.name: variable.value for variable in container.env},
            "CLOUD_RUN_JOB": message.job,
            "CLOUD_RUN_EXECUTION": message.name.rpartition("/")[2],
            "CLOUD_RUN_TASK_INDEX": str(index),
            "CLOUD_RUN_TASK_COUNT": str(message.task_count),
            "CLOUD_RUN_TASK_ATTEMPT": "0",
        }
        yield start(command, env=environment, stdout=subprocess.DEVNULL)


class Google:
    """What it holds, and what its methods do to it."""

    start_process: ClassVar[Callable[..., Process]] = subprocess.Popen
    """For each task of an execution."""

    def __init__(self, variables: Mapping[str, str] | None = None, *, kept_in: Path | None = None) -> None:
        """`variables` are those of every container; `kept_in` gets every entry before it is acknowledged."""
        self.variables = dict(variables or {})
        self.address = ""
        self.tasks = 1
        """Of each execution."""
        self.entries: list[tuple[Any, dict[str, Any]]] = []
        """As they came: in protobuf, and in the form in which they are asked about and exported."""
        self.writes: list[int] = []
        """How many entries each acknowledged write brought."""
        self.calls: Counter[str] = Counter()
        self.faults: list[GoogleFault] = []
        self.queries: list[str] = []
        self._kept_in = kept_in
        self.executions: dict[str, Execution] = {}
        self._reads: deque[float] = deque(maxlen=READS_A_MINUTE)
        self._lock = threading.RLock()

    def kill(self) -> None:
        """Every process that was started and still runs."""
        for execution in list(self.executions.values()):
            for process in execution.processes:
                process.kill()

    # Cloud Run

    def get_job(self, request: run_v2.GetJobRequest) -> run_v2.Job:
        return self._job(request.name)

    def run_job(self, request: run_v2.RunJobRequest) -> Operation:
        job = self._job(request.name)
        container = job.template.template.containers[0]
        for override in request.overrides.container_overrides:
            container.args = list(override.args) or container.args
            changed = {variable.name: variable.value for variable in [*container.env, *override.env]}
            container.env = [run_v2.EnvVar(name=name, value=value) for name, value in changed.items()]
        name = f"{request.name.rpartition('/')[2]}-{secrets.token_hex(3)}"
        execution = self.add_execution(
            f"{request.name}/executions/{name}", container, tasks=request.overrides.task_count or self.tasks
        )
        self._start(execution)
        metadata = AnyMessage()
        metadata.Pack(run_v2.Execution.pb(execution.message))
        return Operation(name=f"{request.name}/operations/{name}", metadata=metadata)

    def add_execution(
        self, path: str, container: run_v2.Container, *, tasks: int = 1, created: datetime | None = None
    ) -> Execution:
        """An execution that is going on, though nothing runs for it."""
        now = created or utc_now()
        message = run_v2.Execution(
            name=path,
            job=path.split("/")[5],
            creator="somebody@example.org",
            create_time=now,
            start_time=now,
            task_count=tasks,
            running_count=tasks,
            template=run_v2.TaskTemplate(containers=[container]),
            log_uri=f"https://console.example.org/{path}",
        )
        with self._lock:
            self.executions[path] = execution = Execution(message)
        return execution

    def get_execution(self, request: run_v2.GetExecutionRequest) -> run_v2.Execution:
        return self._execution(request.name).message

    def list_executions(self, request: run_v2.ListExecutionsRequest) -> run_v2.ListExecutionsResponse:
        with self._lock:
            found = [e.message for path, e in self.executions.items() if path.startswith(f"{request.parent}/")]
        return run_v2.ListExecutionsResponse(executions=found)

    def cancel_execution(self, request: run_v2.CancelExecutionRequest) -> Operation:
        for process in self._execution(request.name).processes:
            process.terminate()
        return Operation(name=f"{request.name}/cancel", done=True)

    def list_tasks(self, request: run_v2.ListTasksRequest) -> run_v2.ListTasksResponse:
        execution = self._execution(request.parent)
        tasks = [
            run_v2.Task(
                name=f"{request.parent}/tasks/{index}",
                index=index,
                completion_time=execution.message.completion_time,
                last_attempt_result=run_v2.TaskAttemptResult(
                    **({"exit_code": code} if code >= 0 else {"term_signal": -code})
                ),
            )
            for index, code in sorted(execution.exit_codes.items())
        ]
        return run_v2.ListTasksResponse(tasks=tasks)

    def _job(self, path: str) -> run_v2.Job:
        return _deployed(path, {"LIFECYCLE_GOOGLE_EMULATOR": self.address, **self.variables})

    def _execution(self, path: str) -> Execution:
        with self._lock:
            if path not in self.executions:
                raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Execution {path.rpartition('/')[2]} not found.")
            return self.executions[path]

    def _start(self, execution: Execution) -> None:
        execution.processes += _start_tasks(execution.message, self.start_process)
        threading.Thread(target=self._watch, args=(execution,), daemon=True).start()

    def _watch(self, execution: Execution) -> None:
        codes = dict(enumerate(process.wait() for process in execution.processes))
        with self._lock:
            execution.exit_codes = codes
            execution.message.completion_time = utc_now()  # type: ignore[assignment] # proto-plus takes a datetime
            execution.message.running_count = 0
            execution.message.succeeded_count = sum(code == 0 for code in codes.values())
            execution.message.failed_count = sum(code != 0 for code in codes.values())

    # Cloud Logging

    def write_log_entries(self, request: WriteLogEntriesRequest) -> WriteLogEntriesResponse:
        written = WriteLogEntriesRequest.pb(request)
        fitting = [entry for entry in written.entries if entry.ByteSize() <= MOST_IN_ENTRY]
        refused = [entry.insert_id for entry in written.entries if entry not in fitting]
        if refused and not written.partial_success:
            fitting = []
        for entry in fitting:
            entry.log_name = entry.log_name or written.log_name
            entry.resource.MergeFrom(written.resource)
            entry.labels.update({**written.labels, **entry.labels})
            entry.receive_timestamp.FromDatetime(utc_now())
        with self._lock:
            if self._kept_in is not None:
                with self._kept_in.open("ab") as file:
                    file.writelines(msgspec.json.encode(MessageToDict(entry)) + b"\n" for entry in fitting)
            self.entries += [(entry, MessageToDict(entry)) for entry in fitting]
            self.writes.append(len(fitting))
        if refused:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"entries are too large: {', '.join(refused)}")
        return WriteLogEntriesResponse()

    def list_log_entries(self, request: ListLogEntriesRequest) -> ListLogEntriesResponse:
        if request.page_size > MOST_ON_PAGE:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"page_size {request.page_size} is above 1000")
        try:
            wanted = parse(request.filter)
        except ValueError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"Unparseable filter: {error}") from None
        since = utc_now() - A_DAY if "timestamp" not in request.filter else datetime.min.replace(tzinfo=UTC)
        with self._lock:
            self._count_read()
            self.queries.append(request.filter)
            found = {  # what was written twice is shown once
                (shown["logName"], entry.timestamp.ToDatetime(UTC), entry.insert_id): entry
                for entry, shown in reversed(self.entries)
                if entry.timestamp.ToDatetime(UTC) >= since and wanted(shown)
            }
        in_order = [found[key] for key in sorted(found, key=lambda key: key[1:])]
        size, begin = request.page_size or FEW_ON_PAGE, int(request.page_token or 0)
        more = str(begin + size) if begin + size < len(in_order) else ""
        return ListLogEntriesResponse(entries=in_order[begin : begin + size], next_page_token=more)

    def _count_read(self) -> None:
        now = time.monotonic()
        if len(self._reads) == READS_A_MINUTE and now - self._reads[0] < MINUTE:
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded for read requests per minute")
        self._reads.append(now)

    # over gRPC

    def answer(self, method: str, do: Callable[[Any], Any], request: Any, context: grpc.ServicerContext) -> Any:
        """What the method answers, or what a fault or a refusal makes of it."""
        self.calls[method] += 1
        with self._lock:
            fault = next((f for f in self.faults if f.method == method and f.times > 0), None)
            if fault is not None and fault.skip > 0:
                fault.skip -= 1
                fault = None
            elif fault is not None:
                fault.times -= 1
        if fault is not None and fault.arrived is not None:
            fault.arrived.set()
        if fault is not None and fault.held_until is not None:
            fault.held_until.wait()
        code = None if fault is None else fault.code
        answer = None
        try:
            if code is None or (fault is not None and fault.act_first):
                answer = do(request)
        except RefusedError as error:
            context.abort(error.code, str(error))
        if code is not None:
            context.abort(code, "a fault of the sandbox")
        return answer


def _handlers(google: Google) -> Iterator[grpc.GenericRpcHandler]:
    """The methods by service, in the types of the services' own libraries."""
    run, logging = "google.cloud.run.v2", "google.logging.v2"
    services: dict[str, dict[str, tuple[Callable[[Any], Any], Any]]] = {
        f"{run}.Jobs": {
            "GetJob": (google.get_job, run_v2.GetJobRequest),
            "RunJob": (google.run_job, run_v2.RunJobRequest),
        },
        f"{run}.Executions": {
            "GetExecution": (google.get_execution, run_v2.GetExecutionRequest),
            "ListExecutions": (google.list_executions, run_v2.ListExecutionsRequest),
            "CancelExecution": (google.cancel_execution, run_v2.CancelExecutionRequest),
        },
        f"{run}.Tasks": {"ListTasks": (google.list_tasks, run_v2.ListTasksRequest)},
        f"{logging}.LoggingServiceV2": {
            "WriteLogEntries": (google.write_log_entries, WriteLogEntriesRequest),
            "ListLogEntries": (google.list_log_entries, ListLogEntriesRequest),
        },
    }
    for service, methods in services.items():
        yield grpc.method_handlers_generic_handler(
            service,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    partial(google.answer, name, do),
                    request_deserializer=request.deserialize,
                    response_serializer=_serialized,
                )
                for name, (do, request) in methods.items()
            },
        )


def _serialized(answer: Any) -> bytes:
    return bytes(answer.SerializeToString() if isinstance(answer, Operation) else type(answer).serialize(answer))


@contextmanager
def serving_google(google: Google, *, port: int = 0) -> Iterator[Google]:
    """Serve while this is open; its `address` is HOST:PORT."""
    with ThreadPoolExecutor(max_workers=16) as workers:
        server = grpc.server(
            workers, handlers=list(_handlers(google)), options=[("grpc.max_receive_message_length", MOST_IN_WRITE)]
        )
        google.address = f"{HOST}:{server.add_insecure_port(f'{HOST}:{port}')}"
        server.start()
        try:
            yield google
        finally:
            google.kill()
            server.stop(grace=None).wait()
