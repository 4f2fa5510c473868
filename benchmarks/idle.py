"""idle: what the guard costs while nothing crashes, over a minute, for each door.

Not here: what it costs while things crash (damping, storm).
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.guard import armed_guard, cpu_seconds, doors, memory
from benchmarks.report import Row, alone, at_most

SETTLING, SECONDS = 5.0, 60.0
"""Seconds after the start that do not count, and those that do."""
CPU_GOAL, MEMORY_GOAL = at_most(0.1), at_most(40)


def measure(scratch: Path) -> list[Row]:
    """Let an armed guard alone, with account and keeper at work."""
    return [row for door in doors() for row in _idle(door, scratch)]


def _idle(door: str, scratch: Path) -> list[Row]:
    with armed_guard(scratch / door, door) as guard:
        assert guard.process is not None
        pid = guard.process.pid
        time.sleep(SETTLING)
        before, begun = cpu_seconds(pid), time.monotonic()
        time.sleep(SECONDS)
        share = 100 * (cpu_seconds(pid) - before) / (time.monotonic() - begun)
        return [
            alone(("idle", f"{door}: of a core"), "%", share, CPU_GOAL),
            alone(("idle", f"{door}: resident memory"), "MB", memory(pid, "VmRSS") / 1e6, MEMORY_GOAL),
        ]
