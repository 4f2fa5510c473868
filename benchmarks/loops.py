"""Containers in a crash loop: a shell that starts the crashing program over and over.

Not here: what is measured of them (arrival, damping).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.guard import pod_cgroup
from testbed.programs import program

_SUPERVISE = 'echo $$ > "$1"; while :; do "$2" 2>/dev/null; sleep "$3"; done'


@contextmanager
def crash_loop(pause: float) -> Iterator[subprocess.Popen[bytes]]:
    """Crash over and over in a container of its own, pausing for so many seconds; yields the supervisor."""
    with pod_cgroup() as group:
        command = [
            "sh",
            "-c",
            _SUPERVISE,
            "sh",
            str(group / "cgroup.procs"),
            str(program("crash")),
            f"{pause}",
        ]
        supervisor = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield supervisor
        finally:
            supervisor.kill()
            supervisor.wait(timeout=10)


@contextmanager
def crash_loops(count: int, pause: float) -> Iterator[None]:
    """Have so many containers loop at once."""
    with contextlib.ExitStack() as running:
        for _ in range(count):
            running.enter_context(crash_loop(pause))
        yield
