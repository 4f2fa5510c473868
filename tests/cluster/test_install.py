"""docs/install.md, pasted block by block into a cluster with nothing of the product, then docs/api.md."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_shim import names
from testbed.cluster import network
from testbed.cluster.controlplane import ControlPlane, delete_namespace, pod_manifest
from testbed.cluster.product import APISERVICE, MANIFESTS, ROOT
from testbed.cluster.program import PATH, built
from tests.support.document import Block, blocks, fits
from tests.support.dumps import announce, write_dump
from tests.support.sandbox import Sandbox, sandbox

INSTALL = ROOT / "docs/install.md"
API = ROOT / "docs/api.md"
CHECKOUT = ("handler", "shim", "manifests", "pyproject.toml", "README.md", "LICENSE")
GATEWAY = "192.0.2.11"
GROUP = 844
"""The document's."""


@pytest.fixture
def bare(plane: ControlPlane) -> Iterator[ControlPlane]:
    """Return a cluster that has nothing of the product, and afterwards has nothing either."""
    lo = ("dev", "lo")
    subprocess.run(["ip", "address", "add", f"{GATEWAY}/32", *lo], check=True)
    try:
        assert APISERVICE not in plane.kubectl("get", "apiservices")
        # A cluster without a single pod is none in use; its controller would not collect.
        plane.kubectl("apply", "-f", "-", stdin=pod_manifest("default", "somebody"))
        yield plane
    finally:
        subprocess.run(["ip", "address", "delete", f"{GATEWAY}/32", *lo], check=True)
        plane.run(
            "delete", "pod", "crashing", "somebody", "--ignore-not-found", "--grace-period=0", "--force"
        )
        plane.run("delete", "apiservice", APISERVICE, "--ignore-not-found")
        delete_namespace(plane, "demo")
        plane.run("delete", "-k", str(MANIFESTS / "api"), "--ignore-not-found", "--timeout=50s")


@pytest.fixture
def gateway(bare: ControlPlane, tmp_path: Path) -> Iterator[Sandbox]:
    """Return a gateway as the document begins with it: a mounted store, a checkout, kubectl."""
    with sandbox(tmp_path, [bare.directory]) as machine:
        checkout = machine.root / "opt/coredump-guard"
        for name in CHECKOUT:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            checkout.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, checkout / name)
        machine.run("mkdir -p /srv/cores && mount -t tmpfs -o mode=0700 tmpfs /srv/cores", os.environ)
        yield machine


def crash(plane: ControlPlane, store: Path, namespace: str, pod: str) -> None:
    """Do what the guard of a node does when a pod's container of the pod's name crashes."""
    found = json.loads(plane.kubectl("get", "pod", pod, "--namespace", namespace, "-o", "json"))
    where = {"namespace": namespace, "pod": pod, "poduid": found["metadata"]["uid"], "container": pod}
    dump = write_dump(store, executable="/bin/busybox", **where)
    for path in store.rglob("*"):
        shutil.chown(path, group=GROUP)
        path.chmod(0o750 if path.is_dir() else 0o640)
    announce(store, dump)


def crashed_in_demo(plane: ControlPlane, store: Path) -> None:
    """Make what docs/api.md speaks of: the pod demo/web, which has a dump, and an account."""
    plane.kubectl("create", "namespace", "demo")
    plane.wait_for_namespace("demo")
    plane.kubectl("apply", "-f", "-", stdin=pod_manifest("demo", "web"))
    plane.kubectl("create", "serviceaccount", "debugger", "--namespace", "demo")
    crash(plane, store, "demo", "web")


def paste(gateway: Sandbox, plane: ControlPlane, document: Path, block: Block) -> None:
    """Run a block, and compare what it prints with what the document says."""
    path = f"{built('kubectl').parent}:{PATH}:{os.environ['PATH']}"
    kubectl = {"PATH": path, "KUBECONFIG": plane.environment["KUBECONFIG"], "KUBECACHEDIR": "/tmp/kubectl"}
    registry = network.outside() if "pip install" in block.commands else contextlib.nullcontext()
    with registry:
        printed = gateway.run(block.commands, {**os.environ, **kubectl})
    if block.printed is not None:
        assert fits(printed, block.printed), f"{document}:{block.line} prints\n{printed}"


def test_the_documents_install_it_and_fetch_dumps(gateway: Sandbox, bare: ControlPlane) -> None:
    store = gateway.root / "srv/cores"
    for step in blocks(INSTALL.read_text()):
        paste(gateway, bare, INSTALL, step)
        if "kubectl run" in step.commands:
            crash(bare, store, "default", "crashing")
        if "sha256sum" in step.commands:
            crashed_in_demo(bare, store)
            for block in blocks(API.read_text()):
                paste(gateway, bare, API, block)
    assert names.SYSTEM_NAMESPACE not in bare.kubectl("get", "namespaces")
