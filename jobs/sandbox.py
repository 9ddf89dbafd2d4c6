"""Serve a Leonardo with a made-up fleet on loopback, until stopped: to try the jobs on, and for their tests."""

import argparse
import os

from core.settings.faults import UsageError

FLEET = 400
SEED = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port on 127.0.0.1; 0: a free one [8080]")
    parser.add_argument("--runtimes", type=int, default=FLEET, metavar="N", help=f"size of the fleet [{FLEET}]")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help=f"same seed, same fleet [{SEED}]")
    parser.add_argument("--broken-autopause", action="store_true", help="what would have been paused still runs [no]")


def serve(arguments: argparse.Namespace) -> int:
    try:
        from core.sandbox.server import serve_forever  # noqa: PLC0415 - not in the production image
    except ImportError as error:
        raise UsageError(f"sandbox: {error.name} is not installed; install leo-lifecycle[sandbox]") from None
    try:
        serve_forever(
            runtimes=arguments.runtimes,
            seed=arguments.seed,
            port=arguments.port,
            autopause_broken=arguments.broken_autopause,
            ready=lambda url: print(f"a Leonardo with {arguments.runtimes} runtimes is at {url}", flush=True),
        )
    except OSError as error:
        raise UsageError(f"port: {arguments.port}: {os.strerror(error.errno or 0)}") from None
    return 0
