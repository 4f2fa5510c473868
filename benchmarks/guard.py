"""A guard of the benchmarks' own, armed, and a control group that makes crashes a pod's.

Not here: the crashes (load) and what is measured of them (capture, storm).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coredump_guard import store
from testbed import cgroups
from tests.support.guard import NodeGuard, node_guard


@contextmanager
def armed_guard(directory: Path, mode: str) -> Iterator[NodeGuard]:
    """Run a guard below directory and have the kernel give it all cores; afterwards all is as it was."""
    directory.mkdir()
    with node_guard(directory, mode) as guard:
        guard.start()
        guard.run("arm")
        yield guard


def doors() -> list[str]:
    """Return the doors that this kernel has."""
    modes = Path("/proc/sys/kernel/core_modes")
    return ["pipe", "socket"] if modes.exists() and "socket" in modes.read_text().split() else ["pipe"]


@contextmanager
def pod_cgroup() -> Iterator[Path]:
    """Make a control group such as a pod's container has; whoever is in it at the end is killed.

    So a crash is a pod's without a container runtime; nobody can name it, and it is filed as unidentified.
    """
    path = f"/kubepods/besteffort/pod{uuid.uuid4()}/{uuid.uuid4().hex}{uuid.uuid4().hex}"
    directory = _hierarchy() / path.lstrip("/")
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        cgroups.remove(path)
        cgroups.remove_empty(path.rpartition("/")[0])


def spooled(guard: NodeGuard) -> list[str]:
    """Return the ids of the dumps that are on the node's disk and not yet delivered."""
    return [path.name for path in (guard.spool / "ready").iterdir() if store.is_dump_id(path.name)]


def memory(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, its threads included (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _hierarchy() -> Path:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
