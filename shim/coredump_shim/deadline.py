"""A bound on how long, and how often at once, the store is waited for.

Not here: what is read. A store on a dead NFS server blocks whoever touches it, for ever and against any
signal; such a call keeps a thread of its own here, and the request that wanted it is answered with 503.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, ParamSpec, TypeVar

from coredump_shim.status import ApiError, unavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Deadline:
    """Runs calls that may hang: `limit` at a time, each waited for `seconds`."""

    def __init__(self, seconds: float, limit: int) -> None:
        self._seconds = seconds
        self._limit = limit
        self._free = threading.BoundedSemaphore(limit)
        self._overdue: set[Future[Any]] = set()

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what work returns, or raise what it raises.

        Raises ApiError 503 if it takes too long, if no place becomes free, or for an OSError.
        """
        # Where every place is taken by a call that hangs already, nobody waits again.
        patience = 0 if len(self._overdue) >= self._limit else self._seconds / 10
        if not self._free.acquire(timeout=patience):
            raise self._silent()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as error:  # handed to the caller, in his thread
                future.set_exception(error)
            finally:
                self._free.release()

        threading.Thread(target=run, name="store", daemon=True).start()
        return self._wait(future)

    def _wait(self, future: Future[T]) -> T:
        if not wait([future], self._seconds).done:
            log.warning("the store does not answer within %g s", self._seconds)
            self._overdue.add(future)
            future.add_done_callback(self._overdue.discard)
            raise self._silent()
        try:
            return future.result()
        except OSError as error:
            log.warning("the store cannot be used: %s", error)
            raise unavailable(f"the store cannot be used: {error.strerror or error}") from None

    def _silent(self) -> ApiError:
        return unavailable(f"the store does not answer within {self._seconds:g} s; is its file server up?")
