"""A live run over a fleet of which half is due, on a service that takes its time; peers with as many to delete beside.

The floor is arithmetic: each due runtime is fetched again and deleted, so many requests at a time.
"""

import subprocess
import sys
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.processes import LEO, Cost, cost, server, stand_in
from benchmarks.table import Row

RUNTIMES, DUE, LATENCY = 1000, 500, 0.05
ROUNDS = 3
PEERS = Path(__file__).with_name(".peers")
PYTHON = str(PEERS / "bin" / "python")
SCRIPTS = Path(__file__).with_name("peers")
WANTED = ("jupyterhub-idle-culler==2.0.0", "c7n==0.9.53", "c7n-gcp==0.4.52")


def ours(concurrency: int) -> Iterator[Row]:
    with stand_in(RUNTIMES, due=DUE, latency=LATENCY) as url:
        command = (LEO, "delete-old-runtimes", "--leonardo-url", url, "--auth", "none", "--output", "json")
        at_once = ("--read-concurrency", str(concurrency), "--write-concurrency", str(concurrency))
        live = (*command, "--no-dry-run", "--max-act-share", "1", *at_once)
        taken = median(cost(live).wall for _ in range(ROUNDS))
    floor = 2 * DUE * LATENCY / concurrency
    yield Row(
        f"live run, {DUE} of {RUNTIMES} due, {1000 * LATENCY:g} ms a request, {concurrency} at a time",
        f"{floor:.1f} s for {2 * DUE} requests",
        f"{taken:.1f} s with start-up",
        f"{taken / floor:.2f}",
        "1.25, and start-up",
    )


def peers() -> Iterator[Row]:
    """One process each beside the others: they wait most of the time."""
    fleet = ("--runtimes", str(RUNTIMES), "--due", str(DUE), "--latency", str(LATENCY))
    with (
        server(sys.executable, "-m", "benchmarks.peers.services", *fleet) as services,
        stand_in(RUNTIMES, due=DUE, latency=LATENCY) as leonardo,
        ThreadPoolExecutor() as together,
    ):
        commands: dict[str, tuple[str, ...]] = {
            "list, GET each, DELETE, one at a time": (sys.executable, "-m", "benchmarks.peers.one_by_one", leonardo)
        }
        if why_not := _installed():
            yield Row(f"the same: {', '.join(WANTED)}", why_not, "", "")
        else:
            commands["jupyterhub-idle-culler 2.0.0"] = (PYTHON, str(SCRIPTS / "cull_once.py"), f"{services}/hub/api")
            commands["cloud-custodian 0.9.53"] = (PYTHON, str(SCRIPTS / "custodian.py"), services)
        for name, taken in zip(commands, together.map(cost, commands.values()), strict=True):
            yield Row(f"the same: {name}", _told(taken), "", "")


def _installed() -> str:
    """Why the peers cannot be had; nothing where they can."""
    if not PEERS.exists():
        venv.create(PEERS, with_pip=True)
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WANTED)
    ended = subprocess.run(pip, capture_output=True, text=True, check=False)
    return ended.stderr.strip().splitlines()[-1] if ended.returncode else ""


def _told(taken: Cost) -> str:
    return f"{taken.wall:.1f} s" if taken.code == 0 else f"ended with {taken.code}"


def rows() -> Iterator[Row]:
    for concurrency in (4, 8, 16):
        yield from ours(concurrency)
    yield from peers()


if __name__ == "__main__":
    for row in rows():
        print(row)
