"""A process in a real pod dies, and its whole core is in the store under its own name: through both doors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import arming, elfcore, store
from testbed import cgroups
from testbed.containerd import Containerd
from testbed.waiting import wait_for
from tests.support.crashing import CONTAINER_ID, crash, pod_cgroup
from tests.support.guard import NodeGuard, core_of, node_guard, record

pytestmark = pytest.mark.root


@pytest.fixture(params=["pipe", "socket"])
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NodeGuard]:
    """Return an armed guard at work, once for each door."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, request.param) as node:
        node.start()
        node.run("arm")
        yield node


def test_a_pods_crash_is_named_whole_and_delivered(
    guard: NodeGuard, runtime: Containerd, crash_image: str, crash_program: Path, tmp_path: Path
) -> None:
    pod = runtime.run_pod("shop", "basket-0")
    container = pod.start("app", crash_image, ["--fork", "--memory", "heap:16"])
    container.wait()
    dump = guard.wait_for_dump()
    found = record(dump)
    assert dump.relative_to(guard.store).parts == ("shop", pod.name.uid, "app", found.id)
    identity = found.identity
    assert (identity.namespace, identity.pod, identity.container) == ("shop", "basket-0", "app")
    assert (identity.poduid, identity.container_id) == (pod.name.uid, container.id)
    assert (identity.image, identity.restarts, identity.nested) == (crash_image, 0, False)
    assert (found.signal.name, found.signal.code, found.signal.address) == ("SIGSEGV", 1, "0x0")
    assert found.core.truncated is None
    core = core_of(dump)
    assert elfcore.parse(core).expected_bytes == len(core) > 16 << 20
    (tmp_path / "core").write_bytes(core)
    backtrace = subprocess.run(
        ["gdb", "-batch", "-ex", "bt", str(crash_program), str(tmp_path / "core")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    for function in ("fall", "step_two", "step_one", "work"):
        assert f" {function} (" in backtrace
    pod.stop()


def test_a_restarted_and_a_second_container_are_told_apart(
    guard: NodeGuard, runtime: Containerd, crash_image: str
) -> None:
    pod = runtime.run_pod("shop", "basket-1")
    for name in ("app", "app", "sidecar"):
        pod.start(name, crash_image, ["--fork"]).wait()
    wait_for("three dumps", lambda: len(guard.delivered()) == 3)
    seen = sorted((record(d).identity.container, record(d).identity.restarts) for d in guard.delivered())
    assert seen == [("app", 0), ("app", 1), ("sidecar", 0)]
    pod.stop()


def test_identity_needs_no_living_runtime(
    guard: NodeGuard, own_runtime: Containerd, crash_program: Path
) -> None:
    image = own_runtime.add_image(crash_program)
    pod = own_runtime.run_pod("shop", "orphan")
    container = pod.start("app", image, ["--fork", "--wait"])
    container.wait_for_log("ready")
    own_runtime.stop()
    os.kill(_child(container.pid), signal.SIGUSR1)
    identity = record(guard.wait_for_dump()).identity
    assert (identity.namespace, identity.pod, identity.container) == ("shop", "orphan", "app")


def test_a_host_network_pod_is_not_taken_for_its_host(
    guard: NodeGuard, runtime: Containerd, crash_image: str
) -> None:
    pod = runtime.run_pod("kube-system", "proxy")  # all pods of the testbed use the host's network and name
    container = pod.start("app", crash_image, ["--fork", "--wait"])
    container.wait_for_log("ready")
    hostname = subprocess.run(
        ["nsenter", "--uts", "--target", str(container.pid), "hostname"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.strip()
    assert hostname == os.uname().nodename
    os.kill(_child(container.pid), signal.SIGUSR1)
    assert record(guard.wait_for_dump()).identity.pod == "proxy"
    pod.stop()


def test_a_nested_cgroup_belongs_to_its_pod(guard: NodeGuard, runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("shop", "nested")
    container = pod.start("app", crash_image, ["--fork", "--wait"])
    container.wait_for_log("ready")
    child = _child(container.pid)
    cgroups.nest(container.cgroup, f"kubepods/pod{'e' * 32}", child)
    os.kill(child, signal.SIGUSR1)
    identity = record(guard.wait_for_dump()).identity
    assert (identity.pod, identity.poduid, identity.nested) == ("nested", pod.name.uid, True)
    pod.stop()


HOSTILE = 'a b/../\n\x1b[2J"%s'


def test_hostile_comm_is_data(guard: NodeGuard, runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("shop", "hostile")
    pod.start("app", crash_image, ["--fork", "--comm", HOSTILE]).wait()
    dump = guard.wait_for_dump()
    assert record(dump).process.comm == HOSTILE[:15]
    assert store.is_dump_id(dump.name)
    guard.stop()
    assert "\x1b" not in guard.log.read_text()
    assert all(line.startswith(("info:", "warning:")) for line in guard.log.read_text().splitlines())
    pod.stop()


def test_the_leader_thread_may_be_gone(guard: NodeGuard, runtime: Containerd, crash_image: str) -> None:
    pod = runtime.run_pod("shop", "headless")
    pod.start("app", crash_image, ["--fork", "--leader-exits"])
    dump = guard.wait_for_dump()
    found = record(dump)
    assert found.process.executable.endswith("crash")
    assert found.core.truncated is None
    assert b"crash" in (dump / "maps").read_bytes()
    pod.stop()


def test_a_container_without_a_name_is_kept_all_the_same(guard: NodeGuard, crash_program: Path) -> None:
    with pod_cgroup() as prefix:
        crash([crash_program], prefix)
        dump = guard.wait_for_dump()
    assert dump.parent == guard.store / store.UNIDENTIFIED / CONTAINER_ID
    assert record(dump).core.truncated is None


def test_a_process_killed_while_it_dumps_is_marked_truncated(guard: NodeGuard, crash_program: Path) -> None:
    with pod_cgroup() as prefix:
        assert guard.process is not None
        os.kill(guard.process.pid, signal.SIGSTOP)
        process = subprocess.Popen([*prefix, crash_program, "--memory", "random:64"])
        try:
            wait_for("the process dumps core", lambda: _core_dumping(process.pid))
            guard.process.send_signal(signal.SIGCONT)
            dumping = guard.spool / "incoming"
            wait_for("its core is drained", lambda: any(dumping.glob(f"*/{store.CORE}")))
            process.kill()
        finally:
            guard.process.send_signal(signal.SIGCONT)
            process.wait(timeout=60)
        dump = guard.wait_for_dump()
    found = record(dump)
    core = core_of(dump)
    expected = elfcore.parse(core).expected_bytes
    assert expected is not None
    # The kill may come late; what must hold is that the record tells the truth.
    assert (found.core.truncated is None) == (len(core) == expected)


def test_the_deadline_keeps_what_is_there(tmp_path: Path, crash_program: Path) -> None:
    with node_guard(tmp_path, "pipe", deadline=1) as node, pod_cgroup() as prefix:
        node.start()
        node.run("arm")
        assert node.process is not None
        command = [*prefix, str(crash_program), "--memory", "zero:200", "--wait"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            group = Path("/sys/fs/cgroup/freezer/coredump-guard-test")
            group.mkdir()
            (group / "cgroup.procs").write_text(str(process.pid))
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            node.process.send_signal(signal.SIGSTOP)  # else the core may be whole before it is frozen
            _crash_frozen(process, group)
            node.process.send_signal(signal.SIGCONT)
            dump = node.wait_for_dump()
        finally:
            node.process.send_signal(signal.SIGCONT)
            (group / "freezer.state").write_text("THAWED")
            process.kill()
            process.communicate(timeout=60)
            group.rmdir()
    truncated = record(dump).core.truncated
    assert truncated is not None
    core_of(dump)


def test_without_a_guard_the_doorman_captures_alone(tmp_path: Path, crash_program: Path) -> None:
    with node_guard(tmp_path, "pipe") as node, pod_cgroup() as prefix:
        node.start()
        node.run("arm")
        node.stop()
        crash([crash_program, "--memory", "heap:8"], prefix)
        waiting = wait_for("it is in the spool", lambda: sorted((node.spool / "ready").iterdir()))
        assert record(waiting[0]).capture.mode == "alone"
        node.start()
        dump = node.wait_for_dump()
        assert dump.name == waiting[0].name
        assert record(dump).core.truncated is None


def test_a_broken_configuration_costs_no_core(tmp_path: Path, crash_program: Path) -> None:
    with node_guard(tmp_path, "pipe") as node, pod_cgroup() as prefix:
        node.start()
        node.run("arm")
        node.stop()
        good = node.config.read_text()
        node.config.write_text("[guard\nnonsense")
        crash([crash_program], prefix)
        node.config.write_text(good)
        assert wait_for("it is in the spool", lambda: sorted((node.spool / "ready").iterdir()))


def test_a_log_that_cannot_be_written_costs_no_core(tmp_path: Path, crash_program: Path) -> None:
    with node_guard(tmp_path, "pipe") as node, pod_cgroup() as prefix:
        node.log.symlink_to("/dev/full")
        node.start()
        node.run("arm")
        for _ in range(4):  # more than there are workers
            crash([crash_program], prefix)
        wait_for("all are there", lambda: len(node.delivered()) == 4)


def test_a_disk_that_fills_up_keeps_what_fitted(tmp_path: Path, crash_program: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "spool", spool], check=True, timeout=30)
    try:
        with node_guard(tmp_path, "pipe") as node, pod_cgroup() as prefix:
            node.start()
            node.run("arm")
            crash([crash_program, "--memory", "random:16"], prefix)
            dump = node.wait_for_dump()
            node.stop()
    finally:
        subprocess.run(["umount", spool], check=True, timeout=30)
    truncated = record(dump).core.truncated
    assert truncated is not None
    assert "No space left" in truncated
    assert len(core_of(dump)) >= 1 << 20


def test_a_guard_of_the_socket_leaves_the_pipe_behind(tmp_path: Path, crash_program: Path) -> None:
    if not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, "socket") as node, pod_cgroup() as prefix:
        node.start()
        node.run("arm")
        node.stop()
        assert arming.current().core_pattern.startswith("|")
        crash([crash_program], prefix)
        node.start()
        assert record(node.wait_for_dump()).capture.mode == "alone"


def test_a_guard_that_hangs_is_not_waited_for(tmp_path: Path, crash_program: Path) -> None:
    with node_guard(tmp_path, "pipe") as node, pod_cgroup() as prefix:
        node.start()
        node.run("arm")
        assert node.process is not None
        node.process.send_signal(signal.SIGSTOP)
        try:
            crash([crash_program], prefix)
            waiting = wait_for("it is in the spool", lambda: sorted((node.spool / "ready").iterdir()))
        finally:
            node.process.send_signal(signal.SIGCONT)
        assert record(waiting[0]).core.truncated is None
        # Awake again, the guard finds the withdrawn offer: it must not have read from that core.
        wait_for("the guard is awake", lambda: node.status()["guard"])
        assert len(list((node.spool / "ready").iterdir())) + len(node.delivered()) == 1
        assert node.status()["guard"]["captured"] == 0


def test_without_isal_the_core_is_compressed_later(tmp_path: Path, crash_program: Path) -> None:
    hidden = tmp_path / "hidden" / "isal"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('no isal on this machine')\n")
    with node_guard(tmp_path, "pipe") as node, pod_cgroup() as prefix:
        node.environment["PYTHONPATH"] = str(hidden.parent)
        node.start()
        node.run("arm")
        crash([crash_program, "--memory", "heap:8"], prefix)
        dump = node.wait_for_dump()
    assert sorted(path.name for path in dump.iterdir() if path.name.startswith("core")) == [store.CORE]
    assert record(dump).core.stored_bytes < record(dump).core.bytes
    core_of(dump)


def test_what_the_record_says_of_memory_is_bounded(guard: NodeGuard, crash_program: Path) -> None:
    with pod_cgroup() as prefix:
        crash([crash_program, "--memory", "heap:256"], prefix)
        guard.wait_for_dump()
    assert guard.process is not None
    assert _peak_kib(guard.process.pid) <= 48 << 10


def test_status_tells_a_person(guard: NodeGuard, crash_program: Path) -> None:
    with pod_cgroup() as prefix:
        crash([crash_program], prefix)
        dump = guard.wait_for_dump()
    wait_for("the spool is empty", lambda: guard.status()["spool"]["dumps"] == 0)
    told = guard.run("status")
    assert told.returncode == 0
    assert len(told.stdout.splitlines()) <= 10
    assert "1 captured" in told.stdout
    assert dump.name in told.stdout
    machine = json.loads(guard.run("status", "--json").stdout)
    assert machine["guard"]["delivered"] == 1


def _child(pid: int) -> int:
    """Return the only child of a container's first process, which ignores signals itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return int(wait_for("the child", lambda: children.read_text().split())[0])


def _core_dumping(pid: int) -> bool:
    return "CoreDumping:\t1" in Path(f"/proc/{pid}/status").read_text()


def _crash_frozen(process: subprocess.Popen[bytes], group: Path) -> None:
    """Crash a process and freeze it while its core is being written."""
    process.send_signal(signal.SIGUSR1)
    wait_for("it dumps core", lambda: _core_dumping(process.pid))
    (group / "freezer.state").write_text("FROZEN")


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
