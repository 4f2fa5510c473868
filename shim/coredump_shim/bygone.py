"""Dumps of a namespace that was before one of the same name, which may be another tenant's.

Not here: removing them (controller.gone). A store knows namespaces by their names alone. What crashed before
its namespace was made, or was in the store by then, belongs to the one before, unless its pod is there: then
a clock is behind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from coredump_guard import store
from coredump_shim import poduid, rfc3339
from coredump_shim.catalog import Dump
from coredump_shim.cluster import Cluster, is_gone
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError, unavailable

log = logging.getLogger(__name__)


def made(namespace: Object) -> float:
    """Return when a namespace was made, in whole seconds since the epoch by kube-apiserver's clock.

    Raises ApiError 503 for what no kube-apiserver says.
    """
    try:
        return rfc3339.microseconds(str(namespace["metadata"]["creationTimestamp"])) / 1e6
    except (KeyError, TypeError, ValueError):
        raise unavailable(
            "kube-apiserver does not say when the namespace was made", retry_after=None
        ) from None


def _is_before(dump: Dump, when: float) -> bool:
    """Whether a dump is of a crash before a time, by the whole second with which its id begins.

    Or came to the store before: then the node's clock, which that second is from, is ahead.
    """
    begin = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(max(0.0, when)))
    return dump.id < begin or dump.arrived < when * 1e6


def _proven(pod: Object) -> set[str]:
    """Return the UIDs that a pod has for certain; poduid.uid_of believes what its annotations say.

    Anybody may annotate his own pod as the mirror of a static one. But who has a startTime was taken for that
    by a kubelet: nobody else writes it, and kubelets run no mirrors but their own (kubernetes/pkg/kubelet).
    """
    metadata = pod["metadata"]
    mirrored = (metadata.get("annotations") or {}).get(poduid.MIRROR)
    is_taken = mirrored and (pod.get("status") or {}).get("startTime")
    return {str(metadata["uid"])} | ({str(mirrored)} if is_taken else set())


class Bygones:
    """What one cluster says. Raises ApiError 503 if it does not answer: then nobody is given any."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def without(self, namespace: str, dumps: Sequence[Dump]) -> Sequence[Dump]:
        """Return the dumps that are of the namespace that is there now; none if there is none."""
        if not dumps:
            return dumps
        found = self._get(f"/api/v1/namespaces/{namespace}")
        if found is None:
            return []
        since = made(found)
        old = {dump.record.identity.pod for dump in dumps if _is_before(dump, since)}
        there = {uid for pod in old if store.is_pod(pod) for uid in self._uids(namespace, pod)}
        kept = [dump for dump in dumps if dump.poduid in there or not _is_before(dump, since)]
        if len(kept) < len(dumps):
            log.info("%d dumps are of a namespace %s that was before", len(dumps) - len(kept), namespace)
        return kept

    def _uids(self, namespace: str, pod: str) -> set[str]:
        found = self._get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        return set() if found is None else _proven(found)

    def _get(self, path: str) -> Object | None:
        try:
            return self._cluster.get(path)
        except ApiError as error:
            if is_gone(error):
                return None
            raise
