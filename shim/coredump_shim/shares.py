"""How much of something one caller may have under way at a time, so that the others find room.

Not here: how much of it there is for all (stream, and HAProxy for downloads).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from coredump_shim.status import too_many


def share(limit: int) -> int:
    """Return how many of `limit` one caller may have: three quarters."""
    return max(1, limit * 3 // 4)


class Shares:
    """What each caller has under way; safe between threads."""

    def __init__(self, each: int, what: str) -> None:
        self._each = each
        self._what = what
        self._held = Counter[str]()
        self._lock = threading.Lock()

    def take(self, who: str) -> Callable[[], None]:
        """Have one more under way for a caller; return what is to be called once when it has ended.

        Raises ApiError 429 if that would be more than his share.
        """
        with self._lock:
            if self._held[who] >= self._each:
                raise too_many(f"you have {self._each} {self._what} under way, and nobody may have more")
            self._held[who] += 1
        return lambda: self._give_back(who)

    def _give_back(self, who: str) -> None:
        with self._lock:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]
