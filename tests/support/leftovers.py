"""What a test has left behind: processes, mounts, changed core settings.

Only looks; ends and restores nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.kernel import settings_unless_held
from testbed.waiting import wait_for

GRACE = 5
"""Seconds that a process which has been told to end may take, before it counts as left behind."""


@dataclass(frozen=True)
class Machine:
    """What a test could change: this process's descendants, mounts below a directory, core settings."""

    processes: frozenset[int]
    mounts: frozenset[str]
    settings: dict[Path, bytes] | None
    """None while another run holds and may have changed them."""


def look(directory: Path, apart: Callable[[], set[int]] = set) -> Machine:
    """Look at the machine; `directory` is where tests keep their files. What `apart` returns are processes
    that, with their descendants, are not looked at."""
    mounts = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    return Machine(
        frozenset(_descendants(os.getpid(), apart())),
        frozenset(mount for mount in mounts if mount.startswith(f"{directory}/")),
        settings_unless_held(),
    )


def since(before: Machine, directory: Path, apart: Callable[[], set[int]] = set) -> list[str]:
    """Say what is there now and was not before, in words."""

    def ended() -> bool:
        return not _descendants(os.getpid(), apart()) - before.processes

    with contextlib.suppress(TimeoutError):
        wait_for("processes end", ended, GRACE)
    now = look(directory, apart)
    found = [f"process {pid}: {_command(pid)}" for pid in sorted(now.processes - before.processes)]
    found += [f"mount {mount}" for mount in sorted(now.mounts - before.mounts)]
    if before.settings is not None and now.settings is not None:
        for path, value in before.settings.items():
            if now.settings[path] != value:
                found.append(f"{path} is {now.settings[path]!r}, was {value!r}")
    return found


def _descendants(pid: int, apart: set[int]) -> set[int]:
    """Return the ids of a process's children, their children and so on."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in set(map(int, (task / "children").read_text().split())) - apart:
                found |= {child} | _descendants(child, apart)
    return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "has ended since"
