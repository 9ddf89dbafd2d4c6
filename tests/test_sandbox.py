"""The sandbox answers as Leonardo does, and fails as a test tells it to; all over real HTTP."""

import json
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from core.sandbox import leonardo as leonardo_module
from core.sandbox.disk import Disk, DiskStatus
from core.sandbox.faults import Fault, FaultScript
from core.sandbox.fleet import left_disks, make_fleet
from core.sandbox.installation import RefusedError
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import ConfigType, Machine, TrueStatus, instant_text
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, made_up, serve_forever, serving
from core.sandbox.users import Users

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
API = "/api/google/v1/runtimes"
DISKS = "/api/google/v1/disks"
ITEM = f"{API}/terra-1/all-of-us-1"
ME = "me@example.org"
SECONDS = timedelta(seconds=1)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Of a client that has no use for it: to read the authorities takes longer than most of these tests."""
ERROR_KEYS = {"source", "message", "statusCode", "exceptionClass", "traceId"}
LIST_KEYS = {
    "id",
    "workspaceId",
    "runtimeName",
    "googleProject",
    "cloudContext",
    "auditInfo",
    "runtimeConfig",
    "proxyUrl",
    "status",
    "labels",
    "patchInProgress",
}
GET_KEYS = (LIST_KEYS - {"workspaceId"}) | {
    "serviceAccount",
    "asyncRuntimeFields",
    "userScriptUri",
    "startUserScriptUri",
    "jupyterUserScriptUri",
    "jupyterStartUserScriptUri",
    "errors",
    "userJupyterExtensionConfig",
    "autopauseThreshold",
    "defaultClientId",
    "runtimeImages",
    "scopes",
    "customEnvironmentVariables",
    "diskConfig",
}
DISK_KEYS = {
    "id",
    "cloudContext",
    "zone",
    "name",
    "status",
    "auditInfo",
    "size",
    "diskType",
    "blockSize",
    "labels",
    "workspaceId",
}
CONFIG_KEYS: dict[ConfigType, set[str]] = {
    "GceWithPdConfig": {
        "machineType",
        "persistentDiskId",
        "cloudService",
        "bootDiskSize",
        "zone",
        "gpuConfig",
        "configType",
    },
    "GceConfig": {"machineType", "diskSize", "cloudService", "bootDiskSize", "zone", "gpuConfig", "configType"},
    "Dataproc": {
        "numberOfWorkers",
        "masterMachineType",
        "masterDiskSize",
        "workerMachineType",
        "workerDiskSize",
        "numberOfWorkerLocalSSDs",
        "numberOfPreemptibleWorkers",
        "cloudService",
        "region",
        "componentGatewayEnabled",
        "workerPrivateAccess",
        "configType",
    },
    "AzureVmConfig": {"cloudService", "machineType", "persistentDiskId", "region", "configType"},
}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)


def machine(number: int = 1, project: str = "terra-1", **fields: Any) -> Machine:
    fields = {"created": NOW - timedelta(days=3), "accessed": NOW - timedelta(hours=5), **fields}
    return Machine(id=number, project=project, name=f"all-of-us-{number}", **fields)


def installation(*machines: Machine, **fields: Any) -> Leonardo:
    return Leonardo(machines or [machine()], **{"now": Clock(), **fields})


@contextmanager
def client_of(leonardo: Leonardo, *faults: Fault, **options: Any) -> Iterator[tuple[httpx.Client, SandboxServer]]:
    with (
        serving(leonardo, faults=faults, **options) as server,
        httpx.Client(base_url=server.url, verify=NO_TLS) as client,
    ):
        yield client, server


@contextmanager
def hanging(server: SandboxServer) -> Iterator[None]:
    """A client whose list is not answered until it, or the server, leaves."""
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0)) as connection:
        connection.sendall(f"GET {API} HTTP/1.1\r\nHost: leonardo\r\n\r\n".encode())
        while not server.requests:
            pass
        yield


def refused(answer: httpx.Response) -> tuple[int, str]:
    """The status and the last word of the exception's class, after a look at the shape that all errors have."""
    error = answer.json()
    assert set(error) == ERROR_KEYS
    assert (error["source"], error["statusCode"]) == ("leonardo", answer.status_code)
    assert error["exceptionClass"].startswith("class org.broadinstitute.dsde.workbench.leonardo.")
    return answer.status_code, error["exceptionClass"].rpartition(".")[2]


def attempts(client: httpx.Client, item: str = ITEM) -> list[httpx.Response]:
    """A look, a stop and a deletion."""
    return [client.get(item), client.post(f"{item}/stop"), client.delete(item)]


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200
    return [row["id"] for row in answer.json()]


# What runtimes look like.


def test_a_list_item_has_exactly_leonardos_keys_and_sends_nulls() -> None:
    with client_of(installation()) as (client, _):
        (row,) = client.get(API).json()
    assert set(row) == LIST_KEYS
    assert set(row["auditInfo"]) == {"creator", "createdDate", "destroyedDate", "dateAccessed"}
    assert row["workspaceId"] is None
    assert row["auditInfo"]["destroyedDate"] is None
    assert row["cloudContext"] == {"cloudProvider": "GCP", "cloudResource": "terra-1"}
    assert row["labels"]["cloudContext"] == "Gcp/terra-1"
    assert row["labels"]["created-by"] == row["auditInfo"]["creator"]


def test_a_get_item_has_exactly_leonardos_keys() -> None:
    with client_of(installation()) as (client, _):
        item = client.get(ITEM).json()
    assert set(item) == GET_KEYS
    assert item["autopauseThreshold"] == 30
    assert item["errors"] == []
    assert set(item["diskConfig"]) == {"name", "size", "diskType", "blockSize"}
    assert set(item["asyncRuntimeFields"]) == {"googleId", "operationName", "stagingBucket", "hostIp"}


@pytest.mark.parametrize("config_type", CONFIG_KEYS)
def test_each_kind_of_machine_has_its_own_config(config_type: ConfigType) -> None:
    with client_of(installation(machine(config_type=config_type))) as (client, _):
        item = client.get(ITEM).json()
    assert set(item["runtimeConfig"]) == CONFIG_KEYS[config_type]


def test_what_was_never_created_has_no_async_fields() -> None:
    with client_of(installation(machine(status=TrueStatus.PRE_CREATING))) as (client, _):
        assert client.get(ITEM).json()["asyncRuntimeFields"] is None


@pytest.mark.parametrize(
    ("microsecond", "text"),
    [(0, "2026-03-01T12:00:00Z"), (250_000, "2026-03-01T12:00:00.250Z"), (1, "2026-03-01T12:00:00.000001Z")],
)
def test_an_instant_has_no_three_or_six_fraction_digits(microsecond: int, text: str) -> None:
    assert instant_text(NOW.replace(microsecond=microsecond)) == text


def test_a_changed_machine_is_listed_as_it_is_now() -> None:
    leonardo = installation()
    with client_of(leonardo) as (client, _):
        before = client.get(API).json()
        leonardo.machine("terra-1", "all-of-us-1").patch_in_progress = True
        after = client.get(API).json()
    assert [before[0]["patchInProgress"], after[0]["patchInProgress"]] == [False, True]


def test_a_huge_list_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leonardo_module, "KEPT_ROWS", 1)
    machines = [machine(number) for number in range(1, 201)]
    with client_of(Leonardo(machines)) as (client, _):
        assert sorted(ids(client.get(API))) == list(range(1, 201))
    assert not any(machine._row for machine in machines)  # noqa: SLF001 - whether it is kept shows nowhere else


# What lists hold.


def test_an_unknown_query_parameter_is_a_label_that_must_match() -> None:
    leonardo = installation(
        machine(1, labels={"Team": "Blue", "site": "x"}), machine(2, labels={"Team": "blue"}), machine(3, labels={})
    )
    with client_of(leonardo) as (client, _):
        assert ids(client.get(API, params={"limit": "100"})) == []
        assert ids(client.get(API, params={"Team": "BLUE"})) == [1, 2]
        assert ids(client.get(API, params={"Team": "blue", "site": "x"})) == [1]
        assert ids(client.get(API, params={"runtimeName": "all-of-us-3"})) == [3]
        assert ids(client.get(API, params={"includeLabels": "Team"})) == [1, 2, 3]


def test_labels_in_one_parameter_stand_instead_of_all_others() -> None:
    with client_of(installation(machine(1, labels={"a": "1", "b": "2"}), machine(2, labels={"a": "1"}))) as (client, _):
        assert ids(client.get(API, params={"_labels": "a=1,b=2", "limit": "5"})) == [1]
        for bad in ("", "a", "a=1=2"):
            answer = client.get(API, params={"_labels": bad})
            assert answer.status_code == 400
            assert answer.json()["exceptionClass"].endswith(".ParseLabelsException")


def test_the_caller_can_list_its_own_only() -> None:
    leonardo = installation(machine(1), machine(2, creator="me@example.org"), caller="me@example.org")
    with client_of(leonardo) as (client, _):
        assert ids(client.get(API, params={"role": "creator"})) == [2]
        assert ids(client.get(API, params={"creator": "me@example.org"})) == [2]
        assert client.get(API, params={"role": "owner"}).status_code == 400
        assert client.get(API, params={"creator": "you@example.org"}).status_code == 400


def test_raw_rows_are_listed_as_they_are() -> None:
    rows = [(None, b'"no runtime"'), ("terra-1", b'{"id":7}'), ("terra-raw", b"null")]
    with client_of(installation(raw_rows=rows)) as (client, _):
        assert client.get(API).json()[1:] == ["no runtime", {"id": 7}, None]
        assert client.get(f"{API}/terra-1").json()[1:] == [{"id": 7}]
        assert client.get(f"{API}/terra-raw").json() == [None]


# What the caller may see.

NOT_FOUND = (404, "RuntimeNotFoundException")
FORBIDDEN = (403, "ForbiddenError")


@pytest.mark.parametrize("project", ["terra-2", "never-heard-of"])
def test_a_project_without_a_role_and_one_that_is_unknown_have_empty_lists(project: str) -> None:
    leonardo = installation(machine(1), machine(2, "terra-2"), roles={"terra-2": Role.NONE})
    with client_of(leonardo) as (client, _):
        assert [ids(client.get(API)), ids(client.get(f"{API}/{project}"))] == [[1], []]
        assert [ids(client.get(DISKS)), ids(client.get(f"{DISKS}/{project}"))] == [[1001], []]


def test_what_may_not_be_seen_is_not_found_whatever_is_asked_of_it() -> None:
    with client_of(installation(roles={"terra-1": Role.NONE})) as (client, _):
        assert [refused(answer) for answer in attempts(client)] == [NOT_FOUND] * 3
        assert [refused(answer) for answer in attempts(client, f"{API}/terra-1/none")] == [NOT_FOUND] * 3
        assert [refused(answer) for answer in attempts(client, f"{API}/never-heard-of/none")] == [NOT_FOUND] * 3


def test_what_may_be_read_but_not_acted_on_is_listed_and_forbids_acts() -> None:
    leonardo = installation(roles={"terra-1": Role.READER})
    with client_of(leonardo) as (client, _):
        look, stop, delete = attempts(client)
        assert (ids(client.get(f"{API}/terra-1")), ids(client.get(DISKS)), look.status_code) == ([1], [1001], 200)
    assert [refused(stop), refused(delete)] == [FORBIDDEN, FORBIDDEN]
    assert delete.json()["message"].startswith(leonardo.caller)


def test_an_owner_may_not_modify_and_before_2025_could_not_stop() -> None:
    leonardo = installation()
    with client_of(leonardo) as (client, _):
        assert refused(client.patch(ITEM, json={})) == FORBIDDEN
        assert client.post(f"{ITEM}/stop").status_code == 202
        leonardo.roles["terra-1"] = Role.OWNER_WITHOUT_STOP
        assert refused(client.post(f"{ITEM}/start")) == FORBIDDEN


def test_what_the_caller_has_created_is_its_own_without_any_role() -> None:
    mine = machine(2, "terra-2", creator=ME)
    leonardo = installation(machine(1, "terra-2"), mine, caller=ME, roles={"terra-2": Role.NONE})
    with client_of(leonardo) as (client, _):
        assert [ids(client.get(API)), ids(client.get(f"{DISKS}/terra-2"))] == [[2], [1002]]
        assert [answer.status_code for answer in attempts(client, f"{API}/terra-2/all-of-us-2")] == [200, 202, 202]


def test_a_role_is_taken_away_and_given_back_while_it_serves() -> None:
    leonardo = installation(raw_rows=[("terra-1", b'{"id":7}')])
    with client_of(leonardo) as (client, _):
        assert ids(client.get(API)) == [1, 7]
        assert client.post("/sandbox/roles", json={"terra-1": "none"}).status_code == 204
        assert [ids(client.get(API)), ids(client.get(DISKS))] == [[], []]
        assert refused(client.get(ITEM)) == NOT_FOUND
        del leonardo.roles["terra-1"]
        assert [ids(client.get(API)), ids(client.get(DISKS))] == [[1, 7], [1001]]
        assert client.post("/sandbox/roles", json={"terra-1": "king"}).status_code == 400


def test_a_row_can_be_listed_and_not_be_found_for_ever() -> None:
    clock = Clock()
    with client_of(installation(machine(hidden=True), now=clock)) as (client, _):
        assert [refused(answer) for answer in attempts(client)] == [NOT_FOUND] * 3
        clock.passes(days=30)
        assert ids(client.get(API)) == ids(client.get(f"{API}/terra-1")) == [1]
        assert refused(client.get(ITEM)) == NOT_FOUND


@pytest.mark.parametrize("status", [401, 403, 404, 503])
@pytest.mark.parametrize("exception_class", ["model.AuthProviderException", "dao.sam.SamException"])
def test_a_fault_of_sam_passes_through_with_sams_code(status: int, exception_class: str) -> None:
    shape = {"source": "leonardo", "message": "Error from Sam", "statusCode": status, "traceId": None}
    body = json.dumps(shape | {"exceptionClass": f"class org.broadinstitute.dsde.workbench.leonardo.{exception_class}"})
    with client_of(installation(), Fault(times=5, status=status, body=body)) as (client, _):
        answers = [*attempts(client), client.get(API), client.get(DISKS)]
        assert [refused(answer) for answer in answers] == [(status, exception_class.rpartition(".")[2])] * 5
        assert client.get(ITEM).status_code == 200


# What acts do.


def test_an_accepted_act_is_answered_in_text() -> None:
    with client_of(installation()) as (client, _):
        answers = [client.post(f"{ITEM}/stop"), client.delete(ITEM)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].headers["content-type"].startswith("text/plain")
    assert answers[0].text.startswith("The request has been accepted for processing")


@pytest.mark.parametrize("parameters", ["", "?includeDeleted=true", "?includeDeleted=TRUE", "?includeDeleted="])
def test_what_is_deleted_is_in_no_list_whatever_is_sent(parameters: str) -> None:
    gone = machine(1, status=TrueStatus.DELETED, destroyed=NOW)
    with client_of(installation(gone, machine(2), machine(3, status=TrueStatus.DELETING))) as (client, _):
        assert ids(client.get(f"{API}{parameters}")) == [2, 3]
        assert ids(client.get(f"{API}/terra-1{parameters}")) == [2, 3]
        assert refused(client.get(ITEM)) == NOT_FOUND


def test_what_is_deleted_while_a_list_is_sent_is_left_out_of_it() -> None:
    leonardo = installation(machine(1), machine(2), machine(3))
    rows = leonardo.rows("terra-1", {})
    sent = [json.loads(next(rows))["id"]]
    Users(leonardo).reset("terra-1", "all-of-us-2")
    assert [*sent, *(json.loads(row)["id"] for row in rows)] == [1, 3]


def test_a_deletion_detaches_the_disk_and_ends_out_of_the_list_while_the_disk_stays() -> None:
    clock = Clock()
    with client_of(installation(now=clock)) as (client, _):
        assert client.delete(ITEM, params={"deleteDisk": "false"}).status_code == 202
        clock.passes(seconds=4.999)
        (row,) = client.get(API).json()
        assert (row["status"], row["runtimeConfig"]["persistentDiskId"]) == ("Deleting", None)
        assert row["auditInfo"]["dateAccessed"] == instant_text(NOW)
        assert client.get(ITEM).json()["diskConfig"] is None

        clock.passes(seconds=0.001)
        assert ids(client.get(API)) == ids(client.get(f"{API}/terra-1")) == []
        assert [refused(answer) for answer in attempts(client)] == [NOT_FOUND] * 3
        (disk,) = client.get(f"{DISKS}/terra-1").json()
        assert (disk["id"], disk["status"]) == (1001, "Ready")


def test_a_deletion_that_fails_after_it_has_detached_the_disk_leaves_it_detached() -> None:
    with client_of(installation(), Fault(call="delete", status=500, detach=True)) as (client, _):
        assert client.delete(ITEM).status_code == 500
        item = client.get(ITEM).json()
        assert (item["status"], item["runtimeConfig"]["persistentDiskId"], item["diskConfig"]) == (
            "Running",
            None,
            None,
        )
        assert ids(client.get(DISKS)) == [1001]
        assert client.delete(ITEM).status_code == 202


def test_a_deletion_can_end_in_error_and_be_asked_for_again() -> None:
    clock = Clock()
    leonardo = installation(machine(deletion_ends_in="error"), now=clock)
    with client_of(leonardo) as (client, _):
        client.delete(ITEM)
        clock.passes(hours=1)
        item = client.get(ITEM).json()
        (error,) = item["errors"]
        assert set(error) == {"errorMessage", "errorCode", "timestamp", "traceId"}
        ended = instant_text(NOW + 5 * SECONDS)
        assert (item["status"], item["auditInfo"]["dateAccessed"], error["timestamp"]) == ("Error", ended, ended)
        assert item["runtimeConfig"]["persistentDiskId"] is None

        leonardo.machine("terra-1", "all-of-us-1").deletion_ends_in = "gone"
        assert client.delete(ITEM).status_code == 202
        clock.passes(seconds=5)
        assert ids(client.get(API)) == []


def test_a_deletion_that_was_answered_with_500_can_end_in_error() -> None:
    clock = Clock()
    fault = Fault(call="delete", status=500, act_first=True)
    with client_of(installation(machine(deletion_ends_in="error"), now=clock), fault) as (client, _):
        assert client.delete(ITEM).status_code == 500
        clock.passes(seconds=5)
        assert client.get(API).json()[0]["status"] == "Error"


def test_a_deletion_can_take_for_ever_for_one_runtime_or_for_all() -> None:
    clock = Clock()
    leonardo = installation(machine(1, deletion_ends_in="never"), machine(2), now=clock)
    with client_of(leonardo) as (client, _):
        client.delete(ITEM)
        client.delete(f"{API}/terra-1/all-of-us-2")
        leonardo.deletion_takes = None
        clock.passes(days=30)
        assert [row["status"] for row in client.get(API).json()] == ["Deleting", "Deleting"]
        assert client.delete(ITEM).status_code == 409
        leonardo.deletion_takes = timedelta(0)
        assert ids(client.get(API)) == [1]


def test_a_runtime_without_a_machine_is_gone_at_once() -> None:
    failed = machine(status=TrueStatus.ERROR, came_to_be=False)
    with client_of(installation(failed, deletion_takes=None)) as (client, _):
        assert client.get(ITEM).json()["asyncRuntimeFields"] is None
        assert client.delete(ITEM).status_code == 202
        assert ids(client.get(API)) == []
        assert refused(client.get(ITEM)) == NOT_FOUND
        assert ids(client.get(DISKS)) == [1001]


def test_a_second_delete_is_a_conflict() -> None:
    with client_of(installation()) as (client, _):
        client.delete(ITEM)
        answer = client.delete(ITEM)
    assert answer.status_code == answer.json()["statusCode"] == 409
    assert "cannot be deleted in Deleting status" in answer.json()["message"]


@pytest.mark.parametrize("status", TrueStatus)
def test_a_status_is_shown_masked_and_refused_by_its_true_name(status: TrueStatus) -> None:
    with client_of(installation(machine(status=status))) as (client, _):
        shown = client.get(ITEM).json().get("status")
        answer = client.delete(ITEM)
    if status is TrueStatus.DELETED:
        assert answer.status_code == 404
    elif status.startswith("Pre") or status in (TrueStatus.CREATING, TrueStatus.DELETING):
        assert shown == status.removeprefix("Pre")
        message = f"Runtime Gcp/terra-1/all-of-us-1 cannot be deleted in {status} status, please wait and try again"
        assert answer.json()["message"] == message
        assert answer.json()["exceptionClass"].endswith(".RuntimeCannotBeDeletedException")
    else:
        assert shown == status
        assert answer.status_code == 202


@pytest.mark.parametrize(("sent", "deleted"), [("true", {1001}), ("True", set()), ("1", set()), ("false", set())])
def test_only_the_literal_true_deletes_the_disk(sent: str, deleted: set[int]) -> None:
    clock = Clock()
    leonardo = installation(now=clock)
    with client_of(leonardo) as (client, _):
        client.delete(ITEM, params={"deleteDisk": sent})
        assert [row["status"] for row in client.get(DISKS).json()] == ["Deleting" if deleted else "Ready"]
        clock.passes(seconds=5)
        assert ids(client.get(DISKS)) == ([] if deleted else [1001])
    assert leonardo.deleted_disks == deleted


def test_stopping_and_starting_go_through_their_hidden_states() -> None:
    clock = Clock()
    leonardo = installation(now=clock)
    with client_of(leonardo) as (client, _):
        assert client.post(f"{ITEM}/start").json()["message"].startswith("Runtime Gcp/terra-1/all-of-us-1 cannot be st")
        assert client.post(f"{ITEM}/stop").status_code == 202
        assert client.get(ITEM).json()["status"] == "Stopping"
        assert client.post(f"{ITEM}/stop").status_code == 202
        clock.now += timedelta(seconds=5)
        assert client.get(ITEM).json()["status"] == "Stopped"
        assert client.post(f"{ITEM}/start").status_code == 202
        assert client.get(ITEM).json()["status"] == "Starting"
        clock.now += timedelta(seconds=5)
        assert client.get(ITEM).json()["status"] == "Running"


def test_moves_that_take_for_ever_or_were_overtaken_change_nothing() -> None:
    clock = Clock()
    leonardo = installation(now=clock, move_takes=None)
    leonardo.stop("terra-1", "all-of-us-1")
    clock.now += timedelta(days=1)
    assert leonardo.machine("terra-1", "all-of-us-1").status is TrueStatus.STOPPING
    leonardo.delete("terra-1", "all-of-us-1")
    leonardo.move_takes = timedelta(0)
    assert leonardo.machine("terra-1", "all-of-us-1").status is TrueStatus.DELETING


@pytest.mark.parametrize(
    ("body", "threshold"),
    [
        ({}, 30),
        ({"labelsToUpsert": {"a": "b"}}, 30),
        ({"autopause": False, "autopauseThreshold": 60}, 0),
        ({"autopauseThreshold": 60}, 60),
        ({"autopause": True, "autopauseThreshold": 480}, 480),
    ],
)
def test_a_patch_resets_the_threshold_and_with_it_the_idle_clock(body: dict[str, Any], threshold: int) -> None:
    mine = machine(autopause_threshold=480, creator=ME)
    with client_of(installation(mine, caller=ME)) as (client, _):
        assert client.patch(ITEM, json=body).status_code == 202
        item = client.get(ITEM).json()
    assert item["autopauseThreshold"] == threshold
    assert (item["auditInfo"]["dateAccessed"] == instant_text(NOW)) == (threshold != 480)


def test_a_patch_that_cannot_be_read_is_refused_in_text() -> None:
    with client_of(installation()) as (client, _):
        assert client.patch(ITEM, content=b"{}").status_code == 415
        malformed = client.patch(ITEM, content=b"{", headers={"content-type": "application/json"})
    assert malformed.status_code == 400
    assert malformed.headers["content-type"].startswith("text/plain")


def test_autopause_stops_what_is_idle_where_it_works() -> None:
    unpaused = [machine(2, kernel_busy=True), machine(3, autopause_threshold=0), machine(4, accessed=NOW)]
    leonardo = installation(machine(1), *unpaused, machine(5, autopause_threshold=-1), pauses_idle=False)
    with client_of(leonardo) as (client, _):
        assert {row["status"] for row in client.get(API).json()} == {"Running"}
        leonardo.pauses_idle = True
        rows = client.get(API).json()
    assert [row["status"] for row in rows] == ["Stopped", "Running", "Running", "Running", "Stopped"]
    assert rows[0]["auditInfo"]["dateAccessed"] == instant_text(NOW - timedelta(hours=5) + timedelta(minutes=30))
    assert rows[4]["auditInfo"]["dateAccessed"] == instant_text(NOW - timedelta(hours=5))


# What users do.


def test_users_create_use_stop_label_reset_and_delete_whatever_the_caller_may() -> None:
    clock = Clock()
    leonardo = Leonardo(now=clock, roles={"terra-1": Role.READER})
    users = Users(leonardo)

    def seen(client: httpx.Client) -> tuple[int, str, str]:
        clock.passes(seconds=5)
        item = client.get(ITEM).json()
        return item["id"], item["status"], item["auditInfo"]["dateAccessed"]

    with client_of(leonardo) as (client, _):
        users.create("terra-1", "all-of-us-1", creator="somebody@example.org")
        assert seen(client) == (1, "Running", instant_text(NOW + 5 * SECONDS))
        users.touch("terra-1", "all-of-us-1")
        users.label("terra-1", "all-of-us-1", team="blue")
        assert client.get(ITEM).json()["labels"]["team"] == "blue"
        users.stop("terra-1", "all-of-us-1")
        assert seen(client) == (1, "Stopped", instant_text(NOW + 10 * SECONDS))
        users.start("terra-1", "all-of-us-1")
        assert seen(client) == (1, "Running", instant_text(NOW + 15 * SECONDS))
        assert users.reset("terra-1", "all-of-us-1").persistent_disk_id == 1001
        assert seen(client) == (2, "Running", instant_text(NOW + 15 * SECONDS))
        users.delete("terra-1", "all-of-us-1")
        clock.passes(seconds=5)
        assert [ids(client.get(API)), ids(client.get(DISKS))] == [[], [1001]]
    assert [(m.id, m.creator) for m in leonardo.everything()] == [
        (1, "somebody@example.org"),
        (2, "somebody@example.org"),
    ]


def test_a_kept_disk_can_be_used_again_and_deleted_only_while_it_is_free() -> None:
    clock = Clock()
    leonardo = installation(now=clock)
    users = Users(leonardo)
    with client_of(leonardo) as (client, _):
        with pytest.raises(RefusedError, match="1001 is not free"):
            users.create("terra-1", "another", disk=1001)
        users.delete("terra-1", "all-of-us-1")
        users.create("terra-1", "another", disk=1001)
        clock.passes(seconds=5)
        (row,) = client.get(API).json()
        assert (row["id"], row["runtimeConfig"]["persistentDiskId"]) == (2, 1001)
        with pytest.raises(RefusedError, match="1001 is not free"):
            users.delete_disk(1001)
        users.delete("terra-1", "another")
        users.delete_disk(1001)
        assert ids(client.get(DISKS)) == []
        with pytest.raises(RefusedError, match="1001 not found"):
            users.delete_disk(1001)


def test_a_creation_that_fails_ends_in_error_without_a_machine_and_without_the_disk() -> None:
    clock = Clock()
    leonardo = Leonardo(now=clock)
    with client_of(leonardo) as (client, _):
        Users(leonardo).create("terra-1", "all-of-us-1", comes_to_be=False)
        assert client.get(ITEM).json()["status"] == "Creating"
        clock.passes(seconds=5)
        item = client.get(ITEM).json()
        assert (item["status"], item["asyncRuntimeFields"], item["diskConfig"]) == ("Error", None, None)
        assert [error["errorMessage"] for error in item["errors"]] == ["the zone has no capacity"]
        assert client.delete(ITEM).status_code == 202
        assert ids(client.get(API)) == []


def test_a_name_is_taken_until_its_runtime_is_gone() -> None:
    clock = Clock()
    leonardo = installation(now=clock)
    leonardo.delete("terra-1", "all-of-us-1")
    with pytest.raises(RefusedError, match="already exists"):
        Users(leonardo).create("terra-1", "all-of-us-1")
    clock.passes(seconds=5)
    leonardo.settle()
    assert Users(leonardo).create("terra-1", "all-of-us-1").id == 2


def test_a_reset_overtakes_a_deletion_that_is_under_way() -> None:
    clock = Clock()
    leonardo = installation(now=clock)
    leonardo.delete("terra-1", "all-of-us-1")
    new = Users(leonardo).reset("terra-1", "all-of-us-1")
    clock.passes(minutes=1)
    assert leonardo.machine("terra-1", "all-of-us-1") is new


def test_a_stop_is_overtaken_by_a_start() -> None:
    clock = Clock()
    leonardo = installation(now=clock)
    leonardo.stop("terra-1", "all-of-us-1")
    clock.passes(seconds=1)
    leonardo.start("terra-1", "all-of-us-1")
    clock.passes(seconds=4)
    assert leonardo.machine("terra-1", "all-of-us-1").status is TrueStatus.STARTING
    clock.passes(seconds=1)
    assert leonardo.machine("terra-1", "all-of-us-1").status is TrueStatus.RUNNING


def test_thirty_days_pass_in_no_time_and_always_alike() -> None:
    def month() -> list[tuple[int, TrueStatus, datetime]]:
        clock = Clock()
        leonardo = Leonardo(make_fleet(60, 7, NOW), now=clock, pauses_idle=True)
        users = Users(leonardo)
        for day in range(30):
            clock.passes(days=1)
            leonardo.settle()
            users.create("terra-new", f"all-of-us-{day}")
            for old in [m for m in leonardo.living() if is_due(m, clock.now)]:
                leonardo.delete(old.project, old.name)
        return [(m.id, m.status, m.accessed) for m in leonardo.everything()]

    ended = month()
    assert ended == month()
    assert {status for _, status, _ in ended} > {TrueStatus.DELETED, TrueStatus.STOPPED}
    assert len(ended) == 90


# What disks look like.


def test_a_disk_item_has_exactly_leonardos_keys() -> None:
    with client_of(installation()) as (client, _):
        (row,) = client.get(DISKS).json()
        item = client.get(ITEM).json()
    assert set(row) == DISK_KEYS
    assert set(row["auditInfo"]) == {"creator", "createdDate", "destroyedDate", "dateAccessed"}
    assert (row["id"], row["status"]) == (item["runtimeConfig"]["persistentDiskId"], "Ready")
    assert row["cloudContext"] == {"cloudProvider": "GCP", "cloudResource": "terra-1"}
    assert {key: row[key] for key in item["diskConfig"]} == item["diskConfig"]


def test_a_disk_has_the_labels_that_are_asked_for_by_name() -> None:
    with client_of(installation(machine(labels={"team": "blue", "site": "x"}))) as (client, _):
        ((without,), (some,)) = (client.get(f"{DISKS}{ask}").json() for ask in ("", "?includeLabels=team,diskName,no"))
        assert (without["labels"], some["labels"]) == ({}, {"team": "blue", "diskName": "all-of-us-pd-1001"})
        assert [ids(client.get(f"{DISKS}?team=BLUE")), ids(client.get(f"{DISKS}?limit=100"))] == [[1001], []]


@pytest.mark.parametrize("status", DiskStatus)
def test_a_disk_can_be_attached_to_nothing_and_in_any_state(status: DiskStatus) -> None:
    left = Disk(id=9, project="terra-2", name="left", status=status, created=NOW, accessed=NOW, disk_type="pd-ssd")
    leonardo = installation(disks={9: left})
    with client_of(leonardo) as (client, _):
        (row,) = client.get(f"{DISKS}/terra-2").json()
        assert (row["id"], row["status"], row["diskType"]) == (9, status, "pd-ssd")
        assert sorted(ids(client.get(DISKS))) == [9, 1001]
        del leonardo.disks[9]
        assert ids(client.get(f"{DISKS}/terra-2")) == []


@pytest.mark.parametrize("config_type", ["GceConfig", "Dataproc", "AzureVmConfig"])
def test_other_kinds_of_machines_have_no_disk_to_list(config_type: ConfigType) -> None:
    provider = "AZURE" if config_type == "AzureVmConfig" else "GCP"
    with client_of(installation(machine(config_type=config_type, cloud_provider=provider))) as (client, _):
        assert ids(client.get(DISKS)) == []


def test_an_old_row_can_leave_out_what_is_optional() -> None:
    with client_of(installation(machine(omits=("configType", "cloudContext")))) as (client, _):
        (row,) = client.get(API).json()
        item = client.get(ITEM).json()
    assert set(row) == LIST_KEYS - {"cloudContext"}
    assert set(item) == GET_KEYS - {"cloudContext"}
    for seen in (row, item):
        assert set(seen["runtimeConfig"]) == CONFIG_KEYS["GceWithPdConfig"] - {"configType"}


# How HTTP behaves.


def test_every_good_answer_hands_the_token_out_as_a_cookie() -> None:
    with client_of(installation()) as (client, _):
        with_token = client.get(API, headers={"authorization": "Bearer s3cret"})
        assert with_token.headers["set-cookie"].startswith("LeoToken=s3cret;")
        assert client.get(ITEM).headers["set-cookie"].startswith("LeoToken=none;")
        assert "set-cookie" not in client.get(f"{API}/terra-1/never-heard-of").headers


def test_a_wrong_token_is_refused_by_the_proxy_in_front() -> None:
    with client_of(installation(), required_token="right") as (client, _):  # noqa: S106 - no secret
        refused = client.get(API, headers={"authorization": "Bearer wrong"})
        assert refused.status_code == 401
        assert refused.headers["content-type"].startswith("text/html")
        assert ids(client.get(API, headers={"authorization": "Bearer right"})) == [1]


def test_paths_methods_and_names_that_do_not_exist() -> None:
    with client_of(installation()) as (client, _):
        unknown = client.get("/api/google/v1/nothing")
        assert (unknown.status_code, type(unknown.json())) == (404, str)
        assert client.put(ITEM).status_code == 405
        bad_name = client.get(f"{API}/terra-1/Bad_Name")
        assert bad_name.status_code == 400
        assert bad_name.headers["content-type"].startswith("text/plain")
        assert client.get(f"{API}/terra-1/none").status_code == 404
        assert ids(client.get(f"{API}/")) == [1]


def test_status_and_version_are_told() -> None:
    with client_of(installation()) as (client, _):
        assert client.get("/status").json()["systems"]["Sam"] == {"ok": True, "messages": None}
        assert set(client.get("/version").json()) == {"version"}


def test_requests_are_logged_without_the_token() -> None:
    with client_of(installation(), latency=0.001) as (client, server):
        headers = {"authorization": "Bearer s3cret", "cookie": "a=b", "x-cloud-trace-context": "t/1", "user-agent": "u"}
        client.get(f"{API}/terra-1?includeDeleted=true", headers=headers)
        client.get(f"{API}/terra-1", headers={"user-agent": "u"})
        client.get(ITEM)
        client.get("/nothing")
        first, second, third, fourth = server.requests
        shown = client.get("/sandbox/requests")
    assert (first.call, first.query, first.status) == ("project_list", "includeDeleted=true", 200)
    assert (first.trace, first.user_agent, first.cookie, first.authorization) == ("t/1", "u", True, True)
    assert (second.call, second.cookie, second.authorization, second.in_flight) == ("project_list", False, False, 1)
    assert (third.call, third.project, third.name, third.method) == ("get", "terra-1", "all-of-us-1", "GET")
    assert (fourth.call, fourth.status) == (None, 404)
    assert shown.json()["max_in_flight"] == 1
    assert [entry["path"] for entry in shown.json()["requests"]] == [entry.path for entry in server.requests]
    assert "s3cret" not in shown.text


def test_concurrent_requests_are_counted() -> None:
    with client_of(installation(), Fault(call="list", hang=True)) as (client, server), hanging(server):
        client.get(ITEM)
        assert [entry.in_flight for entry in server.requests] == [1, 2]
        assert server.max_in_flight == server.requests[1].max_in_flight == 2
        client.post("/sandbox/reset-requests")
        assert (server.requests, server.max_in_flight) == ([], 1)


def test_another_process_sees_the_true_state() -> None:
    with client_of(installation(machine(status=TrueStatus.PRE_STARTING, persistent_disk_id=5))) as (client, _):
        (seen,) = client.get("/sandbox/machines").json()["machines"]
        (disk,) = client.get("/sandbox/machines").json()["disks"]
    assert (seen["status"], seen["persistent_disk_id"], seen["kernel_busy"], disk["id"]) == ("PreStarting", 5, False, 5)
    assert not any(key.startswith("_") for key in seen)


# What can go wrong.


def test_a_fault_answers_instead_of_acting() -> None:
    fault = Fault(call="delete", status=503, body="busy", content_type="text/plain", headers={"Retry-After": "7"})
    with client_of(installation(), fault) as (client, _):
        refused = client.delete(ITEM)
        assert (refused.status_code, refused.text, refused.headers["retry-after"]) == (503, "busy", "7")
        assert client.get(ITEM).json()["status"] == "Running"
        assert client.delete(ITEM).status_code == 202


def test_a_fault_can_hide_that_the_act_was_done() -> None:
    with client_of(installation(), Fault(call="delete", status=503, act_first=True)) as (client, _):
        assert client.delete(ITEM).status_code == 503
        assert client.get(ITEM).json()["status"] == "Deleting"


def test_a_fault_resets_the_connection() -> None:
    with client_of(installation(), Fault(call="delete", reset=True)) as (client, server):
        with pytest.raises(httpx.ReadError, match="reset"):
            client.delete(ITEM)
        assert client.get(ITEM).json()["status"] == "Running"
        assert server.requests[0].status is None


def test_a_fault_never_answers() -> None:
    with client_of(installation(), Fault(call="get", hang=True)) as (client, server):
        with pytest.raises(httpx.ReadTimeout):
            client.get(ITEM, timeout=0.05)
        assert client.get(ITEM).status_code == 200
        assert server.requests[0].status is None


def test_a_sandbox_ends_though_a_client_still_hangs() -> None:
    with ExitStack() as client_left, serving(installation(), faults=[Fault(hang=True)]) as server:
        client_left.enter_context(hanging(server))


@pytest.mark.parametrize("path", [API, ITEM])
def test_a_fault_cuts_the_body_short_of_its_announced_length(path: str) -> None:
    with client_of(installation(), Fault(truncate=0.5)) as (client, _):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body") as cut:
            client.get(path)
        whole = client.get(path)
    assert f"received {len(whole.content) // 2} bytes, expected {len(whole.content)}" in str(cut.value)


def test_a_fault_drips_the_body() -> None:
    with client_of(installation(), Fault(call="list", drip=0.001, delay=0.001)) as (client, _):
        assert ids(client.get(API)) == [1]


@pytest.mark.unmeasured
def test_a_client_may_leave_in_the_middle_of_a_body() -> None:
    machines = [machine(number) for number in range(1, 5001)]
    with client_of(Leonardo(machines), Fault(call="list", drip=0.001)) as (client, server):
        for _ in range(2):
            with client.stream("GET", API) as answer:
                next(answer.iter_raw())
        while server.log.in_flight:
            pass
        assert len(ids(client.get(API))) == 5000


@pytest.mark.parametrize(
    ("act", "status"), [("touch", "Running"), ("stop", "Stopping"), ("delete", "Deleting"), ("reset", "Running")]
)
def test_a_user_comes_in_before_the_call_is_looked_at(act: str, status: str) -> None:
    fault = {"call": "get", "user": act, "project": "terra-1", "name": "all-of-us-1"}
    with client_of(installation()) as (client, _):
        assert client.post("/sandbox/faults", json=[fault]).status_code == 204
        item = client.get(ITEM).json()
    assert item["status"] == status
    assert item["auditInfo"]["dateAccessed"] == instant_text(NOW)
    assert (item["id"] == 1) == (act != "reset")


def test_what_a_user_may_not_do_is_left_undone() -> None:
    with client_of(installation(), Fault(call="get", user="start"), Fault(call="list", user="stop")) as (client, _):
        assert client.get(ITEM).json()["status"] == "Running"
        assert client.get(API).json()[0]["status"] == "Running"


def test_faults_are_taken_in_turn() -> None:
    first = Fault(call="get", project="p", name="n")
    second = Fault(call="any", skip=1, times=2)
    script = FaultScript([first, second])
    assert script.take("get", "p", "n") is first
    assert script.take("get", "p", "other") is second
    assert script.take("list", None, None) is second
    assert script.take("get", "p", "n") is None
    for_ever = Fault(call="delete", times=None)
    script.add(for_ever)
    assert [script.take("delete", "p", "n") for _ in range(3)] == [for_ever] * 3
    script.clear()
    assert script.take("delete", "p", "n") is None


# The made-up fleet.


def is_due(machine: Machine, instant: datetime) -> bool:
    age, idle = instant - machine.created, instant - machine.accessed
    old = age > timedelta(days=14) or (age > timedelta(days=7) and idle >= timedelta(hours=4))
    return machine.status in (TrueStatus.RUNNING, TrueStatus.STOPPED) and old


@pytest.mark.parametrize(("runtimes", "due", "expected"), [(400, None, 32), (400, 0, 0), (50, 50, 50), (1000, 17, 17)])
@pytest.mark.parametrize("seed", [7, 8])
def test_a_fleet_has_exactly_as_many_due_as_wanted_for_hours(
    runtimes: int, due: int | None, expected: int, seed: int
) -> None:
    fleet = make_fleet(runtimes, seed, NOW, due=due)
    assert len(fleet) == runtimes
    for hours in (-3, 0, 3):
        assert sum(is_due(machine, NOW + timedelta(hours=hours)) for machine in fleet) == expected


def test_a_fleet_depends_on_nothing_but_its_seed() -> None:
    assert make_fleet(200, 7, NOW) == make_fleet(200, 7, NOW)
    assert make_fleet(200, 7, NOW) != make_fleet(200, 8, NOW)


def test_a_fleet_has_some_of_everything() -> None:
    fleet = make_fleet(400, 7, NOW)
    assert {machine.status for machine in fleet} == set(TrueStatus) - {TrueStatus.DELETED}
    assert {machine.config_type for machine in fleet if is_due(machine, NOW)} == {
        "GceWithPdConfig",
        "GceConfig",
        "Dataproc",
    }
    assert {machine.autopause_threshold for machine in fleet} == {0, 30, 480, 14400, 20160}
    assert any(machine.kernel_busy for machine in fleet)
    assert len({(machine.project, machine.name) for machine in fleet}) == 400
    assert len({machine.project for machine in fleet}) < 400
    assert {len(instant_text(machine.created)) for machine in fleet} == {20, 24, 27}
    assert all(machine.created <= machine.accessed <= NOW for machine in fleet)
    errored = [machine for machine in fleet if machine.status is TrueStatus.ERROR]
    assert {machine.came_to_be for machine in errored} == {True, False}
    assert all(machine.errors for machine in errored)


def test_a_fleet_has_disks_attached_detached_and_of_rows_that_do_not_say_their_kind() -> None:
    with client_of(made_up(400)) as (client, _):
        rows = client.get(API).json()
        disks = {row["id"]: row for row in client.get(DISKS).json()}
    configs = [row["runtimeConfig"] for row in rows if row["status"] in ("Running", "Stopped")]
    attached = {config.get("persistentDiskId") for config in configs} - {None}
    assert attached < set(disks)
    assert any(c.get("configType") == "GceWithPdConfig" and c["persistentDiskId"] is None for c in configs)
    assert any("configType" not in config and config.get("persistentDiskId") for config in configs)
    assert "Deleted" not in {row["status"] for row in rows}
    assert {"Error", "Deleting", "Unknown"} < {row["status"] for row in rows}
    unattached = [disks[number] for number in set(disks) - attached]
    assert {disk["status"] for disk in unattached} == {"Ready", "Failed", "Deleting", "Error"}
    assert {disk["diskType"] for disk in unattached} == {"pd-standard", "pd-ssd"}


def test_what_is_left_from_before_is_older_than_what_is_there() -> None:
    fleet = make_fleet(400, 7, NOW)
    left = left_disks(fleet, NOW)
    assert max(left) < min(machine.id for machine in fleet)
    assert len(left) == 50
    assert all(disk.created < min(disk.accessed, NOW - timedelta(days=20)) for disk in left.values())


def test_some_deletions_of_a_fleet_end_in_error_and_some_never_where_that_is_wanted() -> None:
    assert {m.deletion_ends_in for m in make_fleet(400, 7, NOW)} == {"gone"}
    assert {m.deletion_ends_in for m in make_fleet(400, 7, NOW, deletions_broken=True)} == {"gone", "error", "never"}


def test_a_fleet_cannot_have_more_due_than_there_are() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        make_fleet(4, 7, NOW, due=5)


def test_without_a_leonardo_the_sandbox_makes_one() -> None:
    with serving() as server:
        assert len(ids(httpx.get(server.url + API))) == 400


@pytest.mark.parametrize(("runtimes", "listed"), [(25, 25), (99, 99), (100, 100)])
def test_a_made_up_installation_has_as_many_runtimes_as_wanted(runtimes: int, listed: int) -> None:
    with client_of(made_up(runtimes)) as (client, _):
        assert len(ids(client.get(API))) == listed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_foreground_sandbox_ends_well_on_a_signal(number: signal.Signals) -> None:
    def ready(url: str) -> None:
        assert httpx.get(f"{url}/status").status_code == 200
        signal.raise_signal(number)

    before = signal.getsignal(number)
    serve_forever(serving(made_up(3)), ready)
    assert signal.getsignal(number) is before


def test_who_is_not_there_cannot_be_asked_for() -> None:
    with pytest.raises(RefusedError, match="not found"):
        installation().machine("terra-1", "nobody")
