"""Processes that are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import DEADLINE, gone, waiting

PROGRAM = """
import os, sys, time
from pathlib import Path
from coredump_shim import supervisor
supervisor.GRACE = 0.5
started = Path(sys.argv[1])

def work(lifeline):
    (started / str(os.getpid())).touch()
    if sys.argv[2] == "stubborn":
        while True:
            try:
                time.sleep(60)
            except SystemExit:
                continue
    if sys.argv[2] == "broken":
        raise RuntimeError("no luck")
    os.read(lifeline, 1)

supervisor.run({"one": work})
"""


@pytest.fixture
def started(tmp_path: Path) -> Path:
    path = tmp_path / "started"
    path.mkdir()
    return path


def start(started: Path, behaviour: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(started), behaviour], stderr=subprocess.DEVNULL
    )


def pids(started: Path, count: int) -> list[int]:
    """Wait until so many processes were started and return them."""
    for _ in waiting(f"not {count} processes were started"):
        found = sorted(started.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        if len(found) >= count:
            return [int(path.name) for path in found]
    raise AssertionError


@pytest.mark.parametrize("behaviour", ["good", "stubborn"])
def test_ends_what_it_started(started: Path, behaviour: str) -> None:
    with start(started, behaviour) as program:
        (child,) = pids(started, 1)
        program.terminate()
        assert program.wait(DEADLINE) == 0
        assert gone(child)


@pytest.mark.parametrize("behaviour", ["good", "broken"])
def test_starts_again_what_died(started: Path, behaviour: str) -> None:
    with start(started, behaviour) as program:
        first = pids(started, 1)[0]
        if behaviour == "good":
            os.kill(first, signal.SIGKILL)
        assert len(set(pids(started, 2))) == 2
        program.terminate()
        assert program.wait(DEADLINE) == 0


def test_the_lifeline_ends_when_the_parent_was_killed(started: Path) -> None:
    with start(started, "good") as program:
        (child,) = pids(started, 1)
        program.kill()
        program.wait(DEADLINE)
        for _ in waiting("the process outlives its parent"):
            if gone(child):
                break
