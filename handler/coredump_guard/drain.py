"""Draining a core: from the kernel's pipe or socket into a file, compressed once on the way.

Not here: what becomes of the file (spool) and what the core tells (elfcore).
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from coredump_guard import deflate, elfcore

PENDING = 3
"""Pieces that may be under compression at once; one more is being filled."""

compressors = ThreadPoolExecutor(max_workers=2, thread_name_prefix="deflate")
"""Shared by all captures: more threads than this only take processors from the node's own work."""


class DeadlinePassed(Exception):  # noqa: N818 # an end like another, not an error
    """The capture took longer than it may."""


@dataclass(frozen=True)
class Drained:
    """A core that has been drained; sizes in bytes."""

    bytes: int
    stored_bytes: int
    stored_sha256: str
    """Of a compressed core; empty for a raw one."""
    head: elfcore.Head
    truncated: str | None
    """Why it is known to be cut, or None."""


def drain(core: int, out: int, deadline: float, *, raw: bool = not deflate.FAST) -> Drained:
    """Copy core to its end into the file out, compressed unless it should stay raw; closes neither.

    deadline is on the monotonic clock, in seconds. What has arrived when it passes, or when out can take no
    more, is closed into a valid file and marked as truncated.

    Raises OSError if not even that fits.
    """
    sink = Raw(out) if raw else Deflated(out)
    head = bytearray()
    truncated = _pump(core, sink, head, deadline)
    size, stored, digest = sink.close()
    parsed = elfcore.parse(head)
    if truncated is None and parsed.expected_bytes is not None and size < parsed.expected_bytes:
        truncated = f"the kernel sent {size} of {parsed.expected_bytes} bytes"
    return Drained(size, stored, digest, parsed, truncated)


def _pump(core: int, sink: Raw | Deflated, head: bytearray, deadline: float) -> str | None:
    """Move the core into the sink, keep its head, and return why it stopped early, if it did."""
    late = None
    taken = 0
    try:
        try:
            for view in pieces(core, deadline):
                _grow(head, view, taken)
                sink.write(view)
                taken += len(view)
        except DeadlinePassed:
            late = "the capture's deadline passed"
        sink.flush()
    except OSError as error:
        return f"the spool took no more: {error.strerror}"
    return late


def _grow(head: bytearray, view: memoryview, taken: int) -> None:
    """Add to the head what is still wanted of it, from the piece that begins at taken bytes of the core."""
    while len(head) < (wanted := min(elfcore.wanted(head), taken + len(view))):
        head += view[len(head) - taken : wanted - taken]


def pieces(core: int, deadline: float) -> Iterator[memoryview]:
    """Yield the core in pieces of deflate.PIECE bytes, the last one shorter.

    A piece's memory is used again PENDING + 1 pieces later.

    Raises DeadlinePassed; the bytes of the unfinished piece are yielded before.
    """
    buffers = [memoryview(bytearray(deflate.PIECE)) for _ in range(PENDING + 1)]
    poll = select.poll()
    poll.register(core, select.POLLIN)
    turn = 0
    while True:
        view = buffers[turn % len(buffers)]
        turn += 1
        filled, late = _fill(core, view, poll, deadline)
        if filled:
            yield view[:filled]
        if late:
            raise DeadlinePassed
        if filled < len(view):
            return


def _fill(core: int, view: memoryview, poll: select.poll, deadline: float) -> tuple[int, bool]:
    """Fill view and return how far, and whether the deadline was what stopped it."""
    filled = 0
    while filled < len(view):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return filled, True
        count = os.readv(core, [view[filled:]])
        if count == 0:
            break
        filled += count
    return filled, False


class Raw:
    """A sink for machines without isal: the guard compresses the file later, off the crash path."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._size = 0

    def write(self, view: memoryview) -> None:
        """Store a piece whole or raise OSError, leaving what was stored before."""
        write_all(self._out, view, self._size)
        self._size += len(view)

    def flush(self) -> None:
        """Do nothing: each piece was stored when it was taken."""

    def close(self) -> tuple[int, int, str]:
        """Return the core's size, the file's size and an empty checksum."""
        return self._size, self._size, ""


class Deflated:
    """A sink that compresses pieces in parallel and writes them in order, as one gzip member."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._pending: deque[tuple[int, int, Future[bytes]]] = deque()
        self._digest = hashlib.sha256()
        self._taken_crc = self._crc = 0
        self._taken = self._size = 0
        self._stored = 0
        self._append(deflate.HEADER, deflate.trailer(0, 0))

    def write(self, view: memoryview) -> None:
        """Take a piece; its memory must not change until PENDING more were taken.

        Raises OSError when the file takes no more; it then ends with the last whole piece.
        """
        self._taken += len(view)
        self._taken_crc = deflate.crc32(view, self._taken_crc)
        self._pending.append((self._taken, self._taken_crc, compressors.submit(deflate.piece, view)))
        if len(self._pending) > PENDING:
            self._collect()

    def close(self) -> tuple[int, int, str]:
        """End the member after the last stored piece; return the core's size, the file's and its SHA-256."""
        self._append(deflate.trailer(self._crc, self._size))
        return self._size, self._stored, self._digest.hexdigest()

    def flush(self) -> None:
        """Store what was taken; raises OSError as `write` does."""
        while self._pending:
            self._collect()

    def _collect(self) -> None:
        size, crc, compressed = self._pending.popleft()
        self._append(compressed.result(), deflate.trailer(crc, size))
        self._size, self._crc = size, crc

    def _append(self, data: bytes, end: bytes = b"") -> None:
        """Store data where the end stands now, and an end behind it, so that there is always room for one."""
        write_all(self._out, data + end, self._stored)
        self._digest.update(data)
        self._stored += len(data)


def write_all(out: int, data: bytes | memoryview, offset: int) -> None:
    """Write data at offset; if it does not fit, the file is cut back to offset and OSError raised."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.pwrite(out, rest, offset + len(data) - len(rest)) :]
    except OSError:
        os.ftruncate(out, offset)
        raise
