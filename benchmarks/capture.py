"""capture_rate and release_rate: how fast a core is on the disk and its process free, beside a plain handler.

Both come from the same runs: a pipe written as the kernel writes it, and a process that really crashes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.guard import armed_guard, doors, pod_cgroup, spooled
from benchmarks.programs import c_program
from benchmarks.report import Row, alone, at_least, at_most, compared, interleave
from coredump_guard import store
from coredump_guard.drain import drain
from coredump_guard.record import Record
from tests.support.guard import NodeGuard

MIB = 512
PIPE_ROUNDS = 5
CRASH_ROUNDS = 3
RATE_GOAL = at_least(1.6)
RELEASE_GOAL = at_least(1.3)
KEPT_GOAL = at_most(0.25)

PATTERN = Path("/proc/sys/kernel/core_pattern")
LOOK = 0.002
"""Seconds between two looks for a finished dump."""


@dataclass(frozen=True)
class Sample:
    """One core that was taken: bytes, and seconds from the beginning of the crash."""

    raw: int
    stored: int
    safe: float
    """Until it is on the disk, fsync included."""
    free: float
    """Until the process that crashed is free."""


def measure(scratch: Path) -> list[Row]:
    """Measure both, through a pipe and by crashes."""
    rows = []
    for kind in load.KINDS:
        runs = [partial(way, kind, scratch) for way in (_ours_piped, _baseline_piped)]
        rows += _rows(kind, "pipe alone", interleave(PIPE_ROUNDS, *runs))
    for door in doors():
        with pod_cgroup() as group, armed_guard(scratch / door, door) as guard:
            for kind in load.KINDS:
                ours = partial(_ours_crashed, kind, group, guard)
                baseline = partial(_baseline_crashed, kind, scratch, group, guard)
                rows += _rows(kind, f"crash, {door} door", interleave(CRASH_ROUNDS, ours, baseline))
    return sorted(rows, key=lambda row: row.measure)


def _rows(kind: str, way: str, samples: list[tuple[Sample, Sample]]) -> list[Row]:
    case = f"{load.KINDS[kind]}, {way}"
    safe = [(_rate(ours, ours.safe), _rate(other, other.safe)) for ours, other in samples]
    free = [(_rate(ours, ours.free), _rate(other, other.free)) for ours, other in samples]
    kept = statistics.median(ours.stored / ours.raw for ours, _ in samples)
    return [
        compared(("capture_rate", case), "MB/s", safe, RATE_GOAL),
        # What is random cannot become smaller; there is nothing to ask for.
        alone(("capture_rate", f"{case}: kept"), "of raw", kept, None if kind == "random" else KEPT_GOAL),
        compared(("release_rate", case), "MB/s", free, RELEASE_GOAL),
    ]


def _rate(sample: Sample, seconds: float) -> float:
    return sample.raw / 1e6 / seconds


def _ours_piped(kind: str, scratch: Path) -> Sample:
    def start(pipe: int, directory: str) -> Callable[[], None]:
        out = os.open(f"{directory}/core", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

        def finish() -> None:
            drained = drain(pipe, out, time.monotonic() + load.SECONDS)
            assert drained.bytes == MIB * load.MIB, drained
            os.fsync(out)
            os.close(out)

        return finish

    return _piped(kind, scratch, start)


def _baseline_piped(kind: str, scratch: Path) -> Sample:
    def start(pipe: int, directory: str) -> Callable[[], None]:
        process = subprocess.Popen([c_program("baseline/handler.c"), directory, "core"], stdin=pipe)

        def finish() -> None:
            assert process.wait(timeout=load.SECONDS) == 0

        return finish

    return _piped(kind, scratch, start)


def _piped(kind: str, scratch: Path, start: Callable[[int, str], Callable[[], None]]) -> Sample:
    with tempfile.TemporaryDirectory(dir=scratch) as directory, load.producer(kind, MIB) as producer:
        finish = start(producer.pipe, directory)
        load.settle(2 * MIB)
        begun = producer.go()
        finish()
        safe = time.monotonic()
        stored = Path(directory, "core").stat().st_size
        return Sample(MIB * load.MIB, stored, safe - begun, producer.finished() - begun)


def _ours_crashed(kind: str, group: Path, guard: NodeGuard) -> Sample:
    guard.run("arm")
    crashed, safe = _crash(kind, group, lambda: spooled(guard))
    record = guard.wait_for_dump(lambda _: not spooled(guard), load.SECONDS)
    core = Record.from_json((record / store.INFO).read_bytes()).core
    assert core.truncated is None, core
    shutil.rmtree(record)
    (guard.store / store.INBOX / record.name).unlink()
    return Sample(core.bytes, core.stored_bytes, safe - crashed.begun, crashed.reaped - crashed.begun)


def _baseline_crashed(kind: str, scratch: Path, group: Path, guard: NodeGuard) -> Sample:
    guard.run("disarm")
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        PATTERN.write_text(f"|{c_program('baseline/handler.c')} {directory} core")
        core = Path(directory, "core")
        crashed, safe = _crash(kind, group, core.exists)
        size = core.stat().st_size
        return Sample(size, size, safe - crashed.begun, crashed.reaped - crashed.begun)


def _crash(kind: str, group: Path, done: Callable[[], object]) -> tuple[load.Crashed, float]:
    """Crash a process and return that, and when `done` was: seconds, monotonic."""
    with load.crasher(kind, MIB) as crasher:
        (group / "cgroup.procs").write_text(str(crasher.pid))
        crasher.prepare()
        load.settle(2 * MIB)
        with ThreadPoolExecutor(1) as beside:
            crashed = beside.submit(crasher.go)
            give_up = time.monotonic() + load.SECONDS
            while not done():
                assert time.monotonic() < give_up
                time.sleep(LOOK)
            safe = time.monotonic()
            return crashed.result(load.SECONDS), safe
