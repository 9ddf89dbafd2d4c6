"""What the caller's role on a project lets it do to the runtimes and disks there; their owners may do anything."""

from enum import StrEnum
from typing import Literal

Action = Literal["status", "delete", "stop_start", "modify"]
"""Sam's words. Seeing a thing in a list needs `status` as well: every role that shows one grants the other."""


class Role(StrEnum):
    """Of the caller, on a project. It is inherited by all that is in the project, also by what others have created."""

    OWNER = "owner"
    OWNER_WITHOUT_STOP = "owner-without-stop"
    """As owners were until March 2025."""
    READER = "reader"
    NONE = "none"


GRANTED: dict[Role, frozenset[Action]] = {
    Role.OWNER: frozenset({"status", "delete", "stop_start"}),
    Role.OWNER_WITHOUT_STOP: frozenset({"status", "delete"}),
    Role.READER: frozenset({"status"}),
    Role.NONE: frozenset(),
}
"""Only who created a runtime may modify it."""
