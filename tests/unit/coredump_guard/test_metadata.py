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
from coredump_guard.metadata import gather, start_time
from coredump_guard.process import Process
from coredump_guard.record import MAX_BYTES, Capture, Core, Identity, Record, Signal

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


def test_bytes_that_are_no_text_are_kept_readable() -> None:
    with started(arguments=[b"\xff\n", b""]) as held:
        assert gather(held, None).process.cmdline[-1] == "\\xff\n"
