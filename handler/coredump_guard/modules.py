"""The ELF files that a process has mapped, and their build-ids: the executable first, then its libraries.

Read from the process's memory, which it may have forged: good enough to be told, not to be relied on.
Not here: the files themselves (executables).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from coredump_guard import elf, filesystems
from coredump_guard.process import Process, decode

MAX_MODULES = 500
"""Most that are looked at; a browser has some 200."""
MAX_NOTES = 64 << 10
"""Most bytes of notes that are looked at in one file, which may have forged a thousand segments of them."""
HEADERS = 4096
"""Bytes of a file that hold its headers, in everything that a linker makes."""
MAX_BUILD_ID = 64
"""Longest build-id in bytes; the usual one is a SHA-1."""

_NT_GNU_BUILD_ID = 3
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..(.). ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([1-9]\d*) *(/.*)$", re.MULTILINE
)
"""proc(5), maps, of a file: range, permissions, offset, device, inode, path. A newline in a path is \\012."""

Read = Callable[[int, int], bytes]
"""Reads bytes: offset, size."""


@dataclass(frozen=True)
class Mapped:
    """A file that is mapped from its beginning."""

    start: int
    end: int
    """Of that first mapping."""
    device: str
    """major:minor in hexadecimal, as maps has it."""
    inode: str
    path: str

    @property
    def range(self) -> str:
        """The mapping's name in /proc/PID/map_files."""
        return f"{self.start:x}-{self.end:x}"


def mapped(maps: bytes, executable: str = "") -> list[Mapped]:
    """Return the files of a /proc/PID/maps that hold code, where they begin, the executable first."""
    found: dict[tuple[bytes, bytes], Mapped] = {}
    code = set()
    for match in _LINE.finditer(maps):
        start, end, executes, offset, device, inode, path = match.groups()
        if executes == b"x":
            code.add((device, inode))
        if int(offset, 16) == 0 and (device, inode) not in found:
            text = decode(path).removesuffix(" (deleted)")
            found[device, inode] = Mapped(int(start, 16), int(end, 16), device.decode(), inode.decode(), text)
    with_code = [module for key, module in found.items() if key in code]
    return sorted(with_code, key=lambda module: module.path != executable.replace("\n", "\\012"))


def build_id(read: Read, *, in_memory: bool) -> str | None:
    """Return the build-id of the ELF file that read reads, empty if it has none; None if it is no ELF file.

    A file is read by offsets; one in memory by addresses, counted from where it begins.
    Raises what read raises.
    """
    head = read(0, HEADERS)
    layout = elf.layout(head)
    if layout is None:
        return None
    if layout.table_end > len(head):
        head = read(0, min(layout.table_end, MAX_NOTES))
    segments = list(elf.segments(head, layout))
    base = next((segment.address - segment.offset for segment in segments if segment.kind == elf.PT_LOAD), 0)
    left = MAX_NOTES
    for segment in segments:
        if segment.kind == elf.PT_NOTE and left > 0:
            at = segment.address - base if in_memory else segment.offset
            size = min(segment.size, left)
            left -= size
            data = head[at : at + size] if 0 <= at <= len(head) - size else read(at, size)
            for kind, name, where, length in elf.notes(data, layout.word, 0, len(data)):
                if (kind, name) == (_NT_GNU_BUILD_ID, b"GNU\0") and 0 < length <= MAX_BUILD_ID:
                    return data[where : where + length].hex()
    return ""


def of_process(process: Process, maps: bytes, executable: str) -> list[tuple[Mapped, str]]:
    """Return the ELF files that are mapped, with their build-ids; empty where it could not be learned.

    A forked process often has none of the pages that it could read the headers from. They are fetched only
    from file systems that the node itself mounted: the crasher's own may never answer.
    """
    found = []
    node: dict[str, bytes] = {}
    for module in mapped(maps, executable)[:MAX_MODULES]:
        known: str | None = ""
        with contextlib.suppress(OSError, OverflowError):
            fetch = not process.resident(module.start, module.start + 1)
            if fetch:
                node = node or filesystems.of_node()
            if not fetch or node.get(module.device) in filesystems.LOCAL:
                known = build_id(_reader(process, module.start, fetch), in_memory=True)
        if known is not None:
            found.append((module, known))
    return found


def _reader(process: Process, start: int, fetch: bool) -> Read:
    return lambda at, size: process.memory(start + at, size, fetch=fetch)
