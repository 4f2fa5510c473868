"""collect: the controller's passes over a store with 1,000,000 dumps of 20,000 pods, their time and memory.

And the work at one announcement in it, which depends on the pod and not on the store. Not here: what is
collected and kept in step (tests). kube-apiserver is a server that answers with as many pods and endpoints.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import million
from benchmarks.million import CORE, DUMPS, NAMESPACES, PODS
from benchmarks.report import Row, alone, at_most, compared
from coredump_guard import store
from tests.support.answering import World, answering, world

SECONDS_GOAL, MEMORY_GOAL = at_most(60), at_most(300)
ANNOUNCED_GOAL = at_most(1.5)
"""Of the time that an announcement takes in a store of one namespace."""
ANNOUNCED = 50
OVER = 1000
"""Dumps that a namespace has more than its quota lets it."""
SYSTEM = "0c0c0c0c-1111-4222-8333-444444444444"
"""The cluster's UID in tests.support.answering."""

_MEASURED = """
import json, resource, sys, time
begun = time.monotonic()
done = work(*sys.argv[1:])
seconds = time.monotonic() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([seconds, peak, done]))
"""
_COLLECT = """
from coredump_shim.cluster import Cluster
from coredump_shim.controller.collect import collect
from coredump_shim.controller.rules import Rules
def work(kubeconfig, root, rules):
    return len(collect(Cluster(kubeconfig), root, Rules(**json.loads(rules))))
"""
_KEPT = """
import os
from coredump_shim.bygone import Bygones
from coredump_shim.catalog import Catalog
from coredump_shim.cluster import Cluster
from coredump_shim.controller import ownership
from coredump_shim.controller.acting import Acting
from coredump_shim.controller.endpoints import Endpoints
from coredump_shim.controller.roster import Roster
from coredump_shim.controller.sync import Sync
def sync(cluster, root):
    endpoints = Endpoints(cluster, Acting())
    confirm = lambda: ownership.confirm(cluster, root)
    return Sync(Catalog(root), endpoints, Roster(), Bygones(cluster), confirm)
"""
_SYNC = """
def work(kubeconfig, root):
    return sync(Cluster(kubeconfig), root).all(lambda: True)
"""
_ANNOUNCED = """
import datetime, logging, shutil
from pathlib import Path
from coredump_shim.controller.arrivals import Arrivals
from coredump_shim.controller.events import Events
from coredump_shim.controller.inbox import Inbox
from coredump_shim.controller.pace import Pace
from tests.support.dumps import announce, write_dump
logging.disable()  # a line for each of the pod's other dumps, which have no record
LONG_AGO = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)  # no Event is told of it
def arrivals(cluster, root):
    events = Events(cluster, "benchmark", Acting())
    return Arrivals(root, Inbox(root), sync(cluster, root), events, Acting(), Pace(pause=0), None)
def work(kubeconfig, namespace, uids, *roots):
    cluster = Cluster(kubeconfig)
    stores = [(Path(root), arrivals(cluster, root)) for root in roots]
    return [[announced(*at, namespace, uid) for at in stores] for uid in uids.split()]
def announced(root, arrivals, namespace, uid):
    dump = write_dump(root, namespace=namespace, poduid=uid, pod=uid, when=LONG_AGO)
    announce(root, dump)
    begun = time.monotonic()
    assert arrivals.round(lambda: True) == (1, 0)
    seconds = time.monotonic() - begun
    shutil.rmtree(dump)
    return seconds * 1000
"""


def measure(scratch: Path) -> list[Row]:
    """Make passes in which nothing is to be done, and those in which most is."""
    pods = million.pods()
    away = world({name: ["another"] for name in pods})
    with million.place(scratch) as root:
        million.fill(root, pods)
        (root / store.CLUSTER).write_text(SYSTEM)
        there = million.settled(root, pods, CORE)
        rows = [
            *_collected("nothing to do", there, root, {}, 0),
            *_collected("with age and quota", there, root, {"max_age": 1e9, "namespace_quota": 1 << 40}, 0),
            *_passed("endpoints, nothing to do", there, root),
            _announced(there, root, scratch),
            *_collected("every pod just gone", away, root, {}, NAMESPACES * PODS),
        ]
        there = million.settled(root, million.gather(root, pods), DUMPS * CORE)
        quota = {"namespace_quota": (NAMESPACES * PODS * DUMPS - OVER) * CORE}
        return [*rows, *_collected("one namespace above its quota", there, root, quota, OVER + 1)]


def _collected(
    case: str, served: World, root: Path, rules: Mapping[str, float], actions: int
) -> Iterator[Row]:
    with _ran(_COLLECT, served, root, json.dumps(rules)) as (seconds, peak, count):
        assert count == actions, f"{case}: {count} actions, not {actions}"
    yield alone(("collect", case), "s", seconds, SECONDS_GOAL)
    yield alone(("collect", f"{case}: memory"), "MB", peak / 1e6, MEMORY_GOAL)


def _passed(case: str, served: World, root: Path) -> Iterator[Row]:
    served.asked.clear()
    with _ran(_KEPT + _SYNC, served, root) as (seconds, peak, failed):
        changed = [request for request in served.asked if not request.startswith("GET ")]
        assert not failed, f"{failed} pods failed"
        assert not changed, f"it changed something: {changed[:3]}"
    yield alone(("collect", case), "s", seconds, SECONDS_GOAL)
    yield alone(("collect", f"{case}: memory"), "MB", peak / 1e6, MEMORY_GOAL)


def _announced(served: World, root: Path, scratch: Path) -> Row:
    """Compare an announcement in the store with one in a store that has only one namespace's dumps."""
    namespace, uids = next(iter(million.pods().items()))
    with tempfile.TemporaryDirectory(dir=scratch) as small:
        million.fill(Path(small), {namespace: uids})
        arguments = (namespace, " ".join(uids[:ANNOUNCED]), str(root), small)
        with _ran(_KEPT + _ANNOUNCED, served, *arguments) as (_, _, pairs):
            return compared(("collect", "an announcement"), "ms", pairs, ANNOUNCED_GOAL)


@contextmanager
def _ran(program: str, served: World, *arguments: str | Path) -> Iterator[tuple[float, int, Any]]:
    """Run `work` of a program in a process of its own; yield its seconds, bytes of memory, and result."""
    with tempfile.TemporaryDirectory() as directory, answering(Path(directory), served) as kubeconfig:
        command = [sys.executable, "-c", program + _MEASURED, kubeconfig, *map(str, arguments)]
        environment = {"PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, timeout=600)
        seconds, peak, result = json.loads(done.stdout)
        yield seconds, peak, result
