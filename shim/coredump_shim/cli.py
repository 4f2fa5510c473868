"""The command coredump-shim: its arguments, and the start of what they ask for.

Not here: the settings' meaning (config), the server (app, serving).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial

from coredump_guard import __version__
from coredump_shim import config, serving
from coredump_shim.app import create_app

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 for arguments that cannot be, as argparse has it."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=arguments.log_level, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = config.standalone(
            arguments.store,
            arguments.state,
            arguments.listen,
            anywhere_allowed=arguments.insecure_listen_anywhere,
        )
    except config.ConfigError as error:
        print(f"coredump-shim: {error}", file=sys.stderr)
        return 2
    if settings.anywhere:
        print(config.ANYWHERE_WARNING.format(listen=arguments.listen), file=sys.stderr)
    return _serve(settings)


def _serve(settings: config.Config) -> int:
    try:
        listener = serving.listen((settings.host, settings.port))
    except OSError as error:
        print(f"coredump-shim: --listen {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info("serving %s on http://%s:%d", settings.store, host, listener.getsockname()[1])
    application = partial(create_app, settings)
    serving.serve(application, listener, threads=settings.threads, max_body=settings.max_body)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coredump-shim", description="Serves the cores of a store as a Kubernetes API."
    )
    parser.add_argument("--version", action="version", version=f"coredump-shim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the API", description="Serve the API until ended.")
    serve.add_argument(
        "--standalone",
        action="store_true",
        required=True,
        help="without a cluster: no authentication, endpoints derived from the store",
    )
    serve.add_argument("--store", required=True, metavar="DIR", help="the store that nodes deliver to")
    serve.add_argument(
        "--state", metavar="DIR", help="where created endpoints are kept (default: STORE/.endpoints)"
    )
    serve.add_argument(
        "--listen",
        default="127.0.0.1:8080",
        metavar="ADDRESS:PORT",
        help="where to listen (default: %(default)s); anything but the loopback needs the next option too",
    )
    serve.add_argument(
        "--insecure-listen-anywhere",
        action="store_true",
        help="let whoever reaches the address read every core: there is no authentication",
    )
    serve.add_argument(
        "--log-level",
        default="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        help="what is logged to stderr (default: %(default)s, downloads; DEBUG: every request)",
    )
    return parser
