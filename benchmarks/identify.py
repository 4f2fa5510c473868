"""identify: how long it takes to say whose process a PID is, in a real pod, with containerd stopped.

Not here: whether the answer is right in every layout (tests).
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.report import Row, alone, at_most
from coredump_guard.identity import identify
from coredump_guard.process import Process
from testbed.containerd import containerd
from testbed.programs import program

ROUNDS = 1000
GOAL = at_most(1)


def measure(_: Path) -> list[Row]:
    """Measure the median and, for the storm's sake, the slowest in a hundred."""
    with containerd() as runtime:
        container = runtime.run_pod("bench", "web").start("app", runtime.add_image(program("pause")))
        runtime.stop()
        took = [_identify(container.pid) for _ in range(ROUNDS)]
    p99 = statistics.quantiles(took, n=100)[98]
    return [
        alone(("identify", "p50, containerd stopped"), "ms", statistics.median(took), GOAL),
        alone(("identify", "p99, containerd stopped"), "ms", p99, None),
    ]


def _identify(pid: int) -> float:
    """Identify a process as a capture does, and return the milliseconds."""
    begun = time.perf_counter()
    with Process("/proc", pid) as process:
        identity = identify(process)
    took = (time.perf_counter() - begun) * 1000
    assert identity is not None and identity.complete, identity
    return took
