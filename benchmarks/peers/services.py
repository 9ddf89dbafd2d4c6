"""What the peers talk to: as many notebook servers of a JupyterHub, and as many instances of Compute Engine."""

import argparse
import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial

from benchmarks.http_server import Answer, serve, whole

YOUNG, OLD = timedelta(days=1), timedelta(days=20)
ZONE = "zones/us-central1-a"


def hub_user(name: str, since: str) -> dict[str, object]:
    server = {"name": "", "started": since, "last_activity": since, "ready": True, "pending": None, "url": "/"}
    return {"name": name, "admin": False, "last_activity": since, "created": since, "servers": {"": server}}


def instance(name: str, since: str) -> dict[str, object]:
    zone = f"https://www.googleapis.com/compute/v1/projects/bench/{ZONE}"
    return {
        "name": name,
        "creationTimestamp": since,
        "status": "RUNNING",
        "zone": zone,
        "selfLink": f"{zone}/instances/{name}",
    }


def answer(users: bytes, instances: bytes, method: str, path: str) -> Answer:
    if method == "DELETE":
        return whole(b"", 204) if path.startswith("/hub") else whole(b'{"name":"operation","status":"RUNNING"}')
    if path.startswith("/hub/api/users"):
        return whole(users)
    return whole(b'{"version":"5.2.0"}') if path.startswith("/hub") else whole(instances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtimes", type=int, required=True)
    parser.add_argument("--due", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True)
    arguments = parser.parse_args()
    now = datetime.now(UTC)
    fleet = [
        (f"runtime-{n}", f"{now - (OLD if n < arguments.due else YOUNG):%Y-%m-%dT%H:%M:%S.%fZ}")
        for n in range(arguments.runtimes)
    ]
    users = json.dumps([hub_user(name, since) for name, since in fleet])
    instances = json.dumps({"items": {ZONE: {"instances": [instance(name, since) for name, since in fleet]}}})
    asyncio.run(serve(partial(answer, users.encode(), instances.encode()), latency=arguments.latency))


if __name__ == "__main__":
    main()
