"""The beginning of a core: made here field by field, by gdb of a living process, and by chance."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import elfcore
from coredump_guard.elfcore import Head, parse, wanted

SIGINFO, PRSTATUS, AUXV = 0x53494749, 1, 6
PT_LOAD, PT_NOTE = 1, 4
FORMS = [(bits, order) for bits in (64, 32) for order in "<>"]


def core_head(
    segments: list[tuple[int, int, int]],
    notes: bytes = b"",
    *,
    bits: int = 64,
    order: str = "<",
    phnum: int | None = None,
    shoff: int = 0,
) -> bytes:
    """Return a core's headers and notes; segments are (type, offset, size), a note's offset is filled in."""
    count = len(segments) if phnum is None else phnum
    size, phsize, word = (64, 56, "Q") if bits == 64 else (52, 32, "I")
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1 if order == "<" else 2, 1]) + bytes(9)
    head = ident + struct.pack(
        f"{order}HHI3{word}I6H", 4, 62, 1, 0, size, shoff, 0, size, phsize, count, 0, 0, 0
    )
    start = size + phsize * len(segments)
    for kind, at, length in segments:
        offset = start if kind == PT_NOTE else at
        if bits == 64:
            head += struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, 0, 0, length, length, 1)
        else:
            head += struct.pack(f"{order}8I", kind, offset, 0, 0, length, length, 4, 1)
    return head + notes


def note(kind: int, data: bytes, order: str = "<", name: bytes = b"CORE\0") -> bytes:
    padded = name + bytes(-len(name) % 4), data + bytes(-len(data) % 4)
    return struct.pack(f"{order}III", len(name), len(data), kind) + b"".join(padded)


def siginfo(signal: int, code: int, address: int, bits: int = 64, order: str = "<") -> bytes:
    head = struct.pack(f"{order}iii", signal, 0, code)
    head += struct.pack(f"{order}4xQ", address) if bits == 64 else struct.pack(f"{order}I", address)
    return note(SIGINFO, head + bytes(128 - len(head)), order)


def prstatus(pid: int, bits: int = 64, order: str = "<") -> bytes:
    """Return the note of a thread: struct elf_prstatus up to pr_pid, and zeros."""
    before = 32 if bits == 64 else 24
    return note(PRSTATUS, bytes(before) + struct.pack(f"{order}i", pid) + bytes(300), order)


@pytest.mark.parametrize(("bits", "order"), FORMS)
def test_size_and_signal(bits: int, order: str) -> None:
    notes = note(PRSTATUS, bytes(336), order) + siginfo(11, 1, 0xDEAD0, bits, order)
    segments = [(PT_NOTE, 0, len(notes)), (PT_LOAD, 0x10000, 0x5000), (PT_LOAD, 0x8000, 0x1000)]
    head = core_head(segments, notes, bits=bits, order=order)
    assert parse(head) == Head(0x15000, 11, 1, 0xDEAD0)


@pytest.mark.parametrize(("bits", "order"), FORMS)
def test_pn_xnum_is_measured_by_its_section_header(bits: int, order: str) -> None:
    notes = siginfo(6, -6, 0, bits, order)
    head = core_head([(PT_NOTE, 0, len(notes))], notes, bits=bits, order=order, phnum=0xFFFF, shoff=0x900000)
    assert parse(head) == Head(0x900000 + (64 if bits == 64 else 40), 6, -6, None)


@pytest.mark.parametrize(("bits", "order"), FORMS)
def test_pn_xnum_notes_are_reached_behind_all_the_headers(bits: int, order: str) -> None:
    """As the kernel writes more than 65,534 segments: the true number of headers, then the notes."""
    notes = prstatus(4712, bits, order) + siginfo(11, 1, 0xBEEF, bits, order)
    segments = [(PT_NOTE, 0, len(notes))] + [(PT_LOAD, 0x1000, 0x1000)] * 70_000
    core = core_head(segments, notes, bits=bits, order=order, phnum=0xFFFF, shoff=0x900000)
    head = b""
    while len(head) < (more := min(wanted(head), len(core))):
        head = core[:more]
    assert len(head) == len(core)
    assert parse(head) == Head(0x900000 + (64 if bits == 64 else 40), 11, 1, 0xBEEF, 4712)


def test_pn_xnum_with_notes_out_of_reach_is_bounded() -> None:
    far = core_head([(PT_LOAD, 1 << 60, 0)], phnum=0xFFFF) + bytes(100)
    assert wanted(far) == elfcore.HEAD_LIMIT


@pytest.mark.parametrize(("bits", "order"), FORMS)
def test_the_first_threads_note_is_the_crashed_threads(bits: int, order: str) -> None:
    both = [prstatus(number, bits, order) for number in (7, 8)]
    notes = both[0] + siginfo(6, -6, 0, bits, order) + both[1]
    found = parse(core_head([(PT_NOTE, 0, len(notes))], notes, bits=bits, order=order))
    assert (found.signal, found.tid) == (6, 7)


@pytest.mark.parametrize("pid", [0, -1])
def test_no_thread_has_such_a_number(pid: int) -> None:
    notes = prstatus(pid)
    assert parse(core_head([(PT_NOTE, 0, len(notes))], notes)).tid is None


def test_pn_xnum_without_a_section_header_has_no_known_size() -> None:
    assert parse(core_head([(PT_LOAD, 0x1000, 5)], phnum=0xFFFF)).expected_bytes is None


def test_size_is_unknown_until_all_program_headers_are_there() -> None:
    head = core_head([(PT_LOAD, 0x1000 * n, 0x1000) for n in range(1, 40)])
    assert parse(head).expected_bytes == 40 * 0x1000
    assert parse(head[:-1]).expected_bytes is None


def test_a_phnum_that_the_file_does_not_hold_gives_no_size() -> None:
    head = core_head([(PT_LOAD, 0x1000, 1)], phnum=0xFFFE) + bytes(1000)
    assert parse(head).expected_bytes is None
    assert wanted(head) == 64 + 0xFFFE * 56 + elfcore.NOTES_SIZE


def test_a_core_without_segments_has_no_size() -> None:
    assert parse(core_head([]) + bytes(64)) == Head()


def test_the_largest_numbers_are_bounded() -> None:
    top = (1 << 64) - 1
    head = core_head([(PT_NOTE, 0, top), (PT_LOAD, top, top)], bytes(100))
    assert parse(head).expected_bytes == 2 * top
    far = bytearray(head)
    struct.pack_into("<Q", far, 32, top)
    assert parse(far) == Head()
    assert wanted(far) == elfcore.HEAD_LIMIT


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_notes_in_any_order(order: tuple[int, ...]) -> None:
    kinds = [note(PRSTATUS, bytes(336)), siginfo(7, 2, 0x1234), note(AUXV, bytes(320), name=b"LONGER\0")]
    notes = b"".join(kinds[index] for index in order)
    head = parse(core_head([(PT_NOTE, 0, len(notes))], notes))
    assert (head.signal, head.code, head.address) == (7, 2, 0x1234)


@pytest.mark.parametrize("signal", [4, 5, 7, 8, 11])
def test_a_fault_has_an_address(signal: int) -> None:
    notes = siginfo(signal, 1, 0)
    assert parse(core_head([(PT_NOTE, 0, len(notes))], notes)).address == 0


@pytest.mark.parametrize(("signal", "code"), [(11, 0), (11, -6), (6, 1), (3, 1)])
def test_a_signal_that_somebody_sent_has_no_address(signal: int, code: int) -> None:
    notes = siginfo(signal, code, 0x1000)
    assert parse(core_head([(PT_NOTE, 0, len(notes))], notes)).address is None


@pytest.mark.parametrize("size", range(24))
def test_a_short_siginfo_is_no_siginfo(size: int) -> None:
    notes = note(SIGINFO, bytes(size))
    assert parse(core_head([(PT_NOTE, 0, len(notes))], notes)).signal is None


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"\x7fELF\x03\x01" + bytes(58), bytes(99)]
)
def test_what_is_no_elf_tells_nothing(data: bytes) -> None:
    assert parse(data) == Head()
    assert wanted(data) == elfcore.NOTES_SIZE


@pytest.mark.parametrize(("bits", "order"), FORMS)
def test_cut_at_every_byte(bits: int, order: str) -> None:
    notes = note(PRSTATUS, bytes(20), order) + siginfo(11, 1, 0xBEEF, bits, order)
    whole = core_head([(PT_NOTE, 0, len(notes)), (PT_LOAD, 0x4000, 0x1000)], notes, bits=bits, order=order)
    for length in range(len(whole)):
        found = parse(whole[:length])
        assert found.expected_bytes in (None, 0x5000)
        assert found.signal is None
        assert wanted(whole[:length]) >= elfcore.NOTES_SIZE
    assert parse(whole) == Head(0x5000, 11, 1, 0xBEEF)


def test_wanted_covers_headers_and_notes() -> None:
    head = core_head([(PT_NOTE, 0, 1000)] + [(PT_LOAD, 0, 0)] * 3000)
    assert wanted(head) == 64 + 3001 * 56 + elfcore.NOTES_SIZE


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing(data: bytes) -> None:
    assert isinstance(parse(data), Head)
    assert 0 < wanted(data) <= elfcore.HEAD_LIMIT


NOTES = siginfo(11, 1, 0xBEEF)
VALID = core_head([(PT_NOTE, 0, len(NOTES)), (PT_LOAD, 0x4000, 0x1000)], NOTES)


@given(st.dictionaries(st.integers(4, len(VALID) - 1), st.integers(0, 255), max_size=30))
def test_mutated_heads_raise_nothing(changes: dict[int, int]) -> None:
    data = bytearray(VALID)
    for at, value in changes.items():
        data[at] = value
    assert isinstance(parse(data), Head)
    assert 0 < wanted(data) <= elfcore.HEAD_LIMIT


@pytest.mark.skipif(shutil.which("gcore") is None or os.geteuid() != 0, reason="needs gcore (gdb) and root")
def test_a_real_core_has_the_size_that_its_headers_promise(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            command = ["gcore", "-o", str(tmp_path / "core"), str(child.pid)]
            subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL, capture_output=True)
        finally:
            child.kill()
    core = (tmp_path / f"core.{child.pid}").read_bytes()
    head = core[: wanted(core[:64])]
    # gdb ends its cores with section headers, the kernel does not.
    expected = parse(head).expected_bytes
    assert expected is not None
    assert expected <= len(core) < expected + 16384
