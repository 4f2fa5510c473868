"""The endpoints of a store: found, created, changed and deleted.

Not here: HTTP (objects), an endpoint's contents (endpoint), the files in which changes are kept (kept).
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from coredump_guard import store
from coredump_shim import endpoint
from coredump_shim.catalog import Catalog, Dump
from coredump_shim.deadline import Deadline
from coredump_shim.endpoint import Object
from coredump_shim.history import History, versioned
from coredump_shim.kept import Keeper, Kept
from coredump_shim.status import already_exists, conflict, invalid, no_endpoint, unavailable


@dataclass(frozen=True)
class Wanted:
    """What a caller wants an endpoint to be; empty strings stand for what he leaves open."""

    name: str
    poduid: str = ""
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    annotations: dict[str, str] = dataclasses.field(default_factory=dict)
    uid: str = ""
    version: str = ""


@dataclass(frozen=True)
class _Namespace:
    """One reading of a namespace."""

    name: str
    dumps: list[Dump]
    kept: dict[str, Kept]

    def entry(self, name: str) -> Kept | None:
        entry = self.kept.get(name)
        return entry if entry is not None and not entry.deleted else None


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
            self._looked[namespace] = now
        self._deadline.call(self._refresh, namespace)

    def create(self, namespace: str, wanted: Wanted, *, dry_run: bool = False) -> Object:
        """Create an endpoint, or make a derived one its creator's own. Raises ApiError 409 or 422."""
        return self._deadline.call(self._write, namespace, dry_run, lambda seen: _created(seen, wanted))

    def replace(
        self, namespace: str, name: str, change: Callable[[Object], Wanted], *, dry_run: bool = False
    ) -> Object:
        """Change an endpoint to what `change` makes of it. Raises ApiError 404, 409 or 422."""

        def replaced(seen: _Namespace) -> tuple[str, Kept]:
            current = self._current(seen, name)
            return name, _replaced(seen, current, change(current))

        return self._deadline.call(self._write, namespace, dry_run, replaced)

    def delete(
        self, namespace: str, name: str, check: Callable[[Object], None], *, dry_run: bool = False
    ) -> Object:
        """Delete an endpoint, not its dumps; return what it was. `check` may refuse. Raises ApiError 404."""
        before: list[Object] = []

        def deleted(seen: _Namespace) -> tuple[str, Kept]:
            before.append(self._current(seen, name))
            check(before[0])
            return name, Kept(deleted=endpoint.now(), hidden=endpoint.ids_of_pods(name, seen.dumps))

        self._deadline.call(self._write, namespace, dry_run, deleted)
        return before[0]

    def _write(
        self, namespace: str, dry_run: bool, change: Callable[[_Namespace], tuple[str, Kept]]
    ) -> Object:
        """Read, decide and write as one; return the object as it is then, empty for one that went."""
        with self._writing:
            seen = self._read(namespace)
            name, entry = change(seen)
            current = self.history.find(namespace, name) or {}
            if entry == seen.kept.get(name) or _is_derived(seen, name, entry):
                return current
            if dry_run:
                would_be = endpoint.build(namespace, name, entry, seen.dumps)
                return versioned(would_be, current["metadata"]["resourceVersion"]) if current else would_be
            self._keep(namespace, name, entry)
            self._read(namespace)
            return self.history.find(namespace, name) or {}

    def _keep(self, namespace: str, name: str, entry: Kept) -> None:
        try:
            self._keeper.put(namespace, name, entry)
        except OSError as error:
            reason = f"{error.strerror}; --state names another directory to keep endpoints in"
            raise unavailable(f"the endpoint cannot be kept: {reason}") from None

    def _current(self, seen: _Namespace, name: str) -> Object:
        found = self.history.find(seen.name, name)
        if found is None:
            raise no_endpoint(seen.name, name)
        return found

    def _refresh(self, namespace: str | None) -> None:
        names = {namespace} if namespace else {*self._namespaces(), *self.history.namespaces()}
        for name in sorted(names):
            self._read(name)

    def _read(self, namespace: str) -> _Namespace:
        ticket = self.history.ticket()
        seen = _Namespace(namespace, self._catalog.dumps(namespace), self._keeper.all(namespace))
        self.history.update(namespace, ticket, endpoint.all_of(namespace, seen.dumps, seen.kept))
        return seen

    def _namespaces(self) -> list[str]:
        return sorted({*self._catalog.namespaces(), *self._keeper.namespaces()})


def _created(seen: _Namespace, wanted: Wanted) -> tuple[str, Kept]:
    if seen.entry(wanted.name) is not None:
        raise already_exists(wanted.name)
    created = Kept(
        uid=str(uuid.uuid4()),
        created=endpoint.now(),
        poduid=_poduid(seen, wanted),
        labels=wanted.labels,
        annotations=wanted.annotations,
    )
    return wanted.name, created


def _replaced(seen: _Namespace, current: Object, wanted: Wanted) -> Kept:
    metadata = current["metadata"]
    if wanted.version not in ("", metadata["resourceVersion"]) or wanted.uid not in ("", metadata["uid"]):
        raise conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
            wanted.name,
        )
    poduid, uid = current["spec"]["poduid"], metadata["uid"]
    if wanted.poduid not in ("", poduid):
        if seen.entry(wanted.name) is not None:
            sentence = "cannot be changed; delete the endpoint and create it again"
            raise invalid(wanted.name, "spec.poduid", sentence)
        poduid, uid = _poduid(seen, wanted), str(uuid.uuid4())
    return Kept(
        uid=uid,
        created=metadata["creationTimestamp"],
        poduid=poduid,
        labels=wanted.labels,
        annotations=wanted.annotations,
    )


def _poduid(seen: _Namespace, wanted: Wanted) -> str:
    if not wanted.poduid:
        latest = endpoint.latest_pods(seen.dumps).get(wanted.name)
        if latest is None:
            sentence = (
                "is needed here: the store has no dump of a pod with this name, "
                "and a shim without a cluster knows no other pods"
            )
            raise invalid(wanted.name, "spec.poduid", sentence)
        return latest
    if not any(dump.poduid == wanted.poduid for dump in seen.dumps):
        sentence = f"the store has no dump of a pod with UID {wanted.poduid[:128]!r} in this namespace"
        raise invalid(wanted.name, "spec.poduid", sentence)
    return wanted.poduid


def _is_derived(seen: _Namespace, name: str, entry: Kept) -> bool:
    """Whether this only says what is derived anyway, so that nothing needs to be kept."""
    latest = endpoint.latest_pods(seen.dumps)
    if entry.deleted or seen.entry(name) is not None or name not in latest:
        return False
    return entry == endpoint.derived(seen.name, name, latest[name], seen.dumps, seen.kept.get(name))
