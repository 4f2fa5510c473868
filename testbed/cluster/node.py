"""A node of the cluster: the real kubelet on a containerd, with control groups and mounts of its own.

It lives in a mount namespace whose /var/log and /var/lib/kubelet nobody else sees and whose end takes all
mounts along. Not here: the guard (guard), and what runs in pods (workloads).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from testbed import cgroups, images, programs
from testbed.cluster import network
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.program import SECONDS, Program, built
from testbed.cluster.workloads import NODE, Object, container, pod
from testbed.containerd import Containerd, containerd
from testbed.kernel import core_settings
from testbed.waiting import wait_for

CGROUP = "/coredump-guard-node"
"""Below it the kubelet has its kubepods, where it ends whatever it does not know. In the machine's own that
would be the pods of other runs."""
KUBELET = Path("/var/lib/kubelet")
TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet wants the kernel's settings to be (pkg/kubelet/cm: setupKernelTunables). It finds them
so in its mount namespace, and the machine's stay what they are."""
STANDING = "node-agent"
"""A static pod that is always there, as some are in every cluster: the controller collects nothing while
kube-apiserver's list of pods is empty, which looks like a mistake."""
NETWORK: Object = {"cniVersion": "0.3.1", "name": "none", "plugins": [{"type": "loopback"}]}
"""Never used, since pods are on the host's network; but without one the node is not Ready."""


class Node:
    """A node that is Ready; node() makes one."""

    def __init__(self, plane: ControlPlane, directory: Path, within: list[str], runtime: Containerd) -> None:
        self.plane, self.directory, self.runtime = plane, directory, runtime
        self.name = NODE
        self.within = within
        """The command that executes another one among the node's mounts."""
        self.kubelet = _kubelet(plane, runtime, directory, within)

    def create(self, workload: Object) -> None:
        """Have kube-apiserver create a pod or whatever else."""
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(workload))

    @contextlib.contextmanager
    def static_pod(self, workload: Object) -> Iterator[str]:
        """Have the kubelet run a pod that it finds in a file; yields its mirror pod's name. It goes again."""
        name = f"{workload['metadata']['name']}-{self.name}"
        namespace = workload["metadata"]["namespace"]
        file = self.directory / "static" / f"{name}.json"
        file.write_text(json.dumps(workload))
        mirror = ("get", "pod", name, "--namespace", namespace)
        try:
            wait_for(f"mirror pod {name}", lambda: not self.plane.run(*mirror).returncode, SECONDS)
            yield name
        finally:
            file.unlink()
            wait_for(f"mirror pod {name} goes", lambda: self.plane.run(*mirror).returncode, SECONDS)


@contextlib.contextmanager
def node(plane: ControlPlane) -> Iterator[Node]:
    """Run a node and wait until it is Ready; afterwards nothing of it is left on the machine.

    It holds the machine's core settings: whatever crashes here is the caller's.
    """
    directory = plane.directory / "node"
    (directory / "static").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(core_settings())
        within = stack.enter_context(_mounts(directory))
        stack.enter_context(_cgroup())
        runtime = stack.enter_context(containerd(["setpriv", "--pdeathsig", "KILL", *within]))
        runtime.set_network(NETWORK)
        ready = Node(plane, directory, within, runtime)
        stack.callback(ready.kubelet.kill)
        pause = container("pause", images.image_name(programs.program("pause")))
        (directory / "static/standing.json").write_text(json.dumps(pod("kube-system", STANDING, pause)))
        ready.kubelet.start()
        yield ready


@contextlib.contextmanager
def _mounts(directory: Path) -> Iterator[list[str]]:
    """Hold a mount namespace; yields the command that executes another one in it."""
    script = ["set -e", f"mkdir -p {KUBELET}"]
    script += [f"mount -t tmpfs -o mode=0755 node {place}" for place in ("/var/log", KUBELET)]
    for setting, value in TUNABLES.items():
        file = directory / setting.replace("/", "-")
        file.write_text(f"{value}\n")
        script.append(f"mount --bind {file} /proc/sys/{setting}")
    script += ["echo mounted", "exec sleep infinity"]
    log = directory / "mounts.log"
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "\n".join(script)]
    holder = Program("mount namespace", command, log, ready=lambda: "mounted" in log.read_text())
    try:
        holder.start()
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
    finally:
        holder.kill()
        with contextlib.suppress(OSError):  # a kubelet's own that is not ours
            KUBELET.rmdir()


@contextlib.contextmanager
def _cgroup() -> Iterator[None]:
    cgroups.remove(CGROUP)  # of a run that was killed
    cgroups.make(CGROUP)
    try:
        yield
    finally:
        cgroups.remove(CGROUP)


def _kubelet(plane: ControlPlane, runtime: Containerd, directory: Path, within: list[str]) -> Program:
    config = directory / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(plane, runtime, directory), indent=2))
    command: list[str | Path] = [
        *within,
        built("kubelet"),
        f"--config={config}",
        f"--kubeconfig={plane.kubeconfig(f'system:node:{NODE}', 'system:nodes')}",
        f"--hostname-override={NODE}",
        f"--node-ip={network.NODE}",
    ]
    ready = ("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=1s")
    return Program(
        "kubelet", command, directory / "kubelet.log", ready=lambda: not plane.run(*ready).returncode
    )


def _kubelet_config(plane: ControlPlane, runtime: Containerd, directory: Path) -> Object:
    serving = plane.ca.issue(f"kubelet-{NODE}", f"system:node:{NODE}", sans=(f"IP:{network.NODE}",))
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE,
        "authentication": {"x509": {"clientCAFile": str(plane.ca.certificate.path)}},
        "tlsCertFile": str(serving.path),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{runtime.socket}",
        "staticPodPath": str(directory / "static"),
        "fileCheckFrequency": "1s",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": CGROUP,
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "protectKernelDefaults": True,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,  # without CAP_SYS_RESOURCE nobody may lower it
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": str(directory / "volume-plugins"),
        "nodeStatusUpdateFrequency": "2s",
    }
