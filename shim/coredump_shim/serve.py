"""The command `coredump-shim serve`: its options, and the start of the server.

Not here: the settings' meaning (config), the server (app, serving).
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial

from coredump_shim import config, options, serving
from coredump_shim.app import create_app

log = logging.getLogger(__name__)

DESCRIPTION = "Serve the API until ended."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_cluster(
        parser, ("--standalone", "without a cluster: no authentication, endpoints derived from the store")
    )
    options.add_store(parser)
    parser.add_argument(
        "--run-dir",
        default=config.RUN_DIR,
        metavar="DIR",
        help="in a cluster: the directory that it shares with HAProxy (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="stand-alone: where created endpoints are kept (default: STORE/.endpoints)",
    )
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8080",
        metavar="ADDRESS:PORT",
        help="stand-alone: where to listen (default: %(default)s); anything but the loopback needs the next "
        "option too",
    )
    parser.add_argument(
        "--insecure-listen-anywhere",
        action="store_true",
        help="let whoever reaches the address read every core: there is no authentication",
    )
    options.add_log_level(parser, ", downloads; DEBUG: every request")


def run(arguments: argparse.Namespace) -> int:
    """Serve; return the exit status. Raises ConfigError."""
    settings = _settings(arguments)
    address = settings.address
    try:
        listener = serving.listen(address)
    except OSError as error:
        where = address if isinstance(address, str) else "--listen {}:{}".format(*address)
        print(f"coredump-shim: {where}: {error.strerror}", file=sys.stderr)
        return 1
    log.info("serving %s on %s", settings.store, _url(address, listener.getsockname()))
    serving.serve(
        partial(create_app, settings),
        listener,
        front_factory=partial(create_app, settings, publishes=True),
        threads=settings.threads,
        max_body=settings.max_body,
    )
    return 0


def _settings(arguments: argparse.Namespace) -> config.Config:
    if not arguments.standalone:
        return config.joined(arguments.store, arguments.kubeconfig, arguments.run_dir)
    settings = config.standalone(
        arguments.store,
        arguments.state,
        arguments.listen,
        anywhere_allowed=arguments.insecure_listen_anywhere,
    )
    if settings.anywhere:
        print(config.ANYWHERE_WARNING.format(listen=arguments.listen), file=sys.stderr)
    return settings


def _url(address: config.Address, bound: tuple[str, int] | str) -> str:
    if isinstance(address, str):
        return address
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{bound[1]}"
