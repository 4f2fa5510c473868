"""docs/install.md, pasted block by block into a cluster that has nothing of the product yet."""

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
from testbed.cluster.controlplane import ControlPlane, pod_manifest
from testbed.cluster.product import APISERVICE, MANIFESTS, ROOT
from testbed.cluster.program import PATH, built
from tests.support.document import Block, blocks, fits
from tests.support.dumps import announce, write_dump
from tests.support.sandbox import Sandbox, sandbox

DOCUMENT = ROOT / "docs/install.md"
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


def crash(plane: ControlPlane, store: Path) -> None:
    """Do what the guard of a node does when the document's pod crashes."""
    pod = json.loads(plane.kubectl("get", "pod", "crashing", "-o", "json"))["metadata"]
    where = {"namespace": pod["namespace"], "pod": pod["name"], "poduid": pod["uid"]}
    dump = write_dump(store, container="crashing", executable="/bin/busybox", **where)
    for path in store.rglob("*"):
        shutil.chown(path, group=GROUP)
        path.chmod(0o750 if path.is_dir() else 0o640)
    announce(store, dump)


def paste(gateway: Sandbox, plane: ControlPlane, block: Block) -> None:
    """Run a block, and compare what it prints with what the document says."""
    path = f"{built('kubectl').parent}:{PATH}:{os.environ['PATH']}"
    kubectl = {"PATH": path, "KUBECONFIG": plane.environment["KUBECONFIG"], "KUBECACHEDIR": "/tmp/kubectl"}
    registry = network.outside() if "pip install" in block.commands else contextlib.nullcontext()
    with registry:
        printed = gateway.run(block.commands, {**os.environ, **kubectl})
    if block.printed is not None:
        assert fits(printed, block.printed), f"{DOCUMENT}:{block.line} prints\n{printed}"


def test_the_document_installs_and_fetches_a_dump(gateway: Sandbox, bare: ControlPlane) -> None:
    for block in blocks(DOCUMENT.read_text()):
        paste(gateway, bare, block)
        if "kubectl run" in block.commands:
            crash(bare, gateway.root / "srv/cores")
    assert names.SYSTEM_NAMESPACE not in bare.kubectl("get", "namespaces")
