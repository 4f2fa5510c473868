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
from coredump_shim.config import ConfigError

log = logging.getLogger(__name__)

DESCRIPTION = "Serve the API until ended."
LISTEN = "127.0.0.1:8080"
_LISTENS = (
    "in a cluster the shim listens on shim.sock in --run-dir, and HAProxy before it on --listen of its own"
)
STANDALONE_ONLY = {
    "listen": _LISTENS,
    "insecure_listen_anywhere": _LISTENS,
    "state": "in a cluster endpoints are kept by kube-apiserver",
}
CLUSTER_ONLY = {"run_dir": "a stand-alone shim shares nothing with HAProxy"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_cluster(
        parser, ("--standalone", "without a cluster: no authentication, endpoints derived from the store")
    )
    options.add_store(parser)
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help=f"in a cluster: the directory that it shares with HAProxy (default: {config.RUN_DIR})",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="stand-alone: where created endpoints are kept (default: STORE/.endpoints)",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        help=f"stand-alone: where to listen (default: {LISTEN}); anything but the loopback needs the next "
        "option too",
    )
    parser.add_argument(
        "--insecure-listen-anywhere",
        action="store_true",
        help="stand-alone: let whoever reaches the address read every core: there is no authentication",
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
    _check_used(arguments, CLUSTER_ONLY if arguments.standalone else STANDALONE_ONLY)
    if not arguments.standalone:
        run_dir = config.RUN_DIR if arguments.run_dir is None else arguments.run_dir
        return config.joined(arguments.store, arguments.kubeconfig, run_dir)
    listen = LISTEN if arguments.listen is None else arguments.listen
    settings = config.standalone(
        arguments.store, arguments.state, listen, anywhere_allowed=arguments.insecure_listen_anywhere
    )
    if settings.anywhere:
        print(config.ANYWHERE_WARNING.format(listen=listen), file=sys.stderr)
    return settings


def _check_used(arguments: argparse.Namespace, unused: dict[str, str]) -> None:
    """Raise ConfigError for an option that would be ignored: whoever gives one relies on it."""
    for name, reason in unused.items():
        if getattr(arguments, name) not in (None, False):
            raise ConfigError(f"--{name.replace('_', '-')} is of no use here: {reason}; leave it out")


def _url(address: config.Address, bound: tuple[str, int] | str) -> str:
    if isinstance(address, str):
        return address
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{bound[1]}"
