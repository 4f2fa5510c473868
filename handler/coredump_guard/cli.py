"""The command coredump-guard: its arguments, what each command does, and its exit status."""

from __future__ import annotations

import argparse
import errno
import json
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from coredump_guard import (
    __version__,
    account,
    arming,
    canary,
    config,
    doctor,
    handon,
    inventory,
    service,
    status,
)

Command = Callable[[config.Config, argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a failure told in one sentence, 3 a guard that is not at work."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(config.load(options.config), options))
    except (config.ConfigError, arming.ArmingError, inventory.NoSuchDump) as error:
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
    _add(commands, "run", _run, "be the guard, in the foreground")
    _add(commands, "arm", _arm, "point core_pattern at us")
    _add(commands, "disarm", _disarm, "put core_pattern back")
    _add_json(_add(commands, "status", _status, "what the guard does; exit status 3 if it is not at work"))
    _add_json(_add(commands, "list", _list, "the dumps in the spool"))
    show = _add_json(_add(commands, "show", _show, "one dump, also one that was delivered"))
    show.add_argument("id", metavar="ID", help="of the dump; its beginning is enough")
    log = _add_json(_add(commands, "log", _log, "what became of each crash and dump, newest last"))
    log.add_argument("-n", type=_count, metavar="N", help="the last N lines only")
    log.add_argument(
        "--since", type=_time, default=0.0, metavar="TIME", help="RFC 3339: 2026-01-31T03:00:00Z"
    )
    _add_json(
        _add(commands, "doctor", _doctor, "would a crash be captured now? exit status 1 if it would be lost")
    )
    fly = _add(commands, "canary", _canary, "crash a process of our own and follow it to the store")
    fly.add_argument("--host", action="store_true", help="as a process of the node itself, in no pod")
    fly.add_argument("--timeout", type=_count, default=60, metavar="SECONDS", help="default: %(default)s")
    return parser


def _add(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """Add a command; --config is understood after it too."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--config", default=argparse.SUPPRESS, metavar="FILE", help=argparse.SUPPRESS)
    parser.set_defaults(command=command)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _time(text: str) -> float:
    try:
        return account.seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not RFC 3339, such as 2026-01-31T03:00:00Z") from None


def _run(settings: config.Config, _: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (handon.NEVER_DUMPED, handon.NEVER_DUMPED))
    os.umask(0o027)  # what the group may read does not depend on who started us
    service.Guard(settings).run()
    return 0


def _arm(settings: config.Config, _: argparse.Namespace) -> int:
    armed = arming.arm(settings)
    if status.gather(settings)["guard"] is None:  # one that runs has kept its own
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
    _print(found if options.json else status.render(found))
    at_work = found["armed"] and found["guard"] and not found["guard"]["store_error"]
    return 0 if at_work else 3


def _list(settings: config.Config, options: argparse.Namespace) -> int:
    found = inventory.dumps(settings)
    _print(found if options.json else inventory.table(found))
    return 0


def _show(settings: config.Config, options: argparse.Namespace) -> int:
    found = inventory.find(settings, options.id)
    _print(found if options.json else inventory.render(found))
    return 0


def _log(settings: config.Config, options: argparse.Namespace) -> int:
    lines = deque(inventory.history(settings, options.since), options.n)
    if options.json:
        _print([inventory.as_json(entry) for entry in lines])
    else:
        _print("".join(f"{inventory.line(entry)}\n" for entry in lines))
    return 0


def _doctor(settings: config.Config, options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, "the doctor sees nothing without privilege")
    findings = doctor.examine(settings)
    _print(doctor.as_json(findings) if options.json else doctor.render(findings))
    return 0 if doctor.captured(findings) else 1


def _canary(settings: config.Config, options: argparse.Namespace) -> int:
    began = time.monotonic()

    def say(step: str) -> None:
        print(f"{time.monotonic() - began:7.2f} s  {step}", flush=True)

    try:
        canary.fly(settings, options.host, options.timeout, say)
    except canary.Late as error:
        print(f"coredump-guard: NOT DELIVERED, {error}; coredump-guard status says why", file=sys.stderr)
        return 1
    except canary.Lost as error:
        print(f"coredump-guard: LOST, {error}; run coredump-guard doctor", file=sys.stderr)
        return 1
    print("the canary ended where crashes of the node itself do" if options.host else "a pod's crash arrives")
    return 0


def _print(found: object) -> None:
    """Print text as it is, anything else as JSON."""
    print(found if isinstance(found, str) else f"{json.dumps(found, indent=1)}\n", end="")
