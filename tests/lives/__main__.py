"""Lives many lives from a number on, and tells the first in which something goes wrong: `make simulate`."""

import os
import sys
import time
from hashlib import sha256

from tests.lives.history import life_of
from tests.lives.living import live, quietly
from tests.lives.story import told

SEED = int(os.environ.get("SEED") or "1")
SECONDS = float(os.environ.get("SECONDS") or "0")
RUNS = int(os.environ.get("RUNS") or "0") or (0 if SECONDS else 2000)


def main() -> int:
    """How it ends: 1 where something went wrong."""
    began = time.monotonic()
    seed, runs, steps, logs = SEED, 0, 0, sha256()
    with quietly() as folder:
        while (not RUNS or runs < RUNS) and (not SECONDS or time.monotonic() - began < SECONDS):
            life = life_of(seed)
            lived = live(life, folder)
            runs, steps = runs + lived.runs, steps + lived.steps
            logs.update(lived.log)
            if lived.violation is not None:
                say(f"SEED={seed} goes wrong after {runs:,} runs: {lived.violation}")
                say("\n".join(told(life, lived, folder)))
                return 1
            seed += 1
    seconds, used = time.monotonic() - began, 1000 * time.process_time() / runs
    say(
        f"{runs:,} runs in {seed - SEED:,} lives (SEED={SEED} to {seed - 1}), {steps:,} steps, nothing went wrong:"
        f" {seconds:.1f} s, {used:.2f} ms of processor time a run, logs {logs.hexdigest()[:16]}"
    )
    return 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # before a history is shrunk, which may take minutes


if __name__ == "__main__":
    sys.exit(main())
