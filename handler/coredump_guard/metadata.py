"""What a dying process tells of itself, read before its core is drained: afterwards it is gone.

Not here: whose it was (identity), what the core's notes say (elfcore).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from coredump_guard.process import READ_LIMIT, Process, decode
from coredump_guard.record import Process as ProcessRecord

FILES = ("maps", "status", "limits", "cgroup", "mountinfo", "auxv")
"""Copied from /proc/PID beside the core, each up to process.READ_LIMIT bytes."""

CMDLINE_LIMIT = 64 << 10
"""Most bytes of the command line that go into the record, which must not grow beyond record.MAX_BYTES."""

_STATUS = re.compile(r"^(PPid|Uid|Gid|Threads):\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Metadata:
    """What was read; absent where reading failed, since a core without it is still a core."""

    process: ProcessRecord
    start_time: int
    """Clock ticks since boot, proc(5) stat field 22; 0 if unknown."""
    files: dict[str, bytes]


def gather(process: Process, tid: int | None) -> Metadata:
    """Read everything about a process that is being dumped; never raises for what cannot be read."""
    files = {name: data for name in FILES if (data := _read(process, name))}
    numbers = {name: int(value) for name, value in _STATUS.findall(decode(files.get("status", b"")))}
    record = ProcessRecord(
        pid=process.pid,
        tid=tid,
        ppid=numbers.get("PPid", 0),
        uid=numbers.get("Uid", -1),
        gid=numbers.get("Gid", -1),
        comm=decode(_read(process, "comm").removesuffix(b"\n")),
        executable=_executable(process),
        cmdline=_cmdline(process),
        threads=numbers.get("Threads", 0),
    )
    return Metadata(record, start_time(_read(process, "stat")), files)


def start_time(stat: bytes) -> int:
    """Return field 22 of /proc/PID/stat, counted from the last bracket: comm may hold spaces and brackets.

    CVE-2021-25682 was a parser that split at spaces.
    """
    fields = stat.rpartition(b")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[19].isdigit() else 0


def _cmdline(process: Process) -> list[str]:
    line = _read(process, "cmdline", CMDLINE_LIMIT).rstrip(b"\0")
    return [decode(part) for part in line.split(b"\0")] if line else []


def _executable(process: Process) -> str:
    try:
        target = process.link("exe")
    except OSError:
        return ""
    return decode(os.fsencode(target)).removesuffix(" (deleted)")


def _read(process: Process, name: str, limit: int = READ_LIMIT) -> bytes:
    try:
        return process.read(name, limit)
    except OSError:
        return b""
