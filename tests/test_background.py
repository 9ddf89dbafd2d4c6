"""Work in threads that hold up neither the loop nor the end of the program."""

import asyncio
import subprocess
import sys
import threading

import pytest

from core.background import in_background


def test_it_returns_or_raises_what_the_work_does() -> None:
    async def run() -> None:
        assert await in_background(divmod, 7, 2) == (3, 1)
        assert await in_background(int, "11", base=2) == 3
        with pytest.raises(ZeroDivisionError):
            await in_background(divmod, 7, 0)

    asyncio.run(run())


def test_whoever_gives_up_leaves_the_work_to_itself() -> None:
    let, ended = threading.Event(), threading.Event()

    def work() -> None:
        let.wait()
        ended.set()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await in_background(work)

    asyncio.run(run())
    let.set()
    assert ended.wait(30)


def test_a_program_ends_though_its_work_hangs() -> None:
    program = """
import asyncio, threading
from core.background import in_background

async def run():
    asyncio.create_task(in_background(threading.Event().wait))
    await asyncio.sleep(0)

asyncio.run(run())
print("ended")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")
