"""Backends: the gateways as kube-apiserver finds them behind the Service, address by address.

Not here: which of them are alive (controller.gateways).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coredump_shim.endpoint import Object


@dataclass(frozen=True)
class Backend:
    """One address of a Service."""

    address: tuple[str, int]
    port_name: str
    ready: bool


def of_slices(slices: list[Object]) -> list[Backend]:
    """Return the addresses of EndpointSlices (discovery.k8s.io/v1); one without conditions is ready."""
    return [
        Backend((address, port["port"]), port.get("name") or "", ready)
        for part in slices
        for port in part.get("ports") or []
        for address, ready in _addresses(part)
    ]


def _addresses(part: Object) -> Iterator[tuple[str, bool]]:
    for endpoint in part.get("endpoints") or []:
        ready = (endpoint.get("conditions") or {}).get("ready")
        for address in endpoint["addresses"]:
            yield address, ready is not False


def of_endpoints(endpoints: Object) -> list[Backend]:
    """Return the addresses of an Endpoints (v1)."""
    return [
        Backend((address["ip"], port["port"]), port.get("name") or "", ready)
        for subset in endpoints.get("subsets") or []
        for port in subset.get("ports") or []
        for key, ready in (("addresses", True), ("notReadyAddresses", False))
        for address in subset.get(key) or []
    ]
