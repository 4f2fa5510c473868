"""The stored form of a core: one gzip member made of sync-flushed deflate pieces.

Each piece ends on a byte boundary and refers to no earlier one, so that pieces can be made in parallel,
a core can be cut after any of them, and an archive can splice a stored core without inflating it.
isal does the work where it is installed; zlib, eight times slower, everywhere else.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

try:
    from isal import isal_zlib

    FAST = True
except ImportError:
    FAST = False

_library: Any = isal_zlib if FAST else zlib
decompressobj = _library.decompressobj
error: type[Exception] = _library.error

PIECE = 512 << 10
"""Bytes of a core that make one piece; 256 KiB to 4 MiB compress equally well, a dozen are in memory."""

_SAMPLE = 4096
_STORED = 65535

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""A gzip header (RFC 1952) without name and time, so that equal cores are equal files."""

END = b"\x03\x00"
"""An empty last deflate block (RFC 1951) on a byte boundary."""

TRAILER_SIZE = len(END) + 8


def piece(data: bytes | bytearray | memoryview) -> bytes:
    """Deflate data at level 1 into a piece of its own; what does not get smaller is only wrapped."""
    if len(data) >= 16 * _SAMPLE and not _compressible(data):
        return _wrapped(data)
    return _deflated(data)


def _compressible(data: bytes | bytearray | memoryview) -> bool:
    """Judge by four samples: memory that is encrypted or compressed costs three times more to deflate."""
    view = memoryview(data)
    places = range(0, len(view) - _SAMPLE + 1, (len(view) - _SAMPLE) // 3)
    sample = b"".join(view[at : at + _SAMPLE] for at in places)
    return len(_deflated(sample)) < 0.95 * len(sample)


def _deflated(data: bytes | bytearray | memoryview) -> bytes:
    compressor = _library.compressobj(1, zlib.DEFLATED, -15)
    return bytes(compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))


def _wrapped(data: bytes | bytearray | memoryview) -> bytes:
    """Put data into stored blocks (RFC 1951, 3.2.4), which hold up to 65,535 bytes each."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    for at in range(0, len(view), _STORED):
        part = view[at : at + _STORED]
        parts += [struct.pack("<BHH", 0, len(part), len(part) ^ 0xFFFF), part]
    return b"".join(parts)


def crc32(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """CRC-32 as gzip has it, continuing from crc."""
    return int(_library.crc32(data, crc))


def trailer(crc: int, size: int) -> bytes:
    """End a member whose uncompressed data has this CRC-32 and this size in bytes."""
    return END + struct.pack("<II", crc, size & 0xFFFFFFFF)


def parse_trailer(data: bytes) -> int:
    """Return the CRC-32 in a member's last TRAILER_SIZE bytes.

    Raises ValueError if a member of ours does not end like that.
    """
    if len(data) != TRAILER_SIZE or not data.startswith(END):
        raise ValueError("does not end as a stored core does")
    return int(struct.unpack_from("<I", data, len(END))[0])
