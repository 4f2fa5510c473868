"""One real cluster for all tests of a run, and a fresh namespace for each that wants one."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coredump_guard.store import CLUSTER
from testbed import programs
from testbed.cluster import network, program
from testbed.cluster.controlplane import ControlPlane, control_plane, delete_namespace
from testbed.cluster.guard import guard
from testbed.cluster.node import Node
from testbed.cluster.node import node as running_node
from testbed.waiting import wait_for
from tests.support import leftovers

if TYPE_CHECKING:
    from testbed.cluster.product import Product

NEEDED = ("etcd", "haproxy", "openssl", "ip", "setpriv")
_number = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where a cluster cannot be, and say so.

    What installs the product by itself comes first, while nobody else has. What needs a node comes last:
    it holds the machine's core settings from then on.
    """
    items.sort(key=lambda item: _needs(item, "node") - _needs(item, "bare"))
    missing = [name for name in NEEDED if shutil.which(name, path=program.PATH) is None]
    reason = "needs root" if os.geteuid() else f"missing: {', '.join(missing)}; tools/install cluster"
    if os.geteuid() or missing:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


def _needs(item: pytest.Item, fixture: str) -> bool:
    return fixture in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a failure show the end of each program's log."""
    report = yield
    if report.failed:
        report.sections += [(f"end of the log of {name}", tail) for name, tail in program.tails().items()]
    return report


@pytest.fixture(scope="session", autouse=True)
def _cluster_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run if the cluster leaves a process, a mount or a changed core setting behind."""
    directory = tmp_path_factory.getbasetemp()
    before = leftovers.look(directory)
    yield
    left = leftovers.since(before, directory)
    with contextlib.suppress(TimeoutError):
        wait_for("the cluster's network is empty", lambda: not network.inhabitants(), leftovers.GRACE)
    left += [f"process {pid} in its network" for pid in network.inhabitants()]
    if left:
        pytest.fail("left behind: " + "; ".join(left))


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test that leaves something behind; the cluster's own programs it may start anew."""
    directory = tmp_path_factory.getbasetemp()
    before = leftovers.look(directory, program.running)
    yield
    left = leftovers.since(before, directory, program.running)
    if left:
        pytest.fail("left behind: " + "; ".join(left))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return the control plane that all tests share; whoever stops a part of it starts it again."""
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store that the product serves; tests keep to their own namespaces in it."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def product(plane: ControlPlane, store: Path) -> Iterator[Product]:
    """Return the product, installed in the shared cluster; whoever stops a part of it starts it again."""
    from testbed.cluster.product import installed  # noqa: PLC0415 - tests of the control plane alone need none

    # As the first crash of a pod that is there would have it: tests have dumps of pods that never were.
    uid = plane.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    (store / CLUSTER).write_text(f"{uid}\n")
    with installed(plane, store) as running:
        yield running


@pytest.fixture(scope="session")
def node(plane: ControlPlane, store: Path) -> Iterator[Node]:
    """Return the node that all tests share, with a guard that delivers to the store."""
    with running_node(plane) as ready, guard(ready.directory / "guard", store):
        yield ready


@pytest.fixture(scope="session")
def crash_image(node: Node) -> str:
    """Return the image of testbed/programs/crash.c, whose head says what it can do, on the node."""
    return node.runtime.add_image(programs.program("crash"))


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """Return the name of a namespace in which pods can be created; afterwards it is deleted."""
    name = f"test-{next(_number)}"
    plane.kubectl("create", "namespace", name)
    plane.wait_for_namespace(name)
    yield name
    delete_namespace(plane, name, wait=False)
