"""A crash that the kernel has just announced: what its process shows in passing, and whether it gives a core.

Nothing here is certain: the process may be gone, another may set core_pattern meanwhile. It serves to say why
there is no core. Not here: the crash itself, as the doors see it (capture).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass

from coredump_guard import identity, pattern
from coredump_guard.metadata import start_time
from coredump_guard.process import Gone, Process

_DEAD = ("Z", "X")
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_SAME_TIME = 0.1
"""Seconds that may lie between two readings of clocks."""


@dataclass(frozen=True)
class Glance:
    """What was seen of a process; empty strings stand for what was not."""

    reason: str = ""
    """Why the kernel gives us no core, as far as that shows beforehand."""
    signal: str = ""
    executable: str = ""
    whose: str = ""


def glance(pid: int, crashed: float, doors: Collection[str], proc: str = "/proc") -> Glance:
    """Look at a process that crashed at this time, in seconds since the epoch; doors are what is ours.

    One of the same PID that was started since is not looked at.
    """
    core_pattern = _text(f"{proc}/sys/kernel/core_pattern")
    try:
        held = Process(proc, pid)
    except Gone:
        return Glance(no_core(core_pattern, doors))
    with held:
        stat = held.text("stat")
        if _started(stat) > crashed + _SAME_TIME:
            return Glance(no_core(core_pattern, doors))
        reason = no_core(core_pattern, doors, _core_limit(held.text("limits")), _is_dumpable(proc, held))
        number = _exit_signal(stat)
        executable = ""
        with contextlib.suppress(OSError):
            executable = held.link("exe")
        # Whose it was costs more to learn, and whoever captures the crash says it better.
        return Glance(reason, number, executable, _whose(held) if reason else "")


def no_core(
    core_pattern: str, doors: Collection[str], core_limit: int = pattern.UNLIMITED, dumpable: bool = True
) -> str:
    """Return why the kernel gives us no core, or nothing (do_coredump in fs/coredump.c)."""
    if not dumpable:
        return "it was not dumpable: fs.suid_dumpable is 0"
    if not pattern.is_ours(core_pattern) or pattern.leads_to(core_pattern) not in doors:
        return f"core_pattern was {core_pattern!r}"
    if core_limit == 1 and core_pattern.startswith("|"):
        return "its RLIMIT_CORE was 1: the kernel pipes no core of such a process"
    return ""


def is_dying(pid: int, crashed: float, proc: str = "/proc") -> bool:
    """Whether the process that crashed at this time is still there, its core perhaps unread.

    A process of the same PID that was started since is another one.
    """
    stat = _text(f"{proc}/{pid}/stat")
    state = stat.rpartition(") ")[2][:1]
    return state not in ("", *_DEAD) and _started(stat) <= crashed + 1


def _started(stat: str) -> float:
    """Return when a process was started, in seconds since the epoch; of a stat without it, that is never."""
    ticks = start_time(stat.encode())
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / _CLOCK_TICKS if ticks else math.inf


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _core_limit(limits: str) -> int:
    for line in limits.splitlines():
        if line.startswith("Max core file size"):
            soft = line[len("Max core file size") :].split()[0]
            return int(soft) if soft.isdigit() else pattern.UNLIMITED
    return pattern.UNLIMITED


def _is_dumpable(proc: str, held: Process) -> bool:
    """Whether the kernel dumps it: what is not dumpable belongs to root in /proc (proc(5)), and where
    fs.suid_dumpable is 0, what belongs to root but does not run as root is not dumped."""
    if _text(f"{proc}/sys/fs/suid_dumpable") != "0":
        return True
    for line in held.text("status").splitlines():
        if line.startswith("Uid:"):
            with contextlib.suppress(OSError):  # it has gone meanwhile
                owner = os.stat(f"{proc}/{held.pid}/stat").st_uid
                return owner == int(line.split()[2])
    return True


def _exit_signal(stat: str) -> str:
    """Return the signal in a process's exit code, the last field of stat (proc(5)), if it shows already."""
    code = stat.rpartition(" ")[2].strip()
    with contextlib.suppress(ValueError):
        return signal.Signals(int(code) & 0x7F).name
    return ""


def _whose(held: Process) -> str:
    try:
        owner = identity.identify(held)
    except OSError:
        return ""
    if owner is None or owner.host:
        return "host"
    return f"{owner.namespace}/{owner.pod}/{owner.container}" if owner.complete else "unidentified"
