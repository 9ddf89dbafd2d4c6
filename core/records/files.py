"""Lines of audit files and folders, of any order and age, plain or compressed; records are read in `reader`."""

import errno
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from core.records.reader import Fault, Line
from core.records.selection import OPENINGS, Wanted

SUFFIXES = (".jsonl", ".ndjson", ".json", ".log")
"""What is read out of a folder, also with `.gz` behind it; a file that is named is read whatever its name."""
OPENING = b"run_started"


class AuditFiles:
    """The lines of files and folders, in their order."""

    def __init__(self, places: Iterable[Path]) -> None:
        """Raises OSError where a place cannot be read, or where a folder holds no log."""
        self.files = list(dict.fromkeys(file for place in places for file in _files(place)))
        for file in self.files:
            with file.open("rb"):
                pass
        self.torn: list[Fault] = []
        self.faults: list[Fault] = []

    def lines(self, wanted: Wanted) -> Iterator[Line]:
        """Each line that is not blank, or those that can open a run where nothing else is wanted."""
        mark = OPENING if wanted is OPENINGS else b""
        for file in self.files:
            name, number = str(file), 0
            place, line = "", b""
            with _opened(file) as stream:
                try:
                    for number, raw in enumerate(stream, 1):
                        if mark not in raw or not (following := raw.strip()):
                            continue
                        if line:  # the next run begins on a line of its own
                            yield Line(place, line, OPENING in following)
                        place, line = f"{name}:{number}", following
                except EOFError:
                    self.torn.append(Fault(f"{file}:{number + 1}", "the compressed file ends early"))
                except (gzip.BadGzipFile, zlib.error) as error:
                    self.faults.append(Fault(f"{file}:{number + 1}", f"the file is not readable: {error}"))
            if line:
                yield Line(place, line, may_be_torn=True)


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place.resolve(strict=True)]
    found = [
        path.resolve()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name.removesuffix(".gz").endswith(SUFFIXES)
    ]
    if not found:
        raise FileNotFoundError(errno.ENOENT, "the folder holds no log", str(place))
    return found


def _opened(file: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(file)) if file.suffix == ".gz" else file.open("rb")
