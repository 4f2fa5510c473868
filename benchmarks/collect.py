"""collect: a pass of the collection over a store with 1,000,000 dumps of 20,000 pods, its time and memory.

Not here: what is collected (tests). The store has directories only, in memory if there is room, since a pass
reads no more than their names; kube-apiserver is a server that answers with as many pods and endpoints.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import Row, alone, at_most
from coredump_guard import store
from tests.support.answering import Object, World, answering, world

NAMESPACES, PODS, DUMPS = 200, 100, 50
"""Namespaces, pods in each, dumps of each."""
SECONDS_GOAL, MEMORY_GOAL = at_most(60), at_most(300)
NEEDED = 8 << 30
"""Bytes of memory and of /dev/shm from which on the store is put there."""

_CHILD = """
import json, resource, sys, time
from coredump_shim.cluster import Cluster
from coredump_shim.controller.collect import collect
from coredump_shim.controller.rules import Rules
kubeconfig, root, rules = sys.argv[1:]
begun = time.monotonic()
done = collect(Cluster(kubeconfig), root, Rules(**json.loads(rules)))
seconds = time.monotonic() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([seconds, peak, len(done)]))
"""


def measure(scratch: Path) -> list[Row]:
    """Make passes in which nothing is to be done, quotas are looked at, and every pod is found gone."""
    pods = {
        f"namespace-{number}": [str(uuid.UUID(int=number * PODS + each)) for each in range(PODS)]
        for number in range(NAMESPACES)
    }
    there, away = world(pods, _endpoints(pods)), world({name: ["another"] for name in pods}, _endpoints(pods))
    with _place(scratch) as root:
        _fill(root, pods)
        return [
            *_measured("nothing to do", there, root, {}, 0),
            *_measured("with age and quota", there, root, {"max_age": 1e9, "namespace_quota": 1 << 40}, 0),
            *_measured("every pod just gone", away, root, {}, NAMESPACES * PODS),
        ]


def _measured(case: str, served: World, root: Path, rules: dict[str, float], actions: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory, answering(Path(directory), served) as kubeconfig:
        environment = {"PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", _CHILD, kubeconfig, str(root), json.dumps(rules)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, timeout=600)
        seconds, peak, count = json.loads(done.stdout)
        assert count == actions, f"{case}: {count} actions, not {actions}"
    yield alone(("collect", case), "s", seconds, SECONDS_GOAL)
    yield alone(("collect", f"{case}: memory"), "MB", peak / 1e6, MEMORY_GOAL)


def _endpoints(pods: dict[str, list[str]]) -> list[Object]:
    return [
        {
            "metadata": {"name": f"pod-{uid}", "namespace": namespace, "uid": uid},
            "spec": {"poduid": uid},
            "status": {"dumps": DUMPS, "storedBytes": 1 << 20, "newest": [{"id": "x" * 50, "size": 1}] * 10},
        }
        for namespace, uids in pods.items()
        for uid in uids
    ]


def _fill(root: Path, pods: dict[str, list[str]]) -> None:
    (root / store.INBOX).mkdir()
    start = 0
    for namespace, uids in pods.items():
        for uid in uids:
            place = f"{root}/{namespace}/{uid}/app"
            os.makedirs(place)
            for number in range(DUMPS):
                start += 1
                os.mkdir(f"{place}/{store.dump_id(1.79e9 + number, 'web', 4711, 'boot', start)}")


@contextmanager
def _place(scratch: Path) -> Iterator[Path]:
    """Yield an empty directory in memory, or on the disk where that has no room for a million directories."""
    memory = Path("/dev/shm")  # noqa: S108 # a directory of its own below it
    room = os.statvfs(memory) if memory.is_dir() else None
    fits = room is not None and room.f_bavail * room.f_frsize >= NEEDED and room.f_favail > 2_000_000
    root = Path(tempfile.mkdtemp(dir=memory if fits else scratch))
    try:
        yield root
    finally:
        shutil.rmtree(root)
