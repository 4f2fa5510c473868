"""Answers that go on until somebody ends them: at most so many at one time, each begun at once.

Not here: what they tell (watch, relaywatch).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Response

from coredump_shim import caller
from coredump_shim.shares import Shares
from coredump_shim.status import too_many

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Streams:
    """The streams under way, of which there are at most `limit`: each holds a thread of the server."""

    def __init__(self, limit: int, what: str = "watches", *, each: int | None = None) -> None:
        """`each`: how many of them one caller may have, without it all."""
        self._shares = Shares(each, what) if each else None
        self._places = threading.BoundedSemaphore(limit)
        self._full = f"{limit} {what} are under way, and more are not served at one time"

    def response(self, begin: Callable[[], Iterator[bytes]]) -> Response:
        """Return what begin() has to say, as JSON; its iterator is closed if it is one that can be.

        Raises ApiError 429 where no place is left, and what begin raises.
        """
        done = self._take()
        try:
            lines = begin()
        except BaseException:
            done()
            raise
        return _FlushedResponse(_Stream(lines, done), mimetype="application/json")

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place meanwhile. Raises ApiError 429 where none is left."""
        done = self._take()
        try:
            yield
        finally:
            done()

    def _take(self) -> Callable[[], None]:
        """Take a place and return what gives it back."""
        give_back = self._shares.take(caller.name()) if self._shares else None
        if not self._places.acquire(blocking=False):
            if give_back:
                give_back()
            raise too_many(self._full)

        def done() -> None:
            self._places.release()
            if give_back:
                give_back()

        return done


class _Stream:
    """Lines, and what is to be done once, when the server is through with them or gives up."""

    def __init__(self, lines: Iterator[bytes], done: Callable[[], None]) -> None:
        self._lines = lines
        self._done = done
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if (close := getattr(self._lines, "close", None)) is not None:
                close()
        finally:
            self._done()


class _FlushedResponse(Response):
    """A response whose headers are sent at once: client-go waits for them before it counts a watch as begun.

    Writing nothing by PEP 3333's `write` makes waitress send them (kubernetes/kubernetes#75837).
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            write = start_response(status, headers, exc_info)
            write(b"")
            return write

        return super().__call__(environ, start)
