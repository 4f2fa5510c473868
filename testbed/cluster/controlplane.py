"""The control plane: etcd, kube-apiserver and kube-controller-manager, and everybody's credentials for it.

Not here: nodes (node) and what is under test (product). Pods need no node to be objects: give them a
`nodeName` that is not there (pod_manifest), and delete them with --grace-period=0 --force.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from testbed.cluster import kubeconfig, network
from testbed.cluster.certificates import Authority, Certificate
from testbed.cluster.program import PATH, SECONDS, Program, built
from testbed.waiting import wait_for

GROUPS = {"admin": ("system:masters",), "alice": ("devs",)}
"""The groups of users who are asked for without."""
PROXY_CLIENT = "front-proxy-client"
"""The only common name that kube-apiserver tells extension servers to allow."""
KUBECTL_SECONDS = 60


class KubectlError(AssertionError):
    """kubectl ended with another exit status than was expected; the message has what it printed."""


@contextlib.contextmanager
def control_plane(directory: Path) -> Iterator[ControlPlane]:
    """Run a control plane, its files in a directory that is there; afterwards nothing of it runs.

    The calling thread enters a network namespace of its own, and stays there.
    """
    network.enter()
    plane = ControlPlane(directory)
    try:
        plane.start()
        yield plane
    finally:
        plane.kill()


class ControlPlane:
    """A control plane with its programs; control_plane() makes one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = network.ADDRESS
        self.server = f"https://{self.address}:6443"
        self.ca = Authority(directory / "ca", "kube-ca")
        """Signs kube-apiserver's certificate and its clients'."""
        self.front_proxy = Authority(directory / "front-proxy", "front-proxy-ca")
        """Signs the certificate that kube-apiserver shows to extension servers."""
        self._tokens = Authority(directory / "tokens", "service-accounts").certificate
        self._serving = self.ca.issue("kube-apiserver", "kube-apiserver", sans=(f"IP:{self.address}",))
        self._trusted = directory / "front-proxy/requestheader-ca.pem"
        self._trust(self.front_proxy)
        self.environment = {"PATH": PATH, "HOME": str(directory), "KUBECONFIG": str(self.kubeconfig("admin"))}
        """For kubectl: its cache lies in the cluster's directory."""
        self.etcd = self._program("etcd", "etcd", self._etcd_flags())
        self.apiserver = self._program(
            "kube-apiserver", built("kube-apiserver"), self._apiserver_flags(), ready=self._api_is_ready
        )
        self.controllers = self._program(
            "kube-controller-manager", built("kube-controller-manager"), self._controller_flags()
        )

    def start(self) -> None:
        """Start everything and wait until pods can be created. Raises RuntimeError or TimeoutError."""
        self.etcd.start()
        self.apiserver.start()
        self.controllers.start()
        self.wait_for_namespace("default")

    def kill(self) -> None:
        """End everything; what etcd knew is lost with it."""
        for program in (self.controllers, self.apiserver, self.etcd):
            program.kill()

    @contextlib.contextmanager
    def without_apiserver(self) -> Iterator[None]:
        """Have kube-apiserver killed, and afterwards started again and ready."""
        self.apiserver.kill()
        try:
            yield
        finally:
            self.apiserver.start()

    def rotate_front_proxy(self, name: str) -> Authority:
        """Have kube-apiserver show extension servers a certificate of another authority, of which, and of the
        old one, it tells them; returns the new one. An authority stays in the ConfigMap until it expires."""
        old, self.front_proxy = self.front_proxy, Authority(self.directory / name, name)
        self.apiserver.kill()
        self._trust(self.front_proxy, old)
        self.apiserver.start()
        return self.front_proxy

    def certificate(self, user: str, *groups: str) -> Certificate:
        """Return a client certificate of a user, made when it is first asked for."""
        groups = groups or GROUPS.get(user, ())
        file = _file_name(user, *groups)
        made = Certificate(self.ca.directory / f"{file}.pem", self.ca.directory / f"{file}.key")
        return made if made.path.exists() else self.ca.issue(file, user, groups)

    def kubeconfig(self, user: str, *groups: str) -> Path:
        """Return the kubeconfig of a user by his client certificate; without groups those in GROUPS."""
        groups = groups or GROUPS.get(user, ())
        path = self.directory / f"{_file_name(user, *groups)}.kubeconfig"
        credentials = kubeconfig.by_certificate(self.certificate(user, *groups))
        return kubeconfig.write(path, self.server, self.ca.certificate.path, credentials)

    def token(self, namespace: str, account: str) -> str:
        """Return a token of a service account that is there; good for a year, as a cluster is played with."""
        command = ("create", "token", account, "--namespace", namespace, "--duration=8760h")
        return self.kubectl(*command).strip()

    def token_kubeconfig(self, namespace: str, account: str) -> Path:
        """Return the kubeconfig of a service account that is there, by a new token."""
        path = self.directory / f"{_file_name(namespace, account)}.kubeconfig"
        credentials = kubeconfig.by_token(self.token(namespace, account))
        return kubeconfig.write(path, self.server, self.ca.certificate.path, credentials)

    def command(self, *arguments: str, user: str = "admin") -> list[str]:
        """Return kubectl's command line; it wants `.environment`."""
        return [str(built("kubectl")), f"--kubeconfig={self.kubeconfig(user)}", *arguments]

    def run(
        self,
        *arguments: str,
        user: str = "admin",
        stdin: str | bytes | None = None,
        seconds: float = KUBECTL_SECONDS,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run kubectl to its end, whatever that is."""
        return subprocess.run(
            self.command(*arguments, user=user),
            check=False,
            input=stdin.encode() if isinstance(stdin, str) else stdin or b"",
            capture_output=True,
            timeout=seconds,
            env=self.environment,
        )

    def kubectl(
        self,
        *arguments: str,
        user: str = "admin",
        code: int = 0,
        stdin: str | bytes | None = None,
        seconds: float = KUBECTL_SECONDS,
    ) -> str:
        """Run kubectl and return what it prints: of an expected failure, the error. Raises KubectlError."""
        done = self.run(*arguments, user=user, stdin=stdin, seconds=seconds)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode != code:
            raise KubectlError(
                f"kubectl {' '.join(arguments)}: exit {done.returncode}, not {code}\n{out}{err}"
            )
        return err if code else out

    def wait_for_namespace(self, namespace: str) -> None:
        """Wait until a namespace has its service account, without which no pod can be created there."""
        account = ("get", "serviceaccount", "default", "--namespace", namespace)
        wait_for(f"service account of {namespace}", lambda: self.run(*account).returncode == 0, SECONDS)

    def _program(
        self, name: str, executable: str | Path, flags: dict[str, object], **options: object
    ) -> Program:
        command = [executable, *(f"--{flag}={value}" for flag, value in flags.items())]
        return Program(name, command, self.directory / f"{name}.log", **options)  # type: ignore[arg-type]

    def _trust(self, *authorities: Authority) -> None:
        """Make the file of what extension servers are to trust; the first signs kube-apiserver's own."""
        self._trusted.write_bytes(b"".join(each.certificate.path.read_bytes() for each in authorities))
        self._proxy = authorities[0].issue(PROXY_CLIENT, PROXY_CLIENT)
        for made, fixed in ((self._proxy.path, "current.pem"), (self._proxy.key, "current.key")):
            (self._trusted.parent / fixed).write_bytes(made.read_bytes())

    def _etcd_flags(self) -> dict[str, object]:
        url, peer = f"http://{self.address}:2379", f"http://{self.address}:2380"
        return {
            "data-dir": self.directory / "etcd",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }

    def _apiserver_flags(self) -> dict[str, object]:
        kubelet = self.certificate("kube-apiserver-kubelet-client", "system:masters")
        return {
            "etcd-servers": f"http://{self.address}:2379",
            "bind-address": self.address,
            "advertise-address": self.address,
            "secure-port": 6443,
            "service-cluster-ip-range": "198.19.0.0/24",
            "client-ca-file": self.ca.certificate.path,
            "tls-cert-file": self._serving.path,
            "tls-private-key-file": self._serving.key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self._tokens.path,
            "service-account-signing-key-file": self._tokens.key,
            "requestheader-client-ca-file": self._trusted,
            "requestheader-allowed-names": PROXY_CLIENT,
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-uid-headers": "X-Remote-Uid",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": self._trusted.parent / "current.pem",
            "proxy-client-key-file": self._trusted.parent / "current.key",
            "enable-aggregator-routing": "true",
            "authorization-mode": "Node,RBAC",
            "endpoint-reconciler-type": "none",
            "kubelet-preferred-address-types": "InternalIP",
            "kubelet-certificate-authority": self.ca.certificate.path,
            "kubelet-client-certificate": kubelet.path,
            "kubelet-client-key": kubelet.key,
            "allow-privileged": "true",
        }

    def _controller_flags(self) -> dict[str, object]:
        config = self.kubeconfig("system:kube-controller-manager")
        return {
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "bind-address": self.address,
            "service-account-private-key-file": self._tokens.key,
            "root-ca-file": self.ca.certificate.path,
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            # It deletes pods whose node is not there, which is what tests make.
            "controllers": "*,-pod-garbage-collector-controller",
        }

    def _api_is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca.certificate.path))
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=5) as answer:  # noqa: S310 - https
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def delete_namespace(plane: ControlPlane, namespace: str, *, wait: bool = True) -> None:
    """Delete a namespace and its pods, which no kubelet may be there to end, and wait until it is gone."""
    plane.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")
    pods = ("delete", "pods", "--all", "--namespace", namespace, "--grace-period=0", "--force")
    plane.run(*pods, "--wait=false")
    if wait:
        plane.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=50s")


def pod_manifest(namespace: str, name: str, **spec: object) -> str:
    """Return a pod for kubectl's -f -, bound to a node that is not there, so that it is just an object."""
    container = {"name": "app", "image": "app"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": "nowhere", "containers": [container], **spec},
    }
    return json.dumps(pod)


def _file_name(*parts: str) -> str:
    """Return a file name that no other parts have: they may hold anything."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts))[:60] + f"-{digest}"
