"""The watch of all endpoints, which has the roster say which there are.

Not here: what is done about it (newcomers). It sees the controller's own writes as well as anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator

from coredump_shim.cluster import Cluster
from coredump_shim.controller.endpoints import ALL, known
from coredump_shim.controller.roster import Roster
from coredump_shim.controller.watching import Watch
from coredump_shim.endpoint import Object


class EndpointWatch(Watch):
    """Keeps a roster."""

    def __init__(self, cluster: Cluster, roster: Roster) -> None:
        super().__init__(cluster, ALL)
        self._roster = roster

    def listed(self, items: Iterator[Object]) -> None:
        """Have the roster know these."""
        self._roster.replace(map(known, items))

    def told(self, kind: str, item: Object) -> None:
        """Have the roster know of a change."""
        if kind == "DELETED":
            self._roster.remove(known(item))
        else:
            self._roster.put(known(item), came=kind == "ADDED")
