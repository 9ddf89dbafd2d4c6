"""What can be said of Leonardo's autopause from outside; it never pauses anything itself."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class AutopauseLimits:
    """How long a pause may take to come."""

    kernel_busy_limit: timedelta
    """Leonardo lets a busy kernel hold off the pause this long (its `maxKernelBusyLimit`)."""
    margin: timedelta
    """Added for Leonardo's sweep delay, its rounding to minutes and late activity."""


def kernel_may_be_busy(idle: timedelta, threshold: timedelta | None, limits: AutopauseLimits) -> bool:
    """Whether a Running runtime this idle may be held up by a busy kernel: the API cannot tell.

    True below max(threshold, busy limit) + margin. An unread threshold could be of any length, so it is always True.
    """
    if threshold is None:
        return True
    return idle < max(threshold, limits.kernel_busy_limit) + limits.margin
