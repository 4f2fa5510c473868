"""Where this kube-apiserver looks for the gateways, as the product knows it: it depends on the release."""

from __future__ import annotations

from coredump_shim.cluster import Cluster
from coredump_shim.installation import Installation
from testbed.cluster.controlplane import ControlPlane

KINDS = ("EndpointSlice", "Endpoints")


def kinds(plane: ControlPlane) -> tuple[str, str]:
    """Return the kind of object in which it looks for them, and the kind that is nothing to it."""
    return KINDS if _installation(plane).reads_slices else KINDS[::-1]


def ready(plane: ControlPlane) -> dict[str, bool]:
    """Return which of the product's gateways, by address, it may choose."""
    return {backend.address[0]: backend.ready for backend in _installation(plane).backends}


def _installation(plane: ControlPlane) -> Installation:
    return Installation(Cluster(str(plane.kubeconfig("admin"))), store="", run_dir="")
