"""When a lease means that nobody leads."""

from __future__ import annotations

import pytest

from coredump_shim import controllercheck
from coredump_shim.endpoint import Object

RENEWED = {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
THEN = 1767225600.0


@pytest.mark.parametrize(
    ("spec", "after", "why"),
    [
        (RENEWED, 15, ""),
        (RENEWED, 16, "one has not renewed it for 16 s"),
        (RENEWED, -16, "one has not renewed it for -16 s"),
        (RENEWED | {"holderIdentity": ""}, 0, "nobody holds it"),
        ({"holderIdentity": "one"}, 0, "nobody holds it"),
        ({}, 0, "nobody holds it"),
    ],
)
def test_a_lease_that_is_not_renewed_is_stale(spec: Object, after: float, why: str) -> None:
    assert controllercheck.stale(spec, THEN + after) == why
