"""The beginning of a core file: how long the whole must be, which signal made it, which thread got it.

Pure parsing of headers and notes as fs/binfmt_elf.c writes them. The crasher cannot choose them, but
its memory map decides their size, so that everything is bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from coredump_guard import elf

HEAD_LIMIT = 8 << 20
"""Most bytes of a core that are looked at: some 148,000 program headers and the first notes."""
NOTES_SIZE = 64 << 10
"""Bytes of notes that are looked at.

The crashed thread's NT_PRSTATUS is the first note, NT_SIGINFO the third: write_note_info in fs/binfmt_elf.c.
"""

_NT_PRSTATUS = 1
_NT_SIGINFO = 0x53494749
_FAULTS = {4, 5, 7, 8, 11}
"""SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV have a fault address (sigaction(2))."""


@dataclass(frozen=True)
class Head:
    """What the first bytes of a core tell; None where they do not."""

    expected_bytes: int | None = None
    signal: int | None = None
    code: int | None = None
    address: int | None = None
    tid: int | None = None
    """The thread that crashed, by its number in its own PID namespace (pr_pid)."""


def wanted(head: bytes | bytearray) -> int:
    """Return how many bytes of the core `parse` wants to see, as far as the bytes so far can tell."""
    layout = elf.layout(head)
    if layout is None:
        return NOTES_SIZE
    if layout.phnum == elf.PN_XNUM:
        # More program headers than e_phnum can say; the first is that of the notes, which follow them all.
        first = next(elf.segments(head, layout), None)
        return min((first.offset if first else 0) + NOTES_SIZE, HEAD_LIMIT)
    return min(layout.table_end + NOTES_SIZE, HEAD_LIMIT)


def parse(head: bytes | bytearray) -> Head:
    """Return what the first bytes of a core tell; never raises, whatever they are."""
    layout = elf.layout(head)
    if layout is None:
        return Head()
    notes, end, count = None, 0, 0
    for segment in elf.segments(head, layout):
        count, end = count + 1, max(end, segment.offset + segment.size)
        if segment.kind == elf.PT_NOTE and notes is None:
            notes = segment
            if layout.phnum == elf.PN_XNUM:
                break
    expected = None
    if layout.phnum == elf.PN_XNUM:
        # The true number stands in a section header that ends the file (elf(5), e_phnum).
        expected = layout.shoff + (64 if layout.bits64 else 40) if layout.shoff else None
    elif count == layout.phnum > 0:
        expected = end
    return Head(expected) if notes is None else _with_notes(expected, head, layout, notes)


def _with_notes(
    expected: int | None, head: bytes | bytearray, layout: elf.Layout, segment: elf.Segment
) -> Head:
    tid = None
    end = segment.offset + segment.size
    for kind, _, at, length in elf.notes(head, layout.word, segment.offset, end):
        if kind == _NT_PRSTATUS and tid is None:
            tid = _crashed(head, layout, at, length)
        elif kind == _NT_SIGINFO and length >= 24:
            signal, _, code = struct.unpack_from(layout.word + "iii", head, at)
            form, where = ("Q", at + 16) if layout.bits64 else ("I", at + 12)
            # A code of 0 or less was sent by somebody (kill(2)): there is no address then.
            faulted = signal in _FAULTS and code > 0
            address = struct.unpack_from(layout.word + form, head, where)[0] if faulted else None
            return Head(expected, signal, code, address, tid)
    return Head(expected, tid=tid)


def _crashed(head: bytes | bytearray, layout: elf.Layout, at: int, length: int) -> int | None:
    """Return pr_pid of a struct elf_prstatus_common (linux/elfcore.h)."""
    where = 32 if layout.bits64 else 24
    if length < where + 4:
        return None
    (pid,) = struct.unpack_from(layout.word + "i", head, at + where)
    return pid if pid > 0 else None
