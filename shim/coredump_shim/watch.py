"""Watching: changes as a stream of JSON lines, from a resourceVersion on, until a time-out or the end.

Not here: what changed (history), how an object looks in it (table), and how many watch (stream).
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Response

from coredump_shim import names
from coredump_shim.endpoint import Object
from coredump_shim.endpoints import Endpoints
from coredump_shim.filters import Filter
from coredump_shim.history import Change, versioned
from coredump_shim.status import ApiError
from coredump_shim.stream import Streams

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the store, however many watch."""
BOOKMARK = 60.0
"""Seconds between bookmarks; kube-apiserver sends one a minute."""
SHORTEST, LONGEST = 1800, 3600
"""Seconds that a watch lasts if nobody says; kube-apiserver's min-request-timeout, and twice it."""

Shown = Callable[[Object], Object]


@dataclass(frozen=True)
class Terms:
    """What is watched, and how it is told."""

    namespace: str | None
    wanted: Filter
    shown: Shown
    version: int | None
    """The changes after this version; None: the objects there are, then changes."""
    bookmarks: bool
    initial_end: bool
    """Whether a bookmark is to mark the end of the objects there are (sendInitialEvents)."""
    seconds: float


class Watches:
    """The watches under way, of which there are at most `limit`."""

    def __init__(self, endpoints: Endpoints, limit: int) -> None:
        self._endpoints = endpoints
        self._streams = Streams(limit)

    def response(self, terms: Terms, gone: Callable[[], bool]) -> Response:
        """Return the stream; `gone` tells whether the caller hung up. Raises ApiError 410, 429 or 503."""
        return self._streams.response(lambda: self._events(terms, self._first(terms), gone))

    def _first(self, terms: Terms) -> tuple[int, list[Object]]:
        if terms.version is None:
            return self._endpoints.current(terms.namespace)
        self._endpoints.history.check(terms.version)
        return terms.version, []

    def _events(
        self, terms: Terms, first: tuple[int, list[Object]], gone: Callable[[], bool]
    ) -> Iterator[bytes]:
        version, objects = first
        end = time.monotonic() + terms.seconds
        yield from (_line("ADDED", terms.shown(thing)) for thing in objects if terms.wanted(thing))
        if terms.initial_end:
            yield _bookmark(version, {"k8s.io/initial-events-end": "true"})
        marked = time.monotonic()
        while (left := end - time.monotonic()) > 0 and not gone():
            try:
                version, changes = self._changes(terms.namespace, version)
            except ApiError as error:
                yield _line("ERROR", error.status())
                return
            yield from filter(None, (_event(change, terms) for change in changes))
            if terms.bookmarks and time.monotonic() - marked > BOOKMARK:
                marked = time.monotonic()
                yield _bookmark(version, {})
            self._endpoints.history.wait(version, min(LOOK, left))

    def _changes(self, namespace: str | None, version: int) -> tuple[int, list[Change]]:
        try:
            self._endpoints.refresh(namespace, not_within=LOOK / 2)
        except ApiError as error:
            # The store is silent just now: the watch goes on and tells what it missed when it is back.
            log.debug("a watch waits for the store: %s", error)
        return self._endpoints.history.since(version)


def seconds(asked: float | None) -> float:
    """Return how long a watch lasts: at random, so that not all begin anew in one moment."""
    return random.uniform(SHORTEST, LONGEST) if asked is None else min(asked, LONGEST)  # noqa: S311 (no secret)


def _event(change: Change, terms: Terms) -> bytes | None:
    in_namespace = _in(terms.namespace)
    before, after = (
        thing if thing is not None and in_namespace(thing) and terms.wanted(thing) else None
        for thing in (change.before, change.after)
    )
    if after is not None:
        return _line("ADDED" if before is None else "MODIFIED", terms.shown(after))
    if before is not None:
        return _line("DELETED", terms.shown(versioned(before, change.version)))
    return None


def _in(namespace: str | None) -> Filter:
    return lambda thing: namespace is None or thing["metadata"]["namespace"] == namespace


def _bookmark(version: int, annotations: dict[str, str]) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = annotations
    return _line("BOOKMARK", {"kind": names.KIND, "apiVersion": names.API_VERSION, "metadata": metadata})


def _line(kind: str, thing: Object) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"
