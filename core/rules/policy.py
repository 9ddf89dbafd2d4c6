"""What makes a policy whole: how it is written down and read back follows from its fields; each job's stands beside.

A field bears its setting's name. A duration is written in seconds with `_s` behind its name, a flag as it is, and what
is unset not at all. A field's default is what its absence in an older record means.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Self, get_type_hints

from core.rules.decision import Decision
from core.rules.exemptions import Exemption
from core.runtime import Runtime

EXEMPTIONS = "exemptions"
BESIDE = frozenset({EXEMPTIONS, "notices"})
"""What a policy judges by beside its limits."""
Written = Mapping[str, float | bool | str]
AS_WRITTEN: Mapping[Any, Callable[[Any], Any]] = {bool: bool, str: str, str | None: str}
"""Types of fields whose values a record holds as they are."""


class PolicyNotRecordedError(Exception):
    """A run's first record does not hold the limits that its job judges by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits that a job judges by."""

    job: ClassVar[str]
    """Its name, by which its records are known."""

    @classmethod
    def limits(cls) -> tuple[str, ...]:
        """The names of its limits, which are those of the settings that they come from."""
        return tuple(field.name for field in fields(cls) if field.name not in BESIDE)

    def written(self) -> dict[str, float | bool | str]:
        """The limits as a record holds them."""
        limits: dict[str, float | bool | str] = {}
        for name in self.limits():
            match value := getattr(self, name):
                case timedelta():
                    limits[f"{name}_s"] = value.total_seconds()
                case bool() | str():
                    limits[name] = value
        return limits

    @classmethod
    def read(cls, written: Written, **beside: Any) -> Self:
        """The same limits out of a record, and what was written `beside` them. Raises PolicyNotRecordedError."""
        types = get_type_hints(cls)
        for field in (field for field in fields(cls) if field.name not in BESIDE):
            name, read = field.name, AS_WRITTEN.get(types[field.name])
            if read is None:
                name, read = f"{field.name}_s", partial(_duration, field.name)
            if name in written:
                beside[field.name] = read(written[name])
            elif field.default is MISSING:
                raise PolicyNotRecordedError(f"the policy lacks {name}")
        return cls(**beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePolicy(Policy):
    """The policy of a job that judges every runtime, by which its records are judged again."""

    exemptions: tuple[Exemption, ...] = ()
    """Written down beside the policy, since each has several fields of its own."""

    def judge(
        self, runtime: Runtime, instant: datetime, *, repeated: bool = False, second_look: bool = False
    ) -> Decision:
        """What becomes of a runtime, judged at an instant; total. `repeated`: its `id` was listed before."""
        raise NotImplementedError

    def explain(self, runtime: Runtime, decision: Decision) -> str:
        """Why, in words and with the numbers that decided."""
        raise NotImplementedError

    @property
    def promised_age(self) -> timedelta | None:
        """The age above which no runtime is to live; None where the policy promises none."""
        return None

    def needs_look(self, decision: Decision) -> bool:  # noqa: ARG002 - most rules have enough with the list
        """Whether a list was not enough to judge by, so that the runtime is fetched and judged again."""
        return False


def _duration(name: str, seconds: float | str) -> timedelta:
    try:
        return timedelta(seconds=float(seconds))
    except (OverflowError, ValueError):
        raise PolicyNotRecordedError(f"the policy's {name}_s is no duration: {seconds}") from None
