"""A provider that Terraform takes for Google's: the genuine schema, and a cloud that does what it is asked.

Terraform talks to a provider over gRPC (its plugin protocol, version 5). TF_REATTACH_PROVIDERS makes it use one that
is running already, so nothing is downloaded. Of the protocol only what plans and applies need is here; what is on the
wire are field numbers, so the messages are described with them. Computed attributes other than texts, numbers, truths
and maps of texts are not served; nothing here reads one.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Block = dict[str, Any]
Field = descriptor_pb2.FieldDescriptorProto
UNKNOWN = msgspec.msgpack.Ext(0, b"\x00")
"""How the protocol writes a value that only an apply will tell."""
MESSAGES = {
    "Value": "1 bytes msgpack",
    "Step": "1 string attribute_name, 3 int64 element_key_int",
    "Path": "1 *Step steps",
    "Diagnostic": "1 int64 severity, 2 string summary, 4 Path attribute",
    "Attribute": "1 string name, 2 bytes type, 4 bool required, 5 bool optional, 6 bool computed",
    "NestedBlock": "1 string type_name, 2 Block block, 3 int64 nesting, 4 int64 min_items, 5 int64 max_items",
    "Block": "2 *Attribute attributes, 3 *NestedBlock block_types",
    "Schema": "2 Block block",
    "Named": "1 string key, 2 Schema value",
    "Nothing": "",
    "Schemas": "1 Schema provider, 2 *Named resource_schemas",
    "ProviderConfig": "1 Value config",
    "Prepared": "1 Value prepared_config, 2 *Diagnostic diagnostics",
    "Configuring": "2 Value config",
    "Raw": "1 bytes json",
    "Upgrading": "1 string type_name, 3 Raw raw_state",
    "Upgraded": "1 Value upgraded_state",
    "ResourceConfig": "1 string type_name, 2 Value config",
    "Validated": "1 *Diagnostic diagnostics",
    "Reading": "1 string type_name, 2 Value current_state",
    "Read": "1 Value new_state",
    "Planning": "1 string type_name, 2 Value prior_state, 3 Value proposed_new_state",
    "Planned": "1 Value planned_state, 2 *Path requires_replace, 5 bool legacy_type_system",
    "Applying": "1 string type_name, 2 Value prior_state, 3 Value planned_state",
    "Applied": "1 Value new_state, 4 bool legacy_type_system",
}
CALLS = {
    "GetSchema": ("Nothing", "Schemas"),
    "PrepareProviderConfig": ("ProviderConfig", "Prepared"),
    "Configure": ("Configuring", "Nothing"),
    "UpgradeResourceState": ("Upgrading", "Upgraded"),
    "ValidateResourceTypeConfig": ("ResourceConfig", "Validated"),
    "ReadResource": ("Reading", "Read"),
    "PlanResourceChange": ("Planning", "Planned"),
    "ApplyResourceChange": ("Applying", "Applied"),
    "Stop": ("Nothing", "Nothing"),
}
NESTING = {"single": 1, "list": 2, "set": 3}
IDS = {
    "google_cloud_run_v2_job": "projects/{project}/locations/{location}/jobs/{name}",
    "google_logging_project_bucket_config": "projects/{project}/locations/{location}/buckets/{bucket_id}",
    "google_project_iam_custom_role": "projects/{project}/roles/{role_id}",
}
"""What other resources read of these, as the provider's documentation says it."""
TELLING = {
    ("google_service_account", "email"): "{account_id}@{project}.iam.gserviceaccount.com",
    ("google_service_account", "member"): "serviceAccount:{account_id}@{project}.iam.gserviceaccount.com",
    ("google_logging_project_sink", "writer_identity"): "serviceAccount:{name}@gcp-sa-logging.iam.gserviceaccount.com",
}


def _described() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tfplugin5", package="tfplugin5", syntax="proto3")
    kinds = {
        "bytes": Field.TYPE_BYTES,
        "string": Field.TYPE_STRING,
        "int64": Field.TYPE_INT64,
        "bool": Field.TYPE_BOOL,
    }
    for name, told in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, kind, name_ in (one.split() for one in told.split(", ") if one):
            element = message.field.add(
                name=name_, number=int(number), label=Field.LABEL_REPEATED if kind[0] == "*" else Field.LABEL_OPTIONAL
            )
            if kind in kinds:
                element.type = kinds[kind]
            else:
                element.type, element.type_name = Field.TYPE_MESSAGE, f".tfplugin5.{kind.lstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfplugin5.{name}")) for name in MESSAGES}


M = _described()


def _value(value: Any) -> Any:
    return M["Value"](msgpack=msgspec.msgpack.encode(value))


def _python(value: Any) -> Any:
    return msgspec.msgpack.decode(value.msgpack, ext_hook=lambda _code, _data: UNKNOWN)


def _block(block: Block) -> Any:
    attributes = [
        M["Attribute"](name=name, type=json.dumps(told["type"]).encode(), **{told["need"]: True})
        for name, told in block["attributes"].items()
    ]
    nested = [
        M["NestedBlock"](
            type_name=name,
            block=_block(told),
            nesting=NESTING[told["nesting"]],
            min_items=int(told["required"]),
            max_items=0 if told["many"] or told["nesting"] == "single" else 1,
        )
        for name, told in block["blocks"].items()
    ]
    return M["Block"](attributes=attributes, block_types=nested)


def _faults(block: Block, config: dict[str, Any], where: str) -> Iterator[str]:
    """What the provider would not take of values that are known, though their types fit."""
    for name, told in block["attributes"].items():
        value = config.get(name)
        if not isinstance(value, str):
            continue
        if value not in told.get("values", [value]):
            yield f"{where}.{name}: {value!r} is none of {', '.join(told['values'])}"
        if not re.fullmatch(told.get("pattern", ".*"), value, re.DOTALL):
            yield f"{where}.{name}: {value!r} does not match {told['pattern']}"
    for name, told in block["blocks"].items():
        content = config.get(name)
        for one in content if isinstance(content, list) else []:
            yield from _faults(told, one, f"{where}.{name}")


def _at(value: Any, path: list[str]) -> Any:
    for step in path:
        value = value[0] if isinstance(value, list) and value else value
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _path(path: list[str]) -> Any:
    steps = [M["Step"](attribute_name=path[0])]
    for step in path[1:]:
        steps += [M["Step"](element_key_int=0), M["Step"](attribute_name=step)]
    return M["Path"](steps=steps)


@dataclass
class Cloud:
    """The provider, and what people do to its resources behind Terraform's back."""

    schema: dict[str, Any]
    by_hand: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each type of resource: attributes that somebody has set in the console."""
    defaults: dict[str, Any] = field(default_factory=dict)

    def get_schema(self, _: Any) -> Any:
        resources = [
            M["Named"](key=name, value=M["Schema"](block=_block(block)))
            for name, block in self.schema["resources"].items()
        ]
        return M["Schemas"](provider=M["Schema"](block=_block(self.schema["google"])), resource_schemas=resources)

    def prepare_provider_config(self, asked: Any) -> Any:
        return M["Prepared"](prepared_config=asked.config)

    def configure(self, asked: Any) -> Any:
        self.defaults = {name: _python(asked.config)[name] for name in ("project", "region")}
        return M["Nothing"]()

    def upgrade_resource_state(self, asked: Any) -> Any:
        return M["Upgraded"](upgraded_state=_value(json.loads(asked.raw_state.json)))

    def validate_resource_type_config(self, asked: Any) -> Any:
        faults = _faults(self.schema["resources"][asked.type_name], _python(asked.config), asked.type_name)
        return M["Validated"](diagnostics=[M["Diagnostic"](severity=1, summary=fault) for fault in faults])

    def read_resource(self, asked: Any) -> Any:
        return M["Read"](new_state=_value(_python(asked.current_state) | self.by_hand.get(asked.type_name, {})))

    def plan_resource_change(self, asked: Any) -> Any:
        prior, proposed = _python(asked.prior_state), _python(asked.proposed_new_state)
        block = self.schema["resources"][asked.type_name]
        replaced = []
        if proposed is not None and prior is None:
            computed = [name for name, told in block["attributes"].items() if told["need"] == "computed"]
            proposed |= {name: UNKNOWN for name in computed if proposed[name] is None}
        elif proposed is not None:
            paths = [path.split(".") for path in block["forces_replacement"]]
            replaced = [_path(path) for path in paths if _at(prior, path) != _at(proposed, path)]
        return M["Planned"](planned_state=_value(proposed), requires_replace=replaced, legacy_type_system=True)

    def apply_resource_change(self, asked: Any) -> Any:
        state = _python(asked.planned_state)
        if state is not None:
            block = self.schema["resources"][asked.type_name]
            known = {name: value for name, value in state.items() if isinstance(value, str)}
            for name, told in block["attributes"].items():
                if state[name] == UNKNOWN:
                    text = TELLING.get((asked.type_name, name)) or (
                        IDS.get(asked.type_name, "{name}") if name == "id" else ""
                    )
                    made = text.format_map({"name": asked.type_name, **self.defaults, **known})
                    state[name] = {"string": made, "number": 0, "bool": False}.get(str(told["type"]), {})
        return M["Applied"](new_state=_value(state), legacy_type_system=True)

    def stop(self, _: Any) -> Any:
        return M["Nothing"]()


@contextmanager
def serving_provider(cloud: Cloud) -> Iterator[dict[str, str]]:
    """Yields the variables that make Terraform use this provider and look for no other."""

    def handler(call: str) -> Any:
        asked, answered = CALLS[call]
        serve: Callable[[Any], Any] = getattr(cloud, re.sub(r"(?<!^)([A-Z])", r"_\1", call).lower())
        return grpc.unary_unary_rpc_method_handler(
            lambda request, _context: serve(request),
            request_deserializer=M[asked].FromString,
            response_serializer=M[answered].SerializeToString,
        )

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    handlers = {call: handler(call) for call in CALLS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin5.Provider", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    here = {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": address}
    try:
        yield {
            "TF_REATTACH_PROVIDERS": json.dumps({"registry.terraform.io/hashicorp/google": here}),
            "TF_CLI_CONFIG_FILE": os.devnull,
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
        }
    finally:
        server.stop(None)
