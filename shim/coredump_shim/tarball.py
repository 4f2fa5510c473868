"""What tar wants around a file's bytes: its header in GNU format, its padding, the end of an archive.

Not here: compression, and which files there are (bundle).
"""

from __future__ import annotations

import tarfile

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two blocks of zeros end an archive."""

LARGEST = (1 << 63) - 1
"""Largest file, in bytes, that every reader can take: sizes are signed 64-bit numbers there."""
_LATEST = 0o77777777777
"""Latest time, in seconds since the epoch, that fits a header's eleven octal digits."""


def file_header(path: str, size: int, mtime: int) -> bytes:
    """Return the header of a regular file of root's that only root may read, of size bytes.

    GNU format: base-256 sizes from 8 GiB on and long names pass every reader; pax records fail in busybox.
    """
    return _header(path, tarfile.REGTYPE, 0o600, size, mtime)


def directory_header(path: str, mtime: int) -> bytes:
    """Return the header of a directory of root's that only root may enter."""
    return _header(path, tarfile.DIRTYPE, 0o700, 0, mtime)


def padding(size: int) -> bytes:
    """Return the zeros that fill a file of this size up to a whole block."""
    return bytes(-size % BLOCK)


def _header(path: str, kind: bytes, mode: int, size: int, mtime: int) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size = kind, mode, size
    entry.mtime = min(max(mtime, 0), _LATEST)
    entry.uname = entry.gname = "root"
    return entry.tobuf(tarfile.GNU_FORMAT)
