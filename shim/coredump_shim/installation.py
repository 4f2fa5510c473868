"""An installation as `coredump-shim check` looks at it: the ways to its parts, and what several checks read.

Not here: what is right (check and its modules).
"""

from __future__ import annotations

import time
from base64 import b64decode
from dataclasses import dataclass
from functools import cached_property

from coredump_shim import backends, names, storelook, trust
from coredump_shim.backends import Backend
from coredump_shim.cluster import Cluster
from coredump_shim.endpoint import Object
from coredump_shim.remedy import StoreError
from coredump_shim.storelook import Look
from coredump_shim.trust import Front

HOST = f"{names.SERVICE}.{names.SYSTEM_NAMESPACE}.svc"
"""The name that kube-apiserver expects in a gateway's certificate."""
PATIENCE = 5.0
"""Seconds that a gateway, or the store, may take: kube-apiserver gives discovery no more."""

LISTED = 500
"""How many endpoints are looked at, to see whether the store has what they count."""

READS_SLICES = (1, 34)
"""The first version whose aggregator reads EndpointSlices; those before read Endpoints."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Installation:
    """What a check is told. Its properties are read once, and raise ApiError."""

    cluster: Cluster
    store: str
    run_dir: str
    gateway: Address | None = None
    """The one gateway to look at, instead of all that the Service has."""

    @cached_property
    def apiservice(self) -> Object:
        """Return the APIService of the aggregated version."""
        name = f"{names.VERSION}.{names.GROUP}"
        return self.cluster.get(f"/apis/apiregistration.k8s.io/v1/apiservices/{name}")

    @cached_property
    def ca_bundle(self) -> str:
        """Return the CAs, as PEM, by which kube-apiserver verifies the gateways; "" if it has none."""
        return b64decode(self.apiservice["spec"].get("caBundle") or "").decode("ascii", "replace")

    @cached_property
    def front(self) -> Front:
        """Return how the front proxy shows itself. Raises ValueError if the cluster does not say."""
        return trust.parse(self.cluster.get(trust.CONFIGMAP).get("data") or {})

    @cached_property
    def service(self) -> Object:
        """Return the gateways' Service."""
        return self.cluster.get(f"/api/v1/namespaces/{names.SYSTEM_NAMESPACE}/services/{names.SERVICE}")

    @cached_property
    def version(self) -> tuple[int, int]:
        """Return kube-apiserver's version: major, minor."""
        found = self.cluster.get("/version")
        return int(found["major"]), int(found["minor"].rstrip("+"))  # some vendors' minor is "30+"

    @property
    def reads_slices(self) -> bool:
        """Whether this kube-apiserver looks for gateways in EndpointSlices, not in Endpoints."""
        return self.version >= READS_SLICES

    @cached_property
    def backends(self) -> list[Backend]:
        """Return the gateways' addresses, from where this kube-apiserver reads them."""
        if self.reads_slices:
            path = f"/apis/discovery.k8s.io/v1/namespaces/{names.SYSTEM_NAMESPACE}/endpointslices"
            label = f"kubernetes.io/service-name={names.SERVICE}"
            pages = self.cluster.pages(path, labelSelector=label)
            return backends.of_slices([part for page in pages for part in page])
        path = f"/api/v1/namespaces/{names.SYSTEM_NAMESPACE}/endpoints/{names.SERVICE}"
        return backends.of_endpoints(self.cluster.get(path))

    @property
    def gateways(self) -> list[Address]:
        """Return where the gateways listen."""
        return [self.gateway] if self.gateway else [found.address for found in self.backends if found.ready]

    @cached_property
    def look(self) -> Look:
        """Return what a look at the store shows. Raises StoreError."""
        try:
            return storelook.look(self.store, PATIENCE)
        except OSError as error:
            raise StoreError(self.store, error) from error

    @cached_property
    def counted(self) -> list[Object]:
        """Return endpoints that count dumps, of those that are listed first."""
        path = f"/apis/{names.GROUP}/{names.STORED}/{names.RESOURCE}"
        listed = self.cluster.get(path, limit=LISTED).get("items") or []
        return [one for one in listed if (one.get("status") or {}).get("dumps")]

    @cached_property
    def lacking(self) -> int:
        """Return of how many of those the store lacks the pod. Raises StoreError."""
        pods = [(one["metadata"]["namespace"], str(one["spec"].get("poduid"))) for one in self.counted]
        try:
            return storelook.lacking(self.store, pods, PATIENCE)
        except OSError as error:
            raise StoreError(self.store, error) from error

    @property
    def now(self) -> float:
        """The cluster's time, in seconds since the epoch; our own where it does not say."""
        return time.time() if self.cluster.clock is None else self.cluster.clock
