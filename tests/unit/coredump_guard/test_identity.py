"""Whose process it was, from a /proc and a node that are laid out below tmp_path."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coredump_guard.identity import BUNDLE_LIMIT, _exiting, identify
from coredump_guard.process import Process
from coredump_guard.record import Identity

UID = "4a3f1b52-8f3d-4b0e-9f60-0d9f6f1f2a11"
C = "c0ffee" + "0" * 58
OTHER = "deadbeef" + "1" * 56
IN_POD = f"0::/kubepods/burstable/pod{UID}/{C}"
CRASHED, MONITOR = 300, 200
NAMES = {
    "io.kubernetes.cri.sandbox-namespace": "demo",
    "io.kubernetes.cri.sandbox-name": "web",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "registry.example/app:1",
}


class Node:
    """A node below a directory: its processes in /proc, its files in /."""

    def __init__(self, path: Path) -> None:
        self.proc, self.root = path / "proc", path / "root"
        self.bundles = path / "state"
        self.sandbox = self.bundles / ("5" * 64)
        for directory in (self.proc, self.root, self.sandbox):
            directory.mkdir(parents=True)

    def process(self, pid: int, parent: int, cgroup: str, argv: list[str] | None = None) -> Path:
        directory = self.proc / str(pid)
        directory.mkdir()
        (directory / "cgroup").write_text(cgroup + "\n")
        (directory / "status").write_text(f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\n")
        (directory / "stat").write_text(f"{pid} (a) Z 0 ({parent}) S {parent} 1 1 0 -1 4194304 0 0\n")
        (directory / "cmdline").write_bytes(b"".join(part.encode() + b"\0" for part in argv or []))
        (directory / "exe").symlink_to("/bin/x")
        (directory / "cwd").symlink_to(self.sandbox)
        (directory / "root").symlink_to(self.root)
        return directory

    def crashed(self, monitor_argv: list[str] | None = None) -> None:
        """Put a crashed process there, below a monitor that is systemd's child."""
        self.process(MONITOR, 1, "0::/system.slice/containerd.service", monitor_argv)
        self.process(CRASHED, MONITOR, IN_POD)

    def bundle(self, annotations: object, container_id: str = C, named: str = C) -> Path:
        config = self.bundles / container_id / "config.json"
        config.parent.mkdir()
        spec = {"linux": {"cgroupsPath": f"kubepods-burstable-podx.slice:cri-containerd:{named}"}}
        config.write_text(json.dumps({**spec, "annotations": annotations}))
        return config

    def docker(self, content: object) -> None:
        self.file(f"var/lib/docker/containers/{C}/config.v2.json", json.dumps(content))

    def log(self, container: str, name: str = "0.log", pod: str = "web") -> None:
        self.file(f"var/log/pods/demo_{pod}_{UID}/{container}/{name}", "")

    def file(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def identify(self, root: str = "") -> Identity | None:
        with Process(str(self.proc), CRASHED) as held:
            return identify(held, root)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def known(**names: Any) -> Identity:
    return Identity(poduid=UID, container_id=C, **names)


WEB = known(namespace="demo", pod="web", container="app")


def test_a_host_process_has_no_identity(node: Node) -> None:
    node.process(CRASHED, 1, "0::/system.slice/ssh.service")
    assert node.identify() is None


@pytest.mark.parametrize(
    "stat", ["300 (x) S 1 1 1 0 -1 4194308 0\n", "300 (x) Z 1 1 1 0 -1 4227084 0\n", "", None]
)
def test_a_process_that_exits_is_not_taken_for_a_hosts(node: Node, stat: str | None) -> None:
    """Cgroup v1 shows it in the root of every hierarchy, whatever it was in before."""
    file = node.process(CRASHED, 1, "4:memory:/\n0::/") / "stat"
    file.unlink() if stat is None else file.write_text(stat)
    assert node.identify() == Identity()


def test_the_kernel_sets_the_flag_of_a_process_that_exits() -> None:
    """A zombie is the only one that can be looked at for long."""
    with subprocess.Popen(["sleep", "60"]) as child, Process("/proc", child.pid) as held:
        living = _exiting(held)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert (living, _exiting(held)) == (False, True)


def test_the_monitor_itself_is_the_hosts(node: Node) -> None:
    node.process(CRASHED, 1, f"0::/kubepods.slice/kubepods-pod{UID}.slice/crio-conmon-{C}.scope")
    assert node.identify() is None


def test_without_any_source_the_cgroup_is_what_is_known(node: Node) -> None:
    node.crashed()
    assert node.identify() == known()


def test_a_pod_without_a_container_is_known_by_its_uid(node: Node) -> None:
    node.process(CRASHED, 1, f"0::/kubepods/burstable/pod{UID}")
    assert node.identify() == Identity(poduid=UID)


def test_an_unreadable_cgroup_raises(node: Node) -> None:
    (node.process(CRASHED, 1, IN_POD) / "cgroup").unlink()
    with pytest.raises(OSError, match="cgroup"):
        node.identify()


def test_containerd_bundle(node: Node) -> None:
    node.crashed()
    node.bundle(NAMES)
    assert node.identify() == known(
        namespace="demo", pod="web", container="app", image="registry.example/app:1"
    )


@pytest.mark.parametrize(
    "keys",
    [
        ("io.kubernetes.cri-o.Namespace", "io.kubernetes.cri-o.KubeName", "io.kubernetes.container.name"),
        ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"),
    ],
)
def test_crio_bundle(node: Node, keys: tuple[str, str, str]) -> None:
    node.crashed()
    node.bundle(dict(zip(keys, ("demo", "web", "app"))) | {"io.kubernetes.cri-o.ImageName": "app:2"})
    assert node.identify() == known(namespace="demo", pod="web", container="app", image="app:2")


def test_crio_conmon_arguments(node: Node) -> None:
    name = f"k8s_app_web_demo_{UID}_7"
    node.crashed(["/usr/bin/conmon", "-b", "/run/x", "-c", C, "-n", name, "-l", "/var/log/pods/x/7.log"])
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=7)


def test_docker(node: Node) -> None:
    node.crashed()
    labels = {"annotation.io.kubernetes.container.image": "app:3"}
    node.docker({"Name": f"/k8s_app_web_demo_{UID}_2", "Config": {"Labels": labels}})
    assert node.identify() == known(namespace="demo", pod="web", container="app", image="app:3", restarts=2)


def test_log_directory_of_the_only_container(node: Node) -> None:
    node.crashed()
    node.log("app", "3.log")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=3)


def test_restart_count_is_the_newest_log(node: Node) -> None:
    node.crashed()
    for name in ("9.log", "10.log", "8.log", "11.log.20260101-000000.gz", "x.log", "-1.log"):
        node.log("app", name)
    found = node.identify()
    assert found is not None
    assert found.restarts == 10


def test_which_of_several_containers_is_told_by_the_link(node: Node) -> None:
    node.crashed()
    for container in ("app", "sidecar", "init"):
        node.log(container, "1.log")
    node.file(f"var/log/containers/web_demo_app-{OTHER}.log", "")
    node.file(f"var/log/containers/web_demo_sidecar-{C}.log", "")
    assert node.identify() == known(namespace="demo", pod="web", container="sidecar", restarts=1)


def test_several_containers_without_a_link_leave_the_container_unknown(node: Node) -> None:
    node.crashed()
    node.log("app")
    node.log("sidecar")
    node.file(f"var/log/containers/web_demo_app-{OTHER}.log", "")
    assert node.identify() == known(namespace="demo", pod="web")


def test_another_pods_log_directory_is_not_taken(node: Node) -> None:
    node.crashed()
    node.file(f"var/log/pods/demo_other_{UID[:-1]}0/app/0.log", "")
    assert node.identify() == known()


def test_sources_complete_each_other(node: Node) -> None:
    node.crashed()
    node.bundle(NAMES)
    node.log("app", "4.log")
    found = node.identify()
    assert found is not None
    assert (found.image, found.restarts) == ("registry.example/app:1", 4)


def test_what_is_believed_first_is_not_replaced(node: Node) -> None:
    node.crashed(["conmon", "-n", f"k8s_conmon_web_demo_{UID}_1"])
    node.bundle({**NAMES, "io.kubernetes.cri.container-name": "bundle"})
    node.docker({"Name": f"/k8s_docker_web_demo_{UID}_2"})
    node.log("log", "3.log")
    found = node.identify()
    assert found is not None
    assert (found.container, found.restarts) == ("conmon", 1)
    (node.proc / str(MONITOR) / "cmdline").write_bytes(b"containerd-shim\0")
    found = node.identify()
    assert found is not None
    assert (found.container, found.restarts) == ("bundle", 2)


def test_the_ids_of_the_cgroup_are_never_replaced(node: Node) -> None:
    node.crashed(["conmon", "-n", f"k8s_app_web_demo_{'0' * 32}_1"])
    found = node.identify()
    assert found is not None
    assert (found.poduid, found.container_id) == (UID, C)


def test_a_bundle_of_another_container_is_not_believed(node: Node) -> None:
    node.crashed()
    node.bundle(NAMES, named=OTHER)
    assert node.identify() == known()


@pytest.mark.parametrize(
    "names",
    [
        {"io.kubernetes.cri.sandbox-namespace": "../../etc"},
        {"io.kubernetes.cri.sandbox-namespace": "Demo"},
        {"io.kubernetes.cri.sandbox-namespace": "x" * 64},
        {"io.kubernetes.cri.sandbox-namespace": "demo\n"},
        {"io.kubernetes.cri.sandbox-name": "web/../.."},
        {"io.kubernetes.cri.sandbox-name": "w\0b"},
        {"io.kubernetes.cri.container-name": ".."},
        {"io.kubernetes.cri.container-name": ["app"]},
        {"io.kubernetes.cri.container-name": None},
    ],
)
def test_cve_2021_3710_ill_formed_names_are_never_taken(node: Node, names: dict[str, object]) -> None:
    node.crashed()
    node.bundle(names)
    assert node.identify() == known()


BAD_JSON = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"linux": {}}',
    '{"linux": []}',
    '{"linux": {"cgroupsPath": null}}',
    json.dumps({"linux": {"cgroupsPath": C}, "annotations": [1]}),
    json.dumps({"linux": {"cgroupsPath": C}, "annotations": "io.kubernetes.cri.sandbox-name"}),
    "[" * 100_000,
    "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
]


@pytest.mark.parametrize("text", BAD_JSON)
def test_a_bundle_that_is_not_what_it_should_be_leaves_the_next_source(node: Node, text: str) -> None:
    node.crashed()
    node.bundle({}).write_text(text)
    node.log("app")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=0)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"Name": 5, "Config": null}', '{"Config": {"Labels": [1]}}']
)
def test_a_docker_file_that_is_not_what_it_should_be_leaves_the_next_source(node: Node, text: str) -> None:
    node.crashed()
    node.file(f"var/lib/docker/containers/{C}/config.v2.json", text)
    node.log("app")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=0)


@pytest.mark.parametrize(
    "name",
    ["", "-n", "k8s_app_web_demo", f"k8s_app_web_demo_{UID}_x", f"k8s_a_b_c_d_{UID}_1", "k8s_____1", "\n"],
)
def test_arguments_that_name_no_container_leave_the_next_source(node: Node, name: str) -> None:
    node.crashed(["conmon", "-n", name])
    node.log("app", "5.log")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=5)


def test_arguments_that_end_before_the_name(node: Node) -> None:
    node.crashed()
    (node.proc / str(MONITOR) / "cmdline").write_bytes(b"conmon\0-n")
    node.log("app")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=0)


def test_cve_2021_32547_a_symlinked_bundle_is_not_followed(node: Node, tmp_path: Path) -> None:
    node.crashed()
    config = node.bundle(NAMES)
    config.rename(tmp_path / "elsewhere.json")
    config.symlink_to(tmp_path / "elsewhere.json")
    assert node.identify() == known()


def test_cve_2021_25684_a_fifo_in_place_of_a_bundle_does_not_block(node: Node) -> None:
    node.crashed()
    config = node.bundle(NAMES)
    config.unlink()
    os.mkfifo(config)
    assert node.identify() == known()


def test_of_a_huge_bundle_only_the_limit_is_read(node: Node) -> None:
    node.crashed()
    config = node.bundle(NAMES)
    with config.open("ab") as file:
        file.truncate(BUNDLE_LIMIT + (1 << 40))
    node.log("app")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=0)


def test_the_nodes_root_can_be_given(node: Node, tmp_path: Path) -> None:
    node.crashed()
    (node.proc / str(MONITOR) / "root").unlink()
    node.log("app")
    assert node.identify() == known()
    assert node.identify(str(node.root)) == known(namespace="demo", pod="web", container="app", restarts=0)


def test_the_monitor_is_found_above_a_nested_container(node: Node) -> None:
    node.process(MONITOR, 1, "0::/system.slice/containerd.service")
    node.process(250, MONITOR, IN_POD)
    node.process(260, 250, f"{IN_POD}/docker")
    node.process(CRASHED, 260, f"{IN_POD}/docker/{OTHER}")
    node.bundle(NAMES)
    found = node.identify()
    assert found is not None
    assert (found.container, found.container_id, found.nested) == ("app", C, True)


def test_the_monitor_is_found_above_the_pods_shared_init(node: Node) -> None:
    """With shareProcessNamespace a daemon's parent is the sandbox's pause, which is no monitor."""
    node.process(MONITOR, 1, "0::/system.slice/containerd.service")
    pause = node.process(250, MONITOR, f"0::/kubepods/burstable/pod{UID}/{'5' * 64}")
    for link in ("root", "cwd"):
        (pause / link).unlink()
    node.process(CRASHED, 250, IN_POD)
    node.bundle(NAMES)
    node.log("app", "2.log")
    assert node.identify() == known(
        namespace="demo", pod="web", container="app", image="registry.example/app:1", restarts=2
    )


def test_conmon_in_its_own_scope_of_the_pod_is_the_monitor(node: Node) -> None:
    scope = f"0::/kubepods.slice/kubepods-pod{UID}.slice/crio"
    node.process(MONITOR, 1, f"{scope}-conmon-{C}.scope", ["conmon", "-n", f"k8s_app_web_demo_{UID}_0"])
    node.process(CRASHED, MONITOR, f"{scope}-{C}.scope")
    assert node.identify() == known(namespace="demo", pod="web", container="app", restarts=0)


def test_a_parent_that_has_gone_costs_the_monitor_only(node: Node) -> None:
    node.process(CRASHED, 12345, IN_POD)
    node.log("app")
    assert node.identify(str(node.root)) == known(namespace="demo", pod="web", container="app", restarts=0)


def test_parents_that_form_a_ring_end_the_search(node: Node) -> None:
    node.process(CRASHED, 250, IN_POD)
    node.process(250, CRASHED, IN_POD)
    assert node.identify() == known()


CAPTURE = [
    (["PATH=/bin", "COREDUMP_CAPTURE=never"], "never"),
    (["COREDUMP_CAPTURE=always"], "always"),
    (["COREDUMP_CAPTURE=never", "COREDUMP_CAPTURE=always"], "always"),
    (["COREDUMP_CAPTURE="], ""),
    (["COREDUMP_CAPTURE=Never"], ""),
    (["COREDUMP_CAPTURE=never "], ""),
    (["COREDUMP_CAPTURE_=never", "X=COREDUMP_CAPTURE=never"], ""),
    (["COREDUMP_CAPTURE"], ""),
    ([7, None, {}], ""),
    ([], ""),
    (None, ""),
    (7, ""),
]


@pytest.mark.parametrize(("environment", "wish"), CAPTURE)
def test_the_pods_spec_says_whether_it_is_captured(node: Node, environment: object, wish: str) -> None:
    node.crashed()
    bundle = node.bundle(NAMES)
    spec = json.loads(bundle.read_text())
    bundle.write_text(json.dumps({**spec, "process": {"env": environment}}))
    found = node.identify()
    assert found is not None
    assert (found.namespace, found.capture) == ("demo", wish)


def test_what_a_pods_spec_says_wrongly_is_told(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.crashed()
    bundle = node.bundle(NAMES)
    spec = json.loads(bundle.read_text())
    environment = ["SECRET=hunter2", "COREDUMP_CAPTURE=no\n"]
    bundle.write_text(json.dumps({**spec, "process": {"env": environment}}))
    node.identify()
    said = capsys.readouterr().err
    assert said == (
        'warning: COREDUMP_CAPTURE in a pod\'s spec is neither never nor always, and ignored value="no\\n"\n'
    )


def test_docker_says_it_too(node: Node) -> None:
    node.crashed()
    node.docker({"Name": f"/k8s_app_web_demo_{UID}_3", "Config": {"Env": ["COREDUMP_CAPTURE=never"]}})
    assert node.identify() == replace(WEB, restarts=3, capture="never")


def test_cri_os_bundle_is_the_one_that_conmon_names(node: Node) -> None:
    bundle = "/run/containers/storage/overlay-containers/x/userdata"
    node.crashed(["conmon", "-b", bundle, "-n", f"k8s_app_web_demo_{UID}_2"])
    spec = {"linux": {"cgroupsPath": f"x.slice:crio:{C}"}, "process": {"env": ["COREDUMP_CAPTURE=always"]}}
    node.file(f"{bundle[1:]}/config.json", json.dumps(spec))
    assert node.identify() == replace(WEB, restarts=2, capture="always")


def test_another_containers_bundle_says_nothing(node: Node) -> None:
    node.crashed(["conmon", "-b", "/bundle", "-n", f"k8s_app_web_demo_{UID}_2"])
    spec = {"linux": {"cgroupsPath": f"x.slice:crio:{OTHER}"}, "process": {"env": ["COREDUMP_CAPTURE=never"]}}
    node.file("bundle/config.json", json.dumps(spec))
    assert node.identify() == replace(WEB, restarts=2)
