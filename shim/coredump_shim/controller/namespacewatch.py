"""The watch of all namespaces, for which of them have ended: what they left in the store is nobody's.

Not here: removing it (collect.namespace). Those that ended while nobody watched are left to the next pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from coredump_shim.cluster import Cluster
from coredump_shim.controller.watching import Watch
from coredump_shim.endpoint import Object


class NamespaceWatch(Watch):
    """Notes which namespaces have ended; one of the same name may be there by now."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "/api/v1/namespaces")
        self._lock = threading.Lock()
        self._ended: set[str] = set()

    def listed(self, items: Iterator[Object]) -> None:
        """Those that are there say nothing of those that ended."""

    def told(self, kind: str, item: Object) -> None:
        """Note a namespace that has ended."""
        if kind == "DELETED":
            with self._lock:
                self._ended.add(item["metadata"]["name"])

    def ended(self) -> list[str]:
        """Return the namespaces that have ended and that nobody has looked after yet. From any thread."""
        with self._lock:
            return sorted(self._ended)

    def done(self, name: str) -> None:
        """Note that somebody has looked after one. From any thread."""
        with self._lock:
            self._ended.discard(name)
