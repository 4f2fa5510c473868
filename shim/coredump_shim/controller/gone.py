"""Dumps and endpoints of pods and namespaces that are gone.

Not here: what is done about those that are there (excess). A namespace's end is final, and known from one
answer of kube-apiserver; a pod is marked when first missed, and confirmed to be gone before its dumps go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from coredump_guard import record, store
from coredump_guard.record import Record, RecordError
from coredump_shim import beneath
from coredump_shim.controller import endpointlist, marks, presence, removing, rules
from coredump_shim.controller.action import DELETE, MARK, UNMARK, Pass, spared
from coredump_shim.controller.clocks import TOLERANCE
from coredump_shim.controller.presence import Presence
from coredump_shim.controller.walk import PodDumps

log = logging.getLogger(__name__)


def namespace(run: Pass, name: str, pods: Iterable[PodDumps]) -> None:
    """Remove all dumps of a namespace that was not listed, if kube-apiserver confirms that it is gone."""
    if not presence.is_namespace_gone(run.cluster, name):
        return
    for pod in pods:
        with spared(f"{name}/{pod.poduid}"):
            removing.remove(run, (name, pod.poduid), removing.places(pod), "its namespace is gone")
            removing.tidy(run, pod)
    if not run.dry_run:
        for mark in marks.all_of(run.root, name):
            marks.clear(run.root, name, mark)


def bygone(run: Pass, name: str, pods: Sequence[PodDumps]) -> list[PodDumps]:
    """Remove the dumps of a namespace that had the name of one that is there, and return what is left.

    Its pods' dumps from before it was made, by more than clocks may differ, of no pod that is there.
    Namespace and pods are asked for anew: much may have been deleted and made since they were listed.
    """
    if not any(_earlier(run, run.present, pod) for pod in pods):
        return list(pods)
    present = presence.of_namespace(run.cluster, name, run.alive)
    return [left for pod in pods for left in _without_earlier(run, present, pod)]


def _without_earlier(run: Pass, present: Presence, pod: PodDumps) -> list[PodDumps]:
    """Return what is left of a pod once it is without the dumps of the namespace before, if anything."""
    containers = {} if run.present.has(pod.namespace, pod.poduid) else _earlier(run, present, pod)
    if not containers:
        return [pod]
    with spared(f"{pod.namespace}/{pod.poduid}"):
        why = f"its namespace is gone, and the one that is called {pod.namespace} now is younger"
        removing.reduce(run, replace(pod, containers=containers), why)
        left = {name: ids[len(containers.get(name, ())) :] for name, ids in pod.containers.items()}
        if any(left.values()):
            return [replace(pod, containers=left)]
        removing.tidy(run, pod)
        return []
    return [pod]


def _earlier(run: Pass, present: Presence, pod: PodDumps) -> dict[str, Sequence[str]]:
    """Return what a pod that is not there has from before its namespace was made, by container."""
    made = present.namespaces.get(pod.namespace)
    if made is None or made > run.now + TOLERANCE or present.has(pod.namespace, pod.poduid):
        return {}
    found = {name: rules.before(ids, made - TOLERANCE) for name, ids in pod.containers.items()}
    return {name: ids for name, ids in found.items() if ids}


def stays(run: Pass, pod: PodDumps, marked: bool) -> bool:
    """Mark a pod that is missed, remove what is left of one that is gone for long; return whether it stays.

    Raises ApiError, OSError.
    """
    if run.present.has(pod.namespace, pod.poduid):
        if marked:
            _unmark(run, pod)
        return True
    since = marks.since(run.root, pod.namespace, pod.poduid) if marked else None
    if since is None or since > run.now + TOLERANCE:
        if run.does(MARK, pod.namespace, pod.poduid, "the pod is gone"):
            marks.make(run.root, pod.namespace, pod.poduid, run.now)
        return True
    if run.now - since < run.rules.gc_threshold or not _is_confirmed(run, pod):
        return True
    _remove(run, pod, f"the pod is gone for {rules.worded(run.now - since)}")
    return False


def _remove(run: Pass, pod: PodDumps, why: str) -> None:
    """Remove dumps, endpoints and mark of a pod, in this order: the next pass goes on where one was cut."""
    removing.remove(run, (pod.namespace, pod.poduid), removing.places(pod), why)
    removing.tidy(run, pod)
    left = False
    for endpoint in run.endpoints.get(pod.namespace, {}).get(pod.poduid, ()):
        if run.does(DELETE, pod.namespace, pod.poduid, f"endpoint {endpoint.name}: {why}"):
            left |= not endpointlist.delete(run.cluster, pod.namespace, endpoint)
    if not left and not run.dry_run:
        marks.clear(run.root, pod.namespace, pod.poduid)


def _unmark(run: Pass, pod: PodDumps) -> None:
    if run.does(UNMARK, pod.namespace, pod.poduid, "the pod is there"):
        marks.clear(run.root, pod.namespace, pod.poduid)


def _is_confirmed(run: Pass, pod: PodDumps) -> bool:
    """Ask for a pod by its name whether it is gone, as the list made believe. Raises ApiError, OSError."""
    endpoints = run.endpoints.get(pod.namespace, {}).get(pod.poduid, ())
    if not pod and not endpoints:  # empty directories are all that is left
        return True
    name = _name(run.root, pod) or next((endpoint.name for endpoint in endpoints), "")
    if not name:
        log.warning(
            "%s/%s is kept though its pod seems gone: no record in it names the pod; remove it by hand",
            pod.namespace,
            pod.poduid,
        )
        return False
    if presence.is_pod_gone(run.cluster, pod.namespace, pod.poduid, name):
        return True
    _unmark(run, pod)
    return False


def _name(root: str, pod: PodDumps) -> str:
    """Return the pod's name by the first record that says one. Raises OSError."""
    for place, id in ((place, id) for place, ids in removing.places(pod).items() for id in ids):
        try:
            with beneath.directory(root, *place, id) as fd:
                name = Record.from_json(beneath.read(fd, store.INFO, record.MAX_BYTES + 1)).identity.pod
        except RecordError:
            continue
        except OSError as error:
            if error.errno not in beneath.ABSENT:
                raise
            continue
        if store.is_pod(name):
            return name
    return ""
