"""What a record tells of real crashes: threads, modules, the one that fell, the container's last words."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.containerd import Containerd
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root


@pytest.fixture(params=["pipe", "socket"])
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NodeGuard]:
    modes = Path("/proc/sys/kernel/core_modes")
    if request.param == "socket" and not (modes.exists() and "socket" in modes.read_text()):
        pytest.skip("missing: coredump sockets, Linux 6.17")
    with node_guard(tmp_path, request.param, metadata__environ="yes") as guard:
        guard.start()
        guard.run("arm")
        yield guard


def test_a_pods_thread_crashes(guard: NodeGuard, runtime: Containerd, crash_image: str) -> None:
    """In a PID namespace of its own: the socket does not name the thread, the core does by another number."""
    pod = runtime.run_pod("demo", "web")
    container = pod.start(
        "app", crash_image, ["--wait", "--threads", "3", "--thread-crashes"], {"SECRET": "x=1"}
    )
    container.wait_for_log("ready")
    pid = container.pid
    os.kill(pid, signal.SIGUSR1)
    dump = guard.wait_for_dump()
    told = record(dump)
    names = {thread.tid: thread.name for thread in told.threads}
    assert told.process.tid != told.process.pid == pid
    assert names[told.process.tid or 0] == "falling"
    assert (len(names), told.process.threads, told.process.comm) == (5, 5, "crash")
    assert [module.path for module in told.modules] == ["/app/crash"]
    assert (told.signal.name, told.signal.code, told.signal.address) == ("SIGSEGV", 1, "0x0")
    assert (told.identity.image, told.identity.restarts) == (crash_image, 0)
    assert b"SECRET=x=1" in (dump / "environ").read_bytes().split(b"\0")
    assert (dump / "log").read_bytes().endswith(b" stdout ready\n")
    assert told.files == sorted(["auxv", "cgroup", "environ", "limits", "log", "maps", "mountinfo", "status"])
    pod.stop()


def test_where_the_leader_has_exited(guard: NodeGuard, crash_program: Path) -> None:
    with pod_cgroup() as prefix:
        crash([crash_program, "--leader-exits"], prefix)
    told = record(guard.wait_for_dump())
    assert told.process.tid != told.process.pid
    assert [module.path for module in told.modules] == [str(crash_program)]
    assert "falling" in {thread.name for thread in told.threads if thread.tid == told.process.tid}
    build_id = told.modules[0].build_id
    path = guard.store / ".debug" / ".build-id" / build_id[:2] / build_id[2:]
    wait_for("the executable is stored", lambda: path.exists() or None)
    assert path.read_bytes() == crash_program.read_bytes()


def test_more_segments_than_a_header_can_count(guard: NodeGuard, crash_program: Path) -> None:
    limit = Path("/proc/sys/vm/max_map_count")
    before = limit.read_text()
    limit.write_text("200000")
    try:
        with pod_cgroup() as prefix:
            crash([crash_program, "--segments", "66000"], prefix)
    finally:
        limit.write_text(before)
    told = record(guard.wait_for_dump())
    assert told.core.truncated is None
    assert told.process.tid == told.process.pid
    assert (told.signal.name, told.signal.code, told.signal.address) == ("SIGSEGV", 1, "0x0")
    assert told.modules[0].path == str(crash_program)
