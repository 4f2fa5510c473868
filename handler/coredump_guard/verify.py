"""Whether a stored core is what the kernel sent: by its sums, its size and its CRC-32.

Not here: what becomes of one that is not (deliver).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from coredump_guard import deflate

CHUNK = 1 << 20


@dataclass(frozen=True)
class Sums:
    """What a core.gz was found to be."""

    stored_sha256: str
    sha256: str
    """Of the core in it."""
    bytes: int
    """Size of the core in it; -1 if it cannot be inflated to its end."""


def inflated(file: BinaryIO) -> Sums:
    """Read a core.gz to its end and inflate it; raises OSError if it cannot be read."""
    stored, inner, size = hashlib.sha256(), hashlib.sha256(), 0
    inflate = deflate.decompressobj(31)
    while data := file.read(CHUNK):
        stored.update(data)
        # A piece of zeros inflates a thousandfold: never more than this at once.
        while data and size >= 0:
            try:
                part = inflate.decompress(data, CHUNK)
            except deflate.error:
                size = -1
                break
            inner.update(part)
            size += len(part)
            data = inflate.unconsumed_tail
    return Sums(stored.hexdigest(), inner.hexdigest(), size if inflate.eof else -1)
