"""Which of several tasks a project falls to: the same in every run of as many tasks."""

from functools import lru_cache
from hashlib import blake2b


@lru_cache(maxsize=4096)
def task_of(project: str, tasks: int) -> int:
    """The index of the one task that a project falls to."""
    return int.from_bytes(blake2b(project.encode(errors="surrogatepass"), digest_size=8).digest()) % tasks
