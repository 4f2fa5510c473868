"""Whose store it is: <store>/.cluster holds the UID of its cluster's namespace kube-system.

Not here: collecting. Without it, a controller with another cluster's kubeconfig would find every pod gone and
remove all that the store has.
"""

from __future__ import annotations

import os
import re

from coredump_guard import store, tree
from coredump_shim import beneath
from coredump_shim.cluster import Cluster
from coredump_shim.controller import unowned, walk
from coredump_shim.controller.action import Pass
from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.presence import ALWAYS

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
"""A pod's own UID, which no two clusters share. A static pod's is a hash of manifest and node's name."""


def claim(run: Pass) -> None:
    """Make sure that the store is this cluster's; one that is nobody's becomes so, unless it is a dry run.

    Raises Doubt if it is another's, if it is nobody's and does not show that it may be this cluster's, or if
    nothing was ever delivered to it, as to the directory beneath a mount point; ApiError, OSError.
    """
    uid = _uid(run.cluster)
    if _is_owned(run.cluster, run.root, uid):
        return
    if not _is_a_store(run.root):
        raise Doubt(f"{run.root} has no {store.INBOX}, which the first delivery makes: is the store mounted?")
    doubt = _doubt(run)
    if doubt:
        raise Doubt(f"{doubt} If this is its store all the same, write {uid} to {run.root}/{store.CLUSTER}")
    if not run.dry_run:
        _write(run.root, uid)


def confirm(cluster: Cluster, root: str) -> None:
    """Make sure that the store has been made this cluster's: without that, what it lacks says nothing.

    A directory beneath a mount point, or a wrong store, is as empty as one of which all has been removed.
    Raises Doubt, ApiError, OSError.
    """
    if not _is_owned(cluster, root, _uid(cluster)):
        raise Doubt(
            f"{root} has no {store.CLUSTER}, by which the controller knows its store: is the store mounted?"
        )


def _uid(cluster: Cluster) -> str:
    return str(cluster.get(f"/api/v1/namespaces/{ALWAYS}")["metadata"]["uid"])


def _is_owned(cluster: Cluster, root: str, uid: str) -> bool:
    """Whether the store is a cluster's; False: it is nobody's. Raises Doubt if it is another's."""
    owner = _owner(root)
    if owner is not None and owner != uid:
        raise Doubt(
            f"{root} is the store of another cluster: {store.CLUSTER} in it says {owner or 'nothing'}, and"
            f" {cluster.server} is {uid}. Give the controller the right kubeconfig and store; if this"
            f" cluster has taken the place of that one, remove {root}/{store.CLUSTER}"
        )
    return owner is not None


def _owner(root: str) -> str | None:
    with beneath.directory(root) as fd:
        try:
            return beneath.read(fd, store.CLUSTER, 256).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None


def _is_a_store(root: str) -> bool:
    with beneath.directory(root) as fd:
        return tree.exists(fd, store.INBOX)


def _doubt(run: Pass) -> str:
    """Return why a store that is nobody's yet may not be this cluster's; "" if it has a dump of a pod there.

    Names of namespaces say nothing: many a cluster has a `demo`. An empty store may be anybody's, unless this
    cluster's endpoints count dumps.
    """
    empty = True
    for pod in walk.pods(run.root):
        run.alive()
        if len(pod) and _UUID.match(pod.poduid) and run.present.has(pod.namespace, pod.poduid):
            return ""
        empty = empty and not len(pod)
    if not empty or any(ids for _, ids in unowned.places(run.root)):
        return (
            f"{run.root} has dumps, but of no pod that {run.cluster.server} has: is it the right kubeconfig?"
        )
    known = [one for pods in run.endpoints.values() for of_pod in pods.values() for one in of_pod]
    if any(endpoint.stored_bytes for endpoint in known):
        return (
            f"{run.root} is empty, and endpoints of {run.cluster.server} count dumps: is it the right store?"
        )
    return ""


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
