"""Dumps that are too old, or too much for their namespace's quota.

Not here: what age and quota are (rules), and pods that are gone (gone).
"""

from __future__ import annotations

import os
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from coredump_guard import quota as stored
from coredump_guard import store
from coredump_guard.words import size
from coredump_shim import beneath
from coredump_shim.controller import removing, rules
from coredump_shim.controller.action import LOW_SPACE, Pass, spared
from coredump_shim.controller.walk import PodDumps
from coredump_shim.removal import Place

_RECORD_BYTES = 64 << 10
"""What a dump's files besides the core take, more or less."""


def aged(run: Pass, pod: PodDumps) -> PodDumps:
    """Remove the dumps of a pod that are too old, and return what is left. Raises OSError."""
    limit = run.rules.max_age
    if limit is None:
        return pod
    old = {}
    for container, ids in pod.containers.items():
        if named := rules.older(ids, limit, run.now):
            place = (pod.namespace, pod.poduid, container)
            old[container] = removing.arrived_before(run.root, place, named, run.now - limit)
    if not any(old.values()):
        return pod
    removing.reduce(run, replace(pod, containers=old), f"older than {rules.worded(limit)}")
    return _without(pod, old)


def quota(run: Pass, namespace: str, pods: Sequence[PodDumps]) -> None:
    """Remove the oldest dumps of a namespace until it keeps its quota. Raises OSError.

    Only where the endpoints say that it may be nearly full are files looked at.
    """
    bound = run.rules.namespace_quota
    if bound is None or _estimate(run, pods) < bound * rules.NEARLY_FULL:
        return
    places = [place for pod in pods for place in removing.places(pod).items()]
    taken = [_measured(run, *place) for place in places]
    counts = rules.excess([(ids, sizes) for (_, ids), sizes in zip(places, taken, strict=True)], bound)
    going: dict[str, dict[str, Sequence[str]]] = defaultdict(dict)
    for ((_, poduid, container), ids), count in zip(places, counts, strict=True):
        if count:
            going[poduid][container] = ids[:count]
    why = f"namespace {namespace} takes more than its quota of {size(bound)}"
    for poduid, containers in going.items():
        removing.reduce(run, PodDumps(namespace, poduid, containers), why)
    used = sum(sum(sizes[count:]) for sizes, count in zip(taken, counts, strict=True))
    if used >= bound * rules.NEARLY_FULL:
        usage = stored.Usage(namespace, used, bound)
        run.does(LOW_SPACE, namespace, "", str(usage), usage)


def _estimate(run: Pass, pods: Sequence[PodDumps]) -> int:
    """Return about what a namespace's dumps take, at least if nobody wrote large files beside the cores."""
    return sum(_cores(run, pod) + len(pod) * _RECORD_BYTES for pod in pods)


def _cores(run: Pass, pod: PodDumps) -> int:
    """Return the bytes of a pod's cores, as its endpoint says, or as they are where it has none."""
    for endpoint in run.endpoints.get(pod.namespace, {}).get(pod.poduid, ()):
        if endpoint.stored_bytes is not None:
            return endpoint.stored_bytes
    total = 0
    for container, ids in pod.containers.items():
        run.alive()
        with (
            spared(f"{pod.namespace}/{pod.poduid}"),
            beneath.directory(run.root, pod.namespace, pod.poduid, container) as fd,
        ):
            for id in ids:
                with suppress(FileNotFoundError):
                    total += os.stat(f"{id}/{store.CORE}", dir_fd=fd, follow_symlinks=False).st_size
    return total


def _measured(run: Pass, place: Place, ids: Sequence[str]) -> array[int]:
    """Return the bytes of the files of each dump in a directory, counted as the guard counts them."""
    sizes = array("Q", bytes(8 * len(ids)))
    with spared("/".join(place)), beneath.directory(run.root, *place) as fd:
        for at, id in enumerate(ids):
            run.alive()
            with spared("/".join((*place, id))), suppress(FileNotFoundError):
                sizes[at] = _bytes(fd, id)
    return sizes


def _bytes(container_fd: int, id: str) -> int:
    with beneath.directory(container_fd, id) as fd, os.scandir(fd) as entries:
        return sum(
            entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if not entry.is_dir(follow_symlinks=False)
        )


def _without(pod: PodDumps, gone: Mapping[str, Sequence[str]]) -> PodDumps:
    removed = {container: set(ids) for container, ids in gone.items()}
    left = {
        container: [id for id in ids if id not in removed[container]] if container in removed else ids
        for container, ids in pod.containers.items()
    }
    return replace(pod, containers=left)
