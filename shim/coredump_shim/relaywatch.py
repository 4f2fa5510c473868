"""Watches of kube-apiserver, passed on line by line until either side ends them.

Not here: how a line is changed (rewrite), and how many there may be (stream).

A thread that waits for kube-apiserver's next line notices nothing else. So another one looks after all of
them, and shuts down the connection of a watch whose reader has gone: the wait is over then.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import urllib3

from coredump_shim import rewrite

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at who has gone."""


class LostError(ConnectionError):
    """kube-apiserver's answer ended in its middle: the caller's must not end as if it were whole."""


@dataclass(eq=False)
class Watched:
    """A watch under way."""

    answer: urllib3.BaseHTTPResponse
    gone: Callable[[], bool]
    """Whether its reader hung up, or the server ends."""
    ended: bool = False
    """Whether it was us who ended it."""

    def end(self) -> None:
        """Have the thread that reads it return."""
        self.ended = True
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it has just ended by itself
            self.answer.shutdown()


class Janitor:
    """Ends watches whose readers have gone. Its thread runs only while there are any."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def looking_after(self, watched: Watched) -> Iterator[None]:
        """Look after a watch for the time being."""
        with self._lock:
            self._watched.add(watched)
            if len(self._watched) == 1:
                self._stop = threading.Event()
                threading.Thread(target=self._look, args=(self._stop,), name="watches", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._watched.discard(watched)
                if not self._watched:
                    self._stop.set()

    def _look(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK):
            with self._lock:
                watched = [each for each in self._watched if not each.ended]
            for each in watched:
                if each.gone():
                    each.end()


def events(watched: Watched, janitor: Janitor) -> Iterator[bytes]:
    """Yield the lines of a watch for the caller. Raises LostError if kube-apiserver is lost meanwhile."""
    try:
        with janitor.looking_after(watched):
            for line in lines(watched.answer.stream(1 << 16)):
                yield rewrite.event_to_caller(line)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        if not watched.ended:
            log.warning("a watch ends: kube-apiserver is lost: %s", error)
            raise LostError(str(error)) from None
    finally:
        watched.answer.close()


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield whole lines. Raises LostError for half a one at the end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        raise LostError("half an event")
