"""A crash that was just announced: what shows of its process, and whether it gives a core."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coredump_guard import announced, pattern
from coredump_guard.announced import Glance, glance, is_dying, no_core
from coredump_guard.process import Process
from testbed.waiting import wait_for

OURS = "|/usr/bin/python3 -I -S /run/coredump-guard/doorman.py %P"
SOCKET = "@@/run/coredump-guard/kernel.sock"
DOORS = ("/run/coredump-guard/doorman.py", "/run/coredump-guard/kernel.sock")
ANOTHERS = "@@/run/coredump-guard-2/kernel.sock"


@pytest.mark.parametrize(
    ("core_pattern", "limit", "dumpable", "reason"),
    [
        (OURS, 0, True, ""),
        (OURS, 2, True, ""),
        (OURS, 1, True, "its RLIMIT_CORE was 1: the kernel pipes no core of such a process"),
        (SOCKET, 1, True, ""),
        ("core", 0, True, "core_pattern was 'core'"),
        (ANOTHERS, 0, True, f"core_pattern was {ANOTHERS!r}"),
        ("|/x\n%P", 5, True, "core_pattern was '|/x\\n%P'"),
        (OURS, 5, False, "it was not dumpable: fs.suid_dumpable is 0"),
    ],
)
def test_why_there_will_be_no_core(core_pattern: str, limit: int, dumpable: bool, reason: str) -> None:
    assert no_core(core_pattern, DOORS, limit, dumpable) == reason


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process with RLIMIT_CORE 1."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))

    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, preexec_fn=limited, stdout=subprocess.PIPE) as process:  # noqa: PLW1509
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_what_a_process_shows(sleeper: subprocess.Popen[bytes]) -> None:
    seen = glance(sleeper.pid, time.time(), DOORS)
    assert seen.executable == os.readlink(f"/proc/{sleeper.pid}/exe")
    assert seen.signal == ""
    with Process("/proc", sleeper.pid) as held:
        assert announced._core_limit(held.text("limits")) == 1
        assert announced._is_dumpable("/proc", held)


def test_a_process_that_was_started_since_is_not_looked_at(sleeper: subprocess.Popen[bytes]) -> None:
    assert glance(sleeper.pid, time.time() - 60, DOORS).executable == ""


def test_a_process_is_dying_until_it_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    now = time.time()
    assert is_dying(sleeper.pid, now)
    assert not is_dying(sleeper.pid, now - 3600)  # the one that crashed then had this PID before
    os.kill(sleeper.pid, 9)
    wait_for("it is a zombie", lambda: not is_dying(sleeper.pid, now))
    sleeper.wait(timeout=10)
    assert not is_dying(sleeper.pid, now)


def test_a_process_that_is_gone_leaves_the_pattern(tmp_path: Path) -> None:
    kernel = tmp_path / "sys" / "kernel"
    kernel.mkdir(parents=True)
    (kernel / "core_pattern").write_text("|/usr/lib/x\n")
    assert glance(7, time.time(), DOORS, str(tmp_path)) == Glance("core_pattern was '|/usr/lib/x'")


def made(proc: Path, uid: int, suid_dumpable: str) -> None:
    (proc / "7" / "task").mkdir(parents=True)
    (proc / "7" / "exe").symlink_to("/bin/x (deleted)")
    (proc / "7" / "status").write_text(f"Name:\tx\nUid:\t5\t{uid}\t5\t5\n")
    (proc / "7" / "stat").write_text(f"7 (x) ) R) D {'0 ' * 18}1 {'0 ' * 29}139\n")
    for name, value in (("kernel/core_pattern", OURS), ("fs/suid_dumpable", suid_dumpable)):
        (proc / "sys" / name).parent.mkdir(parents=True)
        (proc / "sys" / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("uid", "suid_dumpable", "dumpable"),
    [(os.geteuid(), "0", True), (os.geteuid() + 1, "0", False), (os.geteuid() + 1, "2", True)],
)
def test_what_belongs_to_root_in_proc_but_is_not_roots_is_not_dumpable(
    tmp_path: Path, uid: int, suid_dumpable: str, dumpable: bool
) -> None:
    made(tmp_path, uid, suid_dumpable)
    seen = glance(7, time.time(), DOORS, str(tmp_path))
    assert (seen.reason == "") is dumpable
    assert (seen.signal, seen.executable) == ("SIGSEGV", "/bin/x (deleted)")


def test_one_that_goes_while_it_is_looked_at_may_have_been_dumpable(tmp_path: Path) -> None:
    made(tmp_path, os.geteuid() + 1, "0")
    with Process(str(tmp_path), 7) as held:
        assert not announced._is_dumpable(str(tmp_path), held)
        (tmp_path / "7").rename(tmp_path / "8")
        assert announced._is_dumpable(str(tmp_path), held)


@pytest.mark.parametrize("stat", ["", "7 (x", "7 (x) Z 1", "7 (x) X " + "0 " * 30])
def test_a_stat_that_says_nothing_is_of_nobody(tmp_path: Path, stat: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(stat)
    assert not is_dying(7, time.time(), str(tmp_path))


@pytest.mark.parametrize(
    ("limits", "value"),
    [("", None), ("Max core file size        unlimited            unlimited            bytes\n", None)]
    + [(f"Limit\nMax core file size        {n}    unlimited    bytes\n", n) for n in (0, 1, 4096)],
)
def test_the_core_limit(limits: str, value: int | None) -> None:
    assert announced._core_limit(limits) == (pattern.UNLIMITED if value is None else value)
