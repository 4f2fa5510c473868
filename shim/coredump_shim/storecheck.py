"""The checks of the store: it is there, it is this cluster's, and all clocks agree.

Not here: looking at it (storelook).
"""

from __future__ import annotations

import time

from coredump_guard.finding import Finding, fail, ok, warning
from coredump_shim import names
from coredump_shim.controller.clocks import TOLERANCE
from coredump_shim.installation import Installation
from coredump_shim.status import ApiError

CLOCK = "set the clock that is off: timedatectl, chronyc tracking"


def store(found: Installation) -> Finding:
    """Check that the store answers, and is not the mount point of one that is not mounted."""
    seen = found.look
    if not seen.used and not seen.mounted:
        said = f"{found.store} is no mount, and no node has ever delivered anything to it"
        return fail("store", said, "mount it")
    if seen.unreadable:
        said = f"{found.store}/{seen.dump} cannot be read: {seen.unreadable}"
        return fail("store", said, "[store] group of the nodes must be one of this user's groups")
    if not seen.dump and (counted := _counted(found)):
        said = f"endpoints such as {counted} count dumps, and {found.store} has none at all"
        return fail("store", said, "is it the nodes' store, and is it mounted? See findmnt on both")
    read = f"{seen.dump} can be read" if seen.dump else "there is no dump yet"
    return ok("store", f"{found.store} answers; {read}")


def _counted(found: Installation) -> str:
    """Return an endpoint that counts dumps, by namespace and name; "" if none does of those first listed."""
    try:
        listed = found.cluster.get(f"/apis/{names.GROUP}/{names.STORED}/{names.RESOURCE}", limit=500)
    except ApiError:  # other checks say so
        return ""
    for endpoint in listed.get("items") or []:
        if (endpoint.get("status") or {}).get("dumps"):
            return f"{endpoint['metadata']['namespace']}/{endpoint['metadata']['name']}"
    return ""


def store_writable(found: Installation) -> Finding:
    """Check that the controller and the deletion of dumps can change the store."""
    if found.look.readonly:
        said = f"no file can be written to {found.store}: {found.look.readonly}"
        return warning("store writable", said, "downloads work; mount it read-write where a controller runs")
    return ok("store writable", f"files can be written to {found.store}")


def store_owner(found: Installation) -> Finding:
    """Check that the store belongs to this cluster: another's controller would take its pods for gone."""
    uid = found.cluster.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    if not found.look.cluster:
        said = "the store does not say whose it is"
        return warning("store owner", said, "a controller that leads says so; else its log says why not")
    if found.look.cluster != uid:
        said = f"the store is that of cluster {found.look.cluster}, and this one is {uid}"
        return fail("store owner", said, "give each cluster a store of its own; is --kubeconfig right?")
    return ok("store owner", f"the store is this cluster's, {uid}")


def clocks(found: Installation) -> Finding:
    """Check that kube-apiserver's clock and the store's are ours."""
    found.cluster.get("/version")
    apart = differences(
        time.time(), {"kube-apiserver's": found.cluster.clock, "the store's": found.look.stamp}
    )
    wrong = [f"{name} clock is {by:+.0f} s from ours" for name, by in apart.items() if abs(by) > TOLERANCE]
    if wrong:
        return fail("clocks", "; ".join(wrong), CLOCK)
    return ok("clocks", f"{', '.join(['ours', *apart])} agree")


def differences(now: float, clocks: dict[str, float | None]) -> dict[str, float]:
    """Return by how many seconds each clock that is known is ahead of ours."""
    return {name: clock - now for name, clock in clocks.items() if clock is not None}
