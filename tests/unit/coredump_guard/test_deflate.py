"""The stored form of a core: pieces that join into one gzip member which every reader takes."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import deflate


def member(pieces: list[bytes]) -> bytes:
    whole = b"".join(pieces)
    body = b"".join(deflate.piece(piece) for piece in pieces)
    return deflate.HEADER + body + deflate.trailer(deflate.crc32(whole), len(whole))


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_pieces_join_into_one_member(pieces: list[bytes]) -> None:
    stored = member(pieces)
    assert gzip.decompress(stored) == b"".join(pieces)
    inflate = zlib.decompressobj(31)
    assert inflate.decompress(stored) == b"".join(pieces)
    assert inflate.eof
    assert inflate.unused_data == b""


def test_gzip_takes_it() -> None:
    subprocess.run(["gzip", "-t"], input=member([b"a" * 5000, bytes(5000)]), check=True, timeout=30)


def test_the_guards_own_inflater_takes_it() -> None:
    assert deflate.decompressobj(31).decompress(member([b"core"])) == b"core"
    with pytest.raises(deflate.error):
        deflate.decompressobj(31).decompress(b"\x1f\x8b\x08\0 no deflate here at all")


@given(st.lists(st.binary(max_size=300), min_size=2, max_size=6), st.integers(0, 5))
def test_a_member_can_be_cut_after_any_piece(pieces: list[bytes], kept: int) -> None:
    body = b"".join(deflate.piece(piece) for piece in pieces[:kept])
    whole = b"".join(pieces[:kept])
    cut = deflate.HEADER + body + deflate.trailer(deflate.crc32(whole), len(whole))
    assert gzip.decompress(cut) == whole


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_piece_refers_to_no_earlier_one(first: bytes, second: bytes) -> None:
    assert zlib.decompressobj(-15).decompress(deflate.piece(first)) == first
    assert deflate.piece(memoryview(bytearray(second))) == deflate.piece(second)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc32_continues(first: bytes, second: bytes) -> None:
    assert deflate.crc32(second, deflate.crc32(first)) == zlib.crc32(first + second)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 1 << 40))
def test_trailer_comes_back(crc: int, size: int) -> None:
    data = deflate.trailer(crc, size)
    assert len(data) == deflate.TRAILER_SIZE
    assert deflate.parse_trailer(data) == crc
    assert int.from_bytes(data[-4:], "little") == size % (1 << 32)


@pytest.mark.parametrize(
    "data", [b"", b"\x03\x00", bytes(10), b"\x03\x01" + bytes(8), b"\x03\x00" + bytes(9)]
)
def test_what_is_no_trailer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="does not end as a stored core does"):
        deflate.parse_trailer(data)


def test_equal_cores_are_equal_files() -> None:
    assert member([b"x" * 999]) == member([b"x" * 999])
    assert deflate.HEADER[4:8] == bytes(4)


WITHOUT_ISAL = """
import sys
sys.path.insert(0, sys.argv[1])
from coredump_guard import deflate
assert not deflate.FAST
core = bytes(range(256)) * 40
stored = deflate.HEADER + deflate.piece(core) + deflate.trailer(deflate.crc32(core), len(core))
assert deflate.decompressobj(31).decompress(stored) == core
sys.stdout.buffer.write(stored)
"""


def test_without_isal_zlib_makes_the_same_form() -> None:
    """As on a node whose role could not install isal: python3 -S sees no site-packages."""
    handler = str(Path(deflate.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", WITHOUT_ISAL, handler]
    stored = subprocess.run(command, check=True, timeout=30, capture_output=True).stdout
    assert gzip.decompress(stored) == bytes(range(256)) * 40
    assert deflate.parse_trailer(stored[-deflate.TRAILER_SIZE :]) == zlib.crc32(bytes(range(256)) * 40)


@pytest.mark.parametrize("size", [65536, deflate.PIECE, deflate.PIECE - 1, 3 * 65535 + 7])
def test_what_does_not_get_smaller_is_wrapped(size: int) -> None:
    noise = random.Random(size).randbytes(size)
    wrapped = deflate.piece(noise)
    assert size < len(wrapped) <= size + 5 * (size // 65535 + 1)
    member = deflate.HEADER + wrapped + deflate.trailer(zlib.crc32(noise), size)
    assert gzip.decompress(member) == noise


def test_noise_between_samples_does_not_grow_much() -> None:
    data = bytearray(random.Random(1).randbytes(deflate.PIECE))
    data[:4096] = bytes(4096)  # one sample of four deflates well: the piece is deflated, not wrapped
    assert len(deflate.piece(data)) < 1.01 * len(data)
