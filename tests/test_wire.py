"""Leonardo's JSON: every item of a list, whole or not at all, however its bytes arrive."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.leonardo.array import LARGEST_ITEM
from core.leonardo.errors import ErrorKind, LeonardoError
from core.leonardo.wire import Batch, runtime_from_get, runtimes_from_list
from core.runtime import Disk, MalformedRuntime, Runtime

CREATED, ACCESSED = "2024-09-30T14:02:11.482913Z", "2024-10-21T15:29:22.123Z"


def an_item(number: int = 1201, **changes: object) -> dict[str, Any]:
    """A list item as Leonardo sends it; a change to `...` leaves a field out."""
    item: dict[str, Any] = {
        "id": number,
        "workspaceId": "3b0ad0d5-1d5c-4f0b-9d6b-0f0b6f9f2a11",
        "runtimeName": f"all-of-us-{number}",
        "googleProject": "terra-1",
        "cloudContext": {"cloudProvider": "GCP", "cloudResource": "terra-1"},
        "auditInfo": {
            "creator": "ada@example.org",
            "createdDate": CREATED,
            "destroyedDate": None,
            "dateAccessed": ACCESSED,
        },
        "runtimeConfig": {
            "machineType": "n1-standard-4",
            "persistentDiskId": 1234,
            "cloudService": "GCE",
            "bootDiskSize": 50,
            "zone": "us-west2-b",
            "gpuConfig": None,
            "configType": "GceWithPdConfig",
        },
        "proxyUrl": "https://leo.example.org/proxy/terra-1/all-of-us-1201/jupyter",
        "status": "Running",
        "labels": {"tool": "Jupyter"},
        "patchInProgress": False,
        **changes,
    }
    return {name: value for name, value in item.items() if value is not ...}


def as_runtime(number: int = 1201, **changes: Any) -> Runtime:
    """What `an_item` says."""
    fields: dict[str, Any] = {
        "id": str(number),
        "project": "terra-1",
        "name": f"all-of-us-{number}",
        "cloud_provider": "GCP",
        "status": "Running",
        "creator": "ada@example.org",
        "created_date": datetime(2024, 9, 30, 14, 2, 11, 482_913, tzinfo=UTC),
        "date_accessed": datetime(2024, 10, 21, 15, 29, 22, 123_000, tzinfo=UTC),
        "labels": {"tool": "Jupyter"},
        "disk": Disk.KEPT,
        "persistent_disk_id": "1234",
        "autopause_threshold": None,
        "machine_type": "n1-standard-4",
        **changes,
    }
    return Runtime(**fields)


def compact(value: object, *, ascii_only: bool = False) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).encode()


async def arriving(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def received(*chunks: bytes) -> tuple[list[Runtime | MalformedRuntime], LeonardoError | None]:
    return gathered(runtimes_from_list(arriving(chunks)))


def gathered(batches: AsyncIterator[Batch]) -> tuple[list[Runtime | MalformedRuntime], LeonardoError | None]:
    """The items that came, and what ended the list if it did not end well."""
    items: list[Runtime | MalformedRuntime] = []

    async def receive() -> LeonardoError | None:
        try:
            async for batch in batches:
                items.extend(batch)
        except LeonardoError as error:
            return error
        return None

    try:
        receive().send(None)  # nothing is waited for: a loop would cost more than what it runs
    except StopIteration as ended:
        return items, ended.value
    raise AssertionError("the decoder waits for something")


def listed(*items: object) -> list[Runtime | MalformedRuntime]:
    got, error = received(compact(items))
    assert error is None
    return got


def only(item: object) -> Runtime:
    (runtime,) = listed(item)
    assert isinstance(runtime, Runtime)
    return runtime


# One item


def test_an_item_is_read_whole() -> None:
    assert listed(an_item()) == [as_runtime()]


def test_a_get_is_read_whole() -> None:
    body = compact(an_item(autopauseThreshold=30, customEnvironmentVariables={"SECRET": "sesame"}, errors=[]))
    runtime = runtime_from_get(body)
    assert runtime == as_runtime(autopause_threshold=timedelta(minutes=30))
    assert "sesame" not in repr(runtime)


def test_fields_that_are_missing_are_unknown() -> None:
    item = {"id": 1, "runtimeName": "x", "googleProject": "p"}
    bare = Runtime(id="1", project="p", name="x", cloud_provider=None, status=None, labels=None, disk=Disk.LOST)
    assert only(item) == bare
    nulls = ("cloudContext", "auditInfo", "runtimeConfig", "status", "labels", "autopauseThreshold")
    assert only(item | dict.fromkeys(nulls)) == bare
    assert only(item | dict.fromkeys(nulls, 7) | {"autopauseThreshold": "7"}) == bare
    assert only(item | {name: [{}] for name in nulls}) == bare


def test_the_project_is_the_cloud_resource_and_else_the_google_project() -> None:
    assert only(an_item(googleProject="other")) == as_runtime()
    azure = {"cloudProvider": "AZURE", "cloudResource": "tenant/subscription/group"}
    assert only(an_item(cloudContext=azure)) == as_runtime(cloud_provider="AZURE", project="tenant/subscription/group")
    assert only(an_item(cloudContext={"cloudProvider": "GCP"})) == as_runtime()
    assert only(an_item(cloudContext={"cloudProvider": "GCP", "cloudResource": ""})) == as_runtime()
    assert only(an_item(cloudContext=None)) == as_runtime(cloud_provider=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-09-30T14:02:11Z", datetime(2024, 9, 30, 14, 2, 11, tzinfo=UTC)),
        ("2024-09-30T14:02:11.482Z", datetime(2024, 9, 30, 14, 2, 11, 482_000, tzinfo=UTC)),
        ("2024-09-30T14:02:11.482913Z", datetime(2024, 9, 30, 14, 2, 11, 482_913, tzinfo=UTC)),
        (
            "2024-09-30T14:02:11.482913999Z",
            datetime(2024, 9, 30, 14, 2, 11, 482_914, tzinfo=UTC),
        ),  # rounded: the service sends no more than six
        ("2024-09-30T14:02:11+02:00", datetime(2024, 9, 30, 12, 2, 11, tzinfo=UTC)),
        ("1970-01-01T00:00:01Z", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("2024-09-30T14:02:11", None),
        ("2024-09-30", None),
        ("2024-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("+12024-09-30T14:02:11Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_727_704_931, None),
        (True, None),
        ([CREATED], None),
        ({"date": CREATED}, None),
    ],
)
def test_a_date_is_an_instant_with_a_zone_or_unknown(text: object, expected: datetime | None) -> None:
    audit = an_item()["auditInfo"]
    created = only(an_item(auditInfo=audit | {"createdDate": text}))
    accessed = only(an_item(auditInfo=audit | {"dateAccessed": text}))
    assert (created, accessed) == (as_runtime(created_date=expected), as_runtime(date_accessed=expected))
    if created.created_date is not None:
        assert created.created_date.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("config", "disk", "disk_id"),
    [
        ({"configType": "GceWithPdConfig", "persistentDiskId": 1234}, Disk.KEPT, "1234"),
        ({"configType": "GceWithPdConfig", "persistentDiskId": None}, Disk.DETACHED, None),
        ({"configType": "GceWithPdConfig"}, Disk.DETACHED, None),
        ({"configType": "GceWithPdConfig", "persistentDiskId": "1234"}, Disk.DETACHED, None),
        ({"configType": "GceWithPdConfig", "persistentDiskId": True}, Disk.DETACHED, None),
        ({"configType": "GceConfig", "diskSize": 100}, Disk.LOST, None),
        ({"configType": "GceConfig", "persistentDiskId": 1234}, Disk.KEPT, "1234"),
        ({"configType": "Dataproc", "masterDiskSize": 500}, Disk.LOST, None),
        ({"configType": "AzureVmConfig", "persistentDiskId": 77}, Disk.KEPT, "77"),
        ({"configType": 7, "persistentDiskId": 1234}, Disk.KEPT, "1234"),
        ({"persistentDiskId": 1234}, Disk.KEPT, "1234"),
        ({}, Disk.LOST, None),
        (None, Disk.LOST, None),
    ],
)
def test_the_disk_outlives_a_deletion_only_where_there_is_a_persistent_one(
    config: object, disk: Disk, disk_id: str | None
) -> None:
    expected = as_runtime(disk=disk, persistent_disk_id=disk_id, machine_type=None)
    assert only(an_item(runtimeConfig=config)) == expected


@pytest.mark.parametrize(
    ("config", "machine_type"),
    [
        ({"machineType": "n1-standard-4"}, "n1-standard-4"),
        (
            {"masterMachineType": "n1-highmem-8", "numberOfWorkers": 2, "workerMachineType": "n1-standard-4"},
            "n1-highmem-8",
        ),
        ({"machineType": ""}, None),
        ({"machineType": 4}, None),
        ({}, None),
    ],
)
def test_the_machine_is_that_of_the_runtime_or_of_its_cluster_s_master(
    config: object, machine_type: str | None
) -> None:
    assert only(an_item(runtimeConfig=config)).machine_type == machine_type


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), (None, False), (..., False), (1, False)])
def test_a_patch_is_in_progress_where_it_is_said_so(value: object, *, expected: bool) -> None:
    item = an_item(patchInProgress=value)
    assert only(item) == runtime_from_get(compact(item)) == as_runtime(patch_in_progress=expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30, timedelta(minutes=30)),
        (0, timedelta(0)),
        (-1, timedelta(minutes=-1)),
        (True, None),
        (30.0, None),
        ("30", None),
        (None, None),
        (9_999_999_999_999, timedelta.max),
        (-9_999_999_999_999, timedelta.min),
    ],
)
def test_the_threshold_is_whole_minutes_or_unknown(value: object, expected: timedelta | None) -> None:
    assert runtime_from_get(compact(an_item(autopauseThreshold=value))) == as_runtime(autopause_threshold=expected)


@pytest.mark.parametrize("labels", [..., None, [], "a=1", 7, {"a": "1", "b": 2}, {"a": None}, {"a": {"b": "c"}}])
def test_labels_that_are_no_object_of_texts_are_unknown(labels: object) -> None:
    assert only(an_item(labels=labels)) == as_runtime(labels=None)


def test_labels_may_be_none_or_empty_texts() -> None:
    assert only(an_item(labels={})) == as_runtime(labels={})
    assert only(an_item(labels={"a": "1", "d": ""})) == as_runtime(labels={"a": "1", "d": ""})


@pytest.mark.parametrize("status", ["Running", "Deleted", "Hibernating", "running"])
def test_a_status_is_kept_as_it_came(status: str) -> None:
    assert only(an_item(status=status)) == as_runtime(status=status)


@pytest.mark.parametrize("number", [1, 0, 2**53 + 1, 2**64 - 1, 2**64])
def test_an_id_loses_no_digit(number: int) -> None:
    assert only(an_item(id=number)) == as_runtime(id=str(number))


# Items that cannot be read


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (7, MalformedRuntime("the item is no object")),
        (None, MalformedRuntime("the item is no object")),
        ("},{", MalformedRuntime("the item is no object")),
        ([an_item()], MalformedRuntime("the item is no object")),
        ({}, MalformedRuntime("unreadable: id, project, name")),
        (an_item(id=...), MalformedRuntime("unreadable: id", None, "terra-1", "all-of-us-1201")),
        (an_item(id=None), MalformedRuntime("unreadable: id", None, "terra-1", "all-of-us-1201")),
        (an_item(id="1201"), MalformedRuntime("unreadable: id", None, "terra-1", "all-of-us-1201")),
        (an_item(id=1201.0), MalformedRuntime("unreadable: id", None, "terra-1", "all-of-us-1201")),
        (an_item(id=True), MalformedRuntime("unreadable: id", None, "terra-1", "all-of-us-1201")),
        (an_item(runtimeName=""), MalformedRuntime("unreadable: name", "1201", "terra-1", None)),
        (an_item(runtimeName=["x"]), MalformedRuntime("unreadable: name", "1201", "terra-1", None)),
        (
            an_item(googleProject=..., cloudContext="GCP"),
            MalformedRuntime("unreadable: project", "1201", None, "all-of-us-1201"),
        ),
        (
            an_item(googleProject=1, cloudContext={"cloudResource": 1}, runtimeName=None),
            MalformedRuntime("unreadable: project, name", "1201", None, None),
        ),
    ],
)
def test_an_item_that_cannot_be_read_costs_only_itself(item: object, expected: MalformedRuntime) -> None:
    good = [as_runtime(1), expected, as_runtime(2)]
    assert listed(an_item(1), item, an_item(2)) == good
    body = compact([an_item(1), item, an_item(2)])
    assert received(*(body[n : n + 1] for n in range(len(body)))) == (good, None)


@pytest.mark.parametrize("number", [b"1e400", b"9" * 5000], ids=["a float", "an integer"])
@pytest.mark.parametrize("field", [b'"status"', b'"labels":{"a":1},"auditInfo"', b'"labels"'])
def test_a_number_that_none_can_hold_counts_as_missing(field: bytes, number: bytes) -> None:
    good = compact(an_item(2))
    odd = b'{"id":1,"runtimeName":"x","googleProject":"p",%b:%b}' % (field, number)
    bare = Runtime(id="1", project="p", name="x", cloud_provider=None, status=None, labels=None, disk=Disk.LOST)
    assert received(b"[%b,%b]" % (odd, good)) == ([bare, as_runtime(2)], None)


@pytest.mark.parametrize("number", [b"1e400", b"9" * 5000], ids=["a float", "an integer"])
def test_an_id_that_is_a_number_that_none_can_hold_costs_only_its_item(number: bytes) -> None:
    items, error = received(b'[{"id":%b,"runtimeName":"x","googleProject":"p"},%b]' % (number, compact(an_item(2))))
    assert (items, error) == ([MalformedRuntime("unreadable: id", None, "p", "x"), as_runtime(2)], None)


@pytest.mark.parametrize("value", [b'"\xff"', b"1e400", b'{"\xff":[]}'])
@pytest.mark.parametrize("neighbour", [b"7", b'{"status":1}', b'{"id":1e400}'])
def test_what_nobody_reads_of_an_item_does_no_harm_beside_an_odd_one(value: bytes, neighbour: bytes) -> None:
    item = compact(an_item(1, note="x", auditInfo={"creator": "ada", "destroyedDate": "x"})).replace(b'"x"', value)
    alone, error = received(b"[%b]" % item)
    assert ([type(runtime) for runtime in alone], error) == ([Runtime], None)
    items, error = received(b"[%b,%b]" % (item, neighbour))
    assert (items[:1], len(items), error) == (alone, 2, None)


@pytest.mark.parametrize("change", [{"id": "1"}, {"runtimeName": None}, {"googleProject": 1, "cloudContext": 1}])
def test_a_single_answer_that_names_no_runtime_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(LeonardoError) as caught:
        runtime_from_get(compact(an_item(**change)))
    assert caught.value.kind is ErrorKind.UNREADABLE
    assert caught.value.message.startswith("unreadable: ")


# Bodies that are no list


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the answer is empty"),
        (b" \n\t", "the answer is empty"),
        (b"<!doctype html><title>Sign in</title>", "the answer is no JSON array"),
        (b"{}", "the answer is no JSON array"),
        (compact(an_item()), "the answer is no JSON array"),
        (b"null", "the answer is no JSON array"),
        (b'"[]"', "the answer is no JSON array"),
        (b"\xef\xbb[]", "the answer is no JSON array"),
        (b"\xef\xbb\xbf{}", "the answer is no JSON array"),
        (b"\x0b[]", "the answer is no JSON array"),
        (b"\x0c\n", "the answer is no JSON array"),
    ],
)
def test_a_body_that_is_no_array_is_unreadable(body: bytes, message: str) -> None:
    expected = LeonardoError(ErrorKind.UNREADABLE, message)
    assert received(body) == ([], expected)
    assert received(*(body[n : n + 1] for n in range(len(body)))) == ([], expected)


@pytest.mark.parametrize("body", [b"[]", b" [ ] \n", b"\n\t[\n]", b"\xef\xbb\xbf[]", b" \xef\xbb\xbf [] "])
def test_an_empty_list_is_a_list(body: bytes) -> None:
    assert received(body) == ([], None)
    assert received(*(body[n : n + 1] for n in range(len(body)))) == ([], None)
    assert received(b"", body, b"") == ([], None)


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[]]",
        b"[]x",
        b"[][]",
        b"[,]",
        b"[{},]",
        b"[}",
        b"[{}},]",
        b"[{},,{}]",
        b"[{} {}]",
        b"[{};{}]",
        b"[NaN]",
        b'["\\ud800"]',
        b'[{"a":[}]',
        b'[{"a":"b"c"}]',
        b'["' + b"x" * 100,
        b"[" * 20_000,
        b'[{"id":' * 20_000,
    ],
)
def test_a_list_that_does_not_end_well_is_unreadable(body: bytes) -> None:
    items, error = received(body)
    assert items == []
    assert error is not None
    assert (error.kind, error.http_status) == (ErrorKind.UNREADABLE, None)
    assert error.message.startswith("the list does not end well: ")


@pytest.mark.parametrize("rest", [b"x", b"]", b"[]", b",", b'{"id":1}', b"</html>", b"\x00"])
def test_garbage_after_the_end_is_unreadable(rest: bytes) -> None:
    _, error = received(compact([an_item(1), an_item(2)]) + rest)
    assert error is not None
    assert error.kind is ErrorKind.UNREADABLE


BROKEN_ROWS = {
    "bytes that are no UTF-8": (b'{"id":7,"runtimeName":"b","googleProject":"p","status":"\xff"}', "7", "p", "b"),
    "such a name": (b'{"id":7,"runtimeName":"b\xff","googleProject":"p"}', "7", "p", "b\ufffd"),
    "NaN": (b'{"id":7,"runtimeName":"b","googleProject":"p","size":NaN}', "7", "p", "b"),
    "NaN for an id": (b'{"id":NaN,"runtimeName":"b","googleProject":"p"}', None, "p", "b"),
    "infinity": (b'{"id":7,"runtimeName":"b","googleProject":"p","size":-Infinity}', "7", "p", "b"),
    "half a character": (b'{"id":7,"runtimeName":"b\\ud83e","googleProject":"p"}', "7", "p", "b?"),
    "the other half, unread": (b'{"id":7,"runtimeName":"b","googleProject":"p","note":"\\udd81"}', "7", "p", "b"),
    "a byte order mark": (b'\xef\xbb\xbf{"id":7,"runtimeName":"b","googleProject":"p"}', "7", "p", "b"),
    "a line break in a text": (b'{"id":7,"runtimeName":"b\n","googleProject":"p"}', "7", "p", "b\n"),
    "a stray sign": (b'{"id":7,"runtimeName":"b","googleProject":"p",}', None, None, None),
    "other quotes": (b"{'id':7}", None, None, None),
    "no end of nesting": (b'{"id":7,"note":' + b"[" * 9999 + b"]" * 9999 + b"}", None, None, None),
}


@pytest.mark.unmeasured
@pytest.mark.parametrize("company", [1, 400])
@pytest.mark.parametrize("kind", BROKEN_ROWS)
def test_a_row_that_is_no_json_costs_only_itself(kind: str, company: int) -> None:
    """In a list that arrives at once, in pieces or byte by byte, with a broken neighbour or none."""
    row, *names = BROKEN_ROWS[kind]
    before, after = range(1, company + 1), range(1000, 1000 + company)
    rows = [*map(compact, map(an_item, before)), row, row, *map(compact, map(an_item, after))]
    whole = list(map(as_runtime, (*before, *after)))
    for body in (b"[%b]" % b",".join(rows), b"[\n  %b\n]" % b",\n  ".join(rows)):
        for size in (len(body), 64_000, 100) if company > 1 else (len(body), 7, 1):
            items, error = received(*(body[n : n + size] for n in range(0, len(body), size)))
            assert error is None
            assert [*items[:company], *items[company + 2 :]] == whole
            for broken in items[company : company + 2]:
                assert isinstance(broken, MalformedRuntime)
                assert broken.detail.startswith("no JSON: ")
                assert [broken.id, broken.project, broken.name] == names


def test_a_quote_too_many_makes_up_no_item() -> None:
    """From there on texts are taken for structure, and an item that somebody wrote into a label must not come of it."""
    trap = '}},{"id":9,"runtimeName":"trap","googleProject":"p"},{"a":{"b":'
    rows = [
        compact(an_item(1)),
        b'{"id":2,"runtimeName":"b"","googleProject":"p"}',
        compact(an_item(3, labels={"a": trap})),
    ]
    for end in (rows[1], compact(an_item(4))):
        items, _ = received(b"[%b]" % b",".join([*rows, end]))
        assert [item for item in items if isinstance(item, Runtime) and item.id not in ("1", "3", "4")] == []


@pytest.mark.parametrize("field", ["id", "runtimeName", "googleProject"])
def test_a_name_of_more_than_a_thousand_characters_is_none(field: str) -> None:
    word = {"id": "id", "runtimeName": "name", "googleProject": "project"}[field]

    def with_length(length: int) -> dict[str, Any]:
        return an_item(cloudContext=None) | {field: 10 ** (length - 1) if field == "id" else "x" * length}

    def read(length: int) -> Runtime | MalformedRuntime:
        (item,) = listed(with_length(length))
        return item

    assert isinstance(read(1000), Runtime)
    legible = {"id": "1201", "project": "terra-1", "name": "all-of-us-1201", word: None}
    assert read(1001) == MalformedRuntime(f"unreadable: {word} (1001 characters)", **legible)
    if field != "id":
        assert read(70_000) == MalformedRuntime(f"unreadable: {word} (70000 characters)", **legible)
    with pytest.raises(LeonardoError, match=rf"^unreadable: {word} \(1001 characters\)$"):
        runtime_from_get(compact(with_length(1001)))


def test_an_item_without_an_end_is_given_up() -> None:
    chunk = b"x" * 2**20
    fitting = LARGEST_ITEM // len(chunk)
    item = b'[{"note":"'
    expected = LeonardoError(ErrorKind.UNREADABLE, f"{LARGEST_ITEM + len(item)} bytes without the end of an item")
    assert received(item, *[chunk] * fitting, b'"}]') == ([], expected)
    whole = [MalformedRuntime("unreadable: id, project, name")]
    assert received(item, *[chunk] * (fitting - 1), b'"}]') == (whole, None)
    assert received(item, *[chunk] * (fitting - 1), b'"},{}]') == (whole * 2, None)


@pytest.mark.unmeasured
def test_blanks_are_no_item_however_many() -> None:
    blanks = [b" \t\r\n" * 2**18] * (LARGEST_ITEM // 2**20 + 1)
    one, two = compact(an_item(1)), compact(an_item(2))
    assert received(*blanks, b"[", *blanks, b"]", *blanks) == ([], None)
    assert received(b"[", *blanks, one, *blanks, b",", *blanks, two, *blanks, b"]", *blanks) == (
        [as_runtime(1), as_runtime(2)],
        None,
    )
    _, error = received(b"[1", *blanks, b"2]")
    assert error is not None


@pytest.mark.unmeasured
@pytest.mark.parametrize("indent", [1, 2, "\t"])
def test_a_list_of_any_length_may_be_indented(indent: int | str) -> None:
    rows = [an_item(number, note="x" * 1000, errors=[{"a": 1}, {"b": [{}, {}]}]) for number in range(1, 12_000)]
    body = json.dumps(rows, indent=indent).encode()
    assert len(body) > LARGEST_ITEM
    held: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for place in range(0, len(body), 2**16):
            held.append(place)
            yield body[place : place + 2**16]

    items, error = gathered(runtimes_from_list(chunks()))
    assert (items, error) == ([as_runtime(number) for number in range(1, 12_000)], None)


@pytest.mark.unmeasured
def test_a_long_list_is_no_large_item() -> None:
    count = LARGEST_ITEM // 1000
    chunks = (compact(an_item(number, note="x" * 1000)) for number in range(1, count + 1))
    items, error = received(b"[" + next(chunks), *(b"," + chunk for chunk in chunks), b"]")
    assert error is None
    assert items == [as_runtime(number) for number in range(1, count + 1)]


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"[]", b"<html></html>", b'"x"', b'{"id":1', b"{}x", b"{" * 9])
def test_a_single_answer_that_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(LeonardoError) as caught:
        runtime_from_get(body)
    assert (caught.value.kind, caught.value.http_status) == (ErrorKind.UNREADABLE, None)
    assert caught.value.message.startswith("the answer is no runtime: ")


@pytest.mark.parametrize("body", [b'{"id":' * 20_000, b'{"runtimeName":"\xff"}', b'{"labels":' + b"[" * 20_000])
def test_a_single_answer_that_breaks_the_decoder_is_unreadable(body: bytes) -> None:
    with pytest.raises(LeonardoError, match=r"^the answer is no runtime: "):
        runtime_from_get(body)


# However the bytes arrive

awkward = st.sampled_from(
    ["},{", '"},{"', "\\", '\\"', "}]", "[{", "},{" * 5, "é", "🦁", "\u2028", '{"id":1},{"id":2}']
)
texts = st.lists(awkward | st.text(max_size=3), max_size=3).map("".join)
# No more than 15 digits, so that every reader of JSON agrees on them.
scalars = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(-1e6, 1e6, width=32) | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
items = st.one_of(
    st.builds(
        an_item,
        number=st.integers(1, 10**15),
        runtimeName=texts.filter(bool),
        labels=st.dictionaries(texts, texts, max_size=3),
        errors=st.lists(st.dictionaries(texts, scalars, max_size=2), max_size=4),
    ),
    st.builds(an_item, labels=anything, auditInfo=anything, runtimeConfig=anything),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("id", "runtimeName", "googleProject", "cloudContext", "status", "labels"), anything),
    ),
    anything,
)


def expected_of(item: object) -> Runtime | MalformedRuntime:
    """The item read by itself, not as one of a list."""
    if not isinstance(item, dict):
        return MalformedRuntime("the item is no object")
    try:
        return runtime_from_get(compact(item))
    except LeonardoError as error:
        context = item.get("cloudContext")
        words = [
            context.get("cloudResource") if isinstance(context, dict) else None,
            item.get("googleProject"),
        ]
        project = next((word for word in words if isinstance(word, str) and word), None)
        name = item.get("runtimeName")
        number = item.get("id")
        return MalformedRuntime(
            error.message,
            str(number) if type(number) is int else None,
            project,
            name if isinstance(name, str) and name else None,
        )


moments = st.shared(st.datetimes())
dates = st.text("0123456789-:.,+TZtz ", max_size=32) | st.builds(
    "{:%Y-%m-%d}{}{:%H:%M:%S}{}{}".format,
    moments,
    st.sampled_from("Tt _"),
    moments,
    st.from_regex(r"([.,][0-9]{0,9})?", fullmatch=True),
    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+0230", "-12", "+14:00", "+24:00"]),
)
items_as_they_should_be = st.builds(
    an_item,
    number=st.integers(-(2**70), 2**70),
    runtimeName=texts,
    googleProject=texts,
    status=texts,
    cloudContext=st.dictionaries(st.sampled_from(["cloudProvider", "cloudResource"]), texts),
    auditInfo=st.dictionaries(st.sampled_from(["createdDate", "dateAccessed", "creator"]), texts | dates),
    runtimeConfig=st.dictionaries(st.just("configType"), st.sampled_from(["GceWithPdConfig", "GceConfig"]))
    | st.builds(dict, configType=st.just("GceWithPdConfig"), persistentDiskId=st.integers(-1, 2**64) | st.none()),
    labels=st.dictionaries(texts, texts, max_size=3),
    autopauseThreshold=st.integers(-(2**70), 2**70) | st.none(),
)


@pytest.mark.unmeasured
@given(items | items_as_they_should_be)
@example(an_item(id=1201.0))
@example(an_item(autopauseThreshold=30.0))
@example(an_item(runtimeConfig={"configType": "GceWithPdConfig", "persistentDiskId": True}))
@example(an_item(auditInfo={"createdDate": "2024-09-30T14:02:11.9999999Z", "dateAccessed": "2024-09-30t14:02:11z"}))
def test_an_item_is_read_alike_in_whatever_company(item: object) -> None:
    """An odd neighbour has all that arrives with it read by the tolerant way instead of the fast one."""
    for odd in (7, an_item(status=7), {}):
        assert listed(item, odd) == [*listed(item), *listed(odd)]


def cut(body: bytes, data: st.DataObject) -> list[bytes]:
    """The body in pieces, cut anywhere, also within a character."""
    places = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=30)))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


@pytest.mark.unmeasured
@given(st.lists(items, max_size=6), st.booleans(), st.data())
def test_a_list_is_the_same_however_it_is_cut(content: list[object], ascii_only: bool, data: st.DataObject) -> None:  # noqa: FBT001
    body = compact(content, ascii_only=ascii_only)
    expected = [expected_of(item) for item in json.loads(body)]
    assert received(*cut(body, data)) == (expected, None)


@pytest.mark.unmeasured
@given(st.lists(items, min_size=1, max_size=3))
@example([an_item(1, labels={"a": "},{", "b": '\\"},{'}, errors=[{"a": 1}, {"b": 2}])])
def test_a_list_is_the_same_byte_by_byte_and_with_spaces(content: list[object]) -> None:
    expected = [expected_of(item) for item in content]
    for body in (compact(content), json.dumps(content, indent=1).encode()):
        assert received(*(body[n : n + 1] for n in range(len(body)))) == (expected, None)


@pytest.mark.unmeasured
@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_list_that_was_cut_off_is_never_just_shorter(size: int) -> None:
    content = [
        an_item(1, labels={"a": "},{", "b": '\\"},{é'}),
        7,
        an_item(2, errors=[{"a": 1}, {"b": 2}]),
        an_item(3),
    ]
    body = compact(content)
    whole = [expected_of(item) for item in content]
    assert received(body) == (whole, None)
    ends = range(len(body)) if size >= 64 else range(0, len(body), 11)
    for end in ends:
        got, error = received(*(body[n : min(n + size, end)] for n in range(0, end, size)))
        assert error is not None, end
        assert error.kind is ErrorKind.UNREADABLE
        assert got == whole[: len(got)]


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda body: b"[" + body))
def test_any_bytes_are_items_or_unreadable(body: bytes) -> None:
    _, error = received(body)
    assert error is None or error.kind is ErrorKind.UNREADABLE


def test_items_are_handed_on_before_the_list_has_ended() -> None:
    bodies = [compact(an_item(number)) for number in (1, 2, 3)]
    seen: list[tuple[int, str]] = []
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for chunk in (b"[" + bodies[0], b"," + bodies[1], b"," + bodies[2], b"]"):
            sent += 1
            yield chunk

    async def receive() -> None:
        async for batch in runtimes_from_list(chunks()):
            seen.extend((sent, item.id or "") for item in batch)

    asyncio.run(receive())
    assert seen == [(2, "1"), (3, "2"), (4, "3")]
