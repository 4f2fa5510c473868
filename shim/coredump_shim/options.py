"""Options that several commands have.

Not here: those that only one has (the commands' modules), and checking their values (config).
"""

from __future__ import annotations

import argparse


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add --store."""
    parser.add_argument("--store", required=True, metavar="DIR", help="the store that nodes deliver to")


def add_cluster(parser: argparse.ArgumentParser, *alternatives: tuple[str, str]) -> None:
    """Add the ways to a cluster, one of which must be said; alternatives: more options, and their help."""
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--kubeconfig", metavar="FILE", help="credentials for the cluster that it belongs to")
    ways.add_argument(
        "--in-cluster", action="store_true", help="use the service account of the pod it runs in"
    )
    for option, words in alternatives:
        ways.add_argument(option, action="store_true", help=words)


def add_log_level(parser: argparse.ArgumentParser, words: str) -> None:
    """Add --log-level."""
    parser.add_argument(
        "--log-level",
        default="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        help=f"what is logged to stderr (default: %(default)s{words})",
    )
