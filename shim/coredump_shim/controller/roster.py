"""Which endpoints there are, by the pod they stand for, and which of them nobody has brought in step yet.

Those of ours that are gone are not in step either: whoever removed them may have left the dumps.

Not here: where that is learned (endpointwatch), and bringing them in step (newcomers).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from coredump_shim.controller.endpoints import Known

PATIENCE = 1.0
"""Seconds that whoever makes an endpoint has for its annotation: then it is left alone, if it was ours."""

Pod = tuple[str, str]
"""A namespace and a pod's UID."""
Place = tuple[str, str]
"""A namespace and an endpoint's name."""


class Roster:
    """Safe between threads; it is what a watch says, and so a moment late. Nothing may be deleted by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all: dict[Place, Known] = {}
        self._of_pod: dict[Pod, set[str]] = {}
        self._removed: dict[Place, Known] = {}
        """Those of ours that are gone, and that nobody has looked after since."""
        self._unsettled: dict[Place, float] = {}
        """Since when nobody has brought it in step."""

    def replace(self, everything: Iterable[Known]) -> None:
        """Note that these are all."""
        found = list(everything)
        with self._lock:
            waiting, self._unsettled = self._unsettled, {}
            self._all, self._of_pod, self._removed = {}, {}, {}
            for known in found:
                self._put(known, came=(known.namespace, known.name) in waiting)
            self._unsettled |= {place: since for place, since in waiting.items() if place in self._unsettled}

    def put(self, known: Known, *, came: bool = False) -> None:
        """Note an endpoint as it is now; came: it has just been made.

        It is unsettled while it has none of our annotations. We make none that has one from the beginning:
        such a one was copied, and says nothing.
        """
        with self._lock:
            self._put(known, came=came)

    def remove(self, known: Known) -> None:
        """Note that an endpoint is gone."""
        with self._lock:
            place = known.namespace, known.name
            self._forget(*place)
            self._unsettled.pop(place, None)
            if known.managed and known.observed is not None:
                self._removed[place] = known
                self._unsettled[place] = self._clock()

    def settle(self, known: Known) -> None:
        """Note that an endpoint was brought in step, unless it has changed meanwhile."""
        with self._lock:
            if self._all.get((known.namespace, known.name)) in (known, None):
                self._unsettled.pop((known.namespace, known.name), None)
                self._removed.pop((known.namespace, known.name), None)

    def names(self, namespace: str, poduid: str) -> set[str]:
        """Return the names of the endpoints that are said to stand for a pod."""
        with self._lock:
            return set(self._of_pod.get((namespace, poduid), ()))

    def unsettled(self) -> list[Known]:
        """Return the endpoints that have to be brought in step, first those that have waited longest.

        But last those that are gone: with a namespace all of its endpoints go.
        """
        with self._lock:
            now = self._clock()
            due = [place for place, since in self._unsettled.items() if now - since >= PATIENCE]
            there = [self._all[place] for place in due if place in self._all]
            return there + [self._removed[place] for place in due if place in self._removed]

    def _put(self, known: Known, *, came: bool) -> None:
        place = known.namespace, known.name
        before = self._forget(*place)
        if self._removed.pop(place, None):
            self._unsettled.pop(place, None)
        self._all[place] = known
        if known.observed is not None:
            self._of_pod.setdefault((known.namespace, known.observed.poduid), set()).add(known.name)
        if known.observed is None or came:
            self._unsettled.setdefault(place, self._clock())
        elif before is None or before.observed != known.observed:
            self._unsettled.pop(place, None)

    def _forget(self, namespace: str, name: str) -> Known | None:
        before = self._all.pop((namespace, name), None)
        if before is not None and before.observed is not None:
            pod = namespace, before.observed.poduid
            self._of_pod[pod].discard(name)
            if not self._of_pod[pod]:
                del self._of_pod[pod]
        return before
