"""What endpoints a cluster has, by namespace and pod, as the collection needs them; and deleting one.

Not here: making and keeping them (endpoints, sync).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass

from coredump_shim.cluster import Cluster
from coredump_shim.controller import endpoints
from coredump_shim.controller.stall import Alive
from coredump_shim.endpoint import Object
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """One endpoint, as far as the collection goes by it."""

    name: str
    uid: str
    stored_bytes: int | None
    """Sum of the cores of its pod on the store, None where the status does not say.

    Of the status and not of names.OBSERVED: that is an annotation, and its namespace's users may write those.
    """


Endpoints = dict[str, dict[str, list[Endpoint]]]
"""By namespace and pod UID; users may have made more than one for a pod."""


def all_of(cluster: Cluster, alive: Alive) -> Endpoints:
    """Return every endpoint. Raises ApiError, also where the CRD is not installed."""
    found: Endpoints = defaultdict(lambda: defaultdict(list))
    for page in cluster.pages(endpoints.ALL):
        alive()
        for item in page:
            found[item["metadata"]["namespace"]][endpoints.poduid_of(item)].append(_endpoint(item))
    return found


def delete(cluster: Cluster, namespace: str, endpoint: Endpoint) -> bool:
    """Delete this very endpoint, not one of its name that was made since; return whether it is gone.

    One that admission keeps holds up no other. Raises ApiError where no other could be deleted either.
    """
    try:
        cluster.delete(endpoints.path(namespace, endpoint.name), {"preconditions": {"uid": endpoint.uid}})
    except ApiError as error:
        if error.code in (404, 409):
            return True
        if endpoints.is_general(error):
            raise
        log.warning("endpoint %s/%s cannot be deleted: %r", namespace, endpoint.name, error.message)
        return False
    return True


def _endpoint(item: Object) -> Endpoint:
    size = (item.get("status") or {}).get("storedBytes")
    metadata = item["metadata"]
    return Endpoint(metadata["name"], metadata["uid"], size if isinstance(size, int) else None)
