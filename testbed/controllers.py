"""What control groups do to a process: freeze it, or leave it no memory beyond what it has.

Beside the group that names its pod, which stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.waiting import wait_for

ROOT = Path("/sys/fs/cgroup")
PAGE = os.sysconf("SC_PAGESIZE")
FREEZER = ROOT / "freezer"
MEMORY = ROOT / "memory"
"""The hierarchies of cgroup v1, on machines that have them."""


def unified() -> Path | None:
    """Return where cgroup v2 is mounted, alone or beside v1."""
    return next((root for root in (ROOT / "unified", ROOT) if (root / "cgroup.controllers").exists()), None)


@contextmanager
def frozen(pid: int, root: Path) -> Iterator[None]:
    """Keep a process frozen by the freezer of v1, or of v2 where root is `unified()`."""
    old = root == FREEZER
    name, freeze, thaw = ("freezer.state", "FROZEN", "THAWED") if old else ("cgroup.freeze", "1", "0")
    with group(root if old else _of(pid, root)) as made:
        (made / "cgroup.procs").write_text(str(pid))
        (made / name).write_text(freeze)
        try:
            yield
        finally:
            (made / name).write_text(thaw)


@contextmanager
def group(parent: Path) -> Iterator[Path]:
    """Make a group; afterwards what is in it is killed, and the group removed."""
    made = parent / "coredump-guard-test"
    made.mkdir(exist_ok=True)  # a run that was killed may have left it

    def emptied() -> bool:
        processes = (made / "cgroup.procs").read_text().split()
        for pid in map(int, processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not processes

    try:
        yield made
    finally:
        wait_for(f"{made} empties", emptied)
        made.rmdir()


def leave_slack(memory: Path, slack: int) -> None:
    """Set a v1 group's limit to so many bytes more than it cannot do without."""
    limit, used = memory / "memory.limit_in_bytes", memory / "memory.usage_in_bytes"
    with contextlib.suppress(OSError):  # EBUSY: there is nothing more to let go
        while True:
            limit.write_text(str(int(used.read_text()) - PAGE))
    limit.write_text(str(int(used.read_text()) + slack))


def _of(pid: int, root: Path) -> Path:
    """Return the directory of a process's group in the unified hierarchy."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    path = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    return root / path.lstrip("/")
