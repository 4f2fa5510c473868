"""The crash loops of this node: which crash belongs to which, remembered over restarts of the guard.

    <state>/loops.json   shared by the guard and doormen alone, each adding what it has seen

Not here: what is kept of a loop (damping). For one thread at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections import OrderedDict
from collections.abc import Iterator

from coredump_guard import log
from coredump_guard.damping import Loop

MAX_LOOPS = 500
"""Remembered at once; the one that has been quiet longest is forgotten first."""


def now() -> float:
    """Return the seconds since boot: no clock that is set makes a loop longer or shorter."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Loops:
    """The loops by their names; those of an earlier boot are over, and only their tallies are finished."""

    def __init__(self, state: str, boot_id: str, window: float) -> None:
        self._path = f"{state}/loops.json"
        self._boot_id = boot_id
        self._window = window
        self._loops: OrderedDict[str, Loop] = OrderedDict()
        self._over: list[Loop] = []
        """Loops that ended before all was told of them."""
        self._stamp = (0, 0)
        """Which loops.json it was that we last read or wrote."""

    def __len__(self) -> int:
        return len(self._loops)

    def crashed(self, name: str, when: float) -> Loop:
        """Return the loop that a crash belongs to, a new one if the last is over."""
        loop = self._loops.pop(name, None)
        if loop is None or when - loop.last > self._window:
            self._end(loop)
            loop = Loop(when)
        loop.last = when
        self._loops[name] = loop
        while len(self._loops) > MAX_LOOPS:
            self._end(self._loops.popitem(last=False)[1])
        return loop

    def _end(self, loop: Loop | None) -> None:
        if loop is not None and loop.written < loop.counted:
            self._over.append(loop)

    def untold(self) -> list[Loop]:
        """Return the loops with crashes in their tallies that the spool has not been told of."""
        return [loop for loop in (*self._over, *self._loops.values()) if loop.written < loop.counted]

    def expire(self, when: float) -> None:
        """Forget the loops that are over and of which everything has been told."""
        self._over = [loop for loop in self._over if loop.written < loop.counted]
        for name, loop in list(self._loops.items()):
            if when - loop.last > self._window and loop.written >= loop.counted:
                del self._loops[name]

    def read(self) -> None:
        """Add what others have written since we last read or wrote; raises OSError.

        A memory that is damaged is begun anew: it is the guard's alone, and worth a few cores too many.
        """
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8") as file:
                memory = json.load(file)
            theirs = {str(name): Loop.from_plain(values) for name, values in memory["loops"].items()}
            self._stamp = stamp
            self._merge(theirs, memory["boot_id"] == self._boot_id)
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("the memory of crash loops is damaged and begun anew", path=self._path, error=error)

    def _merge(self, theirs: dict[str, Loop], this_boot: bool) -> None:
        for name, loop in theirs.items():
            if not this_boot:
                self._end(loop)
            elif name in self._loops:
                self._loops[name].merge(loop)
            else:
                self._loops[name] = loop

    def write(self) -> None:
        """Write the memory; raises OSError."""
        for loop in self._loops.values():
            loop.shared = loop.counted
        memory = {
            "boot_id": self._boot_id,
            "loops": {name: loop.to_plain() for name, loop in self._loops.items()},
        }
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(memory, file)
        os.replace(f"{self._path}.new", self._path)
        self._stamp = _stamp(self._path)


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def locked(state: str) -> Iterator[None]:
    """Keep others from reading and writing the memory meanwhile; raises OSError."""
    os.makedirs(state, 0o750, exist_ok=True)
    fd = os.open(f"{state}/loops.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
