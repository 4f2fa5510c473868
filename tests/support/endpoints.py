"""Endpoints of one namespace of a real cluster, and short ways to them.

Not here: what is expected of them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coredump_shim import names
from coredump_shim.cluster import Cluster
from testbed.cluster.controlplane import ControlPlane, pod_manifest
from testbed.cluster.product import Product
from tests.support.dumps import write_dump

KIND = f"{names.RESOURCE}.{names.VERSION}.{names.GROUP}"
"""What kubectl is told where it would prefer v1."""
STORED = f"{names.RESOURCE}.{names.STORED}.{names.GROUP}"
UID = "11111111-2222-3333-4444-555555555555"
OTHER_UID = "22222222-2222-3333-4444-555555555555"


@contextlib.contextmanager
def alone(product: Product) -> Iterator[None]:
    """Keep the controllers from making endpoints meanwhile: what is there is what a test made."""
    controllers = [gateway.controller for gateway in product.gateways if gateway.controller is not None]
    for controller in controllers:
        controller.stop()  # not killed: it gives back the lease, so that it leads again at once
    try:
        yield
    finally:
        for controller in controllers:
            controller.start()


@dataclass
class Endpoints:
    """The endpoints of a namespace, and short ways to them."""

    plane: ControlPlane
    cluster: Cluster
    """A connection to kube-apiserver that shows codes and headers, which kubectl does not."""
    namespace: str
    store: Path

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return self.plane.kubectl("-n", self.namespace, *arguments, **options)

    def manifest(self, name: str = "web", poduid: str | None = UID, **metadata: Any) -> str:
        thing = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name, **metadata}}
        return json.dumps(thing | ({} if poduid is None else {"spec": {"poduid": poduid}}))

    def create(self, name: str = "web", poduid: str | None = UID, **options: Any) -> str:
        return self.kubectl("create", "-f", "-", stdin=self.manifest(name, poduid), **options)

    def get(self, name: str = "web", kind: str = KIND) -> dict[str, Any]:
        found = json.loads(self.kubectl("get", kind, name, "-o", "json", "--show-managed-fields"))
        assert isinstance(found, dict)
        return found

    def version(self) -> str:
        return str(self.get()["metadata"]["resourceVersion"])

    def listed(self, *arguments: str, kind: str = KIND) -> list[str]:
        found = self.kubectl("get", kind, "-o", "name", *arguments)
        return found.replace(f"{names.SINGULAR}.{names.GROUP}/", "").split()

    def dump(self, poduid: str = UID, **what: Any) -> Path:
        return write_dump(self.store, namespace=self.namespace, poduid=poduid, **what)

    def pod(self, name: str = "web", **metadata: Any) -> str:
        manifest = json.loads(pod_manifest(self.namespace, name))
        manifest["metadata"] |= metadata
        self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        return self.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}")

    def path(self, name: str = "", version: str = names.VERSION) -> str:
        return f"/apis/{names.GROUP}/{version}/namespaces/{self.namespace}/{names.RESOURCE}" + (
            f"/{name}" if name else ""
        )

    def request(
        self, method: str, name: str = "", body: bytes | None = None, query: str = "", **headers: str
    ) -> tuple[int, dict[str, Any], list[str]]:
        """Return code, body and warnings of a request through kube-apiserver."""
        sent = {header.replace("_", "-"): value for header, value in headers.items()}
        answer = self.cluster.request(method, self.path(name) + query, headers=sent, body=body)
        return answer.status, json.loads(answer.data), answer.headers.getlist("Warning")

    @contextlib.contextmanager
    def watching(self, *arguments: str) -> Iterator[Iterator[str]]:
        """Run kubectl until the end of the block, and yield its lines."""
        command = self.plane.command("-n", self.namespace, *arguments)
        environment = self.plane.environment
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as kubectl:
            assert kubectl.stdout is not None
            try:
                yield (line.strip() for line in kubectl.stdout)
            finally:
                kubectl.kill()
