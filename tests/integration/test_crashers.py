"""Processes that make it hard to dump them: each core is whole, or says why not; through both doors.

One guard for each door serves all of them; each crashes in a pod of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import arming, elfcore, journal
from testbed import controllers, programs
from testbed.kernel import SETTINGS
from testbed.waiting import wait_for
from tests.support.crashing import pod_cgroup
from tests.support.guard import NodeGuard, core_of, node_guard, record

pytestmark = pytest.mark.root

PATTERN, _, SUID_DUMPABLE = SETTINGS
MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
NS_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
DEADLINE = 60


@pytest.fixture(scope="module", params=["pipe", "socket"])
def guard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGuard]:
    """Return an armed guard at work, once for each door."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path_factory.mktemp(request.param), request.param, deadline=DEADLINE) as node:
        node.start()
        node.run("arm")
        yield node


@dataclass(frozen=True)
class Pod:
    """A pod's cgroup: its container's id, and the command prefix that enters it."""

    container_id: str
    enter: list[str]

    def start(self, *command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program that says "ready" when it is, and wait until it has."""
        process = subprocess.Popen([*self.enter, *command], stdout=subprocess.PIPE, **options)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 30)[0], "not ready in time"
        assert process.stdout.readline() == b"ready\n"
        return process

    def crash(self, *command: str | Path, **options: Any) -> int:
        """Run a program that dies by a signal, and return the process's id."""
        process = subprocess.Popen([*self.enter, *command], **options)
        assert ended(process) < 0
        return process.pid

    def dump(self, guard: NodeGuard, seconds: float = 30) -> Path:
        """Wait until its only dump is in the store, and return the directory."""
        return guard.wait_for_dump(lambda found: found.identity.container_id == self.container_id, seconds)


@contextmanager
def new_pod() -> Iterator[Pod]:
    container_id = uuid.uuid4().hex * 2
    with pod_cgroup(container_id, str(uuid.uuid4())) as enter:
        yield Pod(container_id, enter)


@pytest.fixture
def pod() -> Iterator[Pod]:
    """Return a pod of the test's own."""
    with new_pod() as made:
        yield made


def ended(process: subprocess.Popen[bytes], seconds: float = 60) -> int:
    """Wait for a process and return its status, negative for a signal."""
    try:
        return process.wait(seconds)
    finally:
        process.kill()
        process.wait(60)
        if process.stdout:
            process.stdout.close()


def whole(dump: Path) -> bytes:
    """Return a dump's core, which neither is cut nor says so."""
    core = core_of(dump)
    assert record(dump).core.truncated is None
    assert elfcore.parse(core).expected_bytes == len(core)
    return core


def cut(dump: Path) -> str:
    """Return why a dump's core is cut, which it must be as well as say."""
    found, core = record(dump), core_of(dump)
    expected = elfcore.parse(core).expected_bytes
    assert expected is not None
    assert len(core) < expected
    assert found.core.truncated
    return found.core.truncated


@contextmanager
def stopped(guard: NodeGuard) -> Iterator[None]:
    """Keep the guard from doing anything."""
    assert guard.process is not None
    guard.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        guard.process.send_signal(signal.SIGCONT)


@contextmanager
def dumping(guard: NodeGuard, pod: Pod, program: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process a part of whose core has been read, and most has not."""
    process = subprocess.Popen([*pod.enter, program, "--memory", "random:256"])

    def begun() -> bool:
        return any(core.stat().st_size > 1 << 20 for core in (guard.spool / "incoming").glob("*/core*"))

    try:
        wait_for("a part of the core is there", begun)
        yield process
    finally:
        process.kill()
        process.wait(60)


def is_dumping(process: subprocess.Popen[bytes]) -> bool:
    return "CoreDumping:\t1" in Path(f"/proc/{process.pid}/status").read_text()


def test_killed_while_it_is_dumped(guard: NodeGuard, pod: Pod, crash_program: Path) -> None:
    with dumping(guard, pod, crash_program) as process, stopped(guard):
        assert is_dumping(process)
        process.kill()
        process.wait(60)
    assert cut(pod.dump(guard)).startswith("the kernel sent ")


@pytest.mark.parametrize("version", [1, 2])
def test_frozen_while_it_is_dumped(guard: NodeGuard, pod: Pod, crash_program: Path, version: int) -> None:
    freezer = controllers.FREEZER if version == 1 else controllers.unified()
    if freezer is None or not freezer.is_dir():
        pytest.skip(f"this machine has no freezer of cgroup v{version}")
    with dumping(guard, pod, crash_program) as process, contextlib.ExitStack() as freezing:
        with stopped(guard):
            assert is_dumping(process)
            freezing.enter_context(controllers.frozen(process.pid, freezer))
        cut(pod.dump(guard, DEADLINE + 30))
        with new_pod() as another:
            another.crash(crash_program)
            whole(another.dump(guard))


def test_huge(guard: NodeGuard, pod: Pod, crash_program: Path) -> None:
    """Eight GiB of address space, of which a page is in use: the kernel sends all the zeros."""
    pod.crash(crash_program, "--memory", "sparse:8192")
    found = record(pod.dump(guard, 120))
    assert found.core.truncated is None
    assert found.core.bytes > 8 << 30
    assert found.core.stored_bytes < 64 << 20


def test_more_segments_than_the_elf_header_counts(
    guard: NodeGuard, pod: Pod, crash_program: Path, many_mappings: None
) -> None:
    pod.crash(crash_program, "--segments", "70000")
    dump = pod.dump(guard)
    found = record(dump)
    assert (found.signal.name, found.signal.code, found.signal.address) == ("SIGSEGV", 1, "0x0")
    whole(dump)


@pytest.fixture
def many_mappings() -> Iterator[None]:
    before = MAX_MAP_COUNT.read_text()
    MAX_MAP_COUNT.write_text("200000")
    yield
    MAX_MAP_COUNT.write_text(before)


@pytest.mark.parametrize("leader", ["--thread-crashes", "--leader-exits"])
def test_crashed_in_another_thread_than_the_first(
    guard: NodeGuard, pod: Pod, crash_program: Path, leader: str
) -> None:
    pid = pod.crash(crash_program, "--threads", "3", leader)
    dump = pod.dump(guard)
    found = record(dump)
    whole(dump)
    assert found.process.pid == pid
    assert found.process.executable == str(crash_program)
    assert found.process.threads == 5
    names = {thread.tid: thread.name for thread in found.threads}
    assert sorted(names.values()) == ["crash"] * 4 + ["falling"]
    assert pid in names
    assert found.process.tid is not None
    assert names[found.process.tid] == "falling"


def test_setuid(guard: NodeGuard, pod: Pod, crash_program: Path, tmp_path: Path) -> None:
    """A program of root's that nobody ran (prctl(2), PR_SET_DUMPABLE: 2, for root's eyes)."""
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip(f"{tmp_path} is mounted nosuid")
    shutil.copy(crash_program, tmp_path / "rooted")
    (tmp_path / "rooted").chmod(0o4755)
    tmp_path.chmod(0o755)
    assert SUID_DUMPABLE.read_text() == "2\n"  # set by arming
    pod.crash(*AS_NOBODY, "./rooted", cwd=tmp_path)
    dump = pod.dump(guard)
    whole(dump)
    assert record(dump).process.uid == NOBODY
    status = (dump / "status").read_text()
    assert f"Uid:\t{NOBODY}\t0\t0\t0" in status
    for made in (path.stat() for path in (dump, *dump.iterdir())):
        assert (made.st_uid, made.st_gid) == (0, 0)
        assert not made.st_mode & stat.S_IRWXO


@pytest.mark.skipif(
    not Path("/proc/sys/abi/vsyscall32").exists(), reason="this kernel runs no 32-bit programs"
)
def test_32_bit(guard: NodeGuard, pod: Pod) -> None:
    pod.crash(programs.program("fall32", ("-m32", "-static", "-nostdlib")))
    dump = pod.dump(guard)
    assert whole(dump)[4] == 1  # ELFCLASS32
    found = record(dump).signal
    assert (found.name, found.code, found.address) == ("SIGSEGV", 1, "0x1000")


def test_next_to_no_slack_in_its_memory_cgroup(guard: NodeGuard, pod: Pod, crash_program: Path) -> None:
    """What waits in the pipe (64 KiB) or the socket (net.core.wmem_default) is charged to the crasher.

    With less than that the kernel kills it before or amid its dump, which nothing here can prevent.
    """
    if not controllers.MEMORY.is_dir():
        pytest.skip("this machine has no memory controller of cgroup v1")
    with controllers.group(controllers.MEMORY) as memory:
        entering = ["sh", "-c", f'echo $$ > {memory}/cgroup.procs; exec "$@"', "sh"]
        process = pod.start(*entering, crash_program, "--memory", "heap:64", "--wait")
        controllers.leave_slack(memory, 192 << 10 if is_pipe() else 1 << 20)
        process.send_signal(signal.SIGUSR1)
        assert ended(process) == -signal.SIGSEGV
        whole(pod.dump(guard))


def is_pipe() -> bool:
    return PATTERN.read_text().startswith("|")


@pytest.mark.parametrize("pidfd", ["with a pidfd", "without"])
def test_its_pid_is_anothers_by_now(guard: NodeGuard, pod: Pod, crash_program: Path, pidfd: str) -> None:
    """Killed amid its dump, and a process of another pod has its PID before anybody looks (CVE-2025-4598)."""
    armed = PATTERN.read_text()
    if pidfd == "without" and not is_pipe():
        pytest.skip("the socket always comes with a pidfd")
    with new_pod() as another:
        with stopped(guard):  # and so is its keeper of the pattern
            if pidfd == "without":
                assert " F%F " in armed
                # %F is to Linux 6.15 what %Z is to all: unknown, and so nothing.
                PATTERN.write_text(armed.replace(" F%F ", " F%Z "))
            process = subprocess.Popen([*pod.enter, crash_program, "--memory", "zero:16"])
            wait_for("it waits at the door", lambda: is_dumping(process) and is_asleep(process))
            PATTERN.write_text(armed)
            process.kill()
            process.wait(60)
            time.sleep(0.2)  # the account tells crash and heir apart by their times
            heir = start_as(process.pid, another)
        try:
            behind = pod.crash(crash_program)
            guard.wait_for_dump(lambda found: found.process.pid == behind)
            if (
                is_pipe()
            ):  # what was in the pipe is captured; of one that was not acknowledged there is nothing
                guard.wait_for_dump(lambda found: found.process.pid == process.pid)
            entries = list(journal.entries(str(guard.directory / "state")))
            assert process.pid in [entry.pid for entry in entries]
            assert not any("sleep" in entry.executable for entry in entries)
            owners = [record(dump).identity.container_id for dump in guard.delivered()]
            assert another.container_id not in owners
        finally:
            heir.kill()
            ended(heir)


def is_asleep(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process sleeps interruptibly: one that dumps core does so when nobody reads on."""
    return "State:\tS" in Path(f"/proc/{process.pid}/status").read_text()


def start_as(pid: int, pod: Pod) -> subprocess.Popen[bytes]:
    """Start a process that has this PID, which is free."""
    for _ in range(200):  # somebody else may take it from us, and give it back
        NS_LAST_PID.write_text(str(pid - 1))
        process = pod.start("sh", "-c", "echo ready; exec sleep 60")
        if process.pid == pid:
            return process
        process.kill()
        ended(process)
    raise AssertionError(f"PID {pid} was not to be had")


def test_in_namespaces_of_its_own(guard: NodeGuard, pod: Pod, crash_program: Path, tmp_path: Path) -> None:
    """Namespaces that an ordinary user made do not make another container of it (CVE-2017-14180)."""
    shutil.copy(crash_program, tmp_path / "inner")
    tmp_path.chmod(0o755)
    unshare = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount",
        "--uts",
        "--ipc",
        "--net",
    ]
    process = subprocess.Popen([*pod.enter, *AS_NOBODY, *unshare, "./inner", "--fork"], cwd=tmp_path)
    assert ended(process) == 128 + signal.SIGSEGV
    dump = pod.dump(guard)
    whole(dump)
    found = record(dump).process
    assert (found.comm, found.uid) == ("inner", NOBODY)
    assert f"NSpid:\t{found.pid}\t2" in (dump / "status").read_text()


def test_all_it_stands_on_is_deleted(guard: NodeGuard, pod: Pod, crash_program: Path, tmp_path: Path) -> None:
    """Its executable, working directory and root."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(crash_program, root / "orphan")
    process = pod.start("chroot", root, "/orphan", "--wait")
    shutil.rmtree(root)
    process.send_signal(signal.SIGUSR1)
    assert ended(process) == -signal.SIGSEGV
    dump = pod.dump(guard)
    whole(dump)
    found = record(dump).process
    assert (found.executable, found.cmdline) == (f"{root}/orphan", ["/orphan", "--wait"])
    assert "-orphan-" in dump.name


def test_core_limit_of_0(guard: NodeGuard, pod: Pod, crash_program: Path) -> None:
    """It holds for files only (core(5)): most containers run under it, and their cores are kept."""
    pod.crash("prlimit", "--core=0:0", crash_program)
    whole(pod.dump(guard))
