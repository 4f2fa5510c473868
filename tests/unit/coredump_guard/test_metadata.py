"""What a dying process tells of itself: real processes with hostile names, and what cannot be read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import metadata
from coredump_guard.capture import RECORD_ROOM
from coredump_guard.metadata import crashed_thread, fitted, gather, start_time
from coredump_guard.process import Process
from coredump_guard.record import MAX_BYTES, Capture, Core, Identity, Module, Record, Signal, Thread
from coredump_guard.record import Process as ProcessRecord

PYTHON = os.path.realpath(sys.executable)
PROGRAM = """
import sys
with open("/proc/self/comm", "wb") as comm:
    comm.write(bytes.fromhex(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def started(
    comm: bytes = b"app", arguments: Sequence[bytes] = (), executable: str = PYTHON
) -> Iterator[Process]:
    """Run a process that gives itself a comm, with arguments of our choice, and hold it."""
    command = [b"app", b"-I", b"-S", b"-c", PROGRAM.encode(), comm.hex().encode(), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, executable=executable, stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with Process("/proc", process.pid) as held:
                yield held
        finally:
            process.kill()


def test_a_real_process() -> None:
    with started(arguments=[b"--one", b"two three"]) as held:
        found = gather(held, held.pid)
        stat = Path(f"/proc/{held.pid}/stat").read_text()
    process = found.process
    assert (process.pid, process.tid, process.ppid) == (held.pid, held.pid, os.getpid())
    assert (process.uid, process.gid, process.threads) == (os.getuid(), os.getgid(), 1)
    assert (process.comm, process.executable) == ("app", PYTHON)
    assert (process.cmdline[0], process.cmdline[-2:]) == ("app", ["--one", "two three"])
    assert found.start_time == int(stat.split()[21])
    assert set(found.files) == set(metadata.FILES)
    assert PYTHON.encode() in found.files["maps"]
    assert found.files["status"].startswith(b"Name:\tapp\n")


@pytest.mark.parametrize(
    "comm",
    [b"a) R 1 2 (b", b") ) )", b"Uid:\t0\nPPid: 1", b"a b\nc", b"\xff\xfe\x01", b"(", b" ", b"..", b"a/b"],
)
def test_cve_2021_25682_comm_with_brackets_and_newlines(comm: bytes) -> None:
    """The kernel's own files of a real process that bears this name."""
    with started(comm) as held:
        found = gather(held, None)
    process = found.process
    assert process.comm == comm[:15].decode("utf-8", "backslashreplace")
    assert (process.ppid, process.uid, process.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert (process.threads, process.executable) == (1, PYTHON)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= uptime - found.start_time / os.sysconf("SC_CLK_TCK") < 60


@pytest.mark.parametrize(
    ("comm", "expected"),
    [(b"app", 4321), (b"a b", 4321), (b"a) S 1 (b", 4321), (b")", 4321), (b"((", 4321), (b"\n)\n", 4321)],
)
def test_cve_2021_25683_start_time_is_counted_from_the_last_bracket(comm: bytes, expected: int) -> None:
    fields = b" ".join(b"%d" % n for n in range(4, 22))
    assert start_time(b"300 (" + comm + b") S " + fields + b" 4321 0 0\n") == expected


@pytest.mark.parametrize(
    "stat", [b"", b"300 (x) S 1", b"no brackets", b"300 (x) " + b"x " * 40, b"300 (x) " + b"-1 " * 40]
)
def test_a_stat_that_is_none_tells_no_start_time(stat: bytes) -> None:
    assert start_time(stat) == 0


@given(st.binary())
def test_any_stat_raises_nothing(stat: bytes) -> None:
    assert start_time(stat) >= 0


def test_a_deleted_executable_has_its_name(tmp_path: Path) -> None:
    program = tmp_path / "gone"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        try:
            program.unlink()
            assert os.readlink(f"/proc/{process.pid}/exe").endswith(" (deleted)")
            with Process("/proc", process.pid) as held:
                assert gather(held, None).process.executable == str(program)
        finally:
            process.kill()


def test_a_process_that_is_gone_leaves_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "300").mkdir()
    with Process(str(tmp_path), 300) as held:
        found = gather(held, 301)
    assert (found.process.pid, found.process.tid, found.process.uid) == (300, 301, -1)
    assert (found.process.comm, found.process.executable, found.process.cmdline) == ("", "", [])
    assert (found.start_time, found.files) == (0, {})


def record_of(held: Process) -> Record:
    return Record(
        "id", "t", "n", "b", "k", Identity(), gather(held, None).process, Signal(11, "SIGSEGV"),
        Core(0, 0), Capture("pipe", 0.0, "1"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [[b"\x01" * 100_000] * 10, [b"\xff" * 100_000] * 10, ["é".encode() * 50_000], [b""] * 100_000 + [b"x"]],
)
def test_a_huge_command_line_never_makes_a_record_too_long(arguments: list[bytes]) -> None:
    """A record beyond record.MAX_BYTES would never reach the store."""
    with started(arguments=arguments) as held:
        record = record_of(held)
    text = record.to_json()
    assert len(text) < MAX_BYTES
    assert Record.from_json(text) == record
    assert record.process.cmdline[0] == "app"


THREADS = """
import sys, threading, time
threading.stack_size(65536)
for number in range(int(sys.argv[1])):
    thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
    thread.start()
    with open(f"/proc/self/task/{thread.native_id}/comm", "w") as comm:
        comm.write(f"thread {number}")
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def threaded(count: int) -> Iterator[Process]:
    command = [PYTHON, "-I", "-S", "-c", THREADS, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with Process("/proc", process.pid) as held:
                yield held
        finally:
            process.kill()


def test_threads_have_their_names() -> None:
    with threaded(3) as held:
        found = gather(held, None)
    assert [thread.tid for thread in found.threads] == sorted(thread.tid for thread in found.threads)
    assert found.threads[0] == Thread(held.pid, found.process.comm)
    assert {thread.name for thread in found.threads[1:]} == {"thread 0", "thread 1", "thread 2"}
    assert found.process.threads == 4


def test_name_and_start_are_the_processs_whichever_thread_crashed() -> None:
    with threaded(1) as held:
        leader, other = (int(thread) for thread in held.threads())
        with Process("/proc", leader, other) as through:
            found = gather(through, other)
            alone = gather(held, leader)
        assert (found.process.comm, found.start_time) == (alone.process.comm, alone.start_time)
        assert found.process.comm != "thread 0"


def test_of_too_many_threads_the_crashed_one_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_THREADS", 3)
    with threaded(5) as held:
        last = int(held.threads()[-1])
        assert [thread.tid for thread in gather(held, last).threads][-1] == last
        assert len(gather(held, last).threads) == len(gather(held, held.pid).threads) == 3


def test_the_crashed_threads_number_in_its_own_namespace_is_translated() -> None:
    with threaded(3) as held:
        for thread in held.threads():
            assert crashed_thread(held, int(thread)) == int(thread)  # one namespace: the same number
        assert crashed_thread(held, 1 << 22) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a PID namespace")
def test_the_number_in_another_pid_namespace_is_translated() -> None:
    command = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        PYTHON,
        "-I",
        "-S",
        "-c",
        THREADS,
        "2",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as outer:
        try:
            assert outer.stdout is not None
            assert outer.stdout.readline() == b"ready\n"
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()
            with Process("/proc", int(children)) as held:
                threads = [int(thread) for thread in held.threads()]
                assert [crashed_thread(held, number) for number in (1, 2, 3)] == threads
                assert threads[0] != 1
        finally:
            outer.kill()


def test_modules_begin_with_the_executable() -> None:
    with started() as held:
        found = gather(held, None).modules
    assert found[0].path == PYTHON
    assert any("/libc.so" in module.path and len(module.build_id) == 40 for module in found)


def test_environ_only_if_asked_for() -> None:
    with started() as held:
        assert "environ" not in gather(held, None).files
        copied = gather(held, None, environ=True).files["environ"]
    assert set(copied.rstrip(b"\0").split(b"\0")) >= {
        os.fsencode(f"{key}={value}") for key, value in os.environ.items() if key == "PATH"
    }


def hostile_record(words: list[str], threads: int, modules: int, executable: str) -> Record:
    process = ProcessRecord(1, comm="\x01" * 64, executable=executable * 4096, cmdline=words)
    return Record(
        "id", "t", "n", "b", "k", Identity(), process, Signal(11, "SIGSEGV"), Core(0, 0),
        Capture("pipe", 0.0, "1"), threads=[Thread(number, "\x01" * 64) for number in range(threads)],
        modules=[Module("\x01" * 4096, "f" * 128, hex(1 << 63)) for _ in range(modules)],
    )  # fmt: skip


@pytest.mark.parametrize("words", [[], ["\x01" * 65536], [""] * 65536, ["\\xff" * 65536], ["x"] * 32768])
@pytest.mark.parametrize("threads", [0, 1000])
@pytest.mark.parametrize("modules", [0, 500])
def test_the_record_always_fits_its_room(words: list[str], threads: int, modules: int) -> None:
    record = hostile_record(words, threads, modules, "\x01")
    cut = fitted(record, RECORD_ROOM)
    assert len(cut.to_json()) <= RECORD_ROOM
    assert Record.from_json(cut.to_json()) == cut
    if len(record.to_json()) > RECORD_ROOM:
        lasts = [
            cut.process.cmdline[-1:],
            [t.name for t in cut.threads[-1:]],
            [m.path for m in cut.modules[-1:]],
        ]
        assert any(last and last[0].endswith(" more left out)") for last in lasts)
    else:
        assert cut == record


def test_the_longest_list_is_the_one_that_is_cut() -> None:
    record = hostile_record(["--option"] * 10, 10, 500, "/bin/app")
    cut = fitted(record, RECORD_ROOM)
    assert (cut.process, cut.threads) == (record.process, record.threads)
    left = len(cut.modules) - 1
    assert cut.modules == [*record.modules[:left], Module(f"({500 - left} more left out)", "", "")]


def test_a_process_whose_arguments_cannot_be_read_without_waiting_has_none() -> None:
    """A process that maps a FUSE file over its arguments keeps whoever reads them: here, pages not there."""
    program = """
import ctypes, mmap, sys
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
start = int(fields[45]) & -4096
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
file = open("/proc/self/exe", "rb")
where = libc.mmap(ctypes.c_void_p(start), ctypes.c_size_t(4096), 1, 0x12, file.fileno(), ctypes.c_long(0))
print("ready" if where == start else "not mapped", flush=True)
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([PYTHON, "-I", "-c", program], stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with Process("/proc", process.pid) as held:
                assert gather(held, None).process.cmdline == []
        finally:
            process.kill()


def test_bytes_that_are_no_text_are_kept_readable() -> None:
    with started(arguments=[b"\xff\n", b""]) as held:
        assert gather(held, None).process.cmdline[-1] == "\\xff\n"
