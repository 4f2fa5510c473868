"""What a dying process tells of itself, read before its core is drained: afterwards it is gone.

Not here: whose it was (identity), what the core's notes say (elfcore).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from coredump_guard import modules
from coredump_guard.process import PAGE, READ_LIMIT, Process, decode
from coredump_guard.record import Module, Record, Thread
from coredump_guard.record import Process as ProcessRecord

FILES = ("maps", "status", "limits", "cgroup", "mountinfo", "auxv")
"""Copied from /proc/PID beside the core, each up to process.READ_LIMIT bytes."""

CMDLINE_LIMIT = 64 << 10
"""Most bytes of the command line that go into the record, which must not grow beyond record.MAX_BYTES."""

ENVIRON = "environ"
"""Copied too where the configuration asks for it."""

MAX_THREADS = 1000
"""Most threads whose names are read: 10 µs each."""

_NSPID = re.compile(rb"^NSpid:.*?(\d+)$", re.MULTILINE)
_STATUS = re.compile(r"^(PPid|Uid|Gid|Threads):\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Metadata:
    """What was read; absent where reading failed, since a core without it is still a core."""

    process: ProcessRecord
    start_time: int
    """Clock ticks since boot, proc(5) stat field 22; 0 if unknown."""
    files: dict[str, bytes]
    threads: list[Thread] = field(default_factory=list)
    mapped: list[tuple[modules.Mapped, str]] = field(default_factory=list)
    """The ELF files in its memory, each with its build-id."""

    @property
    def modules(self) -> list[Module]:
        """The ELF files in its memory as the record has them."""
        return [Module(file.path, build_id, f"{file.start:#x}") for file, build_id in self.mapped]


def gather(process: Process, tid: int | None, *, environ: bool = False) -> Metadata:
    """Read everything about a process that is being dumped; never raises for what cannot be read.

    environ: whether to read the environment too.
    """
    files = {name: data for name in FILES if (data := _read(process, name))}
    stat = _read(process, "stat")
    if environ and (data := _of_memory(process, ENVIRON, stat, READ_LIMIT)):
        files[ENVIRON] = data
    numbers = {name: int(value) for name, value in _STATUS.findall(decode(files.get("status", b"")))}
    record = ProcessRecord(
        pid=process.pid,
        tid=tid,
        ppid=numbers.get("PPid", 0),
        uid=numbers.get("Uid", -1),
        gid=numbers.get("Gid", -1),
        comm=decode(_of_leader(process, "comm").removesuffix(b"\n")),
        executable=executable(process),
        cmdline=_cmdline(process, stat),
        threads=numbers.get("Threads", 0),
    )
    mapped = modules.of_process(process, files.get("maps", b""), record.executable)
    return Metadata(record, start_time(_of_leader(process, "stat")), files, _threads(process, tid), mapped)


def crashed_thread(process: Process, number: int | None) -> int | None:
    """Return the id, in the initial PID namespace, of the thread with this number in the process's own.

    None where it cannot be told (any more): the process must still be held by the kernel.
    """
    threads = process.threads()
    if number is None or len(threads) == 1:
        return int(threads[0]) if threads else None
    for thread in threads[:MAX_THREADS]:
        with contextlib.suppress(OSError):
            found = _NSPID.search(process.of_thread(thread, "status", 8192))
            if found and int(found[1]) == number:
                return int(thread)
    return None


def fitted(record: Record, limit: int) -> Record:
    """Return the record with its longest lists cut until its text takes no more than limit bytes.

    They hold the crasher's words, and its memory map and threads are as many as it likes. A list that was cut
    ends with an entry that says so.
    """
    kept = {name: len(values) for name, values in _lists(record).items()}
    while len((cut := _cut(record, kept)).to_json()) > limit and any(kept.values()):
        longest = max(kept, key=lambda name: len(json.dumps(_lists(cut)[name], default=asdict)))
        kept[longest] //= 2
    return cut


def _lists(record: Record) -> dict[str, list[Any]]:
    return {"cmdline": record.process.cmdline, "threads": record.threads, "modules": record.modules}


def _cut(record: Record, kept: dict[str, int]) -> Record:
    """Return the record with only so many entries of each list."""
    words = {
        name: [f"({len(values) - kept[name]} more left out)"] if len(values) > kept[name] else []
        for name, values in _lists(record).items()
    }
    arguments = record.process.cmdline[: kept["cmdline"]] + words["cmdline"]
    return replace(
        record,
        process=replace(record.process, cmdline=arguments),
        threads=record.threads[: kept["threads"]] + [Thread(0, word) for word in words["threads"]],
        modules=record.modules[: kept["modules"]] + [Module(word, "", "") for word in words["modules"]],
    )


def start_time(stat: bytes) -> int:
    """Return when the process started, in clock ticks since boot; 0 if /proc/PID/stat does not tell."""
    return _field(stat, 22)


def _field(stat: bytes, number: int) -> int:
    """Return a field of /proc/PID/stat (proc(5)), counted from the last bracket: comm may hold some too.

    CVE-2021-25682 was a parser that split at spaces.
    """
    fields = stat.rpartition(b")")[2].split()
    at = number - 3
    return int(fields[at]) if len(fields) > at and fields[at].isdigit() else 0


def _threads(process: Process, tid: int | None) -> list[Thread]:
    ids = process.threads()
    crashed = [] if tid is None or str(tid) not in ids[MAX_THREADS:] else [str(tid)]
    threads = []
    for thread in ids[: MAX_THREADS - len(crashed)] + crashed:
        with contextlib.suppress(OSError):
            name = process.of_thread(thread, "comm", 64).removesuffix(b"\n")
            threads.append(Thread(int(thread), decode(name)))
    return threads


def _cmdline(process: Process, stat: bytes) -> list[str]:
    line = _of_memory(process, "cmdline", stat, CMDLINE_LIMIT).rstrip(b"\0")
    return [decode(part) for part in line.split(b"\0")] if line else []


def _of_memory(process: Process, name: str, stat: bytes, limit: int) -> bytes:
    """Read cmdline or environ, which lie in the process's memory, if that can be done without waiting.

    A process can say that they lie anywhere (prctl(2), PR_SET_MM) or map a FUSE file there, so that whoever
    looks at its arguments waits for its file system.
    """
    arguments, rest, environ, last = (_field(stat, number) for number in range(48, 52))
    start, end = (environ, last) if name == ENVIRON else (arguments, rest)
    if end == environ:  # setproctitle(3) writes arguments over the environment, and the kernel knows
        end = last
    with contextlib.suppress(OSError, OverflowError):
        if process.resident(start, min(end, start + limit + PAGE)):
            return process.read(name, limit)
    return b""


def _of_leader(process: Process, name: str) -> bytes:
    """Read what every thread has of its own, of the one that stands for the process; it may have exited."""
    try:
        return process.of_thread(str(process.pid), name, 4096)
    except OSError:
        return b""


def executable(process: Process) -> str:
    """Return the executable's path as the container saw it, or nothing if it cannot be read."""
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
