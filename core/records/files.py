"""Which files and folders hold audit logs, and how they are opened; how one is cut into records is said in `lines`."""

import bz2
import codecs
import errno
import gzip
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from itertools import starmap
from pathlib import Path
from typing import Any

import msgspec

from core.records.lines import Marks, Place, Stream, is_over_lines, lines, values
from core.records.reader import Fault, Faults, Line
from core.records.selection import Wanted

COMPRESSED: dict[bytes, Callable[[BufferedReader], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""How a compressed file begins, and what reads it: its name may be another since it was rotated."""
PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
}
"""How a file begins that nothing here reads."""
ARCHIVES = ("zip", "7-Zip")
"""What they hold may be anything; a log by their name alone."""
LOG = re.compile(
    r".*\.(jsonl|ndjson|json|log)([.\-_~]*\d[\dTZ.\-_]*|\.(old|bak|gz|bz2|xz|zst|lz4|z|zip|7z))*",
    re.IGNORECASE | re.DOTALL,
)
"""The name of a log, rotated or not; such a file is read whatever is in it."""
LIKE_A_LOG = re.compile(rb"\s*(\{\s*\"|\[\s*\{)")
"""How a file begins that is read whatever its name."""
OTHER_UNICODE = re.compile(rb"\xff\xfe|\xfe\xff|\0{1,3}[^\0]|[^\0]\0", re.DOTALL)
"""How a text begins that is UTF-16 or UTF-32."""
HEAD = 4096
FEW = 5
"""Files that are named."""


class AuditFiles:
    """The logs in files and folders, in their order."""

    def __init__(self, places: Iterable[Path]) -> None:
        """Raises OSError where a place cannot be read, or where a folder holds no log."""
        self.torn: list[Fault] = []
        self.faults = Faults()
        self.passed_over: list[str] = []
        self.files = list(dict.fromkeys(file for place in places for file in self._files(place)))

    def lines(self, wanted: Wanted) -> Iterator[Line]:
        """The text of each record, or of those events alone that are wanted alone."""
        marks: Marks = {}
        if all(of.alone for of in wanted):
            for of in wanted:
                of_runs = [msgspec.json.encode(run_id) for run_id in of.run_ids] or [b""]
                for event in of.events:
                    marks.setdefault(msgspec.json.encode(event), []).extend(of_runs)
        for file in self.files:
            try:
                with file.open("rb") as plain, _unpacked(plain) as stream:
                    yield from self._lines(str(file), stream, marks)
            except EOFError:
                self.faults.add(str(file), str(file), "the compressed file ends early")
            except (OSError, zlib.error, lzma.LZMAError) as error:
                self.faults.add(str(file), str(file), f"the file is not readable: {error}")

    def _lines(self, file: str, stream: Stream, marks: Marks) -> Iterator[Line]:
        def report(at: Place, what: str) -> None:
            self.faults.add(file, Line(file, at, b"").place, what)

        head = _head(stream)
        if packer := _packer(head):
            self.faults.add(file, file, f"the file is compressed by {packer}: unpack it, or compress it by gzip")
            return
        if head.startswith(codecs.BOM_UTF8):
            stream.read1(len(codecs.BOM_UTF8))
            head = head.removeprefix(codecs.BOM_UTF8)
        if OTHER_UNICODE.match(head):
            self.faults.add(file, file, "the file is in UTF-16 or UTF-32: make it UTF-8, as the jobs write it")
            return
        texts = values(stream, report) if is_over_lines(head) else lines(stream, marks, report)
        yield from starmap(partial(Line, file), texts)

    def _files(self, place: Path) -> Iterator[Path]:
        """The logs in a place. Raises OSError."""
        if place.is_dir():
            yield from self._in_folder(place)
            return
        if place.is_fifo() or place.is_socket():
            raise OSError(errno.ESPIPE, "it is a pipe, and a log is read twice: write it to a file", str(place))
        file = Path(os.path.realpath(place, strict=True))
        with file.open("rb"):
            pass
        yield file

    def _in_folder(self, folder: Path) -> Iterator[Path]:
        """The logs in a folder and in all below it, linked ones too, each once."""
        found = False

        def not_listed(error: OSError) -> None:
            self.faults.add(str(error.filename), str(error.filename), f"the folder cannot be listed: {error.strerror}")

        for path in _walk(folder, not_listed):
            try:
                if _is_log(path):
                    found = True
                    yield path.resolve()
                else:
                    self.passed_over.append(str(path))
            except OSError as error:
                self.faults.add(str(path), str(path), f"the file cannot be opened: {error.strerror}")
        if not (found or any(self.faults)):
            rest = f", only {named(self.passed_over)}" if self.passed_over else ""
            raise FileNotFoundError(errno.ENOENT, f"the folder holds no log{rest}", str(folder))


def _walk(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """What is in a folder and in all below it but folders; a link that leads back is not followed again."""
    known: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(folder, followlinks=True, onerror=on_error):
        there = Path(name).stat()
        if (there.st_dev, there.st_ino) in known:
            folders.clear()
            continue
        known.add((there.st_dev, there.st_ino))
        folders.sort()
        yield from (Path(name, file) for file in sorted(files))


def _is_log(path: Path) -> bool:
    """By its name, or else by how it begins. Raises OSError where it cannot be opened."""
    if not path.is_file():
        path.stat()  # a link that leads nowhere
        return False
    with path.open("rb") as plain:
        if LOG.fullmatch(path.name):
            return True
        try:
            with _unpacked(plain) as stream:
                head = _head(stream)
        except (EOFError, OSError, zlib.error, lzma.LZMAError):  # OSError is bzip2's
            return True  # nobody can tell any more
    if packer := _packer(head):
        return packer not in ARCHIVES
    if OTHER_UNICODE.match(head):
        head = head.translate(None, delete=b"\0\xff\xfe")
    return LIKE_A_LOG.match(head.removeprefix(codecs.BOM_UTF8)) is not None


def _packer(head: bytes) -> str | None:
    return next((name for begin, name in PACKED.items() if head.startswith(begin)), None)


def named(names: Sequence[str]) -> str:
    """A few of them, and how many more there are."""
    few = ", ".join(name if name.isprintable() else repr(name) for name in names[:FEW])
    return f"{few} and {len(names) - FEW:,} more" if len(names) > FEW else few


@contextmanager
def _unpacked(file: BufferedReader) -> Iterator[Stream]:
    magic = file.peek(6)
    for begin, reader in COMPRESSED.items():
        if magic.startswith(begin):
            with reader(file) as stream:
                yield stream
            return
    yield file


def _head(stream: Stream) -> bytes:
    """How it begins; it is still to be read."""
    return stream.peek(HEAD)[:HEAD]
