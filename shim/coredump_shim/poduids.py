"""Which pod an endpoint stands for: by its name, what kube-apiserver and the store know of pods.

Not here: reading dumps (catalog), and filling in what a caller leaves out (defaulting).
"""

from __future__ import annotations

from coredump_guard import store
from coredump_shim import names
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog
from coredump_shim.cluster import Cluster, is_gone
from coredump_shim.deadline import Deadline
from coredump_shim.endpoint import Object
from coredump_shim.poduid import uid_of
from coredump_shim.searches import Searches
from coredump_shim.status import ApiError, invalid, no_endpoint, shown


class PodUids:
    """Pods' UIDs. Every method raises ApiError 503 if kube-apiserver or the store does not answer."""

    def __init__(self, cluster: Cluster, catalog: Catalog, deadline: Deadline, bygones: Bygones) -> None:
        self._cluster = cluster
        self._bygones = bygones
        self._catalog = catalog
        self._deadline = deadline
        self._searches = Searches(catalog, deadline)

    def of_endpoint(self, namespace: str, name: str, /) -> str:
        """Return the UID of the pod whose dumps an endpoint stands for, or would. Raises ApiError 404."""
        if not (store.is_namespace(namespace) and store.is_pod(name)):
            raise no_endpoint(namespace, name)
        uid = self.named(namespace, name) or self._newest_stored(namespace, name)
        if uid is None:
            raise no_endpoint(namespace, name)
        return uid

    def named(self, namespace: str, name: str) -> str | None:
        """Return what an endpoint that there is says; None if there is none."""
        try:
            found = self._cluster.get(path(namespace, name))
        except ApiError as error:
            if is_gone(error):
                return None
            raise
        return str(found["spec"]["poduid"])

    def for_new(self, namespace: str, name: str) -> str:
        """Return the UID of the pod of this name, else of the last one with dumps. Raises ApiError 422."""
        live = self._live(namespace, name)
        uid = uid_of(live) if live is not None else self._newest_stored(namespace, name)
        if uid is None:
            sentence = (
                "is needed here: no pod of this name is in the cluster, and the store has no dump of one; "
                "name the UID of the pod, or give the endpoint the pod's name"
            )
            raise invalid(name, "spec.poduid", sentence)
        return uid

    def check(self, namespace: str, name: str, uid: str) -> None:
        """Raise ApiError 422 for a UID that is neither the named pod's nor that of one with dumps there."""
        live = self._live(namespace, name)
        if live is not None and uid == uid_of(live):
            return
        last = self._deadline.call(self._catalog.newest, namespace, uid)
        if last is not None and self._bygones.without(namespace, [last]):
            return
        sentence = (
            f"no pod of this name has the UID {shown(uid)}, and the store has no dump of such a pod in this "
            "namespace; leave it out to have the UID of the pod of this name"
        )
        raise invalid(name, "spec.poduid", sentence)

    def _live(self, namespace: str, name: str) -> Object | None:
        if not store.is_pod(name):
            return None
        try:
            return self._cluster.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        except ApiError as error:
            if is_gone(error):
                return None
            raise

    def _newest_stored(self, namespace: str, name: str) -> str | None:
        if not store.is_pod(name):
            return None
        last = self._bygones.without(namespace, self._searches.named(namespace, name))
        return last[-1].poduid if last else None


def path(namespace: str, name: str = "") -> str:
    """Return the path of a stored endpoint, or of a namespace's; both names must have been checked."""
    collection = f"/apis/{names.GROUP}/{names.STORED}/namespaces/{namespace}/{names.RESOURCE}"
    return f"{collection}/{name}" if name else collection
