"""Processes that crash, in a cgroup like a pod's or outside of any; no container runtime is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import cgroups

PODUID = "3c0f86ab-9b0e-4a5b-8b55-6d2f2d0a5f01"
CONTAINER_ID = "c0ffee" + "0" * 58


def hierarchy() -> Path:
    """Return the root of the cgroups whose names the kernel shows for every process."""
    roots = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
    return next(Path(root) for root in roots if (Path(root) / "cgroup.procs").exists())


@contextmanager
def pod_cgroup(container_id: str = CONTAINER_ID, poduid: str = PODUID) -> Iterator[list[str]]:
    """Make a pod's cgroup where the kernel's names for it show, and yield a command prefix that enters it."""
    path = f"/kubepods/besteffort/pod{poduid}/{container_id}"
    made = hierarchy() / path.lstrip("/")
    made.mkdir(parents=True, exist_ok=True)  # a run that was killed may have left it
    try:
        yield ["sh", "-c", f'echo $$ > {made}/cgroup.procs; exec "$@"', "sh"]
    finally:
        cgroups.remove(path.rpartition("/")[0])
        cgroups.remove_empty("/kubepods/besteffort")


def crash(command: list[str | Path], prefix: list[str] | None = None, cwd: Path | None = None) -> int:
    """Run a program that is expected to die by a signal and return the signal's number."""
    done = subprocess.run([*(prefix or []), *command], check=False, timeout=60, cwd=cwd)
    assert done.returncode < 0, f"{command} ended with status {done.returncode}"
    return -int(done.returncode)
