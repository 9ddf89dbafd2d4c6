"""The program as a process of its own, forked from one that has imported it: to start Python takes longer than it."""

import atexit
import gc
import importlib
import io
import os
import pickle
import pkgutil
import re
import select
import socket
import subprocess
import sys
from contextlib import suppress
from ctypes import CDLL
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, AnyStr, NamedTuple, cast

LEO = str(Path(sys.executable).with_name("leo-lifecycle"))
DRY = LEO + "-dry-run"
SCRIPT = [sys.executable, "-c"]
READ_LATER = re.compile(
    r"(LIFECYCLE_|CLOUD_RUN_|GCE_|GOOGLE_|CLOUDSDK_|PYTEST_).*|.*_(?i:proxy)|NO_GCE_CHECK|HOME|TERM|COLUMNS|LINES"
)
"""Variables that neither Python nor a library reads before the program begins; google-auth does, and reads anew."""
SUBREAPER = 36
"""Of prctl: what loses its parent becomes a child of this process, which so can wait for it."""
DRAWING = "core.report"
"""Takes a second to import, and few processes draw."""

IMPORTED_WHEN_USED = (
    *("anyio._backends._asyncio", "anyio.streams.tls", "google.auth.compute_engine", "google.oauth2.credentials"),
    *("httpcore", "uvicorn.lifespan.off"),
)
"""In every run, by its libraries."""


class Begun(NamedTuple):
    """What a process is told at its start, beside its standard streams."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    new_session: bool


class Origin:
    """The process from which the others are forked."""

    def __init__(self) -> None:
        CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        self._socket, theirs = socket.socketpair()
        with theirs:
            handed = theirs.fileno()
            self._process = subprocess.Popen([sys.executable, "-P", __file__, str(handed)], pass_fds=[handed])
        self._told = self._socket.makefile("rwb")
        self._lock = Lock()
        self._environment = dict(os.environ)
        atexit.register(self._end)

    def _end(self) -> None:
        self._told.close()
        self._socket.close()
        self._process.wait()

    def would_start_alike(self, environment: dict[str, str]) -> bool:
        """Whether Python has started there as it would in this environment."""
        differing = {name for name, _ in environment.items() ^ self._environment.items()}
        return all(map(READ_LATER.fullmatch, differing))

    def begin(self, begun: Begun, streams: list[int]) -> int:
        """The number of the new process."""
        with self._lock:
            socket.send_fds(self._socket, [b"!"], streams)
            pickle.dump(begun, self._told)
            self._told.flush()
            return cast("int", pickle.load(self._told))  # noqa: S301 - our own


@cache
def origin() -> Origin:
    """Of all that this process starts, once one is wanted."""
    return Origin()


class Program(subprocess.Popen[AnyStr]):
    """A `subprocess.Popen` in all that is promised of one; what is not the program, or a script, is started as ever."""

    def _execute_child(self, args: Any, executable: Any, preexec: Any, close: Any, handed: Any, *more: Any) -> None:
        folder, environment, _, _, shell, stdin, _, _, stdout, _, stderr, *_, new_session, group = more
        given = os.environ if environment is None else environment
        variables = {os.fsdecode(name): os.fsdecode(value) for name, value in given.items()}
        usual = isinstance(args, list) and not (shell or preexec or handed or group != -1)
        if not (usual and is_python_of_ours(args) and origin().would_start_alike(variables)):
            super()._execute_child(args, executable, preexec, close, handed, *more)  # type: ignore[misc]
            return
        streams = [own if other == -1 else other for own, other in enumerate((stdin, stdout, stderr))]
        self.pid = origin().begin(Begun(args, variables, str(folder or Path.cwd()), new_session), streams)
        self._child_created = True
        self._close_pipe_fds(*more[5:11])  # type: ignore[attr-defined]


def is_python_of_ours(words: list[str]) -> bool:
    return sys.platform == "linux" and (words[0] in (LEO, DRY) or words[:2] == SCRIPT)


def serve(told: socket.socket) -> Begun:
    """Fork whenever told to, and return in the process that was made; end with whoever tells."""
    file = told.makefile("rwb")
    while True:
        word, streams, _, _ = socket.recv_fds(told, 1, 3)
        if not word:
            os._exit(0)
        begun: Begun = pickle.load(file)  # noqa: S301 - our own
        answer, answers = os.pipe()
        between = os.fork()
        if between == 0:
            itself = os.getpid()
            number = os.fork()
            if number == 0:
                wait_for_the_end_of(itself)  # or its parent would be one that is as good as gone
                break
            os.write(answers, str(number).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from then on the new process is the child of whoever tells
        pickle.dump(int(os.read(answer, 20)), file)
        file.flush()
        for descriptor in (*streams, answer, answers):
            os.close(descriptor)
    told.detach()
    for own, given in enumerate(streams):
        os.dup2(given, own)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    return begun


def wait_for_the_end_of(process: int) -> None:
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(process)], [], [])


def become(begun: Begun) -> None:
    """As the start of Python does, and google-auth when it is imported."""
    if begun.new_session:
        os.setsid()
    os.chdir(begun.folder)
    os.environ.clear()
    os.environ.update(begun.environment)
    sys.argv = begun.words
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        was: io.TextIOWrapper = getattr(sys, name)
        through = was.write_through
        stream = io.TextIOWrapper(
            os.fdopen(descriptor, "wb" if descriptor else "rb", 0 if through and descriptor else -1, closefd=False),
            was.encoding,
            was.errors,
            line_buffering=not through and (os.isatty(descriptor) or name == "stderr"),
            write_through=through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    importlib.reload(sys.modules["google.auth.compute_engine._metadata"])


def import_all(but: str | None = None) -> None:
    for name in ("core", "jobs"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not (but and module.name.startswith(but)):
                importlib.import_module(module.name)
    for name in IMPORTED_WHEN_USED:
        importlib.import_module(name)


class End:
    """The end of a process that does not give back, one by one, all that was imported: that takes longer than a run."""

    code: object = None

    def __call__(self) -> None:
        """Behind all else that is to be done at exit; where there is more to say than a number, Python says it."""
        if isinstance(self.code, int):
            with suppress(OSError):
                sys.stdout.flush()
                os._exit(self.code)


def run(words: list[str]) -> int:
    """What is behind the name of a command, or the script."""
    if words[:2] == SCRIPT:
        sys.argv = ["-c", *words[3:]]
        exec(compile(words[2], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - of a test
        return 0
    from jobs.__main__ import main, main_dry_run  # noqa: PLC0415 - whoever imports this has no need of it

    return main_dry_run() if words[0] == DRY else main()


if __name__ == "__main__":
    atexit.register(end := End())
    import_all(but=DRAWING)
    gc.freeze()
    become(begun := serve(socket.socket(fileno=int(sys.argv[1]))))
    try:
        end.code = run(begun.words)
    except SystemExit as told:
        end.code = told.code
        raise
    sys.exit(end.code)
