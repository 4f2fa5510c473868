"""A store with 1,000,000 dumps of 20,000 pods, and a kube-apiserver's answers that go with it.

Not here: what is measured with them (collect). Dumps are directories, in memory if there is room: of pods
that are there the controller reads no more than their names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coredump_guard import store
from coredump_shim import names
from coredump_shim.controller import walk
from coredump_shim.controller.observed import Observed
from tests.support.answering import ENDPOINTS, Object, World, world

NAMESPACES, PODS, DUMPS = 200, 100, 50
"""Namespaces, pods in each, dumps of each."""
CORE = 1 << 20
"""Bytes of each core, a hole, once there are any."""
NEEDED = 8 << 30
"""Bytes of memory and of /dev/shm from which on the store is put there."""
_INODES = 2 * NAMESPACES * PODS * DUMPS + 100_000

Pods = dict[str, list[str]]
"""UIDs by namespace."""


def pods() -> Pods:
    """Return the pods."""
    return {
        f"namespace-{number}": [str(uuid.UUID(int=number * PODS + each)) for each in range(PODS)]
        for number in range(NAMESPACES)
    }


@contextmanager
def place(scratch: Path) -> Iterator[Path]:
    """Yield an empty directory in memory, or on the disk where that has no room for so much."""
    memory = Path("/dev/shm")  # noqa: S108 # a directory of its own below it
    room = os.statvfs(memory) if memory.is_dir() else None
    fits = room is not None and room.f_bavail * room.f_frsize >= NEEDED and room.f_favail > _INODES
    root = Path(tempfile.mkdtemp(dir=memory if fits else scratch))
    try:
        yield root
    finally:
        shutil.rmtree(root)


def fill(root: Path, there: Pods) -> None:
    """Make the pods' dumps, which are empty directories."""
    (root / store.INBOX).mkdir()
    start = 0
    for namespace, uids in there.items():
        for uid in uids:
            container = f"{root}/{namespace}/{uid}/app"
            os.makedirs(container)
            for number in range(DUMPS):
                start += 1
                os.mkdir(f"{container}/{store.dump_id(1.79e9 + number, 'web', 4711, 'boot', start)}")


def gather(root: Path, there: Pods) -> Pods:
    """Put all pods into the first namespace, give each dump a core, and return which there are then."""
    shutil.rmtree(root / store.GONE, ignore_errors=True)
    first, *others = there
    for namespace in others:
        for uid in there[namespace]:
            os.rename(root / namespace / uid, root / first / uid)
        os.rmdir(root / namespace)
    gathered = {first: [uid for uids in there.values() for uid in uids]}
    for uid in gathered[first]:
        container = f"{root}/{first}/{uid}/app"
        for dump in os.listdir(container):
            with open(f"{container}/{dump}/{store.CORE}", "wb") as core:
                core.truncate(CORE)
    return gathered


def settled(root: Path, there: Pods, stored: int) -> World:
    """Return a cluster with these pods, each with an endpoint that is in step with the store."""
    served = world(there)
    for pod in walk.pods(str(root)):
        endpoint = _endpoint(pod.namespace, pod.poduid, stored, pod.signature)
        path = f"{ENDPOINTS.removesuffix('/' + names.RESOURCE)}/namespaces/{pod.namespace}/{names.RESOURCE}"
        served.lists[ENDPOINTS].append(endpoint)
        served.objects[f"{path}/{pod.poduid}"] = served.objects[f"{path}/{pod.poduid}/status"] = endpoint
    return served


def _endpoint(namespace: str, uid: str, stored: int, signature: str) -> Object:
    return {
        "metadata": {
            "name": uid,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": "1",
            "labels": {names.MANAGED_BY: names.MANAGER},
            "annotations": {names.OBSERVED: Observed(uid, signature, stored).text()},
        },
        "spec": {"poduid": uid},
        "status": {"dumps": DUMPS, "storedBytes": stored, "newest": [{"id": "x" * 50, "size": 1}] * 10},
    }
