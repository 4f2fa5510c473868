"""Endpoints in kube-apiserver, as the controller reads, makes, keeps and removes them.

Not here: which there should be and what they should say (sync).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from coredump_shim import names
from coredump_shim.cluster import METADATA_ONLY, Cluster, is_gone
from coredump_shim.controller import observed
from coredump_shim.controller.acting import Acting
from coredump_shim.controller.observed import Observed
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError

API = f"/apis/{names.GROUP}/{names.STORED}"
ALL = f"{API}/{names.RESOURCE}"

LONGEST_TEXT = 1024
"""Characters of a text in a status, which may be the crasher's."""
LONGEST_LIST = 256
"""Entries of a list in a status: nobody has so many containers, but a hostile store may."""


@dataclass(frozen=True)
class Known:
    """What a list says of an endpoint."""

    namespace: str
    name: str
    managed: bool
    """Whether the controller made it, and so may replace and remove it."""
    observed: Observed | None


class Endpoints:
    """The endpoints of a cluster. Methods raise ApiError; 409: somebody changed it, look again."""

    def __init__(self, cluster: Cluster, acting: Acting) -> None:
        self._cluster = cluster
        self._acting = acting

    def all(self) -> Iterator[Known]:
        """Yield all endpoints; only their metadata is asked for, a page at a time."""
        for page in self._cluster.pages(ALL, METADATA_ONLY):
            yield from map(known, page)

    def get(self, namespace: str, name: str) -> Object | None:
        """Return an endpoint, if it is there."""
        try:
            return self._cluster.get(path(namespace, name))
        except ApiError as error:
            if not is_gone(error):
                raise
            return None

    def make(self, namespace: str, name: str, poduid: str) -> Object | None:
        """Make an endpoint and return it; None where there is no namespace for it, or not for long."""
        wanted = {
            "apiVersion": f"{names.GROUP}/{names.STORED}",
            "kind": names.KIND,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {names.MANAGED_BY: names.MANAGER},
            },
            "spec": {"poduid": poduid},
        }
        try:
            if self._acting.dry_run:
                self._try(namespace, wanted)
            if not self._acting.may(f"make endpoint {namespace}/{name} for pod {poduid}"):
                return None
            return self._cluster.create(path(namespace), wanted)
        except ApiError as error:
            if not (is_gone(error) or is_terminating(error)):
                raise
            return None

    def _try(self, namespace: str, wanted: Object) -> None:
        """Have kube-apiserver say whether it would take an endpoint; its predecessor is still there."""
        try:
            self._cluster.create(path(namespace), wanted, dryRun="All")
        except ApiError as error:
            if error.code != 409:
                raise

    def remove(self, endpoint: Object, why: str) -> None:
        """Remove this very endpoint, unless it changed meanwhile."""
        namespace, name = place(endpoint)
        if not self._acting.may(f"remove endpoint {namespace}/{name}: {why}"):
            return
        metadata = endpoint["metadata"]
        only = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            self._cluster.delete(path(namespace, name), {"preconditions": only})
        except ApiError as error:
            if not is_gone(error):
                raise

    def keep(self, endpoint: Object, status: Object, seen: Observed) -> None:
        """Write a status, then what it was worked out from; either only if it is another one."""
        namespace, name = place(endpoint)
        status = bounded(status)
        changed = endpoint.get("status") != status
        noted = observed_of(endpoint) == seen
        if (changed or not noted) and not self._acting.may(
            f"write the status of endpoint {namespace}/{name}: {status['dumps']} dumps"
        ):
            return
        if changed:
            endpoint = self._cluster.update(f"{path(namespace, name)}/status", endpoint | {"status": status})
        if not noted:
            self._note(endpoint, seen)

    def _note(self, endpoint: Object, seen: Observed) -> None:
        """Annotate this very endpoint; an update of `status` changes no metadata (CRDs, subresources)."""
        version = {key: endpoint["metadata"][key] for key in ("uid", "resourceVersion")}
        metadata = version | {"annotations": {names.OBSERVED: seen.text()}}
        self._cluster.patch(path(*place(endpoint)), {"metadata": metadata})


def path(namespace: str, name: str = "") -> str:
    """Return the path of an endpoint, or of a namespace's."""
    return f"{API}/namespaces/{namespace}/{names.RESOURCE}" + (f"/{name}" if name else "")


def place(endpoint: Object) -> tuple[str, str]:
    """Return an endpoint's namespace and name."""
    return endpoint["metadata"]["namespace"], endpoint["metadata"]["name"]


def poduid_of(endpoint: Object) -> str:
    """Return the UID of the pod that it stands for; it may be anything."""
    return str((endpoint.get("spec") or {}).get("poduid", ""))


def is_managed(endpoint: Object) -> bool:
    """Whether the controller made it."""
    return (endpoint["metadata"].get("labels") or {}).get(names.MANAGED_BY) == names.MANAGER


def observed_of(endpoint: Object) -> Observed | None:
    """Return what the controller noted at it."""
    return observed.parsed((endpoint["metadata"].get("annotations") or {}).get(names.OBSERVED))


def known(endpoint: Object) -> Known:
    """Return what an endpoint's metadata says."""
    return Known(*place(endpoint), is_managed(endpoint), observed_of(endpoint))


def is_terminating(error: ApiError) -> bool:
    """Whether nothing can be made since the namespace is being deleted (admission, NamespaceLifecycle)."""
    causes = error.details.get("causes") or []
    return error.code == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def is_general(error: ApiError) -> bool:
    """Whether an error is nobody's in particular: the next request would fail as well."""
    return error.code in (429, 503, 504) or (error.code == 404 and not is_gone(error))


def bounded(value: Any) -> Any:
    """Return JSON whose texts and lists are bounded, and whose texts UTF-8 can write."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode(errors="replace").decode()
    if isinstance(value, list):
        return [bounded(item) for item in value[:LONGEST_LIST]]
    return {key: bounded(item) for key, item in value.items()} if isinstance(value, dict) else value
