"""Searches of a whole namespace for the pods that had a name: few at a time, in short steps.

Not here: which of them is meant (poduids). A store knows pods by their UIDs, and names are in records alone:
a search looks at every pod that has dumps. Whoever asks for names that there never were must not keep the
store from others. So of each pod one record is read, and between two steps the others have their turn.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from operator import attrgetter

from coredump_shim.catalog import Catalog, Dump
from coredump_shim.deadline import Deadline
from coredump_shim.status import ApiError, shown, too_many, unavailable

STEP = 64
"""Pods looked at under one deadline; where there are no more, a search is a look-up like any other."""
SECONDS = 30.0
"""How long one search may take."""
OF_NAMESPACE = 2
"""Searches of one namespace at a time."""
OVERALL = 4
"""Searches at a time: fewer than the look-ups in the store that a Config lets be at a time (max_reads)."""


class Searches:
    """The searches of one process; safe between threads."""

    def __init__(self, catalog: Catalog, deadline: Deadline) -> None:
        self._catalog = catalog
        self._deadline = deadline
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()

    def named(self, namespace: str, name: str) -> list[Dump]:
        """Return the last dump of each pod that had this name, sorted by id.

        Raises ApiError: 429 if too many search, 503 if it takes too long or the store does not answer.
        """
        pods: list[str] = self._deadline.call(self._catalog.pods, namespace)
        with self._turn(namespace) if len(pods) > STEP else nullcontext():
            found = [dump for step in self._steps(namespace, name, pods) for dump in step]
        return sorted(found, key=attrgetter("id"))

    def _steps(self, namespace: str, name: str, pods: list[str]) -> Iterator[list[Dump]]:
        end = time.monotonic() + SECONDS
        for start in range(0, len(pods), STEP):
            if time.monotonic() > end:
                raise _too_long(namespace)
            yield self._deadline.call(self._named, namespace, name, pods[start : start + STEP])

    def _named(self, namespace: str, name: str, pods: Sequence[str]) -> list[Dump]:
        found = (self._catalog.newest(namespace, pod) for pod in pods)
        return [dump for dump in found if dump is not None and dump.record.identity.pod == name]

    @contextmanager
    def _turn(self, namespace: str) -> Iterator[None]:
        with self._lock:
            if self._under_way[namespace] >= OF_NAMESPACE:
                raise too_many(f"{OF_NAMESPACE} searches of namespace {shown(namespace)} {_FULL}")
            if self._under_way.total() >= OVERALL:
                raise too_many(f"{OVERALL} searches {_FULL}")
            self._under_way[namespace] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= Counter([namespace])


_FULL = (
    "for a pod without an endpoint are under way, and more are not served at one time; "
    "an endpoint that names its spec.poduid needs none"
)


def _too_long(namespace: str) -> ApiError:
    return unavailable(
        f"namespace {shown(namespace)} has dumps of so many pods that none was found by name within "
        f"{SECONDS:g} s; create the endpoint with its spec.poduid",
        retry_after=None,
    )
