"""Room in the spool: what waits there, what may still come, and whose it is.

Three bounds: the spool's size, the disk's free space, and each namespace's share, so that nobody's dumps keep
another's out. Not here: what else speaks against a core (policy).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator

from coredump_guard import copying, store
from coredump_guard.config import Config
from coredump_guard.drain import Full
from coredump_guard.record import Identity, RecordError
from coredump_guard.spool import Spool

LEAST = 1 << 20
"""Bytes below which there is no point in beginning with a core."""
SLACK = 64 << 20
"""Bytes beyond the bounds that records without a core may take."""

DEBUG = "_debug"
"""Whose share executables take that wait; no namespace is called so."""


def group(owner: Identity) -> str:
    """Return whose share of the spool a dump takes: its namespace's, or the host's or the unidentified's."""
    return store.directory(owner, "").partition("/")[0]


class Room:
    """The spool's room; for several workers at once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._spool = Spool(config.spool)
        self._debug = f"{config.spool}/{copying.DIRECTORY}"
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        """What waits, by its path: what waits does not change, so that each is looked at once."""
        self._groups: dict[str, str] = {}
        self._coming: Counter[str] = Counter()

    def refusal(self, group: str, slack: int = 0) -> str | None:
        """Say which bound leaves no room for another dump of this group, or None."""
        with self._lock:
            self._look()
            return self._bound(group, LEAST, slack)

    def allot(self, group: str) -> Allotment:
        """Return the room that one core may take."""
        return Allotment(self, group)

    def take(self, group: str, size: int) -> None:
        """Add to what is coming; raises Full, naming the bound."""
        with self._lock:
            reason = self._bound(group, size, 0)
            if reason:
                raise Full(reason)
            self._coming[group] += size

    def give_back(self, group: str, size: int) -> None:
        """Say that so much is not coming any more: it waits now, or is gone."""
        with self._lock:
            self._coming[group] -= size
            self._look()

    def _bound(self, group: str, size: int, slack: int) -> str | None:
        config = self._config
        total = sum(self._sizes.values()) + sum(self._coming.values())
        if total + size > config.spool_size + slack:
            return f"[spool] size = {config.spool_size}: {total} bytes wait there"
        share = config.spool_size * config.spool_share // 100 + slack
        # Who it is that takes the room need not be known before all together exceed a share.
        if total + size > share and (used := self._used(group)) + size > share:
            taken = f"dumps of {group} that wait there take {used} of {config.spool_size} bytes"
            return f"[spool] share = {config.spool_share}: {taken}"
        if not config.spool_free:  # then the disk itself says when it is full
            return None
        with contextlib.suppress(OSError):  # a spool that is not there is the capture's to tell
            disk = os.statvfs(config.spool)
            free = disk.f_bavail * disk.f_frsize
            if free - size < config.spool_free - slack:
                return f"[spool] keep_free = {config.spool_free}: {free} bytes are free on its disk"
        return None

    def _used(self, group: str) -> int:
        for path in self._sizes.keys() - self._groups.keys():
            self._groups[path] = self._whose(path)
        waiting = sum(size for path, size in self._sizes.items() if self._groups[path] == group)
        return waiting + self._coming[group]

    def _look(self) -> None:
        """Bring what waits up to date."""
        seen = set(self._paths())
        for path in self._sizes.keys() - seen:
            del self._sizes[path]
            self._groups.pop(path, None)
        for path in seen - self._sizes.keys():
            self._sizes[path] = _blocks(path) if self._is_executable(path) else usage(path)

    def _paths(self) -> Iterator[str]:
        for directory in (self._spool.ready, self._spool.broken, self._debug):
            with contextlib.suppress(OSError):
                for name in os.listdir(directory):
                    if directory != self._debug or copying.NAME.match(name):  # not what is being copied
                        yield f"{directory}/{name}"

    def _is_executable(self, path: str) -> bool:
        return os.path.dirname(path) == self._debug

    def _whose(self, path: str) -> str:
        if self._is_executable(path):
            return DEBUG
        try:
            return group(self._spool.record(os.path.basename(path)).identity)
        except (OSError, RecordError):
            return store.UNIDENTIFIED


class Allotment:
    """What one core takes of the room while it is drained; called with the size of each part."""

    def __init__(self, room: Room, group: str) -> None:
        self._room, self._group, self._taken = room, group, 0

    def __call__(self, size: int) -> None:
        """Take room for a part; raises Full."""
        self._room.take(self._group, size)
        self._taken += size

    def close(self) -> None:
        """End: the dump waits now, or has been given up."""
        if self._taken:
            self._room.give_back(self._group, self._taken)
            self._taken = 0


def usage(directory: str) -> int:
    """Return the bytes that a directory's files take on disk; what cannot be looked at takes none."""
    total = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            total += _blocks(f"{directory}/{name}")
    return total


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0
