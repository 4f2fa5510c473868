"""Draining: what goes into the pipe comes out of the file, and what cannot is cut at a piece and said so."""

from __future__ import annotations

import gzip
import hashlib
import os
import resource
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coredump_guard import deflate, drain, elfcore
from coredump_guard.drain import Drained

PIECE = 4096
SIZES = [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 7 * PIECE - 1, 9 * PIECE, 9 * PIECE + 5]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "PIECE", PIECE)


def content(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


def fresh(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)


def drained(
    core: bytes,
    out: Path,
    *,
    seconds: float = 60,
    raw: bool = False,
    largest: int = 1 << 60,
    room: drain.Room | None = None,
) -> Drained:
    """Drain bytes that another thread writes into a pipe."""
    read_end, write_end = os.pipe()

    def produce() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            rest = memoryview(core)
            while rest:
                try:
                    rest = rest[pipe.write(rest[: 1 << 16]) :]
                except BrokenPipeError:
                    return

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    fd = fresh(out)
    try:
        return drain.drain(read_end, fd, time.monotonic() + seconds, raw=raw, largest=largest, room=room)
    finally:
        os.close(fd)
        os.close(read_end)
        producer.join(timeout=30)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse to make a file longer than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", SIZES)
def test_what_goes_in_comes_out(tmp_path: Path, small_pieces: None, size: int) -> None:
    core, out = content(size), tmp_path / "core.gz"
    found = drained(core, out)
    assert (found.bytes, found.truncated) == (size, None)
    stored = out.read_bytes()
    assert gzip.decompress(stored) == core
    assert found.stored_bytes == len(stored)
    subprocess.run(["gzip", "-t", out], check=True, timeout=30)


@pytest.mark.parametrize("size", [1, deflate.PIECE - 1, deflate.PIECE, 5 * deflate.PIECE + 3])
def test_pieces_of_full_size(tmp_path: Path, size: int) -> None:
    core = content(1 << 16) * (size // (1 << 16)) + bytes(size % (1 << 16))
    found = drained(core, tmp_path / "core.gz")
    assert (found.bytes, found.truncated) == (size, None)
    assert gzip.decompress((tmp_path / "core.gz").read_bytes()) == core


@pytest.mark.parametrize("size", SIZES)
def test_raw(tmp_path: Path, small_pieces: None, size: int) -> None:
    core, out = content(size), tmp_path / "core"
    found = drained(core, out, raw=True)
    assert out.read_bytes() == core
    assert (found.bytes, found.stored_bytes) == (size, size)


@pytest.mark.parametrize("raw", [False, True])
def test_a_passed_deadline_keeps_what_has_arrived(tmp_path: Path, small_pieces: None, raw: bool) -> None:
    core, out = content(3 * PIECE + 100), tmp_path / "core"
    read_end, write_end = os.pipe()
    fd = fresh(out)
    try:
        os.write(write_end, core)  # and the writer stays
        found = drain.drain(read_end, fd, time.monotonic() + 0.2, raw=raw)
    finally:
        for end in (read_end, write_end, fd):
            os.close(end)
    assert found.truncated == "the capture's deadline passed"
    stored = out.read_bytes()
    assert (stored if raw else gzip.decompress(stored)) == core
    assert (found.bytes, found.stored_bytes) == (len(core), len(stored))


def test_a_process_that_stands_still_holds_no_worker_until_the_deadline(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "STILL_SECONDS", 0.2)
    read_end, write_end = os.pipe()
    fd = fresh(tmp_path / "core")
    try:
        os.write(write_end, b"\x7fELF")  # and the writer stays
        found = drain.drain(read_end, fd, time.monotonic() + 3600)
    finally:
        for end in (read_end, write_end, fd):
            os.close(end)
    assert found.bytes == 4
    assert found.truncated == "no byte came for 0 s: the process stands still"


def test_a_deadline_in_the_past_stores_an_empty_core(tmp_path: Path) -> None:
    found = drained(b"core", tmp_path / "core.gz", seconds=-1)
    assert (found.bytes, found.truncated) == (0, "the capture's deadline passed")
    assert gzip.decompress((tmp_path / "core.gz").read_bytes()) == b""


CORE = content(8 * PIECE)
BOUNDARIES = [len(deflate.HEADER)]
for start in range(0, len(CORE), PIECE):
    BOUNDARIES.append(BOUNDARIES[-1] + len(deflate.piece(CORE[start : start + PIECE])))


@pytest.mark.parametrize("past", [-1, 0, 1, 5, deflate.TRAILER_SIZE - 1, deflate.TRAILER_SIZE, 500])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_no_space_at_any_write(tmp_path: Path, small_pieces: None, boundary: int, past: int) -> None:
    """What is there is a valid gzip of whole pieces, wherever the disk becomes full."""
    room = boundary + past
    out = tmp_path / "core.gz"
    if room < BOUNDARIES[0] + deflate.TRAILER_SIZE:
        with largest_file(room), pytest.raises(OSError, match="too large"):
            drained(CORE, out)
        return
    with largest_file(room):
        found = drained(CORE, out)
    fit = max(n for n, end in enumerate(BOUNDARIES) if end + deflate.TRAILER_SIZE <= room)
    assert gzip.decompress(out.read_bytes()) == CORE[: fit * PIECE]
    assert found.bytes == fit * PIECE
    assert found.stored_bytes == out.stat().st_size
    if fit < 8:
        assert found.truncated is not None
        assert found.truncated.startswith("the spool took no more: File too large")
    else:
        assert found.truncated is None


@pytest.mark.parametrize("room", [0, 1, PIECE, 3 * PIECE + 17, 8 * PIECE - 1])
def test_no_space_for_a_raw_core(tmp_path: Path, small_pieces: None, room: int) -> None:
    out = tmp_path / "core"
    with largest_file(room):
        found = drained(CORE, out, raw=True)
    assert found.bytes == out.stat().st_size == room // PIECE * PIECE
    assert out.read_bytes() == CORE[: found.bytes]
    assert found.truncated is not None


def elf(segments: int, end: int) -> bytes:
    """Return the headers of a core whose last segment says where it ends."""
    numbers = (4, 62, 1, 0, 64, 0, 0, 64, 56, segments, 0, 0, 0)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQI6H", *numbers)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, 0, 0, 1)
    return head + load * (segments - 1) + struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, end, end, 1)


@pytest.mark.parametrize("segments", [1, 50, 1200, 3000, 20000, 60000])
@pytest.mark.parametrize("missing", [0, 1])
def test_completeness_is_judged_by_all_program_headers(tmp_path: Path, segments: int, missing: int) -> None:
    """Also where they and the notes do not fit into the first 64 KiB, or the first piece."""
    size = elfcore.HEAD_LIMIT
    core = elf(segments, size)
    core += bytes([0xFF]) * (size - len(core) - missing)
    found = drained(core, tmp_path / "core.gz")
    assert found.head.expected_bytes == size
    assert found.truncated == (f"the kernel sent {size - 1} of {size} bytes" if missing else None)


def test_a_core_longer_than_promised_is_whole(tmp_path: Path) -> None:
    assert drained(elf(1, 200) + bytes(200), tmp_path / "core.gz").truncated is None


def test_write_all_cuts_back_to_where_it_began(tmp_path: Path) -> None:
    fd = fresh(tmp_path / "file")
    try:
        drain.write_all(fd, b"first", 0)
        with largest_file(8), pytest.raises(OSError, match="too large"):
            drain.write_all(fd, b"second", 5)
    finally:
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"first"


class Bounded:
    """Room for so many bytes."""

    def __init__(self, size: int) -> None:
        self.left = size

    def __call__(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise drain.Full("[spool] size = 5: it is full")


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_core_that_outgrows_its_room_is_cut_at_a_piece(
    tmp_path: Path, small_pieces: None, raw: bool, pieces: int
) -> None:
    out = tmp_path / "core"
    room = Bounded(pieces * PIECE if raw else BOUNDARIES[pieces] - BOUNDARIES[0])
    found = drained(CORE, out, raw=raw, room=room)
    stored = out.read_bytes()
    assert (stored if raw else gzip.decompress(stored)) == CORE[: pieces * PIECE]
    assert (found.bytes, found.stored_bytes) == (pieces * PIECE, len(stored))
    assert found.truncated == "the spool took no more: [spool] size = 5: it is full"


@pytest.mark.parametrize("segments", [1, 60000])
def test_a_core_that_promises_too_much_stops_at_once(tmp_path: Path, segments: int) -> None:
    core = elf(segments, 1 << 40) + bytes(8 << 20)
    with pytest.raises(drain.TooLarge, match=str(1 << 40)):
        drained(core, tmp_path / "core.gz", largest=1 << 39)
    assert (tmp_path / "core.gz").stat().st_size < 1 << 20


@pytest.mark.parametrize("size", [0, 2, 4, 63, 64, 64 + 56])
def test_a_core_that_ends_within_its_headers_is_cut(tmp_path: Path, size: int) -> None:
    """Whoever is killed at once gives us this, or nothing; how long it must be is not known then."""
    header = b"\x7fELF\x02\x01\x01" + bytes(25) + (64).to_bytes(8, "little") + bytes(16)
    core = header + (2).to_bytes(2, "little") + bytes(6) + bytes(2 * 56)
    found = drained(core[:size], tmp_path / "core.gz")
    assert found.truncated == f"the kernel sent {size} bytes, which end before the core's headers do"


def test_a_core_that_promises_nothing_stops_when_it_is_too_large(tmp_path: Path, small_pieces: None) -> None:
    with pytest.raises(drain.TooLarge, match=str(3 * PIECE)):
        drained(CORE, tmp_path / "core.gz", largest=2 * PIECE)
    assert drained(CORE, tmp_path / "core.gz", largest=len(CORE)).truncated is None


def test_a_core_that_cannot_be_read_on_is_not_the_spools_fault(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.readv, [3 * PIECE + 100]

    def failing(fd: int, buffers: list[memoryview]) -> int:
        if not left[0]:
            raise ConnectionResetError(104, "Connection reset by peer")
        count = real(fd, [buffers[0][: left[0]]])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "readv", failing)
    found = drained(CORE, tmp_path / "core.gz")
    assert found.truncated == "the core could not be read on: Connection reset by peer"
    assert gzip.decompress((tmp_path / "core.gz").read_bytes()) == CORE[: 3 * PIECE + 100]
