"""Serve a Leonardo with a made-up fleet on loopback, until stopped.

It answers as Leonardo does since 2025: lists hold what the caller may see and nothing that was deleted, disks have
lists of their own, and what may not be seen is not found. In the fleet are runtimes that are due, in use, failed, on
their way or stuck, with a disk, without one, or with one that is not attached any more, a few rows that make no sense,
and disks that earlier runtimes have left. The caller owns every project;
  curl -d '{"PROJECT": "none"}' URL/sandbox/roles
takes that away while it serves (other roles: owner, owner-without-stop, reader). URL/sandbox/machines shows the truth,
and URL/sandbox/notices what was posted to URL/notices.

With --google-port a Google stands beside it: a Cloud Run that runs the jobs as processes of this machine, and a Cloud
Logging that keeps their records. LIFECYCLE_GOOGLE_EMULATOR=HOST:PORT makes every command talk to it, and a folder is
named whose environment `sandbox` can be started and reviewed, a live run too.
"""

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from core.settings.faults import UsageError, not_installed
from core.settings.reading import check_variables

EXAMPLES = (
    "leo-lifecycle sandbox   # 400 runtimes at http://127.0.0.1:8080",
    "leo-lifecycle sandbox --port 0 --runtimes 5000 --broken-autopause   # a large fleet that nothing pauses",
    "leo-lifecycle sandbox --google-port 0   # with a Cloud Run and a Cloud Logging beside it",
)
PORT = 8080
FLEET = 400
SEED = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"port on 127.0.0.1; 0: a free one [{PORT}]"
    )
    parser.add_argument("--runtimes", type=int, default=FLEET, metavar="N", help=f"size of the fleet [{FLEET}]")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help=f"same seed, same fleet [{SEED}]")
    parser.add_argument("--broken-autopause", action="store_true", help="what would have been paused still runs [no]")
    parser.add_argument("--broken-deletions", action="store_true", help="some end in Error, some never [no]")
    parser.add_argument(
        "--google-port", type=int, metavar="N", help="port on 127.0.0.1 for a Google; 0: a free one [none]"
    )
    parser.add_argument(
        "--google-log", type=Path, metavar="FILE", help="file that gets every acknowledged log entry [none]"
    )


def serve(arguments: argparse.Namespace) -> int:
    check_variables()
    if arguments.google_port is not None and arguments.pins:
        raise UsageError("--google-port: what this command pins would not hold for the jobs that such a Google runs")
    try:
        from core.sandbox.server import made_up, serve_forever, serving  # noqa: PLC0415 - not in the production image
    except ImportError as error:
        raise not_installed("sandbox", error, "sandbox") from None
    leonardo = made_up(
        arguments.runtimes,
        arguments.seed,
        autopause_broken=arguments.broken_autopause,
        deletions_broken=arguments.broken_deletions,
    )
    with ExitStack() as opened:

        def ready(url: str) -> None:
            print(f"a Leonardo with {arguments.runtimes} runtimes is at {url}", flush=True)
            if arguments.google_port is not None:
                _serve_google(url, arguments, opened)

        try:
            serve_forever(serving(leonardo, port=arguments.port), ready)
        except OSError as error:
            raise UsageError(f"port: {arguments.port}: {os.strerror(error.errno or 0)}") from None
    return 0


def _serve_google(url: str, arguments: argparse.Namespace, opened: ExitStack) -> None:
    """Until `opened` closes: a Google whose jobs ask the Leonardo at this URL."""
    from core.sandbox import google_cloud  # noqa: PLC0415 - a second of imports

    variables = {
        "LIFECYCLE_LEONARDO_URL": url,
        "LIFECYCLE_AUTH": "none",
        "LIFECYCLE_ENVIRONMENT": google_cloud.ENVIRONMENT,
    }
    google = google_cloud.Google(variables, kept_in=arguments.google_log)
    opened.enter_context(google_cloud.serving_google(google, port=arguments.google_port))
    folder = Path(opened.enter_context(TemporaryDirectory(prefix="leo-lifecycle-")))
    (folder / f"{google_cloud.ENVIRONMENT}.yaml").write_text(google_cloud.environment_file(url))
    print(f"a Google is at {google.address}", flush=True)
    print(f"its jobs are started with --env {google_cloud.ENVIRONMENT} --environments {folder}", flush=True)
