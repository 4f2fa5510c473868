"""A capture without the guard: the doorman does it all, once it has the lock that lets one of them at a time.

The dump waits in the spool for the guard's return.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace

from coredump_guard import config, engine, log, pattern
from coredump_guard.arrival import Arrival
from coredump_guard.policy import Policy


def capture(runtime: str, arguments: list[str], fds: list[int]) -> None:
    """Capture the crash of these core_pattern arguments; fds are the core and perhaps a pidfd."""
    _to_kernel_log()
    os.umask(0o027)
    crash = replace(pattern.parse_arguments(arguments), mode="alone")
    arrival = Arrival(crash, fds[0], fds[1] if len(fds) > 1 else None)
    with contextlib.closing(arrival):
        settings = _settings(runtime)
        policy = Policy(settings)
        engine.conclude(arrival, settings, policy)
        policy.settle()


def _settings(runtime: str) -> config.Config:
    """Return the configuration; where somebody has just broken the file, the last one that was in use."""
    try:
        return config.load(os.readlink(f"{runtime}/guard.conf"))
    except (config.ConfigError, OSError) as error:
        log.warning("the configuration cannot be read, the last one is used", error=error)
        return config.last_good(runtime)


def _to_kernel_log() -> None:
    """The kernel starts us without standard error, so that Python has none: its own log stands in for it."""
    for path in ("/dev/kmsg", os.devnull):
        with contextlib.suppress(OSError):
            sys.stderr = open(path, "w")  # noqa: SIM115 # for as long as we live
            return
