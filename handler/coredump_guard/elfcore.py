"""The beginning of a core file: how long the whole must be and which signal made it.

Pure parsing of ELF headers and notes, as fs/binfmt_elf.c writes them. The crasher cannot choose them, but
its memory map decides their size, so that everything is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEAD_LIMIT = 8 << 20
"""Most bytes of a core that are looked at: 65,534 program headers and the first notes."""
NOTES_SIZE = 64 << 10
"""Bytes of notes that are looked at; NT_SIGINFO is the third note."""

_NT_SIGINFO = 0x53494749
_PN_XNUM = 0xFFFF
_FAULTS = {4, 5, 7, 8, 11}
"""SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV have a fault address (sigaction(2))."""


@dataclass(frozen=True)
class Head:
    """What the first bytes of a core tell; None where they do not."""

    expected_bytes: int | None = None
    signal: int | None = None
    code: int | None = None
    address: int | None = None


@dataclass(frozen=True)
class _Layout:
    word: str
    bits64: bool
    phoff: int
    shoff: int
    phnum: int

    @property
    def header_size(self) -> int:
        return 56 if self.bits64 else 32

    @property
    def table_end(self) -> int:
        """Where the program headers end: in a core, where its first segment, the notes, begins."""
        return self.phoff + self.phnum * self.header_size


def wanted(head: bytes | bytearray) -> int:
    """Return how many bytes of the core `parse` wants to see, as far as the bytes so far can tell."""
    layout = _layout(head)
    if layout is None or layout.phnum == _PN_XNUM:
        return NOTES_SIZE
    return min(layout.table_end + NOTES_SIZE, HEAD_LIMIT)


def parse(head: bytes | bytearray) -> Head:
    """Return what the first bytes of a core tell; never raises, whatever they are."""
    layout = _layout(head)
    if layout is None:
        return Head()
    if layout.phnum == _PN_XNUM:
        # The true number stands in a section header that ends the file (elf(5), e_phnum).
        expected = layout.shoff + (64 if layout.bits64 else 40) if layout.shoff else None
        first = next(_segments(head, layout), None)
        notes = first[:2] if first else (0, 0)
    else:
        segments = list(_segments(head, layout))
        whole = len(segments) == layout.phnum
        expected = max((offset + size for offset, size, _ in segments), default=None) if whole else None
        notes = next(((offset, size) for offset, size, kind in segments if kind == 4), (0, 0))
    return _with_signal(expected, head, layout, notes)


def _layout(head: bytes | bytearray) -> _Layout | None:
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    word = "<" if head[5] == 1 else ">"
    bits64 = head[4] == 2
    phoff, shoff = struct.unpack_from(word + ("QQ" if bits64 else "II"), head, 32 if bits64 else 28)
    (phnum,) = struct.unpack_from(word + "H", head, 56 if bits64 else 44)
    return _Layout(word, bits64, phoff, shoff, phnum)


def _segments(head: bytes | bytearray, layout: _Layout) -> Iterator[tuple[int, int, int]]:
    """Yield (p_offset, p_filesz, p_type) of the program headers that the head holds."""
    for index in range(layout.phnum):
        at = layout.phoff + index * layout.header_size
        if at + layout.header_size > len(head):
            return
        if layout.bits64:
            kind, _, offset, _, _, size = struct.unpack_from(layout.word + "IIQQQQ", head, at)
        else:
            kind, offset, _, _, size = struct.unpack_from(layout.word + "IIIII", head, at)
        yield offset, size, kind


def _with_signal(
    expected: int | None, head: bytes | bytearray, layout: _Layout, notes: tuple[int, int]
) -> Head:
    start, size = notes
    for kind, at, length in _notes(head, layout.word, start, start + size):
        if kind == _NT_SIGINFO and length >= 24:
            signal, _, code = struct.unpack_from(layout.word + "iii", head, at)
            form, where = ("Q", at + 16) if layout.bits64 else ("I", at + 12)
            # A code of 0 or less was sent by somebody (kill(2)): there is no address then.
            faulted = signal in _FAULTS and code > 0
            address = struct.unpack_from(layout.word + form, head, where)[0] if faulted else None
            return Head(expected, signal, code, address)
    return Head(expected)


def _notes(head: bytes | bytearray, word: str, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, offset of the description, its length) of the notes that the head holds."""
    end = min(end, len(head))
    while at + 12 <= end:
        name_size, size, kind = struct.unpack_from(word + "III", head, at)
        description = at + 12 + (name_size + 3 & ~3)
        if description + size > end:
            return
        yield kind, description, size
        at = description + (size + 3 & ~3)
