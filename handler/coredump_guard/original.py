"""The memory: what the kernel's settings were before us, in <state>/original.json, remembered once.

As long as it is there, this installation is armed. Not here: putting it back (arming).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from coredump_guard.sysctl import Settings

PATIENCE = 10.0
"""Seconds to wait for another command that is at the memory."""


class BusyError(Exception):
    """Another process has been at the memory for all of the time given."""


@contextlib.contextmanager
def locked(state: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the memory and the kernel's settings against the other commands of this installation.

    The lock is on the directory, so that it leaves nothing behind. Raises BusyError, and OSError.
    """
    fd = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + patience
        while not _lock(fd):
            if time.monotonic() >= deadline:
                raise BusyError(f"another process arms or disarms: it has held {state} for {patience:g} s")
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def recall(state: str) -> Settings | None:
    """Return what was in force before us, or None while nothing is remembered.

    Raises ValueError if the memory is damaged, OSError if it cannot be read.
    """
    memory = _read(state)
    if memory is None:
        return None
    try:
        known = {name: memory[name] for name in ("core_pattern", "core_pipe_limit")}
        return Settings(**known, suid_dumpable=memory.get("suid_dumpable", ""))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def is_of_this_boot(state: str) -> bool:
    """Whether there is a memory, and not one of an earlier boot, which began with settings of its own.

    Raises as `recall`.
    """
    if recall(state) is None:
        return False
    return bool(_read(state).get("boot_id", _boot_id()) == _boot_id())  # version 0.1.0 wrote none


def remember(state: str, settings: Settings) -> None:
    """Write the memory, in the place of one that may be there; raises OSError, which names the file.

    One that says the same already is left alone: a full disk must not keep a guard that ends from leaving
    the pipe behind.
    """
    given = {name: value for name, value in asdict(settings).items() if value or name != "suid_dumpable"}
    memory = {**given, "boot_id": _boot_id()}
    with contextlib.suppress(ValueError):
        if _read(state) == memory:
            return
    temporary = f"{_path(state)}.new"
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(memory, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, _path(state))
    except OSError as error:
        error.filename = error.filename or temporary
        raise


def forget(state: str) -> None:
    """Remove the memory."""
    os.unlink(_path(state))


def _path(state: str) -> str:
    return f"{state}/original.json"


def _read(state: str) -> Any:
    try:
        with open(_path(state), encoding="utf-8", errors="surrogateescape") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
