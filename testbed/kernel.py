"""The kernel's core settings, held by one run at a time and put back exactly.

A run that is killed leaves a note of what they were, and the next one puts them back before it looks.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from testbed.waiting import wait_for

LOCK = Path("/run/lock/coredump-guard-tests.lock")
NOTE = Path("/run/coredump-guard-settings.json")
"""What the settings were before the run that holds the lock; in a directory that only root may write."""
SETTINGS = [
    Path("/proc/sys/kernel/core_pattern"),
    Path("/proc/sys/kernel/core_pipe_limit"),
    Path("/proc/sys/fs/suid_dumpable"),
]


@contextmanager
def core_settings(seconds: float = 600) -> Iterator[dict[Path, bytes]]:
    """Hold the machine's core settings; whatever happens inside, they are afterwards what they were.

    Yields what they were. Raises TimeoutError if another run holds them for longer than `seconds`.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        wait_for(f"another test run or demo releases {LOCK}", lambda: _locked(lock), seconds)
        if NOTE.exists():
            _put_back()
        before = read_settings()
        _note(before)
        try:
            yield before
        finally:
            _put_back()


def read_settings() -> dict[Path, bytes]:
    """Return the core settings as they are now."""
    return {path: path.read_bytes() for path in SETTINGS}


def settings_unless_held() -> dict[Path, bytes] | None:
    """Return the core settings as they are now, or None while a run holds them: then they may be its own."""
    if not LOCK.exists():
        return read_settings()
    with LOCK.open() as lock:
        return read_settings() if _locked(lock) else None


def _note(before: dict[Path, bytes]) -> None:
    half = NOTE.with_suffix(".new")
    half.write_text(json.dumps({str(path): os.fsdecode(value) for path, value in before.items()}))
    half.replace(NOTE)


def _put_back() -> None:
    for path, value in json.loads(NOTE.read_text()).items():
        Path(path).write_bytes(os.fsencode(value))
    NOTE.unlink()


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
