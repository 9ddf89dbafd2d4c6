"""Asking the audit log about a run of a million records: time and memory, beside reading and decoding the lines."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import LEO, cost, stand_in
from benchmarks.table import Row

RUNTIMES = 1_000_000
DUE = 100
FLOOR = """\
import sys, msgspec
from core.records.reader import Record
decode = msgspec.json.Decoder(Record, strict=False).decode
for line in open(sys.argv[1], "rb"):
    decode(line)
"""


def rows() -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        log = Path(folder) / "records.jsonl"
        with stand_in(RUNTIMES, due=DUE) as url:
            cost((LEO, "delete-old-runtimes", "--leonardo-url", url, "--auth", "none", "--output", "json"), log)
        floor = cost((sys.executable, "-c", FLOOR, str(log)))
        questions = {"verify": ("verify",), "report": ("report", "--html", str(Path(folder) / "report.html"))}
        for name, words in questions.items():
            ours = cost((LEO, "review-audit-log", *words, "--from", str(log)))
            yield Row(
                f"review-audit-log {name} over {RUNTIMES:,} records",
                f"{floor.wall:.1f} s to decode the lines",
                f"{ours.wall:.1f} s, {ours.peak:.0f} MiB",
                f"{ours.wall / floor.wall:.2f}",
                "40 s, 1 GiB",
            )


if __name__ == "__main__":
    for row in rows():
        print(row)
