"""The kernel's core settings, held by one run at a time and put back exactly."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from testbed.waiting import wait_for

LOCK = Path("/run/lock/coredump-guard-tests.lock")
SETTINGS = [
    Path("/proc/sys/kernel/core_pattern"),
    Path("/proc/sys/kernel/core_pipe_limit"),
    Path("/proc/sys/fs/suid_dumpable"),
]


@contextmanager
def core_settings(seconds: float = 600) -> Iterator[dict[Path, bytes]]:
    """Hold the machine's core settings; whatever happens inside, they are afterwards what they were.

    Yields what they were, which is what will be put back. Raises TimeoutError if another run holds them for
    longer than `seconds`.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        wait_for(f"another test run or demo releases {LOCK}", lambda: _locked(lock), seconds)
        before = read_settings()
        try:
            yield before
        finally:
            for path, value in before.items():
                path.write_bytes(value)


def read_settings() -> dict[Path, bytes]:
    """Return the core settings as they are now."""
    return {path: path.read_bytes() for path in SETTINGS}


def settings_unless_held() -> dict[Path, bytes] | None:
    """Return the core settings as they are now, or None while a run holds them: then they may be its own."""
    if not LOCK.exists():
        return read_settings()
    with LOCK.open() as lock:
        return read_settings() if _locked(lock) else None


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
