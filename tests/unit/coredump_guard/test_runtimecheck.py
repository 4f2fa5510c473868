"""The doctor's check of the runtime's files, on a /proc and a node that are laid out below tmp_path."""

from __future__ import annotations

from pathlib import Path

import pytest

from coredump_guard import runtimecheck
from coredump_guard.config import Config

from .test_identity import CRASHED, IN_POD, MONITOR, NAMES, OTHER, UID, C, Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


def test_a_pod_that_is_named(config: Config, node: Node) -> None:
    node.crashed()
    node.bundle(NAMES)
    found = runtimecheck.runtime(config, str(node.proc))
    assert (found.state, found.found) == ("ok", "names demo/web/app from files")


def test_a_pod_that_is_not_named(config: Config, node: Node) -> None:
    node.crashed()
    found = runtimecheck.runtime(config, str(node.proc))
    missing = "namespace, pod, container unknown"
    assert (found.state, found.found) == (
        "warning",
        f"process {CRASHED} of pod {UID} cannot be named: {missing}",
    )
    assert "/var/log/pods" in found.remedy


def test_one_pod_that_is_named_does_not_hide_another(config: Config, node: Node) -> None:
    node.crashed()
    node.bundle(NAMES)
    node.process(CRASHED + 1, MONITOR, IN_POD.replace(C, OTHER))
    found = runtimecheck.runtime(config, str(node.proc))
    assert (found.state, f"process {CRASHED + 1} " in found.found) == ("warning", True)


def test_a_sandbox_is_no_container(config: Config, node: Node) -> None:
    node.crashed()
    (node.proc / str(CRASHED) / "comm").write_text("pause\n")
    assert runtimecheck.runtime(config, str(node.proc)).found == "no pod runs here"


def test_where_no_pod_runs(config: Config, node: Node) -> None:
    node.process(MONITOR, 1, "0::/system.slice/containerd.service")
    (node.process(CRASHED, 1, IN_POD) / "cgroup").unlink()  # it ended meanwhile
    found = runtimecheck.runtime(config, str(node.proc))
    assert (found.state, found.found) == ("ok", "no pod runs here")
