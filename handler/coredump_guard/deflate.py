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

PIECE = 1 << 20
"""Bytes of a core that make one piece; 256 KiB to 4 MiB compress equally well."""

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""A gzip header (RFC 1952) without name and time, so that equal cores are equal files."""

END = b"\x03\x00"
"""An empty last deflate block (RFC 1951) on a byte boundary."""

TRAILER_SIZE = len(END) + 8


def piece(data: bytes | bytearray | memoryview) -> bytes:
    """Deflate data at level 1 into a piece of its own."""
    compressor = _library.compressobj(1, zlib.DEFLATED, -15)
    return bytes(compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))


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
