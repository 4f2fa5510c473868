"""Dumps of a namespace that was before one of the same name, which may be another tenant's.

Not here: removing them (controller.gone). A store knows namespaces by their names alone. What crashed before
its namespace was made belongs to the one before, unless its pod is there: then a node's clock is behind.
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
        raise unavailable("kube-apiserver does not say when the namespace was made") from None


def is_before(dump_id: str, when: float) -> bool:
    """Whether a dump is of a crash before a time, by the whole second with which its id begins."""
    return dump_id < time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(max(0.0, when)))


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
        old = {dump.record.identity.pod for dump in dumps if is_before(dump.id, since)}
        there = {self._uid(namespace, pod) for pod in old if store.is_pod(pod)}
        kept = [dump for dump in dumps if dump.poduid in there or not is_before(dump.id, since)]
        if len(kept) < len(dumps):
            log.info("%d dumps are of a namespace %s that was before", len(dumps) - len(kept), namespace)
        return kept

    def _uid(self, namespace: str, pod: str) -> str | None:
        found = self._get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        return None if found is None else poduid.uid_of(found)

    def _get(self, path: str) -> Object | None:
        try:
            return self._cluster.get(path)
        except ApiError as error:
            if is_gone(error):
                return None
            raise
