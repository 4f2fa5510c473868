"""A watch of all objects of a kind: lists them, then is told of each change. Only metadata is asked for.

Not here: which kind, and what is noted of it (endpointwatch, namespacewatch). A pass goes by a list of its
own: what a watch may miss, it finds.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import urllib3

from coredump_shim.cluster import JSON, METADATA_ONLY, Cluster, error_of
from coredump_shim.controller.loop import GoingOn
from coredump_shim.endpoint import Object
from coredump_shim.relaywatch import Janitor, Watched, lines
from coredump_shim.status import ApiError, unavailable

ACCEPT = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
SECONDS = 60
"""After which kube-apiserver ends a watch and another goes on from there: a connection may be dead."""
PATIENCE = 10.0
"""Seconds more until it must have been ended."""


class Watch(ABC):
    """One watch after the other, each from where the last one ended. For one thread."""

    def __init__(self, cluster: Cluster, path: str) -> None:
        """path: that of the objects' list."""
        self._cluster = cluster
        self._path = path
        self._janitor = Janitor()
        self._version = ""
        """Resource version up to which all is known; without one everything is listed."""

    @abstractmethod
    def listed(self, items: Iterator[Object]) -> None:
        """Note that these are all; they are asked for as they are taken. Raises ApiError."""

    @abstractmethod
    def told(self, kind: str, item: Object) -> None:
        """Note an event: ADDED, MODIFIED or DELETED."""

    def follow(self, going_on: GoingOn) -> None:
        """Watch once, for as long as it should go on. Raises ApiError; the next one lists again."""
        if not self._version:
            self._list()
        try:
            self._watch(going_on)
        except ApiError as error:
            self._version = ""
            if error.code != 410:  # Gone: kube-apiserver no longer knows what happened since
                raise

    def _list(self) -> None:
        # Of one object, for the version; what happens until the pages have come is told again by the watch.
        version = self._cluster.get(self._path, limit=1)["metadata"]["resourceVersion"]
        self.listed(item for page in self._cluster.pages(self._path, METADATA_ONLY) for item in page)
        self._version = version

    def _watch(self, going_on: GoingOn) -> None:
        query: dict[str, str | int] = {"watch": 1, "allowWatchBookmarks": "true", "timeoutSeconds": SECONDS}
        answer = self._cluster.request(
            "GET",
            self._path,
            query=query | {"resourceVersion": self._version},
            headers={"Accept": ACCEPT},
            seconds=SECONDS + PATIENCE,
            stream=True,
        )
        try:
            for event in self._events(Watched(answer, lambda: not going_on())):
                self._take(event)
        finally:
            answer.close()

    def _events(self, watched: Watched) -> Iterator[Object]:
        try:
            if watched.answer.status != 200:
                raise error_of(watched.answer.status, watched.answer.read(1 << 20))
            with self._janitor.looking_after(watched):
                yield from map(json.loads, lines(watched.answer.stream(1 << 16)))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if not watched.ended:
                raise unavailable(f"kube-apiserver is lost: {error}") from None

    def _take(self, event: Object) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            raise error_of(_code(item), json.dumps(item).encode())
        if kind != "BOOKMARK":
            self.told(kind, item)
        self._version = item["metadata"]["resourceVersion"]


def _code(status: Any) -> int:
    code = status.get("code")
    return code if isinstance(code, int) else 500
