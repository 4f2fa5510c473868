"""The kernel's core settings, held by one test run at a time and put back exactly."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path("/run/lock/coredump-guard-tests.lock")
SETTINGS = [
    Path("/proc/sys/kernel/core_pattern"),
    Path("/proc/sys/kernel/core_pipe_limit"),
    Path("/proc/sys/fs/suid_dumpable"),
]


@contextmanager
def core_settings() -> Iterator[None]:
    """Hold the machine's core settings; whatever happens inside, they are afterwards what they were."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {path: path.read_bytes() for path in SETTINGS}
        try:
            yield
        finally:
            for path, value in before.items():
                path.write_bytes(value)
