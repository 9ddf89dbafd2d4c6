"""The loop that is being rebuilt: list, then GET each runtime and DELETE it if it is old, one request at a time."""

import json
import sys
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection

from benchmarks.stand_in import LIST

if __name__ == "__main__":
    connection = HTTPConnection(sys.argv[1].removeprefix("http://"))

    def call(method: str, path: str) -> bytes:
        connection.request(method, path)
        return connection.getresponse().read()

    now = datetime.now(UTC)
    for row in json.loads(call("GET", LIST)):
        path = f"{LIST}/{row['googleProject']}/{row['runtimeName']}"
        audit = json.loads(call("GET", path))["auditInfo"]
        age, idle = (now - datetime.fromisoformat(audit[name]) for name in ("createdDate", "dateAccessed"))
        if age > timedelta(days=14) or (age > timedelta(days=7) and idle > timedelta(hours=3)):
            call("DELETE", f"{path}?deleteDisk=false")
