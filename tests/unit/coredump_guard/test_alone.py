"""Captures without the guard: one doorman at a time, whatever the storm."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from coredump_guard.config import Config
from coredump_guard.spool import Spool
from testbed.waiting import wait_for

from .conftest import pipe
from .test_doorman import arguments, run


def test_doormen_take_turns(installed: Config, spool: Spool) -> None:
    """While another captures, the core stays in the kernel and memory with it."""

    def crash(pid: int) -> None:
        with pipe() as (core, end):
            os.write(end, b"\x7fELF" + bytes(1000))
            os.dup2(core, end)
            run(installed, arguments(pid), core)

    with (
        open(f"{installed.runtime}/alone.lock", "w") as lock,
        ThreadPoolExecutor() as threads,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        captures = [threads.submit(crash, pid) for pid in (4_194_303, 4_194_302, 4_194_301)]
        wait_for("three doormen at the lock", lambda: waiting_for(lock.fileno()) == 3)
        assert spool.pending() == os.listdir(f"{spool.root}/incoming") == []
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert not wait(captures, timeout=30).not_done
    assert [capture.result() for capture in captures] == [None] * 3
    assert len(spool.pending()) == 3


def waiting_for(lock: int) -> int:
    """Count who waits for a lock, by the kernel's list of them (proc(5), /proc/locks)."""
    inode = f":{os.fstat(lock).st_ino} "
    return sum("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())
