"""Pods as a kubelet makes them, over the container runtime interface (CRI v1) of a containerd.

Not here: the daemon itself and removing what is left when it is gone (containerd).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cri_api.v1 import api_pb2, api_pb2_grpc

from testbed import cgroups
from testbed.waiting import wait_for

# Generated modules, without types of use to mypy.
cri: Any = api_pb2
services: Any = api_pb2_grpc

LOGS = Path("/var/log/pods")
QOS_GROUP = "/kubepods/besteffort"
DEADLINE = 30
"""Seconds for one call to containerd."""


class CallError(RuntimeError):
    """containerd refused a call or did not answer it; the message has the call and its words."""


class Client:
    """A connection to containerd's CRI socket; every call has a deadline and raises CallError."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self._runtime = services.RuntimeServiceStub(self._channel)
        self._images = services.ImageServiceStub(self._channel)

    def close(self) -> None:
        """Give the connection up."""
        self._channel.close()

    def call(self, method: str, **arguments: object) -> Any:
        """Call a method of the runtime service, RunPodSandbox say, with its request's fields."""
        request = getattr(cri, f"{method}Request")(**arguments)
        return _call(getattr(self._runtime, method), method, request)

    def ready(self) -> bool:
        """Whether the runtime answers and calls itself ready."""
        try:
            status = self.call("Status").status
        except CallError:
            return False
        return any(one.type == "RuntimeReady" and one.status for one in status.conditions)

    def has_image(self, name: str) -> bool:
        """Whether the CRI knows an image, which it does a moment after the import."""
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
        return bool(_call(self._images.ImageStatus, "ImageStatus", request).HasField("image"))


def _call(method: Any, name: str, request: object) -> Any:
    try:
        return method(request, timeout=DEADLINE)
    except grpc.RpcError as error:
        raise CallError(f"containerd, {name}: {error.details()}") from error


@dataclass(frozen=True)
class PodName:
    """What names a pod, and where a node keeps it."""

    namespace: str
    pod: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def cgroup(self) -> str:
        """The pod's control group, as the cgroupfs driver names it."""
        return f"{QOS_GROUP}/pod{self.uid}"

    @property
    def logs(self) -> Path:
        """The directory of the logs of the pod's containers."""
        return LOGS / f"{self.namespace}_{self.pod}_{self.uid}"

    @property
    def labels(self) -> dict[str, str]:
        """The labels a kubelet puts on the sandbox and on each container."""
        return {
            "io.kubernetes.pod.name": self.pod,
            "io.kubernetes.pod.namespace": self.namespace,
            "io.kubernetes.pod.uid": self.uid,
        }


class Container:
    """A container that has been started; `pid` is its first process, by the host's numbering."""

    def __init__(self, client: Client, name: str, identifier: str, log: Path, cgroup: str) -> None:
        self._client = client
        self.name = name
        self.id = identifier
        self.log = log
        self.cgroup = cgroup
        verbose = client.call("ContainerStatus", container_id=identifier, verbose=True)
        self.pid = int(json.loads(verbose.info["info"])["pid"])

    def wait(self, seconds: float = DEADLINE) -> int:
        """Wait until the container has exited and return its exit code: 128 + signal where one ended it.

        Raises TimeoutError.
        """
        wait_for(f"container {self.id} exits", self._exited, seconds)
        return int(self._status().exit_code)

    def wait_for_log(self, text: str, seconds: float = DEADLINE) -> None:
        """Wait until the container has logged a line with this text; raises TimeoutError."""
        wait_for(f"{text!r} in {self.log}", lambda: text in self.log.read_text(errors="replace"), seconds)

    def execute(self, *command: str, seconds: int = DEADLINE) -> tuple[int, str]:
        """Run a command in the container, as `kubectl exec` does; returns exit code and output."""
        done = self._client.call("ExecSync", container_id=self.id, cmd=command, timeout=seconds)
        return int(done.exit_code), (done.stdout + done.stderr).decode(errors="replace")

    def _exited(self) -> bool:
        return bool(self._status().state == cri.CONTAINER_EXITED)

    def _status(self) -> Any:
        return self._client.call("ContainerStatus", container_id=self.id).status


class Pod:
    """A pod's sandbox on the host's network, which needs no CNI plugin."""

    def __init__(self, client: Client, name: PodName) -> None:
        self._client = client
        self.name = name
        self._containers: list[Container] = []
        self._config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name.pod, namespace=name.namespace, uid=name.uid),
            log_directory=str(name.logs),
            labels=name.labels,
            annotations={"kubernetes.io/config.source": "api"},
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=name.cgroup,
                security_context=cri.LinuxSandboxSecurityContext(namespace_options=_namespaces()),
            ),
        )
        self.id = str(client.call("RunPodSandbox", config=self._config).pod_sandbox_id)

    def start(
        self, name: str, image: str, args: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Container:
        """Start a container; starting the same name again is a restart and counts as one."""
        restart = sum(container.name == name for container in self._containers)
        log = self.name.logs / name / f"{restart}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        config = self._container_config(name, image, args, env or {}, restart)
        identifier = self._client.call(
            "CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self._config
        ).container_id
        self._client.call("StartContainer", container_id=identifier)
        container = Container(self._client, name, identifier, log, f"{self.name.cgroup}/{identifier}")
        self._containers.append(container)
        return container

    def stop(self) -> None:
        """End the pod and have containerd forget it."""
        for container in self._containers:
            # runc takes a container whose first thread has ended for stopped, and refuses to kill the others.
            cgroups.kill(container.cgroup)
        try:
            self._client.call("StopPodSandbox", pod_sandbox_id=self.id)
        except CallError:
            # The shim may end between containerd's question and its answer ("ttrpc: closed"): ask once more.
            self._client.call("StopPodSandbox", pod_sandbox_id=self.id)
        self._client.call("RemovePodSandbox", pod_sandbox_id=self.id)

    def _container_config(
        self, name: str, image: str, args: Sequence[str], env: Mapping[str, str], restart: int
    ) -> Any:
        return cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name, attempt=restart),
            image=cri.ImageSpec(image=image),
            args=args,
            envs=[cri.KeyValue(key=key, value=value) for key, value in env.items()],
            labels={**self.name.labels, "io.kubernetes.container.name": name},
            annotations={
                "io.kubernetes.container.restartCount": str(restart),
                "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
                "io.kubernetes.container.terminationMessagePolicy": "File",
            },
            log_path=f"{name}/{restart}.log",
            linux=cri.LinuxContainerConfig(
                security_context=cri.LinuxContainerSecurityContext(namespace_options=_namespaces())
            ),
        )


def remove_traces(name: PodName) -> None:
    """End what still runs of a pod, and remove its control group and logs, whatever became of its runtime."""
    cgroups.remove(name.cgroup)
    cgroups.remove_empty(QOS_GROUP)
    shutil.rmtree(name.logs, ignore_errors=True)
    with contextlib.suppress(OSError):  # in use by other pods, or not there
        LOGS.rmdir()


def _namespaces() -> Any:
    return cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER, ipc=cri.POD)
