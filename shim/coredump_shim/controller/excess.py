"""Dumps that are too old, or too much for their namespace's quota.

Not here: what age and quota are (rules), and pods that are gone (gone).
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from coredump_guard import quota as stored
from coredump_guard import store
from coredump_guard.words import size
from coredump_shim import beneath
from coredump_shim.controller import removing, rules
from coredump_shim.controller.action import LOW_SPACE, Pass, spared
from coredump_shim.controller.removing import Located
from coredump_shim.controller.walk import PodDumps

_RECORD_BYTES = 64 << 10
"""What a dump's files besides the core take, more or less."""


def aged(run: Pass, pod: PodDumps) -> PodDumps:
    """Remove the dumps of a pod that are too old, and return what is left. Raises OSError."""
    limit = run.rules.max_age
    if limit is None:
        return pod
    left = {}
    for container, ids in pod.containers.items():
        place = (pod.namespace, pod.poduid, container)
        named = rules.older(ids, limit, run.now)
        old = removing.arrived_before(run.root, place, named, run.now - limit) if named else []
        removing.remove(run, place[:2], old, f"older than {rules.worded(limit)}")
        removed = {dump.id for dump in old}
        left[container] = [id for id in ids if id not in removed] if removed else ids
    return dataclasses.replace(pod, containers=left)


def quota(run: Pass, namespace: str, pods: Sequence[PodDumps]) -> None:
    """Remove the oldest dumps of a namespace until it keeps its quota. Raises OSError.

    Only where the endpoints say that it may be nearly full are files looked at.
    """
    bound = run.rules.namespace_quota
    if bound is None or _estimate(run, pods) < bound * rules.NEARLY_FULL:
        return
    dumps = [(dump, _measured(run, dump)) for pod in pods for dump in removing.located(pod)]
    dumps.sort(key=lambda measured: measured[0].id)
    count = rules.excess([taken for _, taken in dumps], bound)
    why = f"namespace {namespace} takes more than its quota of {size(bound)}"
    gone = defaultdict(list)
    for dump, _ in dumps[:count]:
        gone[dump.place[1]].append(dump)
    for poduid, of_pod in gone.items():
        removing.remove(run, (namespace, poduid), of_pod, why)
    used = sum(taken for _, taken in dumps[count:])
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


def _measured(run: Pass, dump: Located) -> int:
    """Return the bytes of a dump's files, counted as the guard counts them."""
    run.alive()
    with spared("/".join((*dump.place, dump.id))), beneath.directory(run.root) as root:
        return stored.used(root, *dump.place, dump.id)
    return 0
