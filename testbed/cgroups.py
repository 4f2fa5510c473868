"""Control groups of pods, in every hierarchy that is mounted here: v1, v2 or both.

A group's path is the one /proc/PID/cgroup shows, such as /kubepods/besteffort/podU/C.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from pathlib import Path

from testbed.waiting import wait_for


def directories(path: str) -> list[Path]:
    """Return the directories of a group, one for each hierarchy that has it."""
    return [group for root in _hierarchies() if (group := root / path.lstrip("/")).is_dir()]


def processes(path: str) -> set[int]:
    """Return the ids of the processes in a group and below it."""
    found: set[int] = set()
    for group in _below(path):
        with contextlib.suppress(OSError):
            found.update(map(int, (group / "cgroup.procs").read_text().split()))
    return found


def make(path: str) -> None:
    """Make a group in every hierarchy, with its parents."""
    for root in _hierarchies():
        functools.reduce(_child, path.strip("/").split("/"), root)


def nest(path: str, name: str, pid: int) -> str:
    """Move a process into a new group below path, as systemd or docker in a container does.

    `name` may be several groups deep. Returns the new group's path.
    """
    for group in directories(path):
        nested = functools.reduce(_child, name.split("/"), group)
        (nested / "cgroup.procs").write_text(str(pid))
    return f"{path}/{name}"


def _child(group: Path, name: str) -> Path:
    child = group / name
    child.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):  # of version 1: empty at first, and then nobody may enter
        if (group / setting).exists() and not (child / setting).read_text().strip():
            (child / setting).write_text((group / setting).read_text())
    return child


def kill(path: str) -> None:
    """Send SIGKILL to every process in a group and below it."""
    for pid in processes(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(path: str) -> None:
    """Kill whatever runs in a group, then remove it with all below it.

    Raises TimeoutError if something in it cannot be killed.
    """

    def emptied() -> bool:
        kill(path)
        for group in _below(path):
            with contextlib.suppress(OSError):  # busy until the last process has been reaped
                group.rmdir()
        return not directories(path)

    wait_for(f"cgroup {path} empties", emptied)


def remove_empty(path: str) -> None:
    """Remove a group and its parents as far as nothing is in them."""
    while path.strip("/"):
        for group in directories(path):
            with contextlib.suppress(OSError):
                group.rmdir()
        path = path.rpartition("/")[0]


def _below(path: str) -> list[Path]:
    """Return the directories of a group and of those below it, deepest first."""
    groups = [Path(found) for top in directories(path) for found, _, _ in os.walk(top)]
    return sorted(groups, key=lambda group: len(group.parts), reverse=True)


def _hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]
