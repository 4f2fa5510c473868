"""A thousand crashes in bursts: each is accounted for, the guard stays small and answers all the while."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coredump_guard import arming, pattern
from testbed.waiting import wait_for
from tests.support.bursts import burst
from tests.support.guard import NodeGuard, node_guard, record

pytestmark = pytest.mark.root

BURSTS, AT_ONCE = 5, 200
TOTAL = BURSTS * AT_ONCE
DEADLINE = 120
"""Seconds until the last of them is in the store."""
LARGEST_KIB = 48 << 10
SPARE_PROCESSES = 200
"""What others may start on this machine meanwhile."""


@pytest.fixture(params=["pipe", "socket"])
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NodeGuard]:
    """Return an armed guard at work, once for each door."""
    if request.param == "socket" and not arming.has_sockets():
        pytest.skip("this kernel has no coredump sockets (Linux 6.17)")
    with node_guard(tmp_path, request.param) as node:
        node.start()
        node.run("arm")
        yield node


def test_a_thousand_crashes_in_bursts_are_all_there_and_the_node_does_not_notice(guard: NodeGuard) -> None:
    crashed: list[int] = []
    before = _processes()
    with _asking(guard) as seen:
        for _ in range(BURSTS):
            with burst(AT_ONCE) as ready:
                crashed += ready.pids
                ready.go()
        wait_for(f"{TOTAL} dumps", lambda: len(guard.delivered()) >= TOTAL, DEADLINE)
    records = [record(dump) for dump in guard.delivered()]
    assert sorted(one.process.pid for one in records) == sorted(crashed)
    assert [one.core.truncated or one.refused for one in records] == [None] * TOTAL
    assert seen.unanswered == []
    assert seen.answers
    # A crasher and its doorman: nothing piles up from one burst to the next.
    assert seen.most_processes < before + 2 * AT_ONCE + SPARE_PROCESSES
    assert guard.process is not None
    assert _peak_kib(guard.process.pid) <= LARGEST_KIB
    wait_for("no doorman is left", lambda: not _doormen(guard.runtime))


class _Seen:
    """What somebody saw who kept asking for the guard's status during the storm."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.unanswered: list[dict[str, Any]] = []
        self.most_processes = 0

    def look(self, guard: NodeGuard) -> None:
        """Ask once; `status` has a deadline of its own, after which it says that no guard answers."""
        found = guard.status()
        (self.answers if found["guard"] else self.unanswered).append(found)
        self.most_processes = max(self.most_processes, _processes())


@contextmanager
def _asking(guard: NodeGuard) -> Iterator[_Seen]:
    """Keep asking in a thread; yields what is seen."""
    seen, stop = _Seen(), threading.Event()

    def ask() -> None:
        while not stop.wait(0.2):
            seen.look(guard)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(timeout=60)


def _processes() -> int:
    return sum(name.isdigit() for name in os.listdir("/proc"))


def _doormen(runtime: Path) -> list[int]:
    """Return the processes whose command line names this runtime's doorman."""
    wanted = bytes(runtime / pattern.DOORMAN)
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if wanted in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:
            continue
    return found


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
