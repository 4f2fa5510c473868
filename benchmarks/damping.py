"""damping: a container that crash-loops as fast as it is started, for each door: what it costs the guard.

The doormen of the pipe door are no part of the guard: what the whole machine is busy with, crashing included,
is the row without a goal. Not here: many containers at once (storm, arrival).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.guard import armed_guard, cpu_seconds, doors
from benchmarks.loops import crash_loop
from benchmarks.report import Row, alone, at_most
from coredump_guard import journal
from tests.support.guard import NodeGuard, record

SETTLING, SECONDS, PAUSE = 10.0, 60.0, 0.05
"""Seconds that do not count, those that do, and the supervisor's between two crashes."""
NEWEST, WINDOW = 3, 60
CPU_GOAL, SPACE_GOAL = at_most(1), at_most(1)


def measure(scratch: Path) -> list[Row]:
    """Let a container loop."""
    return [row for door in doors() for row in _damped(door, scratch)]


def _damped(door: str, scratch: Path) -> list[Row]:
    with armed_guard(scratch / door, door) as guard:
        guard.stop()
        guard.configure(policy__loop_newest=NEWEST, policy__loop_window=WINDOW)
        guard.start()
        assert guard.process is not None
        with crash_loop(PAUSE):
            time.sleep(SETTLING)
            crashes, busy, used = _crashes(guard), _busy(), cpu_seconds(guard.process.pid)
            begun = time.monotonic()
            time.sleep(SECONDS)
            passed = time.monotonic() - begun
            used, busy = cpu_seconds(guard.process.pid) - used, _busy() - busy
            rate = (_crashes(guard) - crashes) / passed
        time.sleep(SETTLING)  # the last of them are told of
        space, bound = _space(guard), _bound(guard)
    return [
        alone(("damping", f"{door}: crashes a second"), "", rate, None),
        alone(("damping", f"{door}: guard, of a core"), "%", 100 * used / passed, CPU_GOAL),
        alone(("damping", f"{door}: the machine, of a core"), "%", 100 * busy / passed, None),
        alone(("damping", f"{door}: space, of its bound"), "", space / bound, SPACE_GOAL),
    ]


def _crashes(guard: NodeGuard) -> int:
    ends = ("captured", "refused", "missed")
    return sum(entry.event in ends for entry in journal.entries(str(guard.directory / "state")))


def _busy() -> float:
    """Return the seconds that all processors have worked, from /proc/stat: user, nice, system."""
    return sum(map(int, Path("/proc/stat").read_text().split()[1:4])) / os.sysconf("SC_CLK_TCK")


def _space(guard: NodeGuard) -> int:
    """Return the bytes of all dumps, in spool and store."""
    roots = (guard.spool / "ready", guard.spool / "incoming", guard.store)
    return sum(path.stat().st_size for root in roots for path in root.rglob("*") if path.is_file())


def _bound(guard: NodeGuard) -> int:
    """Return what the first dump, the newest ones and the tally may take, and the executable, once."""
    dumps = [sum(file.stat().st_size for file in dump.iterdir()) for dump in guard.delivered()]
    cores = [dump for dump in guard.delivered() if record(dump).refused is None]
    executables = sum(path.stat().st_size for path in (guard.store / ".debug").rglob("*") if path.is_file())
    assert cores
    return max(dumps) * (1 + NEWEST + 1) + executables
