"""Two gateways behind one Service, as kube-apiserver sees them: real HAProxies, one of which dies.

The Service, and the API behind it, are the test's own: the product's go on serving other tests.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from coredump_shim import names
from coredump_shim.cluster import Cluster
from coredump_shim.controller import gateways
from testbed.cluster import network
from testbed.cluster.certificates import Authority
from testbed.cluster.controlplane import ControlPlane
from testbed.cluster.program import PATH, Program
from testbed.waiting import wait_for
from tests.support.gateways import kinds

ADDRESSES = network.GATEWAYS[-2:]
PORT = 9443
GROUP = "gateways.example.com"
DISCOVERY = f"/apis/{GROUP}/v1"
ROLE = Path(__file__).parents[2] / "manifests/api/role.yaml"
USER = "test-gateways"

CONFIG = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend gateway
  bind {address}:{port} ssl crt {bundle} alpn http/1.1
  http-request return status 200 content-type text/plain string ok if {{ path /healthz }}
  http-request return status 200 content-type application/json file {discovery}
"""


@dataclass
class Scene:
    """A Service with two gateways, and a controller's credentials."""

    plane: ControlPlane
    namespace: str
    programs: list[Program]
    cluster: Cluster

    def mark(self) -> None:
        gateways.mark(self.cluster, self.namespace)

    def object(self, kind: str) -> Any:
        return json.loads(self.plane.kubectl("get", kind, names.SERVICE, "-n", self.namespace, "-o", "json"))

    def ready(self) -> list[bool]:
        """Return what slice and Endpoints both say of the two."""
        entries = self.object("endpointslice")["endpoints"]
        said = [(entry.get("conditions") or {}).get("ready", True) for entry in entries]
        subset = self.object("endpoints")["subsets"][0]
        lists = {
            kind: {each["ip"] for each in subset.get(kind, [])} for kind in ("addresses", "notReadyAddresses")
        }
        assert lists["addresses"] == {at for at, up in zip(ADDRESSES, said, strict=True) if up}
        assert lists["notReadyAddresses"] == set(ADDRESSES) - lists["addresses"]
        return said

    def works(self, times: int = 10) -> bool:
        """Whether kube-apiserver reaches the API again and again, whichever gateway it takes."""
        return all(self.plane.run("get", "--raw", DISCOVERY).returncode == 0 for _ in range(times))


@pytest.fixture
def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    host = f"{names.SERVICE}.{namespace}.svc"
    authority = Authority(tmp_path / "ca", "gateways-ca")
    bundle = authority.issue("gateway", host, sans=(f"DNS:{host}",)).bundle()
    discovery = tmp_path / "discovery.json"
    listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1", "resources": []}
    discovery.write_text(json.dumps(listed))
    programs = [_haproxy(tmp_path, address, bundle, discovery) for address in ADDRESSES]
    try:
        for program in programs:
            program.start()
        bundle_text = base64.b64encode(authority.certificate.path.read_bytes()).decode()
        objects = "\n---\n".join(map(json.dumps, [*_objects(namespace, bundle_text), *_rights(namespace)]))
        plane.kubectl("apply", "-f", "-", stdin=objects)
        made = Scene(plane, namespace, programs, Cluster(str(plane.kubeconfig(USER))))
        wait_for("the API is reached", made.works)
        yield made
    finally:
        # First: while its discovery fails no namespace can be deleted.
        plane.kubectl("delete", "apiservice", f"v1.{GROUP}", "--ignore-not-found")
        for program in programs:
            program.kill()


def test_a_dead_gateway_is_marked_until_it_is_back(scene: Scene) -> None:
    before = [scene.object(kind) for kind in ("endpointslice", "endpoints")]
    scene.mark()
    assert [scene.object(kind) for kind in ("endpointslice", "endpoints")] == before
    first, second = scene.programs
    first.kill()
    scene.mark()
    assert scene.ready() == [False, True]
    entries = scene.object("endpointslice")["endpoints"]
    assert entries[0]["conditions"].pop("ready") is False
    assert entries == before[0]["endpoints"]
    wait_for("kube-apiserver goes to the other", scene.works)
    second.kill()
    scene.mark()
    assert scene.ready() == [False, True]  # the last one stays
    first.start()
    scene.mark()
    assert scene.ready() == [True, False]
    wait_for("kube-apiserver goes to the first", scene.works)
    second.start()
    scene.mark()
    assert scene.ready() == [True, True]


def test_what_others_change_meanwhile_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., dict[gateways.Gateway, bool]] = gateways.probe_all

    def probe_all(every: set[gateways.Gateway]) -> dict[gateways.Gateway, bool]:
        annotate = ("annotate", "endpointslice,endpoints", names.SERVICE, "-n", scene.namespace)
        scene.plane.kubectl(*annotate, "example.com/by=others")
        return real(every)

    scene.programs[1].kill()
    monkeypatch.setattr(gateways, "probe_all", probe_all)
    scene.mark()
    assert scene.ready() == [True, False]
    for kind in ("endpointslice", "endpoints"):
        assert scene.object(kind)["metadata"]["annotations"]["example.com/by"] == "others"


def test_without_endpoints_the_slice_is_marked(scene: Scene) -> None:
    scene.plane.kubectl("delete", "endpoints", names.SERVICE, "-n", scene.namespace)
    scene.programs[0].kill()
    scene.mark()
    assert scene.object("endpointslice")["endpoints"][0]["conditions"]["ready"] is False
    scene.plane.kubectl("delete", "endpointslice", names.SERVICE, "-n", scene.namespace)
    scene.mark()


def test_kube_apiserver_looks_for_gateways_where_we_say(scene: Scene) -> None:
    """In EndpointSlices since 1.34, in Endpoints before; what the other kind has is nothing to it."""
    read, unread = kinds(scene.plane)
    scene.plane.kubectl("delete", unread, names.SERVICE, "-n", scene.namespace)
    scene.programs[0].kill()
    scene.mark()
    wait_for("kube-apiserver goes to the other gateway", scene.works)
    (again,) = (each for each in _objects(scene.namespace, "") if each["kind"] == unread)
    scene.plane.kubectl("create", "-f", "-", stdin=json.dumps(again))
    scene.plane.kubectl("delete", read, names.SERVICE, "-n", scene.namespace)
    wait_for("kube-apiserver finds no gateway", lambda: scene.plane.run("get", "--raw", DISCOVERY).returncode)


def _haproxy(directory: Path, address: str, bundle: Path, discovery: Path) -> Program:
    config = directory / f"{address}.cfg"
    config.write_text(CONFIG.format(address=address, port=PORT, bundle=bundle, discovery=discovery))
    command = ["haproxy", "-db", "-f", str(config)]

    def answers() -> bool:
        return gateways.is_up((address, PORT))

    return Program(f"haproxy {address}", command, directory / f"{address}.log", answers, {"PATH": PATH})


def _objects(namespace: str, bundle: str) -> Iterator[dict[str, Any]]:
    metadata = {"name": names.SERVICE, "namespace": namespace}
    port = {"name": "https", "port": PORT, "protocol": "TCP"}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": "https"}]},
    }
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {"kubernetes.io/service-name": names.SERVICE}},
        "addressType": "IPv4",
        "ports": [port],
        "endpoints": [{"addresses": [address]} for address in ADDRESSES],
    }
    yield {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": metadata | {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address} for address in ADDRESSES], "ports": [port]}],
    }
    yield {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "caBundle": bundle,
            "service": {"name": names.SERVICE, "namespace": namespace, "port": 443},
        },
    }


def _rights(namespace: str) -> Iterator[dict[str, Any]]:
    """Yield the controller's own role, in this namespace."""
    role = next(
        each for each in yaml.safe_load_all(ROLE.read_text()) if each["metadata"]["name"] == names.MANAGER
    )
    role["metadata"]["namespace"] = namespace
    yield role
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": names.MANAGER, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": names.MANAGER},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }
