"""arrival: from a crash to its record in the store, while 20 other containers crash-loop, for each door.

Not here: the rate of a single capture (capture).
"""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path
from signal import SIGUSR1

from benchmarks.guard import armed_guard, doors, pod_cgroup
from benchmarks.loops import crash_loops
from benchmarks.report import Row, alone, at_most
from coredump_guard import store
from testbed.programs import program
from testbed.waiting import wait_for
from tests.support.guard import NodeGuard

CRASHES, LOOPS, PAUSE = 100, 20, 1.0
"""Crashes that are timed; containers that loop meanwhile, and the seconds each of them pauses."""
GOAL = at_most(5)


def measure(scratch: Path) -> list[Row]:
    """Time crashes, one after the other, each in a new container."""
    return [row for door in doors() for row in _arrivals(door, scratch)]


def _arrivals(door: str, scratch: Path) -> list[Row]:
    with armed_guard(scratch / door, door) as guard, crash_loops(LOOPS, PAUSE):
        seconds = [_arrival(guard) for _ in range(CRASHES)]
    percentiles = statistics.quantiles(seconds, n=100)
    return [
        alone(("arrival", f"{door}: p50"), "s", percentiles[49], None),
        alone(("arrival", f"{door}: p99"), "s", percentiles[98], GOAL),
    ]


def _arrival(guard: NodeGuard) -> float:
    with pod_cgroup() as group:
        process = subprocess.Popen([program("crash"), "--wait"], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        (group / "cgroup.procs").write_text(str(process.pid))
        begun = time.monotonic()
        process.send_signal(SIGUSR1)
        process.communicate(timeout=60)
        wait_for("its record", lambda: list((guard.store / store.INBOX).glob(f"*-crash-{process.pid}-*")), 60)
        return time.monotonic() - begun
