"""A cgroup shaped like a pod's, for a process that is to be taken for one; version 1, hybrid and version 2.

Not here: what becomes of such a process (canary), and how such names are read (container).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

_TOP = "coredump-guard-canary"
"""Not the kubelet's own kubepods: it removes what it does not know there."""
_PATIENCE = 5.0
"""Seconds until the kernel lets go of a cgroup whose last process has just been reaped."""


@contextmanager
def made(poduid: str, container_id: str, mountinfo: str = "/proc/self/mountinfo") -> Iterator[str]:
    """Make the cgroup of a container and yield its cgroup.procs, where a process writes its id to enter it.

    Raises OSError where none can be made. Afterwards it is gone, once nothing runs in it.
    """
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        root = hierarchy(file.read())
    below = [_TOP, "kubepods", "besteffort", f"pod{poduid}", container_id]
    try:
        path = root
        for name in below:
            path = f"{path}/{name}"
            with contextlib.suppress(FileExistsError):  # another canary's
                os.mkdir(path)
        yield f"{path}/cgroup.procs"
    finally:
        _remove(root, below)


def hierarchy(mountinfo: str) -> str:
    """Return where a hierarchy of cgroups is mounted by whose names pods are known; proc_pid_mountinfo(5).

    Raises OSError if there is none.
    """
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            names = {"cgroup2"} if kind == "cgroup2" else set(options.split(","))
            found.update(dict.fromkeys(names, before.split()[4]))
    for name in ("cgroup2", "name=systemd", "memory"):
        if name in found:
            return found[name]
    raise OSError("no hierarchy of cgroups is mounted by which pods are known")


def _remove(root: str, below: list[str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    for count in range(len(below), 0, -1):
        path = "/".join([root, *below[:count]])
        while True:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                break
            except OSError:
                if count < len(below) or time.monotonic() > deadline:  # another canary's, or busy
                    return
                time.sleep(0.02)
            else:
                break
