"""Whose store it is: <store>/.cluster holds the UID of its cluster's namespace kube-system.

Not here: collecting. Without it, a controller with another cluster's kubeconfig would find every pod gone and
remove all that the store has.
"""

from __future__ import annotations

import os

from coredump_guard import store, tree
from coredump_shim import beneath
from coredump_shim.cluster import Cluster
from coredump_shim.controller import walk
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.presence import ALWAYS, Presence
from coredump_shim.controller.stall import Alive

_EVERYWHERE = ("default", "kube-")
"""How the names of namespaces begin that say nothing of which cluster they are in."""


def claim(cluster: Cluster, root: str, present: Presence, alive: Alive, *, dry_run: bool) -> None:
    """Make sure that the store is this cluster's; one that is nobody's yet becomes so, unless it is dry_run.

    Raises Doubt if it is another's, if it is nobody's and full of dumps this cluster knows nothing of, or if
    nothing was ever delivered to it, as to the directory beneath a mount point; ApiError, OSError.
    """
    uid = str(cluster.get(f"/api/v1/namespaces/{ALWAYS}")["metadata"]["uid"])
    owner = _owner(root)
    if owner is not None and owner != uid:
        raise Doubt(
            f"{root} is the store of another cluster: {store.CLUSTER} in it says {owner or 'nothing'}, and"
            f" {cluster.server} is {uid}. Give the controller the right kubeconfig and store; if this"
            f" cluster has taken the place of that one, remove {root}/{store.CLUSTER}"
        )
    if owner:
        return
    if not _is_a_store(root):
        raise Doubt(f"{root} has no {store.INBOX}, which the first delivery makes: is the store mounted?")
    if not _is_plausible(root, present, alive):
        raise Doubt(
            f"{root} has dumps, but of no pod and no namespace that {cluster.server} has: is it the right"
            f" kubeconfig? If so, write {uid} to {root}/{store.CLUSTER}"
        )
    if not dry_run:
        _write(root, uid)


def _owner(root: str) -> str | None:
    with beneath.directory(root) as fd:
        try:
            return beneath.read(fd, store.CLUSTER, 256).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None


def _is_a_store(root: str) -> bool:
    with beneath.directory(root) as fd:
        return tree.exists(fd, store.INBOX)


def _is_plausible(root: str, present: Presence, alive: Alive) -> bool:
    """Whether a store that is nobody's yet may be this cluster's: empty, or with something that it knows."""
    nothing = True
    for pod in walk.pods(root):
        alive()
        known = pod.namespace in present.namespaces and not pod.namespace.startswith(_EVERYWHERE)
        if known or present.has(pod.namespace, pod.poduid):
            return True
        nothing = False
    return nothing


def _write(root: str, uid: str) -> None:
    """Write the UID durably; of two controllers that do so at once, the first has the store."""
    with beneath.directory(root) as fd:
        try:
            made = tree.create(fd, store.CLUSTER, -1)
        except FileExistsError:
            raise Doubt(
                "another controller has just made the store its own; the next pass sees whose"
            ) from None
        with os.fdopen(made, "w") as file:
            file.write(f"{uid}\n")
            file.flush()
            os.fsync(made)
        os.fsync(fd)
