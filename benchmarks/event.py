"""event: from a process's death in a real pod until `kubectl describe pod` would show it, 50 times.

Not here: from the crash to the store alone (arrival).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGUSR1

from benchmarks.health import percentile
from benchmarks.report import Row, alone, at_most
from coredump_shim.cluster import Cluster
from testbed.cluster.controlplane import control_plane
from testbed.cluster.guard import guard
from testbed.cluster.node import Node, node
from testbed.cluster.product import installed
from testbed.cluster.workloads import container, pod
from testbed.programs import program
from testbed.waiting import wait_for

CRASHES = 50
GOAL = at_most(5)
SECONDS = 180
"""How long all pods together may take to start."""
NAMESPACE = "bench"
REASON = "CoreDumped"


def measure(scratch: Path) -> list[Row]:
    """Measure in a thread of its own: a cluster lives in its thread's network namespace."""
    with ThreadPoolExecutor(1) as thread:
        took = thread.submit(_measure, scratch).result()
    return [
        alone(("event", "p50"), "s", percentile(took, 50), None),
        alone(("event", "p99"), "s", percentile(took, 99), GOAL),
    ]


def _measure(scratch: Path) -> list[float]:
    store = scratch / "store"
    for directory in (store, scratch / "plane"):
        directory.mkdir()
    with (
        control_plane(scratch / "plane") as plane,
        installed(plane, store),
        node(plane) as running,
        guard(scratch / "guard", store),
    ):
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.wait_for_namespace(NAMESPACE)
        api = Cluster(str(plane.kubeconfig("admin")))
        names = [f"web-{number}" for number in range(CRASHES)]
        image = running.runtime.add_image(program("crash"))
        return [_event(api, name, pid) for name, pid in _started(running, api, names, image).items()]


def _started(running: Node, api: Cluster, names: list[str], image: str) -> dict[str, int]:
    """Start a pod for each crash, all of them before the first; return their processes by their names."""
    pods = [pod(NAMESPACE, name, container("app", image, "--wait")) for name in names]
    running.plane.kubectl(
        "create", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": pods})
    )

    def processes() -> dict[str, int] | None:
        uids = {
            item["metadata"]["uid"]: item["metadata"]["name"]
            for item in api.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
            if item.get("status", {}).get("phase") == "Running"
        }
        found = {uids[uid]: pid for uid, pid in _crashers(uids)}
        return found if len(found) == len(names) else None

    return wait_for("the pods run", processes, SECONDS)


def _crashers(uids: dict[str, str]) -> list[tuple[str, int]]:
    """Return pod and process id of each crash program, by the control group that it is in."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == "crash":
                group = (process / "cgroup").read_text()
                found += [(uid, int(process.name)) for uid in uids if uid in group]
    return found


def _event(api: Cluster, name: str, pid: int) -> float:
    """Have one crash, and return the seconds until its Event is there."""
    path = f"/api/v1/namespaces/{NAMESPACE}/events"
    selector = f"involvedObject.name={name},reason={REASON}"
    begun = time.monotonic()
    os.kill(pid, SIGUSR1)
    wait_for(f"Event of {name}", lambda: api.get(path, fieldSelector=selector)["items"], 60)
    return time.monotonic() - begun
