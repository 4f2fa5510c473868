"""The check of the controller: one leads, and says so in time. Not here: the lease (controller.lease)."""

from __future__ import annotations

import shlex
import time

from coredump_guard.finding import Finding, fail, ok
from coredump_shim import rfc3339
from coredump_shim.cluster import is_gone
from coredump_shim.controller.lease import LEASE
from coredump_shim.endpoint import Object
from coredump_shim.installation import Installation
from coredump_shim.status import ApiError

AGAIN = 5.0
"""Seconds within which a controller that leads renews its lease."""


def lease(found: Installation) -> Finding:
    """Check that a controller holds the lease, and renews it."""
    try:
        there = found.cluster.get(LEASE)
    except ApiError as error:
        if not is_gone(error):
            raise
        return fail("lease", "no controller has ever led: there is no lease", _start(found))
    wrong = stale(there["spec"], found.now)
    if wrong and there["spec"].get("holderIdentity"):
        # Its time is by the controller's clock, which may be off; whether it changes says more.
        time.sleep(AGAIN)
        again = found.cluster.get(LEASE)
        if again["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"]:
            there, wrong = again, ""
    return (
        fail("lease", wrong, _start(found))
        if wrong
        else ok("lease", f"{there['spec']['holderIdentity']} leads")
    )


def _start(found: Installation) -> str:
    store = shlex.quote(found.store)
    command = f"coredump-shim controller --kubeconfig CONTROLLERS.kubeconfig --store {store}"
    return f"start it on a gateway: {command}; if one runs, its log says why it does not lead"


def stale(spec: Object, now: float) -> str:
    """Return why a Lease's spec means that nobody leads, "" if somebody does."""
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        return "nobody holds it"
    age = now - rfc3339.microseconds(renewed) / 1e6
    if abs(age) > spec.get("leaseDurationSeconds", 0):
        return f"{holder} has not renewed it for {age:.0f} s"
    return ""
