"""The endpoints of a store: found, created, changed and deleted.

Not here: HTTP (objects), what becomes of an endpoint (change), the files in which that is kept (kept).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from coredump_guard import store
from coredump_shim import endpoint
from coredump_shim.catalog import Catalog
from coredump_shim.change import Namespace, Wanted, created, is_derived, replaced
from coredump_shim.deadline import Deadline
from coredump_shim.endpoint import Object
from coredump_shim.history import History, versioned
from coredump_shim.kept import Keeper, Kept
from coredump_shim.status import no_endpoint, unavailable

MAX_NAMESPACES = 1000
"""Namespaces of which is remembered when they were looked at last."""


class Endpoints:
    """Everything that is known of endpoints. The store is read at each call, always under the deadline.

    Every method raises ApiError 503 if the store does not answer.
    """

    def __init__(self, catalog: Catalog, keeper: Keeper, deadline: Deadline) -> None:
        self.history = History()
        self._catalog = catalog
        self._keeper = keeper
        self._deadline = deadline
        self._writing = threading.Lock()
        self._looked: dict[str | None, float] = {}

    def namespaces(self) -> list[str]:
        """Return the namespaces that have dumps or endpoints."""
        return self._deadline.call(self._namespaces)

    def current(self, namespace: str | None) -> tuple[int, list[Object]]:
        """Return version and endpoints of a namespace, or of all, sorted by namespace and name."""
        self.refresh(namespace)
        return self.history.current(namespace)

    def get(self, namespace: str, name: str) -> Object:
        """Return one endpoint. Raises ApiError 404."""
        if not (store.is_namespace(namespace) and store.is_pod(name)):
            raise no_endpoint(namespace, name)
        self.refresh(namespace)
        found = self.history.find(namespace, name)
        if found is None:
            raise no_endpoint(namespace, name)
        return found

    def poduid_of(self, namespace: str, name: str, /) -> str:
        """Return the UID of the pod whose dumps an endpoint stands for. Raises ApiError 404."""
        return str(self.get(namespace, name)["spec"]["poduid"])

    def refresh(self, namespace: str | None, not_within: float = 0.0) -> None:
        """Look at the store, unless that was done in the last `not_within` seconds."""
        if namespace is not None and not store.is_namespace(namespace):
            return
        now = time.monotonic()
        if not_within:
            if now - self._looked.get(namespace, -not_within) < not_within:
                return
            if len(self._looked) > MAX_NAMESPACES:
                self._looked.clear()  # callers may name any namespace
            self._looked[namespace] = now
        self._deadline.call(self._refresh, namespace)

    def create(self, namespace: str, wanted: Wanted, *, dry_run: bool = False) -> Object:
        """Create an endpoint, or make a derived one its creator's own. Raises ApiError 409 or 422."""
        return self._deadline.call(
            self._write, namespace, dry_run, lambda seen: (wanted.name, created(seen, wanted))
        )

    def replace(
        self, namespace: str, name: str, change: Callable[[Object], Wanted], *, dry_run: bool = False
    ) -> Object:
        """Change an endpoint to what `change` makes of it. Raises ApiError 404, 409 or 422."""

        def changed(seen: Namespace) -> tuple[str, Kept]:
            current = self._current(seen, name)
            return name, replaced(seen, current, change(current))

        return self._deadline.call(self._write, namespace, dry_run, changed)

    def delete(
        self, namespace: str, name: str, check: Callable[[Object], None], *, dry_run: bool = False
    ) -> Object:
        """Delete an endpoint, not its dumps; return what it was. `check` may refuse. Raises ApiError 404."""
        before: list[Object] = []

        def deleted(seen: Namespace) -> tuple[str, Kept]:
            before.append(self._current(seen, name))
            check(before[0])
            return name, Kept(deleted=endpoint.now(), hidden=endpoint.ids_of_pods(name, seen.dumps))

        self._deadline.call(self._write, namespace, dry_run, deleted)
        return before[0]

    def _write(
        self, namespace: str, dry_run: bool, change: Callable[[Namespace], tuple[str, Kept]]
    ) -> Object:
        """Read, decide and write as one; return the object as it is then, empty for one that went."""
        with self._writing:
            seen = self._read(namespace)
            name, entry = change(seen)
            current = self.history.find(namespace, name) or {}
            if entry == seen.kept.get(name) or is_derived(seen, name, entry):
                return current
            if dry_run:
                pod = endpoint.by_pod(seen.dumps)[entry.poduid]
                would_be = endpoint.build(namespace, name, entry, pod)
                return versioned(would_be, current["metadata"]["resourceVersion"]) if current else would_be
            self._keep(namespace, name, entry)
            self._read(namespace)
            return self.history.find(namespace, name) or {}

    def _keep(self, namespace: str, name: str, entry: Kept) -> None:
        try:
            self._keeper.put(namespace, name, entry)
        except OSError as error:
            reason = f"{error.strerror}; --state names another directory to keep endpoints in"
            raise unavailable(f"the endpoint cannot be kept: {reason}", retry_after=None) from None

    def _current(self, seen: Namespace, name: str) -> Object:
        found = self.history.find(seen.name, name)
        if found is None:
            raise no_endpoint(seen.name, name)
        return found

    def _refresh(self, namespace: str | None) -> None:
        names = {namespace} if namespace else {*self._namespaces(), *self.history.namespaces()}
        for name in sorted(names):
            self._read(name)

    def _read(self, namespace: str) -> Namespace:
        ticket = self.history.ticket()
        seen = Namespace(namespace, self._catalog.dumps(namespace), self._keeper.all(namespace))
        self.history.update(namespace, ticket, endpoint.all_of(namespace, seen.dumps, seen.kept))
        return seen

    def _namespaces(self) -> list[str]:
        return sorted({*self._catalog.namespaces(), *self._keeper.namespaces()})
