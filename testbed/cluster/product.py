"""The product in the cluster: its objects applied, and on each gateway HAProxy, a shim and a controller.

Not here: nodes and the guard (node). Every program uses what it would use on a host: a service account's
token, a run directory, an address of its own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from coredump_shim import cli, names, rundir
from testbed.cluster import network
from testbed.cluster.certificates import Authority, Certificate
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.program import PATH, SECONDS, Program
from testbed.waiting import wait_for

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
PORT = 8443
APISERVICE = f"{names.VERSION}.{names.GROUP}"
HOST = f"{names.SERVICE}.{names.SYSTEM_NAMESPACE}.svc"
"""What the gateways' certificate is for."""


@contextlib.contextmanager
def installed(
    plane: ControlPlane, store: Path, gateways: int = 1, *, controller: bool = True
) -> Iterator[Product]:
    """Install the product and wait until its API is available; afterwards its programs and objects are gone.

    The first gateway listens on 198.18.0.2:8443. With each shim runs a controller, if there is the command.
    """
    product = Product(plane, store, gateways, controller=controller and "controller" in cli.COMMANDS)
    try:
        product.start()
        yield product
    finally:
        product.close()


RUN = "coredump-guard-gateway-"
"""Begins the names of run directories."""


class Product:
    """The product as it is installed; installed() makes one."""

    def __init__(self, plane: ControlPlane, store: Path, gateways: int, *, controller: bool) -> None:
        self.plane, self.store = plane, store
        self.directory = Path(tempfile.mkdtemp(prefix="product-", dir=plane.directory))
        self.ca = Authority(self.directory / "ca", "shim-ca")
        """Signs the gateways' certificate."""
        self.certificate = self.ca.issue("shim", HOST, sans=(f"DNS:{HOST}",))
        self._controller = controller
        self.gateways = [self._gateway(number) for number in range(gateways)]

    @property
    def gateway(self) -> Gateway:
        """The first gateway, which most tests mean."""
        return self.gateways[0]

    def start(self) -> None:
        """Apply the objects, start everything, wait until the API is available."""
        self.plane.kubectl("apply", "-k", str(self.overlay()))
        for gateway in self.gateways:
            gateway.start()
        self.wait_until_available()

    def close(self) -> None:
        """End the programs, and delete the objects, so that the cluster is as it was."""
        for gateway in self.gateways:
            gateway.close()
        if self.plane.apiserver.alive():
            # First, since no namespace can be deleted while it is there and nobody answers.
            self.plane.kubectl("delete", "apiservice", APISERVICE, "--ignore-not-found")
            self.plane.kubectl("delete", "-k", str(self.overlay()), "--ignore-not-found", "--timeout=50s")

    @contextlib.contextmanager
    def another_gateway(self) -> Iterator[Gateway]:
        """Have one more gateway, and afterwards as many as before."""
        self.gateways.append(self._gateway(len(self.gateways)))
        try:
            self.gateways[-1].start()
            self.plane.kubectl("apply", "-k", str(self.overlay()))
            yield self.gateways[-1]
        finally:
            self.gateways.pop().close()
            self.plane.kubectl("apply", "-k", str(self.overlay()))

    def overlay(self) -> Path:
        """Write the directory that `kubectl apply -k` is given, after manifests/example, and return it."""
        directory = self.directory / "overlay"
        shutil.copytree(MANIFESTS / "example", directory, dirs_exist_ok=True)
        kustomization = directory / "kustomization.yaml"
        api = os.path.relpath(MANIFESTS / "api", directory.resolve())
        kustomization.write_text(kustomization.read_text().replace("../api", api))
        for kind, fields in self._patches().items():
            path = directory / f"{kind}.yaml"
            path.write_text(json.dumps(yaml.safe_load(path.read_text()) | fields))  # JSON is YAML
        return directory

    def condition(self) -> str:
        """Return the status of the APIService's condition Available: True, False, Unknown or nothing."""
        path = "{.status.conditions[?(@.type=='Available')].status}"
        return self.plane.kubectl("get", "apiservice", APISERVICE, "-o", f"jsonpath={path}")

    def wait_until_available(self, seconds: float = SECONDS) -> None:
        """Wait until kube-apiserver says that the API is available and discovery has it."""
        wait_for(f"{APISERVICE} is available", lambda: self.condition() == "True", seconds)
        group = f"--api-group={names.GROUP}"
        wait_for(
            "discovery has it", lambda: names.RESOURCE in self.plane.kubectl("api-resources", group), seconds
        )

    def _gateway(self, number: int) -> Gateway:
        directory = Path(tempfile.mkdtemp(prefix=f"gateway-{number}-", dir=self.directory))
        return Gateway(self, directory, network.GATEWAYS[number], controller=self._controller)

    def _patches(self) -> dict[str, dict[str, object]]:
        addresses = [gateway.address for gateway in self.gateways]
        bundle = base64.b64encode(self.ca.certificate.path.read_bytes()).decode()
        port = {"name": "https", "port": PORT, "protocol": "TCP"}
        return {
            "apiservice": {"spec": {"caBundle": bundle}},
            "endpointslice": {"endpoints": [{"addresses": [address]} for address in addresses]},
            "endpoints": {"subsets": [{"addresses": [{"ip": each} for each in addresses], "ports": [port]}]},
        }


class Gateway:
    """One gateway: its HAProxy, shim and perhaps controller, each a Program to kill, halt, start again."""

    def __init__(self, product: Product, directory: Path, address: str, *, controller: bool) -> None:
        self.product, self.directory, self.address = product, directory, address
        # Not below the directory: HAProxy takes no path of a socket that is longer than 97 bytes.
        self.run_dir = Path(tempfile.mkdtemp(prefix=RUN, dir="/run"))
        self.url = f"https://{address}:{PORT}"
        self.shim = self._program(
            "shim", [*self._command("serve"), *self._store, "--run-dir", str(self.run_dir)]
        )
        self.haproxy = self._program(
            "haproxy",
            ["haproxy", "-W", "-f", rundir.path(str(self.run_dir), rundir.HAPROXY_CFG)],
            self.answers,
        )
        self.controller = self._program("controller", self.command("controller")) if controller else None

    def start(self) -> None:
        """Start everything, and wait until HAProxy answers and the shim does."""
        for account in (names.SERVICE, names.MANAGER):
            made = self.product.plane.token_kubeconfig(names.SYSTEM_NAMESPACE, account)
            shutil.copy(made, self._kubeconfig(account))
        self.configure()
        self.haproxy.start()
        self.shim.start()
        self.wait_for_shim()
        if self.controller is not None:
            self.controller.start()

    def close(self) -> None:
        """End everything at once, for good."""
        for program in (self.controller, self.shim, self.haproxy):
            if program is not None:
                program.kill()
        wait_for(f"{self.run_dir} is removed", self._removed)

    def _removed(self) -> bool:
        """Remove the run directory, where a process whose parent was killed may be writing still."""
        shutil.rmtree(self.run_dir, ignore_errors=True)
        return not self.run_dir.exists()

    def configure(self) -> str:
        """Write HAProxy's configuration as the command does, and return what it says."""
        command = [
            *self._command("haproxy"),
            *("--run-dir", str(self.run_dir)),
            *("--certificate", str(self.product.certificate.bundle())),
            *("--listen", f"{self.address}:{PORT}"),
        ]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment(), timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return done.stderr

    def reload(self) -> None:
        """Reload HAProxy, as `systemctl reload` does, and wait until a new process of it serves."""
        before = self.workers()
        os.kill(self.haproxy.pid, signal.SIGUSR2)
        wait_for("HAProxy has another process", lambda: self.workers() - before)
        wait_for("HAProxy answers", self.answers)

    def workers(self) -> set[int]:
        """Return the ids of HAProxy's processes that serve, with old ones that still have something to do."""
        return _children(self.haproxy.pid)

    def shim_process(self, name: str) -> int:
        """Return the id of the shim's process shim-front or shim-downloads; wait until there is one."""
        return wait_for(f"process {name}", lambda: _named(_children(self.shim.pid), name))

    def wait_for_shim(self) -> None:
        """Wait until the shim answers through HAProxy."""
        wait_for(f"the shim answers ({self.shim.log})", lambda: self.answers("/readyz"), SECONDS)

    def answers(self, path: str = "/healthz") -> bool:
        """Whether a path is answered with success, by HAProxy itself or, /readyz, by the shim."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", context=self._context(), timeout=5) as answer:  # noqa: S310 - https
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def curl(self, path: str, *arguments: str, client: Certificate | None = None) -> list[str]:
        """Return curl's command line for a path, past kube-apiserver, with a client certificate or none."""
        shown = ["--cert", str(client.path), "--key", str(client.key)] if client else []
        to = ["--cacert", str(self.product.ca.certificate.path), "--connect-to", f"::{self.address}:{PORT}"]
        return [
            "curl",
            "-sS",
            "--max-time",
            "60",
            "--path-as-is",
            *to,
            *shown,
            *arguments,
            f"https://{HOST}{path}",
        ]

    def get(self, path: str, *arguments: str, client: Certificate | None = None) -> tuple[int, str]:
        """Return the status and body of a request past kube-apiserver; arguments are curl's."""
        command = self.curl(path, "-w", "\n%{http_code}", *arguments, client=client)
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=90)
        body, _, code = done.stdout.rpartition("\n")
        return int(code), body

    def command(self, command: str) -> list[str]:
        """Return the command line of `coredump-shim check` or `controller` with what this gateway has."""
        run_dir = ["--run-dir", str(self.run_dir)] if command == "check" else []
        return [*self._command(command), *self._store, *run_dir]

    @property
    def _store(self) -> list[str]:
        return ["--store", str(self.product.store)]

    def _kubeconfig(self, account: str) -> Path:
        return self.directory / f"{account}.kubeconfig"

    def _command(self, command: str) -> list[str]:
        account = names.MANAGER if command == "controller" else names.SERVICE
        return [
            sys.executable,
            "-m",
            "coredump_shim",
            command,
            "--kubeconfig",
            str(self._kubeconfig(account)),
        ]

    def _program(self, name: str, command: list[str], ready: Callable[[], object] = lambda: True) -> Program:
        log = self.directory / f"{name}.log"
        return Program(f"{name} {self.address}", command, log, ready, environment())

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.product.ca.certificate.path))
        context.check_hostname = False  # we go by the address; kube-apiserver by the name
        return context


def environment() -> dict[str, str]:
    """Return what the product's programs are started with."""
    return {"PATH": PATH, "PYTHONPATH": f"{ROOT / 'handler'}:{ROOT / 'shim'}"}


def _children(pid: int) -> set[int]:
    with contextlib.suppress(FileNotFoundError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def _named(processes: set[int], name: str) -> int | None:
    for process in processes:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text().strip() == name:
                return process
    return None
