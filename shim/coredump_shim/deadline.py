"""A bound on how long, and how often at once, the store is waited for.

Not here: what is read. A store on a dead NFS server blocks whoever touches it, for ever and against any
signal; such a call keeps a thread of its own here, and the request that wanted it is answered with 503.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ParamSpec, TypeVar

from coredump_shim.status import ApiError, unavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Deadline:
    """Runs calls that may hang: `limit` at a time, each waited for `seconds`, until it has its turn included.

    A process in which a call hangs ends by os._exit alone, as the supervisor's do: Python joins the threads.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self._seconds = seconds
        self._limit = limit
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="store")
        self._overdue: set[Future[Any]] = set()
        self._answered = 0.0

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what work returns, or raise what it raises.

        Raises ApiError 503 if it takes too long, if no thread becomes free, or for an OSError.
        """
        # Where every thread is kept by a call that hangs already, nobody waits again.
        if len(self._overdue) >= self._limit:
            raise self._silent()
        asked = time.monotonic()
        future = self._threads.submit(work, *args, **kwargs)
        future.add_done_callback(self._note)
        if not wait([future], self._seconds).done:
            raise self._given_up(future, asked)
        try:
            return future.result()
        except OSError as error:
            log.warning("the store cannot be used; is it mounted? %s", error)
            said = f"the store cannot be used: {error.strerror or error}; its administrator must look"
            raise unavailable(said, retry_after=None) from None

    def _note(self, future: Future[Any]) -> None:
        if not future.cancelled():
            self._answered = time.monotonic()

    def _given_up(self, future: Future[Any], asked: float) -> ApiError:
        if not future.cancel():
            log.warning("the store does not answer within %g s", self._seconds)
            self._overdue.add(future)
            future.add_done_callback(self._overdue.discard)
            return self._silent()
        log.warning("%d look-ups in the store left no room for another in %g s", self._limit, self._seconds)
        # Where others were answered meanwhile there is nothing wrong with the file server.
        return _busy() if self._answered > asked else self._silent()

    def _silent(self) -> ApiError:
        return unavailable(f"the store does not answer within {self._seconds:g} s; is its file server up?")


def _busy() -> ApiError:
    return unavailable("too much is asked of the store at this time; try again in a few seconds")
