"""The controller's works, each in a thread of its own, for as long as this controller leads.

Not here: what they do (arrivals, sync, collect, gateways) and who leads (lease). A store on a dead file
server blocks whoever touches it, for ever: then only that thread stands still. Once the lease is lost the
process ends there and then, by os._exit: whatever hangs does nothing more when it comes back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.lease import Lease
from coredump_shim.controller.pace import back_off
from coredump_shim.controller.trouble import said
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

GoingOn = Callable[[], bool]

LOST = 3
"""Exit status of a controller that leads no more."""
LOOK = 0.1
"""Seconds between two looks whether the lease is still held."""
GRACE = 5.0
"""Seconds that the works have for coming to an end, so that the lease can be released."""
LONGEST = 30.0
"""Seconds between two attempts at what goes on failing."""


@dataclass(frozen=True)
class Work:
    """Something done again and again."""

    name: str
    every: float
    """Seconds from its end to its next begin."""
    do: Callable[[GoingOn], None]
    """It asks whether to go on. OSError, ApiError or Doubt: it is tried again, later each time.

    At most LONGEST seconds later; after Doubt, which somebody has to end, as late as otherwise.
    """


class Silence:
    """For how long a store has not answered its thread, by statfs(2), which NFS clients do not cache."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._answered = time.monotonic()
        self._asked = time.monotonic()
        threading.Thread(target=self._ask, name="silence", daemon=True).start()

    @property
    def seconds(self) -> float:
        """Return for how many seconds it has not answered; an error is an answer."""
        return time.monotonic() - self._answered

    def _ask(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                os.statvfs(self._root)
            self._answered = time.monotonic()
            time.sleep(1)


class Repeated:
    """Does a work until told to stop; says once that it fails, and once that it does again."""

    def __init__(self, work: Work, stop: threading.Event, held: Callable[[], bool]) -> None:
        """held: whether the lease is, without which no work goes on."""
        self._work = work
        self._stop = stop
        self._held = held
        self._failures = 0
        self._said = ""

    def run(self) -> None:
        """Do it again and again."""
        while not self._stop.is_set():
            self._stop.wait(self.once())

    def once(self) -> float:
        """Do it and return for how long to wait."""
        try:
            self._work.do(lambda: self._held() and not self._stop.is_set())
        except Doubt as error:
            return self._failed(str(error), max(LONGEST, self._work.every))
        except (ApiError, OSError) as error:
            return self._failed(said(error))
        except Exception as error:  # a bug in one work must not end the others
            if self._said != repr(error):
                log.exception("%s failed unexpectedly", self._work.name)
            self._said = repr(error)
            return self._failed(repr(error))
        if self._failures:
            log.info("%s: works again", self._work.name)
        self._failures, self._said = 0, ""
        return self._work.every

    def _failed(self, words: str, longest: float = LONGEST) -> float:
        if words != self._said:
            log.warning("%s: %s; it is tried again", self._work.name, words)
        self._failures, self._said = self._failures + 1, words
        return back_off(self._failures, longest)


def lead(lease: Lease, silence: Silence, works: Sequence[Work], lifeline: int) -> None:
    """Wait for the lease, then do the works until SystemExit, which comes with SIGTERM.

    The process ends when the descriptor `lifeline` comes to its end (supervisor).
    """
    stop = threading.Event()
    _started("lifeline", lambda: os.read(lifeline, 1) or os._exit(LOST))
    await_lease(lease, silence)
    log.info("%s leads", lease.identity)
    with _renewed(lease, stop) as threads:
        for work in works:
            threads.append(_started(work.name, Repeated(work, stop, lambda: lease.held).run))
        while lease.held:
            if silence.seconds > lease.times.silent:
                log.error("the store does not answer; another controller may lead, whose mount may be better")
                os._exit(LOST)
            time.sleep(LOOK)
        _lost(lease)


def await_lease(lease: Lease, silence: Silence, seconds: float = float("inf")) -> str:
    """Return "" once it is ours, or after so many seconds why it is not.

    Whose store does not answer lets others go first.
    """
    before, until = "", time.monotonic() + seconds
    bound = f", for {seconds:g} s at most" if seconds < float("inf") else ""
    while words := _attempted(lease, silence):
        if words != before:
            log.info("%s; waiting%s", words, bound)
        before = words
        if time.monotonic() + lease.times.retry >= until:
            break
        time.sleep(lease.times.retry)
    return words


def _attempted(lease: Lease, silence: Silence) -> str:
    """Return why the lease is not ours, "" if it is."""
    patience = lease.times.duration if silence.seconds > lease.times.slow else 0
    try:
        return "" if lease.attempt(patience) else f"{lease.holder or 'nobody'} leads"
    except ApiError as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return f"the lease cannot be had: {error}{cause}"


def do_once(work: Callable[[GoingOn], int], lease: Lease | None = None) -> int:
    """Do a work, under a lease that is held if there is one, and return what it returns.

    A thread does it, so that a signal ends the process also where a store on a dead file server holds it.
    """
    result, stop = list[int](), threading.Event()
    held = _renewed(lease, stop) if lease else contextlib.nullcontext(list[threading.Thread]())
    with held as threads:

        def going_on() -> bool:
            return not stop.is_set() and (lease is None or lease.held)

        thread = _started("pass", lambda: result.append(work(going_on)))
        threads.append(thread)
        while thread.is_alive():
            if lease and not lease.held:
                _lost(lease)
            thread.join(LOOK)
    return result[0] if result else 1


def _lost(lease: Lease) -> None:
    log.error("%s could not renew the lease; it ends", lease.identity)
    os._exit(LOST)


@contextlib.contextmanager
def _renewed(lease: Lease, stop: threading.Event) -> Iterator[list[threading.Thread]]:
    """Renew a lease meanwhile; release it in the end, if the threads put into the list have ended."""
    renewing = threading.Event()
    renewal = _started("lease", lambda: _renew(lease, renewing))
    threads: list[threading.Thread] = []
    try:
        yield threads
    finally:
        stop.set()
        end = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        renewing.set()
        renewal.join(GRACE)
        _release(lease, [thread.name for thread in [*threads, renewal] if thread.is_alive()])


def _renew(lease: Lease, stop: threading.Event) -> None:
    said = ""
    while not stop.wait(lease.times.retry):
        try:
            lease.attempt()
            said = ""
        except ApiError as error:
            if said != str(error):
                log.warning("the lease is not renewed: %s", error)
            said = str(error)


def _release(lease: Lease, busy: list[str]) -> None:
    if busy:
        log.warning("%s is still at work, so the lease is left to run out", ", ".join(busy))
        return
    with contextlib.suppress(ApiError):
        lease.release()
        log.info("%s leads no more", lease.identity)


def _started(name: str, target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
