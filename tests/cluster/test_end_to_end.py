"""The whole way: a process in a pod of the real kubelet crashes, and kubectl tells it and brings the core."""

from __future__ import annotations

import datetime
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import store as layout
from testbed import programs
from testbed.cluster.controlplane import ControlPlane, delete_namespace
from testbed.cluster.node import Node
from testbed.cluster.product import Product
from testbed.cluster.workloads import container, deployment, pod
from testbed.waiting import wait_for
from tests.support.downloading import url
from tests.support.guard import core_of, record
from tests.support.unpack import unpack

TOLD = 5
"""Seconds from a crash to the Event."""
POD = 30
"""Seconds from a pod's creation to its crash."""
CALLS = ["fall", "step_two", "step_one", "work", "main"]
COLUMNS = ["NAME", "CONTAINERS", "DUMPS", "SIZE", "LAST CRASH", "REASON", "AGE"]

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Cluster:
    """The cluster as its users see it, and the store behind it."""

    plane: ControlPlane
    node: Node
    store: Path
    image: str

    def crash(self, name: str, *arguments: str) -> dict[str, Any]:
        """Return a container of the node that crashes as the arguments say."""
        return container(name, self.image, *arguments)

    def dumps(self, namespace: str) -> list[Path]:
        """Return the dumps in the store of a namespace, oldest crash first."""
        found = (info.parent for info in self.store.glob(f"{namespace}/*/*/*/{layout.INFO}"))
        return sorted(found, key=lambda dump: dump.name)

    def wait_for_dumps(self, namespace: str, count: int = 1) -> list[Path]:
        """Wait until so many crashes of a namespace are in the store."""
        return wait_for(
            f"{count} dumps in {namespace}",
            lambda: found if len(found := self.dumps(namespace)) >= count else None,
            POD,
        )

    def left(self, namespace: str) -> float:
        """Return how many seconds there are left to tell of the newest crash."""
        crashed = datetime.datetime.fromisoformat(record(self.dumps(namespace)[-1]).time)
        return max(0.0, TOLD - (datetime.datetime.now(datetime.UTC) - crashed).total_seconds())

    def events(self, namespace: str, pod: str, count: int = 1) -> list[str]:
        """Return what `kubectl describe pod` tells of crashes, in time."""
        describe = ("describe", "pod", pod, "--namespace", namespace)

        def look() -> list[str] | None:
            lines = self.plane.kubectl(*describe).splitlines()
            found = [line for line in lines if " CoreDumped " in line]
            return found if len(found) >= count else None

        return wait_for(f"{count} Events in kubectl {' '.join(describe)}", look, self.left(namespace))

    def endpoint(self, namespace: str, name: str) -> dict[str, Any]:
        """Return an endpoint as soon as it is there with a status."""

        def look() -> dict[str, Any] | None:
            done = self.plane.run("get", "cde", name, "--namespace", namespace, "-o", "json")
            found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
            return found if found.get("status") else None

        return wait_for(f"endpoint {namespace}/{name}", look, TOLD)

    def fetch(self, path: str, into: Path, user: str = "admin") -> list[str]:
        """Download and unpack an archive; return the directories of its dumps, `container/id`."""
        done = self.plane.run("get", "--raw", path, user=user)
        assert done.returncode == 0, done.stderr
        with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:gz") as archive:
            unpack(archive, into)
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], check=True, cwd=into)
        return sorted(str(core.parent.relative_to(into)) for core in into.glob("*/*/core"))

    def refused(self, path: str, user: str = "admin") -> str:
        """Return what kubectl says of a download that brings nothing."""
        done = self.plane.run("get", "--raw", path, user=user)
        assert (done.returncode, done.stdout) == (1, b"")
        return done.stderr.decode()


@pytest.fixture
def cluster(product: Product, node: Node, store: Path, crash_image: str) -> Cluster:
    assert product.gateway.controller is not None
    return Cluster(product.plane, node, store, crash_image)


@pytest.fixture
def other(plane: ControlPlane, namespace: str) -> Iterator[str]:
    """Return the name of a second namespace."""
    name = f"{namespace}-other"
    plane.kubectl("create", "namespace", name)
    plane.wait_for_namespace(name)
    yield name
    delete_namespace(plane, name, wait=False)


def inside(dump: Path) -> str:
    """Return where a dump of the store is in an archive."""
    return f"{dump.parent.name}/{dump.name}"


def calls(executable: Path, core: Path) -> list[str]:
    """Return the functions that were running, innermost first, as gdb shows them."""
    options = ["-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "backtrace"]
    done = subprocess.run(["gdb", *options, executable, core], check=True, capture_output=True, text=True)
    frames = done.stdout.rpartition("\n#0")[2]  # opening a core prints frame 0 once more
    return re.findall(r"(?:^ +|^#\d+ +)(?:0x[0-9a-f]+ in )?(\w+) \(", frames, re.MULTILINE)


def test_crash_is_told_and_its_core_fetched(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.node.create(pod(namespace, "web", cluster.crash("app")))
    [dump] = cluster.wait_for_dumps(namespace)
    [event] = cluster.events(namespace, "web")
    size = record(dump).core.bytes
    for said in ("SIGSEGV", "/app/crash", f"{size // 1024}Ki"):
        assert said in event
    command = re.search(r"kubectl get --raw '([^']+)' > coredump.tar.gz", event)
    assert command and command[1].startswith(url(namespace, "web"))

    assert cluster.fetch(command[1], tmp_path) == [inside(dump)]
    core = tmp_path / inside(dump) / "core"
    assert core.read_bytes() == core_of(dump)
    assert calls(programs.program("crash"), core) == CALLS
    assert "there is app" in cluster.refused(url(namespace, "web", "dump?container=other"))


def test_crash_is_listed_and_described(cluster: Cluster, namespace: str) -> None:
    cluster.node.create(pod(namespace, "web", cluster.crash("app")))
    [dump] = cluster.wait_for_dumps(namespace)
    endpoint = cluster.endpoint(namespace, "web")
    known = record(dump)
    assert endpoint["spec"]["poduid"] == known.identity.poduid
    status = endpoint["status"]
    assert {key: status[key] for key in ("dumps", "refused", "containers", "reason", "executable")} == {
        "dumps": 1,
        "refused": 0,
        "containers": ["app"],
        "reason": "SIGSEGV",
        "executable": "/app/crash",
    }
    assert (status["bytes"], status["storedBytes"]) == (known.core.bytes, known.core.stored_bytes)
    assert [(each["id"], each["node"]) for each in status["newest"]] == [(dump.name, cluster.node.name)]

    head, line = cluster.plane.kubectl("get", "cde", "--namespace", namespace).splitlines()
    assert re.split(r"\s{2,}", head.strip()) == COLUMNS
    assert re.fullmatch(rf"web +app +1 +{known.core.bytes // 1024}Ki +\d+s +SIGSEGV +\d+s", line.strip())
    described = cluster.plane.kubectl("describe", "cde", "web", "--namespace", namespace)
    assert known.identity.poduid in described and dump.name in described


def test_second_container(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    # A container's first process ignores the signals that it sends itself: its child does not.
    second = cluster.crash("helper", "--fork", "--signal", "6")
    cluster.node.create(pod(namespace, "web", cluster.crash("app"), second))
    dumps = cluster.wait_for_dumps(namespace, 2)
    events = cluster.events(namespace, "web", 2)
    assert sorted(re.findall("SIG[A-Z]+", " ".join(events))) == ["SIGABRT", "SIGSEGV"]
    wait_for(
        "both are in the status",
        lambda: cluster.endpoint(namespace, "web")["status"]["containers"] == ["app", "helper"],
        TOLD,
    )
    [helper] = [dump for dump in dumps if dump.parent.name == "helper"]
    assert cluster.fetch(url(namespace, "web", "dump?container=helper"), tmp_path / "one") == [inside(helper)]
    assert cluster.fetch(url(namespace, "web"), tmp_path / "both") == sorted(map(inside, dumps))


def test_init_container(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    first = [cluster.crash("prepare")]
    cluster.node.create(pod(namespace, "web", cluster.crash("app"), initContainers=first))
    [dump] = cluster.wait_for_dumps(namespace)
    [event] = cluster.events(namespace, "web")
    assert "container prepare" in event
    assert cluster.fetch(url(namespace, "web", "dump?container=prepare"), tmp_path) == [inside(dump)]


def test_pod_of_a_deployment_is_replaced(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.node.create(deployment(namespace, "web", cluster.crash("app")))
    [dump] = cluster.wait_for_dumps(namespace)[:1]
    old, uid = record(dump).identity.pod, record(dump).identity.poduid
    cluster.endpoint(namespace, old)
    cluster.plane.kubectl("delete", "pod", old, "--namespace", namespace)

    def replaced() -> Path | None:
        return next((each for each in cluster.dumps(namespace) if record(each).identity.pod != old), None)

    new = record(wait_for("the next pod crashes too", replaced, POD)).identity.pod
    cluster.endpoint(namespace, new)
    assert inside(dump) in cluster.fetch(url(namespace, old), tmp_path / "name")
    assert inside(dump) in cluster.fetch(url(namespace, old, f"dump?poduid={uid}"), tmp_path / "uid")
    assert inside(dump) not in cluster.fetch(url(namespace, new), tmp_path / "new")
    assert uid in cluster.endpoint(namespace, old)["spec"]["poduid"]
    assert "NotFound" in cluster.refused(url(namespace, new, f"dump?poduid={uid}"))


def test_pod_of_the_same_name_comes_again(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    web = pod(namespace, "web", cluster.crash("app"))
    cluster.node.create(web)
    [old] = cluster.wait_for_dumps(namespace)
    cluster.endpoint(namespace, "web")
    cluster.plane.kubectl("delete", "pod", "web", "--namespace", namespace)
    cluster.node.create(web)
    [_, new] = cluster.wait_for_dumps(namespace, 2)
    uids = [record(dump).identity.poduid for dump in (old, new)]
    wait_for(
        "the endpoint is the new pod's",
        lambda: cluster.endpoint(namespace, "web")["spec"]["poduid"] == uids[1],
        TOLD,
    )
    assert cluster.fetch(url(namespace, "web"), tmp_path / "new") == [inside(new)]
    earlier = url(namespace, "web", f"dump?poduid={uids[0]}")
    assert cluster.fetch(earlier, tmp_path / "old") == [inside(old)]


def test_static_pod(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with cluster.node.static_pod(pod(namespace, "web", cluster.crash("app"))) as mirror:
        [dump] = cluster.wait_for_dumps(namespace)
        [event] = cluster.events(namespace, mirror)
        uid = ("get", "pod", mirror, "--namespace", namespace, "-o=jsonpath={.metadata.uid}")
        assert cluster.plane.kubectl(*uid) != record(dump).identity.poduid
        command = re.search(r"kubectl get --raw '([^']+)'", event)
        assert command
        assert cluster.fetch(command[1], tmp_path) == [inside(dump)]


def test_deleted_namespace_takes_its_dumps_along(
    cluster: Cluster, product: Product, namespace: str, other: str
) -> None:
    for each in (namespace, other):
        cluster.node.create(pod(each, "web", cluster.crash("app")))
        cluster.wait_for_dumps(each)
        cluster.endpoint(each, "web")
    delete_namespace(cluster.plane, other)
    controller = product.gateway.controller
    assert controller is not None
    controller.stop()  # it looks at everything when it starts, and then every few minutes
    controller.start()
    wait_for("its dumps go", lambda: not cluster.dumps(other), 60)
    cluster.plane.kubectl("create", "namespace", other)
    assert cluster.plane.kubectl("get", "cde", "--namespace", other, "-o", "name") == ""
    assert len(cluster.dumps(namespace)) == 1
    assert "web" in cluster.plane.kubectl("get", "cde", "--namespace", namespace)


def test_tenant_gets_his_and_nobody_elses(
    cluster: Cluster, namespace: str, other: str, tmp_path: Path
) -> None:
    for each in (namespace, other):
        cluster.node.create(pod(each, "web", cluster.crash("app")))
        cluster.wait_for_dumps(each)
        cluster.endpoint(each, "web")
    to = ("--clusterrole=edit", "--user=alice", "--namespace", namespace)
    cluster.plane.kubectl("create", "rolebinding", "alice", *to)
    path, [dump] = url(namespace, "web"), cluster.dumps(namespace)
    wait_for("the role works", lambda: cluster.plane.run("get", "--raw", path, user="alice").returncode == 0)
    assert cluster.fetch(path, tmp_path, user="alice") == [inside(dump)]
    assert "Forbidden" in cluster.refused(url(other, "web"), user="alice")
    assert "forbidden" in cluster.plane.kubectl("get", "cde", "--namespace", other, user="alice", code=1)
