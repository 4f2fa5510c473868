"""The pods that other tests crash are what a kubelet would have made, and go without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from testbed import cgroups
from testbed.containerd import ROOTS, STATES, Containerd, containerd, sweep
from testbed.kernel import core_settings
from testbed.waiting import wait_for

pytestmark = pytest.mark.root

WAIT = ["--wait"]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mounts_below(directory: Path) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if f" {directory}" in line]


def test_cgroup_names_pod_and_container(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, WAIT)
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    paths = {line.split(":", 2)[2] for line in lines}
    assert paths == {f"/kubepods/besteffort/pod{pod.name.uid}/{container.id}"}
    pod.stop()


def test_monitor_knows_the_bundle(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, WAIT, {"COREDUMP_CAPTURE": "never"})
    monitor = parent(container.pid)
    sandbox_bundle = Path(f"/proc/{monitor}/cwd").readlink()
    assert sandbox_bundle == runtime.bundle(pod.id)
    spec = json.loads((sandbox_bundle.parent / container.id / "config.json").read_text())
    annotations = spec["annotations"]
    assert spec["linux"]["cgroupsPath"].endswith(container.id)
    assert annotations["io.kubernetes.cri.container-name"] == "app"
    assert annotations["io.kubernetes.cri.sandbox-name"] == "web"
    assert annotations["io.kubernetes.cri.sandbox-namespace"] == "demo"
    assert annotations["io.kubernetes.cri.image-name"] == crash_image
    assert "COREDUMP_CAPTURE=never" in spec["process"]["env"]
    pod.stop()


def test_log_lies_where_a_kubelet_has_it(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, WAIT)
    container.wait_for_log(" stdout F ready\n")
    assert container.log == Path(f"/var/log/pods/demo_web_{pod.name.uid}/app/0.log")
    pod.stop()


def test_restarted_container_counts(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    first = pod.start("app", crash_image, ["--bogus"])
    assert first.wait() == 2
    second = pod.start("app", crash_image, WAIT)
    assert second.id != first.id
    assert second.log.name == "1.log"
    pod.stop()


def test_crash_ends_the_container_with_the_signal(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, [*WAIT, "--memory", "heap:2", "--threads", "3"])
    container.wait_for_log("ready")
    with core_settings():
        os.kill(container.pid, signal.SIGUSR1)
        assert container.wait() == 128 + signal.SIGSEGV
    pod.stop()


def test_executes_in_the_container(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, WAIT)
    code, output = container.execute("/app/crash", "--bogus")
    assert code == 2
    assert "unrecognized option" in output
    pod.stop()


def test_process_with_a_hostile_comm(runtime: Containerd, crash_image: str) -> None:
    hostile = "a) R 1\n\x1b[31m \t"
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, ["--comm", hostile, "--signal", "17"])
    comm = Path(f"/proc/{container.pid}/comm")
    wait_for("the process takes its name", lambda: comm.read_text() == f"{hostile[:15]}\n")
    pod.stop()


def test_leader_may_exit_first(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, ["--leader-exits", "--signal", "17"])
    stat = Path(f"/proc/{container.pid}/stat")
    wait_for("the leader is a zombie", lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    assert len(list(Path(f"/proc/{container.pid}/task").iterdir())) == 2
    pod.stop()


def test_nested_cgroup(runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("demo", "web")
    container = pod.start("app", crash_image, WAIT)
    nested = cgroups.nest(container.cgroup, "docker/inner", container.pid)
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    assert {line.split(":", 2)[2] for line in lines} == {nested}
    assert nested == f"{container.cgroup}/docker/inner"
    pod.stop()


def test_pods_outlive_the_daemon_and_its_restart(own_runtime: Containerd, crash_program: Path) -> None:
    pod = own_runtime.run_pod("demo", "web")
    container = pod.start("app", own_runtime.add_image(crash_program), WAIT)
    own_runtime.stop()
    assert container.pid in cgroups.processes(container.cgroup)
    own_runtime.start()
    assert container.execute("/app/crash", "--bogus")[0] == 2


@pytest.mark.parametrize("stopped", [True, False], ids=["containerd stopped", "containerd running"])
def test_nothing_is_left(crash_program: Path, stopped: bool) -> None:
    with pytest.raises(ZeroDivisionError), containerd() as runtime:
        pod = runtime.run_pod("demo", "web")
        container = pod.start("app", runtime.add_image(crash_program), WAIT)
        cgroups.nest(container.cgroup, "docker", container.pid)
        shim = parent(container.pid)
        shim_socket = Path((runtime.bundle(pod.id) / "address").read_text().removeprefix("unix://"))
        if stopped:
            runtime.stop()
        raise ZeroDivisionError
    for pid in (shim, container.pid):
        assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    assert not cgroups.directories(pod.name.cgroup)
    assert not pod.name.logs.exists()
    assert not shim_socket.exists()
    for directory in (runtime.state, ROOTS / runtime.state.name):
        assert not directory.exists()
        assert not mounts_below(directory)


def test_next_run_cleans_up_after_a_killed_one(crash_program: Path) -> None:
    killed = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from testbed.containerd import containerd
        with containerd() as runtime:
            pod = runtime.run_pod("demo", "web")
            pod.start("app", runtime.add_image(Path({str(crash_program)!r})), ["--wait"])
            print(runtime.state, pod.name.uid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run(
        [sys.executable, "-c", killed],
        check=False,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    state, uid = done.stdout.split()
    assert state.startswith(f"{STATES}/")
    assert cgroups.processes(f"/kubepods/besteffort/pod{uid}")
    sweep()
    assert not cgroups.directories(f"/kubepods/besteffort/pod{uid}")
    assert not Path(state).exists()
    assert not mounts_below(Path(state))
