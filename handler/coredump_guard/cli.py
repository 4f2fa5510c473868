"""The command coredump-guard: its arguments, what each command does, and its exit status."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys

from coredump_guard import __version__, arming, config, handon, service, status


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a failure told in one sentence, 3 a guard that is not at work."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(config.load(options.config), options))
    except (config.ConfigError, arming.ArmingError) as error:
        print(f"coredump-guard: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "; it takes root" if isinstance(error, PermissionError) else ""
        print(f"coredump-guard: {where}{error.strerror or error}{remedy}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coredump-guard", description="Captures the cores of pods' processes on this node."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", default=config.DEFAULT_PATH, metavar="FILE", help="default: %(default)s")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="be the guard, in the foreground").set_defaults(command=_run)
    commands.add_parser("arm", help="point core_pattern at us").set_defaults(command=_arm)
    commands.add_parser("disarm", help="put core_pattern back").set_defaults(command=_disarm)
    show = commands.add_parser("status", help="what the guard does; exit status 3 if it is not at work")
    show.add_argument("--json", action="store_true", help="for machines")
    show.set_defaults(command=_status)
    return parser


def _run(settings: config.Config, _: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (handon.NEVER_DUMPED, handon.NEVER_DUMPED))
    os.umask(0o027)  # what the group may read does not depend on who started us
    service.Guard(settings).run()
    return 0


def _arm(settings: config.Config, _: argparse.Namespace) -> int:
    armed = arming.arm(settings)
    config.keep(settings)
    print(f"core_pattern is now {armed.core_pattern}")
    return 0


def _disarm(settings: config.Config, _: argparse.Namespace) -> int:
    before = arming.current().core_pattern
    now = arming.disarm(settings).core_pattern
    kept = "was not ours and is left as it is" if now == before else "is back to what it was"
    print(f"core_pattern {kept}: {now}")
    return 0


def _status(settings: config.Config, options: argparse.Namespace) -> int:
    found = status.gather(settings)
    print(
        json.dumps(found, indent=1) if options.json else status.render(found),
        end="\n" if options.json else "",
    )
    at_work = found["armed"] and found["guard"] and not found["guard"]["store_error"]
    return 0 if at_work else 3
