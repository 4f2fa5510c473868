"""Work that is given up once it makes no headway: a store on a dead file server blocks for ever.

Not here: the work. It runs in a thread of its own, and says between its steps that it goes on; once given up
it ends at its next step, should it ever come, since what it knows of the cluster is of long ago.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from coredump_shim.status import unavailable

T = TypeVar("T")

SECONDS = 120.0
"""How long one step may take: a page of pods, or the files of a hundred dumps."""

Alive = Callable[[], None]

_hanging: list[threading.Thread] = []
"""Work that was given up and has not ended; while there is any, no other is begun."""


class Abandoned(Exception):  # noqa: N818 # nobody made a mistake
    """Nobody waits for this work any more."""


def watched(
    work: Callable[[Alive], T], seconds: float = SECONDS, *, going_on: Callable[[], bool] = lambda: True
) -> T:
    """Return what `work` returns or raise what it raises; it calls its argument between its steps.

    Raises ApiError 503 if a step takes longer, or if earlier work still hangs; Abandoned where it should not
    go on.
    """
    _hanging[:] = [thread for thread in _hanging if thread.is_alive()]
    if _hanging:
        raise unavailable("the store still does not answer; is its file server up?")
    steps = _Steps(going_on)
    future: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(work, steps, future), name="watched", daemon=True)
    thread.start()
    while not wait([future], max(0.01, steps.last + seconds - time.monotonic())).done:
        if time.monotonic() - steps.last >= seconds:
            steps.abandoned = True
            _hanging.append(thread)
            raise unavailable(f"the store does not answer within {seconds:g} s; is its file server up?")
    return future.result()


class _Steps:
    """When the last step was done, and whether another is wanted."""

    def __init__(self, going_on: Callable[[], bool]) -> None:
        self.last = time.monotonic()
        self.abandoned = False
        self._going_on = going_on

    def __call__(self) -> None:
        if self.abandoned or not self._going_on():
            raise Abandoned
        self.last = time.monotonic()


def _run(work: Callable[[Alive], T], steps: _Steps, future: Future[T]) -> None:
    try:
        future.set_result(work(steps))
    except BaseException as error:  # it is raised where somebody waits
        future.set_exception(error)
