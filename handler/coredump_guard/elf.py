"""ELF headers, segments and notes (elf(5)), of either word size and byte order.

Pure parsing of bytes that may be anything: nothing here raises, and nothing is read beyond what is given.
Not here: what a core's notes (elfcore) or a program's notes (modules) mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF
"""An e_phnum that says: more than this, see section header 0."""


@dataclass(frozen=True)
class Layout:
    """What the file header says."""

    word: str
    """The byte order, as struct has it."""
    bits64: bool
    phoff: int
    shoff: int
    phnum: int

    @property
    def header_size(self) -> int:
        """Bytes of one program header."""
        return 56 if self.bits64 else 32

    @property
    def table_end(self) -> int:
        """Where the program headers end."""
        return self.phoff + self.phnum * self.header_size


class Segment(NamedTuple):
    """One program header."""

    kind: int
    offset: int
    address: int
    size: int
    """In the file."""


def layout(head: bytes | bytearray) -> Layout | None:
    """Read a file header; None if these bytes are no ELF file's."""
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    word = "<" if head[5] == 1 else ">"
    bits64 = head[4] == 2
    phoff, shoff = struct.unpack_from(word + ("QQ" if bits64 else "II"), head, 32 if bits64 else 28)
    (phnum,) = struct.unpack_from(word + "H", head, 56 if bits64 else 44)
    return Layout(word, bits64, phoff, shoff, phnum)


def segments(head: bytes | bytearray, header: Layout) -> Iterator[Segment]:
    """Yield the program headers that the head holds, in their order."""
    for index in range(header.phnum):
        at = header.phoff + index * header.header_size
        if at + header.header_size > len(head):
            return
        if header.bits64:
            kind, _, offset, address, _, size = struct.unpack_from(header.word + "IIQQQQ", head, at)
        else:
            kind, offset, address, _, size = struct.unpack_from(header.word + "IIIII", head, at)
        yield Segment(kind, offset, address, size)


def notes(data: bytes | bytearray, word: str, at: int, end: int) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield (type, name, offset of the description, its length) of the notes that the data holds."""
    end = min(end, len(data))
    while at + 12 <= end:
        name_size, size, kind = struct.unpack_from(word + "III", data, at)
        description = at + 12 + (name_size + 3 & ~3)
        if description + size > end:
            return
        yield kind, bytes(data[at + 12 : at + 12 + name_size]), description, size
        at = description + (size + 3 & ~3)
