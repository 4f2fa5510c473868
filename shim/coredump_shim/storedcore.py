"""A core as the store has it, core.gz: whether it is what its record says, and what of it is spliced.

Not here: the form in which cores are stored (coredump_guard.deflate), and what is spliced around it (bundle).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from coredump_guard import deflate, store
from coredump_guard.record import Core
from coredump_shim import tarball


@dataclass(frozen=True)
class StoredCore:
    """A core.gz: its size, and what its trailer says."""

    stored_bytes: int
    bytes: int
    crc: int

    @property
    def start(self) -> int:
        """Offset of the first deflate piece."""
        return len(deflate.HEADER)

    @property
    def length(self) -> int:
        """Bytes of deflate pieces, without the header before and the trailer behind them."""
        return self.stored_bytes - len(deflate.HEADER) - deflate.TRAILER_SIZE


class CoreError(ValueError):
    """A core.gz that is not what its record says; the message says how."""


def check(fd: int, expected: Core) -> StoredCore:
    """Return what an opened core.gz is, by its record and by itself.

    Raises CoreError if they do not agree: such a core cannot be spliced as a whole.
    """
    size = os.fstat(fd).st_size
    if size != expected.stored_bytes:
        raise CoreError(f"{store.CORE} has {size} bytes, its record says {expected.stored_bytes}")
    if os.pread(fd, len(deflate.HEADER), 0) != deflate.HEADER:
        raise CoreError(f"{store.CORE} does not begin as a stored core does")
    ending = os.pread(fd, deflate.TRAILER_SIZE, max(size - deflate.TRAILER_SIZE, len(deflate.HEADER)))
    try:
        crc = deflate.parse_trailer(ending)
    except ValueError as error:
        raise CoreError(f"{store.CORE} {error}") from None
    if not 0 <= expected.bytes <= tarball.LARGEST or ending != deflate.trailer(crc, expected.bytes):
        raise CoreError(f"{store.CORE} does not hold the {expected.bytes} bytes that its record says")
    return StoredCore(size, expected.bytes, crc)
