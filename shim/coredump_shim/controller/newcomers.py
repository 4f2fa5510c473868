"""Brings endpoints in step that somebody has just made, or removed, or whose annotation somebody took away.

Not here: how they are found (endpointwatch, roster), and how it is done (sync).
"""

from __future__ import annotations

from functools import partial

from coredump_shim.controller.attempt import attempt
from coredump_shim.controller.loop import GoingOn
from coredump_shim.controller.pace import Pace
from coredump_shim.controller.roster import Roster
from coredump_shim.controller.sync import Sync


class Newcomers:
    """Works at what the roster has unsettled. An endpoint that failed is tried again later."""

    def __init__(self, roster: Roster, sync: Sync, pace: Pace) -> None:
        self._roster = roster
        self._sync = sync
        self._pace = pace

    def round(self, going_on: GoingOn) -> None:
        """Work once at what waits. Raises ApiError if kube-apiserver fails as a whole."""
        for known in self._roster.unsettled():
            if not going_on():
                return
            place = known.namespace, known.name
            if not self._pace.take(place):
                continue
            if attempt(self._pace, place, "endpoint", partial(self._sync.endpoint, known)):
                self._roster.settle(known)
