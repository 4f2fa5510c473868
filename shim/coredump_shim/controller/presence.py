"""Which namespaces and pods a cluster has, as kube-apiserver says positively.

Not here: what follows from one's absence (gone). A pod goes by its UID; the node calls a static pod by the
hash of its manifest, which the API shows in an annotation of its mirror pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coredump_shim import bygone
from coredump_shim.cluster import METADATA_ONLY, Cluster, is_gone
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.stall import Alive
from coredump_shim.endpoint import Object
from coredump_shim.poduid import STATIC
from coredump_shim.status import ApiError

ALWAYS = "kube-system"
"""The namespace that every cluster has."""


@dataclass(frozen=True)
class Presence:
    """What was there when the cluster was asked."""

    namespaces: Mapping[str, float]
    """When each was made, in seconds since the epoch."""
    _pods: dict[str, set[str]] = field(default_factory=dict)

    def has(self, namespace: str, poduid: str) -> bool:
        """Whether the pod was there."""
        return poduid in self._pods.get(namespace, ())


def observe(cluster: Cluster, alive: Alive) -> Presence:
    """Ask for every namespace and pod. Raises ApiError, and Doubt of an answer that no cluster gives."""
    namespaces = {
        str(item["metadata"]["name"]): bygone.made(item)
        for page in cluster.pages("/api/v1/namespaces", METADATA_ONLY)
        for item in page
    }
    if ALWAYS not in namespaces:
        raise Doubt(f"kube-apiserver's list of namespaces is without {ALWAYS}, which every cluster has")
    pods = _pods(cluster, "/api/v1/pods", alive)
    if not pods:
        raise Doubt("kube-apiserver's list of pods is empty; a cluster in use has some")
    return Presence(namespaces, pods)


def of_namespace(cluster: Cluster, name: str, alive: Alive) -> Presence:
    """Ask for one namespace and its pods. Raises ApiError, and Doubt of an answer about something else."""
    found = _absent(cluster, f"/api/v1/namespaces/{name}", "namespaces", name)
    if found is None:
        return Presence({})
    return Presence({name: bygone.made(found)}, _pods(cluster, f"/api/v1/namespaces/{name}/pods", alive))


def is_namespace_gone(cluster: Cluster, namespace: str) -> bool:
    """Whether kube-apiserver says of this very namespace that there is none. Raises ApiError."""
    return _absent(cluster, f"/api/v1/namespaces/{namespace}", "namespaces", namespace) is None


def is_pod_gone(cluster: Cluster, namespace: str, poduid: str, name: str) -> bool:
    """Whether kube-apiserver says that no pod has this name, or another pod has it. Raises ApiError."""
    pod = _absent(cluster, f"/api/v1/namespaces/{namespace}/pods/{name}", "pods", name)
    return pod is None or poduid not in _uids(pod)


def _absent(cluster: Cluster, path: str, kind: str, name: str) -> Object | None:
    try:
        found = cluster.get(path)
        # What answers with something else, a proxy or a wrong server, has not said that the pod is another.
        if found.get("metadata", {}).get("name") != name:
            raise Doubt(f"kube-apiserver's answer to GET {path} is about something else")
        return found
    except ApiError as error:
        about = error.details
        if is_gone(error) and about.get("kind") == kind and about.get("name") == name:
            return None
        raise


def _pods(cluster: Cluster, path: str, alive: Alive) -> dict[str, set[str]]:
    pods: dict[str, set[str]] = {}
    for page in cluster.pages(path, METADATA_ONLY):
        alive()
        for item in page:
            pods.setdefault(str(item["metadata"]["namespace"]), set()).update(_uids(item))
    return pods


def _uids(pod: Object) -> set[str]:
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    return {str(metadata["uid"]), *(str(annotations[key]) for key in STATIC if key in annotations)}
