"""A capture without the guard: the doorman does it all, one doorman at a time, so that memory stays bounded.

The dump waits in the spool for the guard's return.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from dataclasses import replace

from coredump_guard import config, engine, log, pattern
from coredump_guard.arrival import Arrival


def capture(runtime: str, arguments: list[str], fds: list[int]) -> None:
    """Capture the crash of these core_pattern arguments; fds are the core and perhaps a pidfd."""
    _to_kernel_log()
    with open(f"{runtime}/alone.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = config.load(os.path.realpath(f"{runtime}/guard.conf"))
        crash = replace(pattern.parse_arguments(arguments), mode="alone")
        arrival = Arrival(crash, fds[0], fds[1] if len(fds) > 1 else None)
        with contextlib.closing(arrival):
            outcome = engine.handle(arrival, settings)
            log.info(
                f"{outcome.kind} without the guard", pid=crash.pid, dump=outcome.dump, detail=outcome.detail
            )


def _to_kernel_log() -> None:
    """The kernel starts us without standard error, so that Python has none: its own log stands in for it."""
    for path in ("/dev/kmsg", os.devnull):
        with contextlib.suppress(OSError):
            sys.stderr = open(path, "w")  # noqa: SIM115 # for as long as we live
            return
