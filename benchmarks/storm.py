"""storm: hundreds of processes crash at once, for each door: how many are kept whole, at what memory.

Each is in a container of its own, as in a bad rollout, so that none is damped (damping). Not here: the rate
of a single capture (capture).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import load
from benchmarks.guard import armed_guard, doors, memory
from benchmarks.report import Row, alone, at_least, at_most
from testbed.waiting import wait_for
from tests.support.bursts import burst
from tests.support.guard import NodeGuard, record

STORMS = [(200, 20), (1000, 1)]
"""How many crash at the same moment, and the MiB that each holds."""
SECONDS = 120
"""Longest that captures may go on after the last process has been reaped."""
MEMORY_GOAL = at_most(48)


def measure(scratch: Path) -> list[Row]:
    """Let the storms go through each door that this kernel has."""
    return [row for door in doors() for count, mib in STORMS for row in _storm(door, count, mib, scratch)]


def _storm(door: str, count: int, mib: int, scratch: Path) -> list[Row]:
    with armed_guard(scratch / f"{door}-{count}", door) as guard, burst(count, "heap", mib) as ready:
        assert guard.process is not None
        with _watching_memory(guard.process.pid) as peaks:
            crashed = ready.go()
            _settle(guard, count)
        cores = [record(dump).core for dump in guard.delivered()]
        whole = sum(core.truncated is None and core.bytes >= mib * load.MIB for core in cores)
        peak = memory(guard.process.pid, "VmHWM") / 1e6
        case = f"{door}, {count} of {mib} MiB"
        return [
            alone(("storm", f"{case}: whole cores"), "", whole, at_least(count)),
            alone(("storm", f"{case}: guard's peak memory"), "MB", peak, MEMORY_GOAL),
            alone(("storm", f"{case}: with doormen"), "MB", max(peaks) / 1e6, None),
            alone(("storm", f"{case}: until all are reaped"), "s", crashed.reaped - crashed.begun, None),
        ]


def _settle(guard: NodeGuard, count: int) -> None:
    """Wait until every core has been delivered, or no more come."""
    with contextlib.suppress(TimeoutError):
        wait_for(f"{count} dumps", lambda: len(guard.delivered()) >= count, SECONDS)


@contextmanager
def _watching_memory(guard: int) -> Iterator[list[int]]:
    """Look four times a second at the memory of the guard and of all doormen; yields the sums."""
    sums: list[int] = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            sums.append(memory(guard, "VmRSS") + sum(map(_private, _doormen())))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sums
    finally:
        stop.set()
        thread.join()


def _doormen() -> list[int]:
    """Return the processes that the kernel started for core_pattern: children of kthreadd with a program."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                after_comm = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if after_comm[1] == b"2" and int(after_comm[20]):
                    found.append(int(name))
    return found


def _private(pid: int) -> int:
    """Return the bytes of memory that a process shares with no file."""
    with contextlib.suppress(OSError, StopIteration):
        return memory(pid, "RssAnon")
    return 0
