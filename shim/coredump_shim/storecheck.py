"""The checks of the store: it is there, it is this cluster's, and all clocks agree.

Not here: looking at it (storelook).
"""

from __future__ import annotations

import os
import shlex
import time

from coredump_guard.finding import Finding, fail, ok, warning
from coredump_guard.words import counted
from coredump_shim import remedy
from coredump_shim.controller.clocks import TOLERANCE
from coredump_shim.installation import Installation

OWNER = "the first dump of a pod that is there has the controller write it; its log says if it may not"
CLOCK = "set the clock that is off: timedatectl, chronyc tracking"


def store(found: Installation) -> Finding:
    """Check that the store answers, is not the mount point of one that is not mounted, and can be read."""
    seen, where = found.look, shlex.quote(found.store)
    if seen.unreadable:
        path = os.path.join(found.store, seen.dump)
        said = f"{path} cannot be read by {remedy.user()}: {seen.unreadable}"
        group = "the nodes' [store] group must be one of this user's groups"
        return fail("store", said, f"{group}: id; ls -ld {shlex.quote(path)}")
    if not seen.used:
        said = f"no node has ever delivered anything to {found.store}"
        mount = f"it must be what the nodes have there: compare findmnt -T {where} here and on a node"
        if seen.mounted:
            return warning("store", said, f"{mount}; it is well if nothing has crashed yet")
        local = "if it is a directory of this host that nodes do deliver to, the first crash ends this"
        return fail("store", f"{said}, and it is no mount", f"mount it; {mount}; {local}")
    read = f"{seen.dump} can be read" if seen.dump else "there is no dump yet"
    return ok("store", f"{found.store} answers; {read}")


def store_complete(found: Installation) -> Finding:
    """Check that the store has what endpoints count: another that is as good by itself is a wrong one."""
    check, several = "store complete", len(found.counted)
    if not several:
        return ok(check, "no endpoint counts any dump")
    if not found.lacking:
        return ok(check, f"it has the dumps of {counted(several, 'endpoint')}")
    of = f"{found.lacking} of {counted(several, 'endpoint')}"
    said = f"{found.store} has no dumps of {of} that count some"
    if found.lacking < several:
        return warning(check, said, "were they removed by hand? The controller's next pass takes note")
    compare = f"compare findmnt -T {shlex.quote(found.store)} here and on a node"
    return fail(check, said, f"is it the nodes' store, and is it mounted? {compare}")


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
        return warning("store owner", said, OWNER)
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
