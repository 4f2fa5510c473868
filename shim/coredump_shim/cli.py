"""The command coredump-shim: its subcommands.

Not here: what they do; each has a module of its own with `DESCRIPTION`, `add_options` and `run`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from coredump_guard import __version__
from coredump_shim import check, haproxy, serve
from coredump_shim.config import ConfigError
from coredump_shim.controller import command as controller

COMMANDS = {
    "serve": (serve, "serve the API"),
    "controller": (controller, "keep endpoints, Events and the store in step with the cluster"),
    "haproxy": (haproxy, "write what HAProxy needs to be the front"),
    "check": (check, "say whether everything in the cluster fits together"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 for arguments that cannot be, as argparse has it."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=arguments.log_level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it repeats what is raised
    logging.getLogger("waitress").setLevel(logging.WARNING)  # that a client went is nothing to tell
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(f"coredump-shim: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coredump-shim", description="Serves the cores of a store as a Kubernetes API."
    )
    parser.add_argument("--version", action="version", version=f"coredump-shim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, words) in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=module.DESCRIPTION)
        module.add_options(command)
        command.set_defaults(run=module.run)
    return parser
