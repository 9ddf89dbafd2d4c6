"""What can go wrong with a call, written down beforehand; doing it to a connection lives in `core.sandbox.app`."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Kind = Literal[
    "list",
    "project_list",
    "disk_list",
    "project_disk_list",
    "get",
    "delete",
    "stop",
    "start",
    "patch",
    "status",
    "version",
    "metadata",
    "token",
    "identity",
    "notice",
]
UserAct = Literal["touch", "label", "reset", "stop", "start", "delete"]


class Fault(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which calls it befalls, and what happens to them; effects combine.

    Of `status`, `raw`, `reset` and `hang` each stands instead of the real act, unless `act_first`.
    """

    call: Kind | Literal["any"] = "any"
    project: str | None = None
    name: str | None = None
    skip: int = 0
    """So many matching calls pass first."""
    times: int | None = 1
    """None is for ever."""

    user: UserAct | None = None
    """What the runtime's user does just before the call is looked at."""
    detach: bool = False
    """The runtime's disk is detached, as a DELETE begins, whatever becomes of the call then."""
    act_first: bool = False
    delay: float = 0.0
    """Seconds between the real act and the answer."""
    status: int | None = None
    body: str = ""
    repeat: int = 1
    """So many times over comes the body."""
    gzip: bool = False
    """The body is sent compressed."""
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    """Beside or in place of the answer's own; without `status`, of the real answer."""
    raw: str | None = None
    """This instead of HTTP, then the connection closes."""
    reset: bool = False
    """No answer, a reset connection."""
    hang: bool = False
    """No answer for as long as the client stays."""
    truncate: float | None = None
    """Only this share of the body, then the connection closes."""
    claims: int = 0
    """So many bytes more, or fewer, than come are claimed by Content-Length; then the connection closes."""
    drip: float = 0.0
    """Seconds between any two kilobytes of the body, or quarters of a short one."""
    vanish: bool = False
    """With the end of the answer nothing listens any more, and every connection closes."""

    @property
    def instead(self) -> bool:
        return self.status is not None or self.raw is not None or self.reset or self.hang

    def matches(self, call: str, project: str | None, name: str | None) -> bool:
        return self.call in ("any", call) and self.project in (None, project) and self.name in (None, name)


class FaultScript:
    """Faults in the order in which they are tried, each with its count of matching calls."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lines: list[_Line] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        self._lines.extend(_Line(fault) for fault in faults)

    def clear(self) -> None:
        self._lines.clear()

    def take(self, call: str, project: str | None, name: str | None) -> Fault | None:
        """The first fault for this call that has turns left; every matching fault counts the call."""
        reached = [line for line in self._lines if line.fault.matches(call, project, name) and line.reached()]
        if not reached:
            return None
        reached[0].taken += 1
        return reached[0].fault


class _Line:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.taken = 0

    def reached(self) -> bool:
        self.seen += 1
        return self.seen > self.fault.skip and (self.fault.times is None or self.taken < self.fault.times)
