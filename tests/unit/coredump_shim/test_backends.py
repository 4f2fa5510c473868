"""Addresses of gateways, as slices and as Endpoints."""

from __future__ import annotations

from coredump_shim import backends
from coredump_shim.backends import Backend
from coredump_shim.endpoint import Object


def test_slices_give_every_address_with_every_port() -> None:
    slices: list[Object] = [
        {
            "ports": [{"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["198.18.0.2"]},
                {"addresses": ["198.18.0.3"], "conditions": {"ready": False}},
                {"addresses": ["198.18.0.4"], "conditions": {"serving": True}},
            ],
        },
        {"ports": None, "endpoints": None},
    ]
    assert backends.of_slices(slices) == [
        Backend(("198.18.0.2", 8443), "https", ready=True),
        Backend(("198.18.0.3", 8443), "https", ready=False),
        Backend(("198.18.0.4", 8443), "https", ready=True),
    ]


def test_endpoints_say_the_same() -> None:
    endpoints = {
        "subsets": [
            {
                "addresses": [{"ip": "198.18.0.2"}],
                "notReadyAddresses": [{"ip": "198.18.0.3"}],
                "ports": [{"port": 8443}],
            }
        ]
    }
    assert backends.of_endpoints(endpoints) == [
        Backend(("198.18.0.2", 8443), "", ready=True),
        Backend(("198.18.0.3", 8443), "", ready=False),
    ]
    assert backends.of_endpoints({}) == []
