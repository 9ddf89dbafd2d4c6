"""The service's HTTP: paths, answers, the log of requests, and faults done to connections; its rules live elsewhere."""

import asyncio
import gzip
import re
import socket
import struct
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.sandbox.faults import Fault, FaultScript, Kind
from core.sandbox.installation import RefusedError
from core.sandbox.leonardo import Leonardo
from core.sandbox.roles import Role
from core.sandbox.users import Users

API = "/api/google/v1/runtimes"
DISKS = "/api/google/v1/disks"
NOTICES = "/notices"
METADATA = "/computeMetadata/v1"
FROM_GOOGLE = {"Metadata-Flavor": "Google"}
TOKEN = "ya29.a-token-of-the-sandbox"  # noqa: S105 - it opens nothing
CONTROL = "/sandbox/"
CHUNK = 64 * 1024
DROP = 1024
ACCEPTED = "The request has been accepted for processing, but the processing has not been completed."
NAME = re.compile(r"[a-z0-9|-]+")
LINGER_NOT = struct.pack("ii", 1, 0)
NO_FAULT = Fault()


class LoggedRequest(msgspec.Struct, kw_only=True):
    """What was asked, and how it was answered; never the token."""

    t: float
    """Of the monotonic clock, in seconds."""
    method: str
    path: str
    raw_path: str
    """As it was sent, still escaped."""
    query: str
    call: Kind | None = None
    """None where the path or the method is not known."""
    project: str | None = None
    name: str | None = None
    status: int | None = None
    """None while, or where, there is no answer."""
    in_flight: int
    """With this one, as it came."""
    max_in_flight: int
    trace: str | None
    user_agent: str | None
    cookie: bool
    authorization: bool


@dataclass
class RequestLog:
    """Every request in order of arrival, and how many there were at a time."""

    entries: list[LoggedRequest] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0

    def opened(self, scope: Scope) -> LoggedRequest:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        trace, user_agent = _header(scope, b"x-cloud-trace-context"), _header(scope, b"user-agent")
        entry = LoggedRequest(
            t=time.monotonic(),
            method=scope["method"],
            path=scope["path"],
            raw_path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            in_flight=self.in_flight,
            max_in_flight=self.max_in_flight,
            trace=trace,
            user_agent=user_agent,
            cookie=_header(scope, b"cookie") is not None,
            authorization=_header(scope, b"authorization") is not None,
        )
        self.entries.append(entry)
        return entry

    def reset(self) -> None:
        self.entries.clear()
        self.max_in_flight = self.in_flight


@dataclass(kw_only=True)
class Question:
    """A call as its handler needs it."""

    project: str | None
    name: str | None
    parameters: Mapping[str, str]
    content_type: str
    body: bytes

    @property
    def place(self) -> tuple[str, str]:
        return self.project or "", self.name or ""


@dataclass(kw_only=True)
class Answer:
    """An answer before it is sent; a list is made while it is sent."""

    status: int = 200
    body: bytes | Iterator[bytes] = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Patch(msgspec.Struct):
    """Of the fields of a PATCH, those that move the autopause threshold."""

    autopause: bool | None = None
    threshold: int | None = msgspec.field(name="autopauseThreshold", default=None)


def make_app(
    leonardo: Leonardo,
    faults: FaultScript,
    *,
    latency: float = 0.0,
    requests: RequestLog,
    required_token: str | None = None,
) -> Starlette:
    """The service over HTTP, and under `/sandbox/` what tests steer it with from another process."""
    service = _Service(leonardo, faults, latency, required_token)

    def call(method: str, path: str, kind: Kind, act: Callable[[Question], Answer]) -> Route:
        return Route(path, _Endpoint(service, kind, act), methods=[method])

    item = f"{API}/{{project}}/{{name}}"
    app = Starlette(
        routes=[
            call("GET", API, "list", service.list),
            call("GET", f"{API}/{{project}}", "project_list", service.list),
            call("GET", DISKS, "disk_list", service.disks),
            call("GET", f"{DISKS}/{{project}}", "project_disk_list", service.disks),
            call("GET", item, "get", service.get),
            call("DELETE", item, "delete", service.delete),
            call("PATCH", item, "patch", service.patch),
            call("POST", f"{item}/stop", "stop", service.stop),
            call("POST", f"{item}/start", "start", service.start),
            call("GET", "/status", "status", service.status),
            call("GET", "/version", "version", service.version),
            call("GET", "/", "metadata", service.metadata),
            call("GET", f"{METADATA}/instance/service-accounts/{{account}}", "metadata", service.account),
            call("GET", f"{METADATA}/instance/service-accounts/{{account}}/token", "token", service.token),
            call("GET", f"{METADATA}/instance/service-accounts/{{account}}/identity", "identity", service.identity),
            call("POST", NOTICES, "notice", service.notify),
            *_control(leonardo, faults, requests, service),
        ],
        middleware=[Middleware(_Entrance, log=requests, now=leonardo.now)],
        exception_handlers={404: _unknown_path},
    )
    app.router.redirect_slashes = False
    return app


def _control(leonardo: Leonardo, faults: FaultScript, log: RequestLog, service: "_Service") -> Iterator[Route]:
    async def add_faults(request: Request) -> Response:
        faults.add(*msgspec.json.decode(await request.body(), type=list[Fault]))
        return Response(status_code=204)

    async def show_requests(_: Request) -> Response:
        return _json({"requests": log.entries, "max_in_flight": log.max_in_flight})

    async def reset_requests(_: Request) -> Response:
        log.reset()
        return Response(status_code=204)

    async def show_machines(_: Request) -> Response:
        leonardo.settle()
        disks = list(leonardo.disks.values())
        return _json(
            {"machines": leonardo.everything(), "disks": disks, "deleted_disks": sorted(leonardo.deleted_disks)}
        )

    async def change_roles(request: Request) -> Response:
        try:
            leonardo.roles.update(msgspec.json.decode(await request.body(), type=dict[str, Role]))
        except msgspec.DecodeError as error:
            return _json({"message": str(error)}, status=400)
        return Response(status_code=204)

    async def show_notices(_: Request) -> Response:
        return _json(list(service.notices.values()))

    yield Route(f"{CONTROL}notices", show_notices)
    yield Route(f"{CONTROL}faults", add_faults, methods=["POST"])
    yield Route(f"{CONTROL}requests", show_requests)
    yield Route(f"{CONTROL}reset-requests", reset_requests, methods=["POST"])
    yield Route(f"{CONTROL}machines", show_machines)
    yield Route(f"{CONTROL}roles", change_roles, methods=["POST"])


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def _unknown_path(_request: Request, _error: Exception) -> Response:
    return JSONResponse("The requested resource could not be found.", status_code=404)


class _Entrance:
    """Logs what comes in, lets a path end in a slash, and dates the answers by the service's clock."""

    def __init__(self, app: ASGIApp, log: RequestLog, now: Callable[[], datetime]) -> None:
        self.app = app
        self.log = log
        self.now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(CONTROL):
            await self.app(scope, receive, send)
            return
        entry = scope["state"]["entry"] = self.log.opened(scope)
        scope["path"] = scope["path"].rstrip("/") or "/"

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                if b"date" not in dict(message["headers"]):
                    message["headers"].append((b"date", format_datetime(self.now(), usegmt=True).encode()))
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self.log.in_flight -= 1


class _Service:
    """Leonardo's rules as answers."""

    def __init__(self, leonardo: Leonardo, faults: FaultScript, latency: float, required_token: str | None) -> None:
        self.leonardo = leonardo
        self.users = Users(leonardo)
        self.faults = faults
        self.latency = latency
        self.required_token = required_token
        self.notices: dict[str, Any] = {}
        """By their ids, so that one that comes twice is told once."""

    def list(self, question: Question) -> Answer:
        return Answer(body=_array(self.leonardo.rows(question.project, question.parameters)))

    def disks(self, question: Question) -> Answer:
        return Answer(body=_array(self.leonardo.disk_rows(question.project, question.parameters)))

    def get(self, question: Question) -> Answer:
        return Answer(body=self.leonardo.get(*question.place))

    def delete(self, question: Question) -> Answer:
        self.leonardo.delete(*question.place, delete_disk=question.parameters.get("deleteDisk"))
        return _accepted()

    def stop(self, question: Question) -> Answer:
        self.leonardo.stop(*question.place)
        return _accepted()

    def start(self, question: Question) -> Answer:
        self.leonardo.start(*question.place)
        return _accepted()

    def patch(self, question: Question) -> Answer:
        if not question.content_type.startswith("application/json"):
            return _text(415, "There was a problem with the requests Content-Type: expected application/json")
        try:
            patch = msgspec.json.decode(question.body, type=Patch)
        except msgspec.DecodeError as error:
            return _text(400, f"The request content was malformed:\n{error}")
        self.leonardo.patch(*question.place, autopause=patch.autopause, threshold=patch.threshold)
        return _accepted()

    def status(self, _: Question) -> Answer:
        systems = {name: {"ok": True, "messages": None} for name in ("Database", "Sam")}
        return Answer(body=msgspec.json.encode({"ok": True, "systems": systems}))

    def version(self, _: Question) -> Answer:
        return Answer(body=b'{"version":"sandbox"}')

    # The metadata server of a machine on Google Cloud, for the tokens of its own account.

    def metadata(self, _: Question) -> Answer:
        return Answer(body=b"{}", headers=FROM_GOOGLE)

    def account(self, _: Question) -> Answer:
        return Answer(body=msgspec.json.encode({"email": self.leonardo.caller, "scopes": []}), headers=FROM_GOOGLE)

    def token(self, _: Question) -> Answer:
        token = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        return Answer(body=msgspec.json.encode(token), headers=FROM_GOOGLE)

    def identity(self, question: Question) -> Answer:
        """A token without a signature, for the service that is asked about."""
        claims = {"aud": question.parameters.get("audience"), "exp": int(time.time()) + 3600, "iat": int(time.time())}
        parts = ({"alg": "none", "typ": "JWT"}, {**claims, "email": self.leonardo.caller, "email_verified": True})
        written = (urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=") for part in parts)
        return Answer(body=b".".join((*written, b"")), content_type="application/text", headers=FROM_GOOGLE)

    # What stands in for the site's receiver of notices.

    def notify(self, question: Question) -> Answer:
        try:
            batch = msgspec.json.decode(question.body, type=list[dict[str, Any]])
        except msgspec.MsgspecError as error:
            return _text(400, str(error))
        self.notices.update({str(event["id"]): event for event in batch if str(event["id"]) not in self.notices})
        return Answer(status=204)


class _Endpoint:
    """One call: waits as long as the network would, lets faults befall it, acts, answers."""

    def __init__(self, service: _Service, kind: Kind, act: Callable[[Question], Answer]) -> None:
        self.service = service
        self.kind = kind
        self.act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        question = await _question(scope, receive)
        entry: LoggedRequest = scope["state"]["entry"]
        entry.call, entry.project, entry.name = self.kind, question.project, question.name
        token = (_header(scope, b"authorization") or "").removeprefix("Bearer ")
        if self.service.latency:
            await asyncio.sleep(self.service.latency)
        if self.service.required_token not in (None, token) and self.kind not in ("metadata", "token", "identity"):
            await _send(_refused_by_the_proxy(), scope, send)
            return
        fault = self.service.faults.take(self.kind, question.project, question.name) or NO_FAULT
        self._befall(question, fault)
        answer = self._answer(question, token) if fault.act_first or not fault.instead else Answer()
        await asyncio.sleep(fault.delay)
        await self._reply(answer, fault, scope, receive, send)
        if fault.vanish:
            scope["app"].state.vanish()

    def _befall(self, question: Question, fault: Fault) -> None:
        """What happens to the runtime just before the call is looked at."""
        with suppress(RefusedError):
            if fault.user and question.name:
                getattr(self.service.users, fault.user)(*question.place)
            if fault.detach and question.name:
                self.service.leonardo.detach(self.service.leonardo.machine(*question.place))

    async def _reply(self, answer: Answer, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.hang:
            while (await receive())["type"] != "http.disconnect":
                pass
        elif fault.reset:
            await _reset(scope)
        elif fault.raw is not None:
            await _say(fault.raw, scope)
        elif fault.status is not None:
            await _send(_made_up(fault, fault.status), scope, send, fault)
        else:
            answer.headers = {**answer.headers, **fault.headers}
            await _send(answer, scope, send, fault)

    def _answer(self, question: Question, token: str) -> Answer:
        if question.name is not None and not NAME.fullmatch(question.name):
            return _text(400, f"The runtime name {question.name} is not valid.")
        try:
            answer = self.act(question)
        except RefusedError as error:
            return Answer(status=error.status, body=error.body())
        cookie = f"LeoToken={token or 'none'}; Max-Age=3600; Path=/; Secure; SameSite=None; HttpOnly"
        answer.headers = {**answer.headers, "set-cookie": cookie}
        return answer


async def _question(scope: Scope, receive: Receive) -> Question:
    body = b""
    if _header(scope, b"content-length"):
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    query = scope["query_string"]
    return Question(
        project=scope["path_params"].get("project"),
        name=scope["path_params"].get("name"),
        parameters=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        content_type=_header(scope, b"content-type") or "",
        body=body,
    )


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _made_up(fault: Fault, status: int) -> Answer:
    body, headers = fault.body.encode() * fault.repeat, fault.headers
    if fault.gzip:
        body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
    return Answer(status=status, body=body, content_type=fault.content_type, headers=headers)


def _accepted() -> Answer:
    return _text(202, ACCEPTED)


def _text(status: int, text: str) -> Answer:
    return Answer(status=status, body=text.encode(), content_type="text/plain; charset=UTF-8")


def _refused_by_the_proxy() -> Answer:
    page = b"<html><head><title>401 Unauthorized</title></head><body><h1>Unauthorized</h1></body></html>"
    return Answer(status=401, body=page, content_type="text/html; charset=iso-8859-1")


def _array(rows: Iterable[bytes]) -> Iterator[bytes]:
    """A JSON array in pieces of a size that is worth a write."""
    piece = bytearray(b"[")
    separator = b""
    for row in rows:
        piece += separator
        piece += row
        separator = b","
        if len(piece) >= CHUNK:
            yield bytes(piece)
            piece.clear()
    piece += b"]"
    yield bytes(piece)


async def _send(answer: Answer, scope: Scope, send: Send, fault: Fault = NO_FAULT) -> None:
    body = answer.body
    if not isinstance(body, bytes) and (fault.truncate is not None or fault.drip or fault.claims):
        body = b"".join(body)
    headers = {"content-type": answer.content_type, **{key.lower(): value for key, value in answer.headers.items()}}
    if isinstance(body, bytes):
        headers["content-length"] = str(len(body) + fault.claims)
    raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    transport: asyncio.Transport = scope["state"]["transport"]
    if isinstance(body, bytes) and fault.claims:  # past the server, which holds answers to what they claim
        transport.write(body)
        transport.close()
        return
    for piece in _pieces(body, fault) if isinstance(body, bytes) else body:
        if transport.is_closing():
            return
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Also without a drip: other calls want their turn while a long list goes out.
        await asyncio.sleep(fault.drip)
    if fault.truncate is None:
        await send({"type": "http.response.body"})
    else:
        transport.close()


def _pieces(body: bytes, fault: Fault) -> Iterator[bytes]:
    end = len(body) if fault.truncate is None else int(len(body) * fault.truncate)
    step = min(DROP, end // 4 + 1) if fault.drip else CHUNK
    return (body[start : min(start + step, end)] for start in range(0, end, step))


async def _say(text: str, scope: Scope) -> None:
    transport: asyncio.Transport = scope["state"]["transport"]
    transport.write(text.encode())
    transport.close()
    await asyncio.sleep(0)  # until the server has noticed; it would answer 500 for us else


async def _reset(scope: Scope) -> None:
    """Cut the connection so that the client sees a reset, not an end."""
    transport: asyncio.Transport = scope["state"]["transport"]
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    transport.abort()
    await asyncio.sleep(0)  # until the server has noticed; it would answer 500 for us else
