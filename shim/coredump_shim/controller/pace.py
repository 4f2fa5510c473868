"""How often something is done: at most so many in a second, of one pod less often, later after a failure.

Not here: what is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

BURST = 300
RATE = 10.0
"""Pods that are told of: so many at once, and then in a second."""
PAUSE = 3.0
"""Seconds between two times that a pod is told of."""
LONGEST = 300.0
"""Seconds until what failed again and again is tried again."""
SOON = 8.0
"""The same where it was not about this pod: kube-apiserver was away, and for how long others see to."""
MAX_KEYS = 50_000


def back_off(failures: int, longest: float = LONGEST) -> float:
    """Return for how many seconds to wait after so many failures in a row."""
    return float(min(2.0 ** min(failures - 1, 30), longest))


class Pace:
    """Says when it is a pod's turn."""

    def __init__(self, *, pause: float = PAUSE, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._tokens = float(BURST)
        self._filled = clock()
        self._due: dict[Hashable, tuple[float, int]] = {}
        """When it is a pod's turn again, and how often it failed."""

    def take(self, key: Hashable) -> bool:
        """Whether it is this one's turn now; then it counts against the rate."""
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE)
        self._filled = now
        if now < self._due.get(key, (0.0, 0))[0] or self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def done(self, key: Hashable) -> None:
        """It went well: not again before the pause is over."""
        self._put(key, self._pause, 0)

    def failed(self, key: Hashable, longest: float = LONGEST) -> int:
        """It failed: again later, at most so many seconds; return how often in a row."""
        failures = self._due.get(key, (0.0, 0))[1] + 1
        self._put(key, back_off(failures, longest), failures)
        return failures

    def _put(self, key: Hashable, pause: float, failures: int) -> None:
        now = self._clock()
        if len(self._due) >= MAX_KEYS:
            self._due = {old: entry for old, entry in self._due.items() if entry[0] > now}
        if len(self._due) >= MAX_KEYS:
            self._due.clear()
        self._due[key] = now + pause, failures
