"""The test cluster itself: what other tests take for granted, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import cgroups
from testbed.cluster.controlplane import ControlPlane, KubectlError, delete_namespace, pod_manifest
from testbed.cluster.guard import RUNTIME
from testbed.cluster.node import CGROUP, KUBELET, TUNABLES, Node
from testbed.cluster.workloads import container, pod
from testbed.waiting import wait_for

ROOT = Path(__file__).parents[2]
UP = 700
"""Seconds until a cluster with a node is there: whoever else holds core_pattern is waited for."""
ALONE = """
import sys
from pathlib import Path
from testbed.cluster.controlplane import control_plane
with control_plane(Path(sys.argv[1])) as plane:
    print(plane.etcd.pid, plane.apiserver.pid, plane.controllers.pid, flush=True)
    sys.stdin.read()
"""


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:  # has ended meanwhile
        return ""


@pytest.fixture
def alone(tmp_path: Path) -> subprocess.Popen[str]:
    """Return a process with a control plane of its own, in its own network, beside the shared one."""
    return subprocess.Popen(
        [sys.executable, "-c", ALONE, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_users_are_who_they_say(plane: ControlPlane) -> None:
    assert "devs" in plane.kubectl("auth", "whoami", user="alice")
    assert "secrets" in plane.kubectl("get", "secrets", "--all-namespaces", user="alice", code=1)
    plane.kubectl("get", "secrets", "--all-namespaces")


def test_names_of_users_may_hold_anything(plane: ControlPlane) -> None:
    config = plane.kubeconfig("a/b+c=d\\é ü", "x, system:masters")
    said = plane.kubectl("auth", "whoami", "-o", "json", f"--kubeconfig={config}")
    assert '"username": "a/b+c=d\\\\é ü"' in said
    assert '"x, system:masters"' in said


def test_service_account_by_token(plane: ControlPlane, namespace: str) -> None:
    config = plane.token_kubeconfig(namespace, "default")
    said = plane.kubectl("auth", "whoami", f"--kubeconfig={config}")
    assert f"system:serviceaccount:{namespace}:default" in said


def test_pods_without_a_node(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "-f", "-", stdin=pod_manifest(namespace, "web"))
    assert "web" in plane.kubectl("get", "pods", "--namespace", namespace)
    delete_namespace(plane, namespace)
    assert "NotFound" in plane.kubectl("get", "namespace", namespace, code=1)
    plane.kubectl("create", "namespace", namespace)


def test_kubectl_says_what_failed(plane: ControlPlane) -> None:
    with pytest.raises(KubectlError, match="not-there"):
        plane.kubectl("get", "namespace", "not-there")


def test_apiserver_goes_and_comes(plane: ControlPlane) -> None:
    with plane.without_apiserver():
        assert "refused" in plane.kubectl("get", "namespaces", code=1)
    plane.kubectl("get", "namespaces")


def test_etcd_stands_still(plane: ControlPlane) -> None:
    with plane.etcd.halted():
        assert plane.run("get", "namespaces", "--request-timeout=2s").returncode
    wait_for("etcd goes on", lambda: not plane.run("get", "namespaces").returncode)


def test_front_proxy_authority_is_replaced(plane: ControlPlane) -> None:
    before = plane.front_proxy.certificate.path.read_text().strip()
    now = plane.rotate_front_proxy("front-proxy-of-test").certificate.path.read_text().strip()
    query = ("get", "configmap", "extension-apiserver-authentication", "--namespace=kube-system")
    path = "-o=jsonpath={.data.requestheader-client-ca-file}"
    wait_for("both are told", lambda: all(ca in plane.kubectl(*query, path) for ca in (before, now)))


@pytest.mark.parametrize("end", ["in good order", "interrupted", "killed"])
def test_nothing_is_left(alone: subprocess.Popen[str], end: str) -> None:
    with alone:
        assert alone.stdin and alone.stdout
        pids = [int(pid) for pid in alone.stdout.readline().split()]
        assert len(pids) == 3, alone.communicate()[1]
        if end == "interrupted":
            alone.send_signal(signal.SIGINT)
        elif end == "killed":
            alone.kill()
        alone.communicate(timeout=30)
    wait_for("its programs have ended", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_cluster_to_play_with(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "testbed.cluster", str(tmp_path / "cluster")]
        cluster = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
    try:
        wait_for("make cluster is up", lambda: cluster.poll() or "To end it" in log.read_text(), UP)
        says = [line for line in log.read_text().splitlines() if line.startswith("    ")]
        assert cluster.poll() is None and len(says) > 5, log.read_text()
        shell = ["bash", "-ec", "\n".join(says)]
        done = subprocess.run(shell, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "CoreDumped" in done.stdout and "in step_one" in done.stdout
        assert "everything fits together" in done.stdout and "there is nothing to do" in done.stdout
        assert "begin with gateways" in done.stdout and "haproxy runs again" in done.stdout
        part = [str(tmp_path / "cluster/part"), "kill", "everything"]
        wrong = subprocess.run(part, check=False, capture_output=True, text=True, timeout=60)
        assert wrong.returncode == 1
        assert wrong.stdout == "error: kill | start haproxy | shim | kube-apiserver | controller\n"
    finally:
        cluster.terminate()
        assert cluster.wait(timeout=60) == 0
    assert "Ended by SIGTERM" in log.read_text()
    for name in ("kubectl", "coredump-shim", "part"):
        late = subprocess.run(
            [tmp_path / "cluster" / name, "get"], check=False, capture_output=True, text=True
        )
        assert (late.returncode, late.stderr) == (1, "this cluster has ended; make cluster starts one\n")
    assert not [process for process in Path("/proc").glob("[0-9]*") if str(tmp_path) in command_line(process)]
    assert not cgroups.directories(CGROUP) and not RUNTIME.exists() and not KUBELET.exists()


def test_pod_of_the_node_crashes_and_its_dump_is_stored(
    plane: ControlPlane, node: Node, store: Path, crash_image: str, namespace: str
) -> None:
    node.create(pod(namespace, "web", container("app", crash_image)))
    status = "-o=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
    seen = ("get", "pod", "web", "--namespace", namespace)
    wait_for("the pod has crashed", lambda: plane.kubectl(*seen, status) == str(128 + signal.SIGSEGV))
    uid = plane.kubectl(*seen, "-o=jsonpath={.metadata.uid}")
    wait_for("its dump is stored", lambda: list(store.glob(f"{namespace}/{uid}/app/*/info.json")))


def test_settings_that_a_kubelet_wants_are_seen_by_it_alone(node: Node) -> None:
    for setting in TUNABLES:
        command = [*node.within, "cat", f"/proc/sys/{setting}"]
        assert subprocess.run(command, check=True, capture_output=True).stdout == b"%d\n" % TUNABLES[setting]
    assert not any(line.split()[0] == "node" for line in Path("/proc/mounts").read_text().splitlines())


def test_network_is_of_its_own(plane: ControlPlane) -> None:
    ours = os.readlink("/proc/thread-self/ns/net")
    assert os.readlink(f"/proc/{plane.apiserver.pid}/ns/net") == ours
    assert ours != os.readlink(f"/proc/{os.getppid()}/ns/net")
