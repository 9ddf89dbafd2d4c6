"""What a run may send, whatever its work tries."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from core.leonardo.calling import LastExchange
from core.leonardo.exchange import MethodRefusedError, NarrowTransport
from core.rules.confirmation import ConfirmationPolicy
from core.run.opening import run
from core.run.running import Job, Running
from core.run.task import this_task
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import serving
from core.settings.reading import load_settings
from jobs import delete_old_runtimes
from tests.conftest import a_machine, calls


@pytest.mark.parametrize(
    ("dry_run", "method", "sent"),
    [
        (True, "DELETE", []),
        (True, "POST", []),
        (False, None, []),
        (False, "DELETE", ["delete"]),
        (False, "POST", ["stop"]),
    ],
)
def test_nothing_leaves_but_get_and_in_a_live_run_the_jobs_own_act(
    *, dry_run: bool, method: str | None, sent: list[str]
) -> None:
    job = Job(
        name="job",
        policy=ConfirmationPolicy(stuck_after=timedelta(hours=2)),
        method=method,
        view=delete_old_runtimes.VIEW,
    )

    async def try_everything(running: Running) -> int:
        refused = 0
        for act in (running.leonardo.delete_runtime, running.leonardo.stop_runtime):
            try:
                await act("terra-1", "all-of-us-1", LastExchange(), looked_at=running.clock.monotonic())
            except MethodRefusedError:
                refused += 1
        return refused

    machine = a_machine(1)
    with serving(Leonardo([machine])) as server:
        flags = {"leonardo_url": server.url, "auth": "none", "dry_run": dry_run, "output": "json"}
        refused = run(job, load_settings(flags, None, datetime.now(UTC)), this_task({}), try_everything)
        assert [call.split()[0] for call in calls(server)] == sent
    assert refused == 2 - len(sent)


def test_patch_cannot_leave_and_nobody_asks_for_it() -> None:
    """PATCH resets thresholds and the idle clock."""

    async def patch() -> None:
        transport = NarrowTransport(httpx.AsyncHTTPTransport(), {"GET", "DELETE", "POST"})
        async with httpx.AsyncClient(transport=transport) as client:
            await client.patch("http://127.0.0.1:9/")

    with pytest.raises(MethodRefusedError, match="PATCH in a run that may only DELETE, GET, POST"):
        asyncio.run(patch())
    root = Path(__file__).parents[1]
    code = [
        path for folder in ("core", "jobs") for path in root.glob(f"{folder}/**/*.py") if "sandbox" not in path.parts
    ]
    assert not [path for path in code if '"PATCH"' in path.read_text()]
