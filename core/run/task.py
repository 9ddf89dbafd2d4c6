"""Which task of which Cloud Run execution this process is, and which projects are its share; it asks nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.rules.sharing import task_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One of the tasks that share a run; a process outside Cloud Run is the only one."""

    job: str | None = None
    """The Cloud Run job; None outside Cloud Run."""
    execution: str | None = None
    index: int = 0
    count: int = 1

    @property
    def shared(self) -> bool:
        return self.count > 1

    def share(self, projects: Iterable[str]) -> tuple[str, ...]:
        """Those that fall to this task: each project to exactly one, and to the same in every run of as many tasks."""
        return tuple(project for project in projects if task_of(project, self.count) == self.index)


def this_task(environment: Mapping[str, str]) -> Task:
    """What the variables say that Cloud Run gives a task (its container contract). Raises ValueError."""
    if attempt := _number(environment, "CLOUD_RUN_TASK_ATTEMPT", 0):
        # Its records would carry the insertIds of the first attempt's, and a log would drop them as repeated.
        raise ValueError(f"CLOUD_RUN_TASK_ATTEMPT: {attempt}: this job must not be retried, set its max retries to 0")
    index, count = (
        _number(environment, f"CLOUD_RUN_TASK_{name}", default) for name, default in (("INDEX", 0), ("COUNT", 1))
    )
    if index >= count:
        raise ValueError(f"CLOUD_RUN_TASK_INDEX: {index} is not below CLOUD_RUN_TASK_COUNT {count}")
    return Task(
        job=environment.get("CLOUD_RUN_JOB") or None,
        execution=environment.get("CLOUD_RUN_EXECUTION") or None,
        index=index,
        count=count,
    )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name}: {text!r} is no number")
    return int(text)
