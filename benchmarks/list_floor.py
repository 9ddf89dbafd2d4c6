"""The least that a dry run over a list costs: receive it, decode the fields that are needed, write as many records.

The HTTP library is the program's, the list is cut as the program cuts it, and the records have the program's fields.
But nothing is checked, judged or counted: they all say what one real record says, but for what stood in the list.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec


class Context(msgspec.Struct, rename="camel"):
    cloud_provider: str
    cloud_resource: str


class Audit(msgspec.Struct, rename="camel"):
    creator: str
    created_date: datetime
    date_accessed: datetime


class Config(msgspec.Struct, rename="camel"):
    config_type: str | None = None
    persistent_disk_id: int | None = None


class Item(msgspec.Struct, rename="camel"):
    id: int
    runtime_name: str
    cloud_context: Context
    audit_info: Audit
    runtime_config: Config
    status: str
    labels: dict[str, str]


def record_like(line: bytes) -> Callable[..., Any]:
    """Makes records with the fields of this one, in an order in which those that differ come first."""
    model = {
        name: msgspec.Raw(msgspec.json.encode(value)) if isinstance(value, dict) else value
        for name, value in msgspec.json.decode(line).items()
    }
    differing = ("runtime_id", "project", "name", "status", "creator", "created_date", "date_accessed")
    names = [*differing, *(name for name in model if name not in differing)]
    fields = [(f"field_{n}", Any, model[name]) for n, name in enumerate(names)]
    return msgspec.defstruct("Record", fields, rename={f"field_{n}": name for n, name in enumerate(names)})


async def run(url: str, model: bytes) -> None:
    decode = msgspec.json.Decoder(list[Item]).decode
    encode = msgspec.json.Encoder().encode_lines
    record = record_like(model)
    buffer = bytearray()

    def write(array: bytes) -> None:
        lines = [
            record(
                str(item.id),
                item.cloud_context.cloud_resource,
                item.runtime_name,
                item.status,
                item.audit_info.creator,
                item.audit_info.created_date,
                item.audit_info.date_accessed,
            )
            for item in decode(array)
        ]
        os.write(1, encode(lines))

    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as response:
        async for chunk in response.aiter_bytes():
            buffer += chunk
            end = buffer.rfind(b"},{", max(0, len(buffer) - len(chunk) - 2))
            if end >= 0:
                write(b"[" + buffer[buffer[0] == ord("[") : end + 1] + b"]")
                del buffer[: end + 2]
    write(b"[" + buffer)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]).read_bytes()))
