"""A process held by descriptors: real ones that live, end and lose their first thread."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard.process import Gone, Process, decode, hold, read_all


@contextmanager
def child(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code that says on its first line that it is ready."""
    command = [sys.executable, "-I", "-S", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


SLEEPS = "import sys; print('ready', flush=True); sys.stdin.read()"
LEADER_GONE = """
import _thread, ctypes, sys
def stay():
    sys.stdin.read()
_thread.start_new_thread(stay, ())
print("ready", flush=True)
ctypes.CDLL(None).syscall(%d, 0)  # exit(2) ends this thread only
"""
EXIT = {"x86_64": 60, "aarch64": 93}.get(os.uname().machine)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_living_process_is_read() -> None:
    with child(SLEEPS) as process, Process("/proc", process.pid) as held:
        assert held.pid == process.pid
        assert held.text("comm").startswith("python")
        assert held.read("cmdline").startswith(os.fsencode(sys.executable))
        assert held.link("exe") == os.path.realpath(sys.executable)
        assert held.threads() == [str(process.pid)]


def test_reads_are_limited() -> None:
    with child(SLEEPS) as process, Process("/proc", process.pid) as held:
        whole = held.read("maps")
        assert len(whole) > 100
        assert held.read("maps", 100) == whole[:100]


def test_descriptors_are_let_go() -> None:
    before = descriptors()
    with child(SLEEPS) as process:
        with Process("/proc", process.pid) as held:
            held.read("status")
        with Process("/proc", process.pid, process.pid) as held:
            held.threads()
    with pytest.raises(Gone):
        Process("/proc", process.pid)
    assert descriptors() == before


def test_no_such_process() -> None:
    with child(SLEEPS) as process:
        pass
    with pytest.raises(Gone, match=f"/proc/{process.pid}: No such file or directory"):
        Process("/proc", process.pid)


def test_cve_2025_5054_a_held_directory_never_shows_a_successor(tmp_path: Path) -> None:
    """The kernel's own /proc: reads fail once the process is gone, and stay so."""
    with child(SLEEPS) as process, Process("/proc", process.pid) as held:
        assert held.read("status")
        process.kill()
        process.wait(timeout=30)
        with pytest.raises(OSError, match=os.strerror(errno.ESRCH)):
            held.read("status")
        assert held.text("status") == ""
        assert held.threads() == []
        with pytest.raises(OSError, match="No such"):
            held.link("exe")


def test_cve_2025_4598_a_successor_with_the_same_pid_is_not_read(tmp_path: Path) -> None:
    """A /proc in which the PID is given away again: what was held is still the old one."""
    old = tmp_path / "300"
    (old / "task/300").mkdir(parents=True)
    (old / "comm").write_text("old")
    with Process(str(tmp_path), 300) as held:
        old.rename(tmp_path / "gone")
        (tmp_path / "300").mkdir()
        (tmp_path / "300/comm").write_text("new")
        assert held.text("comm") == "old"


@pytest.mark.skipif(EXIT is None, reason="the number of exit(2) is not known for this processor")
@pytest.mark.parametrize("tid_is_known", [True, False])
def test_a_process_whose_leader_has_exited_is_read_through_a_thread(tid_is_known: bool) -> None:
    with child(LEADER_GONE % EXIT) as process:
        with Process("/proc", process.pid) as seen:
            threads = [thread for thread in seen.threads() if thread != str(process.pid)]
        assert len(threads) == 1
        for _ in range(500):
            if "Z (zombie)" in Path(f"/proc/{process.pid}/status").read_text():
                break
            signal.sigtimedwait([], 0.01)
        with pytest.raises(OSError, match="No such"):
            os.readlink(f"/proc/{process.pid}/exe")
        tid = int(threads[0]) if tid_is_known else None
        with Process("/proc", process.pid, tid) as held:
            assert held.link("exe") == os.path.realpath(sys.executable)
            assert "[heap]" in held.text("maps")


def test_an_unknown_thread_leaves_the_leader() -> None:
    with child(SLEEPS) as process, Process("/proc", process.pid, 1 << 22) as held:
        assert held.link("exe") == os.path.realpath(sys.executable)


def test_cve_2021_25684_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "300").mkdir()
    os.mkfifo(tmp_path / "300/maps")
    with Process(str(tmp_path), 300) as held:
        with pytest.raises(OSError, match="maps is not a regular file"):
            held.read("maps")
        assert held.text("maps") == ""


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    try:
        yield read_end, write_end
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux 5.3")
def test_a_pidfd_proves_that_the_process_lives() -> None:
    with child(SLEEPS) as process, pipe() as (core, _):
        pidfd = os.pidfd_open(process.pid)
        try:
            with hold("/proc", process.pid, process.pid, pidfd, core) as held:
                assert held.pid == process.pid
        finally:
            os.close(pidfd)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux 5.3")
def test_cve_2025_4598_the_pidfd_of_an_ended_process_is_no_proof() -> None:
    """The PID is another's by now: here a process that lives stands for it."""
    with child(SLEEPS) as ended, child(SLEEPS) as successor, pipe() as (core, _):
        pidfd = os.pidfd_open(ended.pid)
        try:
            ended.kill()
            ended.wait(timeout=30)
            before = descriptors()
            with pytest.raises(Gone, match="ended before it could be looked at"):
                hold("/proc", successor.pid, None, pidfd, core)
            assert descriptors() == before
        finally:
            os.close(pidfd)


def test_what_is_no_pidfd_is_no_proof() -> None:
    with child(SLEEPS) as process, pipe() as (core, _), pytest.raises(Gone):
        hold("/proc", process.pid, None, 1_000_000, core)


def test_without_a_pidfd_the_cores_writer_is_the_proof() -> None:
    with child(SLEEPS) as process:
        read_end, write_end = os.pipe()
        try:
            os.write(write_end, b"core")
            with hold("/proc", process.pid, None, None, read_end) as held:
                assert held.pid == process.pid
            os.close(write_end)
            with pytest.raises(Gone):
                hold("/proc", process.pid, None, None, read_end)
        finally:
            os.close(read_end)


def test_read_all_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    for limit, expected in ((0, 0), (1, 1), (150_000, 150_000), (1 << 30, 200_000)):
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            assert len(read_all(fd, limit)) == expected
        finally:
            os.close(fd)


@given(st.binary())
def test_any_bytes_become_text_that_can_be_encoded(data: bytes) -> None:
    decode(data).encode()


def test_bytes_that_are_no_utf_8_are_not_lost() -> None:
    assert decode(b"caf\xc3\xa9 \xff") == "café \\xff"
