"""What dumps a store holds: namespaces and their dumps with their records.

Not here: a dump's contents (archive), whose they are to read (the API), and removing them (removal).
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from coredump_guard import record, store
from coredump_guard.record import Record
from coredump_shim import beneath, rfc3339

log = logging.getLogger(__name__)

CACHE_BYTES = 32 << 20
"""How much text of info.json files the records kept in memory may come from."""
MAX_COMPLAINTS = 10_000
TRIES = 64
"""Dumps of a pod of which one has to have a record, where one is enough."""

Place = tuple[str, str, str]
"""Namespace, pod's UID and container, which lead from a store's root to a directory of dumps."""


@dataclass(frozen=True)
class Dump:
    """One dump of a store. Where it lies says whose it is; what its record says of that is not trusted."""

    namespace: str
    poduid: str
    container: str
    id: str
    path: str
    """Absolute path of its directory."""
    record: Record
    arrived: int = 0
    """When the store had it, in microseconds since the epoch by the store's own clock.

    The ctime of its directory, which the rename that shows it sets: unlike the time in the record it is from
    one clock for all nodes, and not from before a dump was seen.
    """

    @property
    def place(self) -> Place:
        """The names that lead from the store's root to the directory it lies in."""
        return self.namespace, self.poduid, self.container

    @property
    def is_tally(self) -> bool:
        """Whether it stands for crashes that were only counted; then its record changes as they go on."""
        return self.record.refused is not None and self.record.until is not None


def last_crash(dump: Dump) -> int:
    """Return when the last of its crashes was, in microseconds since the epoch; 0 if it does not say."""
    try:
        return max(crash_time(dump), rfc3339.microseconds(dump.record.until or ""))
    except ValueError:
        return crash_time(dump)


def crash_time(dump: Dump) -> int:
    """Return when it crashed, in microseconds since the epoch; 0 if its record does not say."""
    try:
        return rfc3339.microseconds(dump.record.time)
    except ValueError:
        return 0


class Catalog:
    """The dumps below a store's root. Records are remembered: once shown, only a tally's changes."""

    def __init__(self, root: str):
        self.root = os.path.abspath(root)
        self._records = _Records(CACHE_BYTES)

    def namespaces(self) -> list[str]:
        """Return the namespaces that have a directory in the store, sorted.

        Raises OSError if the store does not answer.
        """
        with beneath.directory(self.root) as root:
            return [name for name in beneath.subdirectories(root) if store.is_namespace(name)]

    def dumps(self, namespace: str, poduid: str | None = None) -> list[Dump]:
        """Return the dumps of a namespace, or of one pod in it, sorted by id and so by the time of the crash.

        Raises OSError if the store does not answer; names that nothing can have give an empty list.
        """
        if not store.is_namespace(namespace) or not (poduid is None or store.is_poduid(poduid)):
            return []
        with beneath.directory(self.root) as root:
            return sorted(self._namespace(root, namespace, poduid), key=attrgetter("id"))

    def pods(self, namespace: str) -> list[str]:
        """Return the UIDs of the pods that have a directory in a namespace. Raises OSError as `dumps`."""
        if not store.is_namespace(namespace):
            return []
        with beneath.directory(self.root) as root:
            return [uid for uid in _children(root, namespace) if store.is_poduid(uid)]

    def newest(self, namespace: str, poduid: str) -> Dump | None:
        """Return a pod's last dump, None if it has none; reads no other's record. Raises OSError."""
        if not (store.is_namespace(namespace) and store.is_poduid(poduid)):
            return None
        with beneath.directory(self.root) as root:
            there = (
                (id, place) for place in _places(root, namespace, poduid) for id in _children(root, *place)
            )
            last = heapq.nlargest(TRIES, (found for found in there if store.is_dump_id(found[0])))
            return next((dump for id, place in last for dump in self._container(root, place, id)), None)

    def _namespace(self, root: int, namespace: str, poduid: str | None) -> Iterator[Dump]:
        for uid in _children(root, namespace) if poduid is None else [poduid]:
            if store.is_poduid(uid):
                for place in _places(root, namespace, uid):
                    yield from self._container(root, place)

    def _container(self, root: int, place: Place, *ids: str) -> Iterator[Dump]:
        """Yield these dumps of a container, else all."""
        try:
            with beneath.directory(root, *place) as fd:
                for name in ids or filter(store.is_dump_id, beneath.subdirectories(fd)):
                    path = "/".join((self.root, *place, name))
                    found = self._records.get(fd, name, path)
                    if found is not None:
                        yield Dump(*place, name, path, *found)
        except OSError as error:
            if error.errno not in beneath.ABSENT:
                raise


_Found = tuple[Record, int]
"""A dump's record and arrival."""


class _Records:
    """Records by the path of their dump, the least recently used forgotten first; safe between threads."""

    def __init__(self, limit: int):
        self._limit = limit
        self._size = 0
        self._known: OrderedDict[str, tuple[_Found, int]] = OrderedDict()
        self._complained: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, container_fd: int, name: str, path: str) -> _Found | None:
        """Return record and arrival of the dump `name`; None, and one line in the log, where it has none."""
        known = self._recall(path)
        if known is not None and not _has_changed(known, container_fd, name):
            return known
        try:
            with beneath.directory(container_fd, name) as fd:
                arrived = os.fstat(fd).st_ctime_ns // 1000
                text = beneath.read(fd, store.INFO, record.MAX_BYTES + 1)
            found = _record(text, name), arrived
        except record.RecordError as error:
            self._complain(path, str(error))
            return None
        except OSError as error:
            if error.errno not in beneath.ABSENT:
                raise
            self._complain(path, f"{store.INFO}: {error.strerror}")
            return None
        self._remember(path, found, len(text))
        return found

    def _recall(self, path: str) -> _Found | None:
        with self._lock:
            if path not in self._known:
                return None
            self._known.move_to_end(path)
            return self._known[path][0]

    def _remember(self, path: str, found: _Found, size: int) -> None:
        with self._lock:
            self._size += size - self._known.pop(path, (found, 0))[1]
            self._known[path] = (found, size)
            while self._size > self._limit:
                self._size -= self._known.popitem(last=False)[1][1]

    def _complain(self, path: str, reason: str) -> None:
        with self._lock:
            if path in self._complained:
                return
            self._complained[path] = None
            while len(self._complained) > MAX_COMPLAINTS:
                self._complained.popitem(last=False)
        log.warning("dump left out: %r: %r", path, reason)


def _has_changed(known: _Found, container_fd: int, name: str) -> bool:
    """Whether a crash without a core has a newer record: one that is renamed into it sets its ctime."""
    found, arrived = known
    if found.refused is None:
        return False
    try:
        return os.stat(name, dir_fd=container_fd, follow_symlinks=False).st_ctime_ns // 1000 != arrived
    except FileNotFoundError:
        return True


def _record(text: bytes, name: str) -> Record:
    found = Record.from_json(text)
    if found.id != name:
        raise record.RecordError("info.json: id is not the name of its directory")
    return found


def _places(root: int, namespace: str, poduid: str) -> list[Place]:
    return [
        (namespace, poduid, name) for name in _children(root, namespace, poduid) if store.is_container(name)
    ]


def _children(root: int, *names: str) -> list[str]:
    try:
        with beneath.directory(root, *names) as fd:
            return beneath.subdirectories(fd)
    except OSError as error:
        if error.errno not in beneath.ABSENT:
            raise
        return []
