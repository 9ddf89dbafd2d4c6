"""An example of what stands behind notice-url: it takes notices, each id once, and prints them; a real one sends mail.

As a service of Cloud Run that only the runner may invoke, it need not check the token: Google has.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

told: dict[str, Any] = {}
"""A real receiver keeps these where they outlive it."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for event in batch:
            if told.setdefault(event["id"], event) is event:
                say(f"to {event['data']['creator']}: {event['data']['text']}")
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Receiver)
    say(f"listening on {server.server_port}")
    server.serve_forever()
