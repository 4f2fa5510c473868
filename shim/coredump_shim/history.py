"""The endpoints as last seen, with resource versions, and what changed lately, for those who watch.

Not here: where endpoints come from (endpoints), and how changes are told (watch).

The version is one number for all objects: microseconds since the epoch, raised by at least one at each
change. So it grows also across restarts, and a version from before a restart is known to be too old.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from threading import Condition

from coredump_shim.endpoint import Object
from coredump_shim.status import gone

REMEMBERED = 1000
"""Changes that a watch can catch up on."""


@dataclass(frozen=True)
class Change:
    """What became of an object: `before` is None for a new one, `after` for one that went."""

    version: int
    before: Object | None
    after: Object | None


class History:
    """What is known of all namespaces; safe between threads."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._changed = Condition()
        self._version = _microseconds()
        self._oldest = self._version
        self._changes: deque[Change] = deque()
        self._remembered = remembered
        self._objects: dict[str, dict[str, Object]] = {}
        self._tickets = count(1)
        self._seen: dict[str, int] = {}

    def ticket(self) -> int:
        """Return a number to draw before reading a namespace: it says which of two readings is newer."""
        with self._changed:
            return next(self._tickets)

    def update(self, namespace: str, ticket: int, objects: Mapping[str, Object]) -> None:
        """Take a reading of a whole namespace in, unless a newer one came first."""
        with self._changed:
            if ticket < self._seen.get(namespace, 0):
                return
            if not objects and namespace not in self._objects:
                return  # nothing to remember: callers may name any namespace
            self._seen[namespace] = ticket
            known = self._objects.setdefault(namespace, {})
            for name in sorted(known.keys() | objects.keys()):
                self._compare(known, name, objects.get(name))
            self._changed.notify_all()

    def namespaces(self) -> list[str]:
        """Return the namespaces that have, or had, endpoints."""
        with self._changed:
            return sorted(self._objects)

    def current(self, namespace: str | None) -> tuple[int, list[Object]]:
        """Return the version and the objects of one namespace, or of all, sorted by namespace and name."""
        with self._changed:
            chosen = sorted(self._objects) if namespace is None else [namespace]
            known = (self._objects.get(name, {}) for name in chosen)
            return self._version, [objects[name] for objects in known for name in sorted(objects)]

    def find(self, namespace: str, name: str) -> Object | None:
        """Return one object as last seen."""
        with self._changed:
            return self._objects.get(namespace, {}).get(name)

    def since(self, version: int) -> tuple[int, list[Change]]:
        """Return the version and the changes after `version`. Raises ApiError 410 if they are forgotten."""
        with self._changed:
            self.check(version)
            return self._version, [change for change in self._changes if change.version > version]

    def check(self, version: int) -> None:
        """Raise ApiError 410 unless all changes after `version` are known."""
        with self._changed:
            if not self._oldest <= version <= self._version:
                raise gone(f"resourceVersion {version} is not known (any more); list again")

    def wait(self, version: int, seconds: float) -> None:
        """Return once there is a change after `version`, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version, seconds)

    def _compare(self, known: dict[str, Object], name: str, seen: Object | None) -> None:
        before = known.get(name)
        if before is not None and seen is not None and before["metadata"]["uid"] != seen["metadata"]["uid"]:
            self._compare(known, name, None)  # another object of the same name: first the old one goes
            before = None
        if seen is None or before is None or _unversioned(before) != seen:
            self._record(known, name, before, seen)

    def _record(
        self, known: dict[str, Object], name: str, before: Object | None, seen: Object | None
    ) -> None:
        self._version = max(self._version + 1, _microseconds())
        if seen is None:
            del known[name]
            after = None
        else:
            after = known[name] = versioned(seen, self._version)
        self._changes.append(Change(self._version, before, after))
        if len(self._changes) > self._remembered:
            self._oldest = self._changes.popleft().version


def versioned(thing: Object, version: int | str) -> Object:
    """Return the object with this resourceVersion."""
    return thing | {"metadata": thing["metadata"] | {"resourceVersion": str(version)}}


def _unversioned(thing: Object) -> Object:
    metadata = {key: value for key, value in thing["metadata"].items() if key != "resourceVersion"}
    return thing | {"metadata": metadata}


def _microseconds() -> int:
    return time.time_ns() // 1000
