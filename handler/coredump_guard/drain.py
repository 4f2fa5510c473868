"""Draining a core: from the kernel's pipe or socket into a file, compressed once on the way.

Not here: what becomes of the file (spool) and what the core tells (elfcore).
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from coredump_guard import deflate, elfcore
from coredump_guard.config import UNLIMITED

THREADS = 3
"""That take turns at one core: one reads while two compress; more only take from the node's own work."""

Room = Callable[[int], None]
"""Asked for room for so many bytes before they are stored; raises Full."""

YIELDS = 100
"""How often an empty pipe is looked at again before we sleep.

The kernel fills its 64 KiB in some 20 µs, and waking a sleeper takes longer than that: without this, both
sides spend a third of the time waking each other.
"""


class TooLarge(Exception):  # noqa: N818 # a finding, not an error
    """The core is larger than what may be kept; the argument is its size in bytes, as far as it is known."""


class Full(Exception):  # noqa: N818 # a finding, not an error
    """There is no room for more of the core; the message says which bound it is."""


STILL_SECONDS = 60.0
"""How long no byte may come, whatever the deadline: a process that was frozen while it dumps, or whose memory
lies on a file server that is dead. There are few workers, and others' crashes wait for them."""


@dataclass(frozen=True)
class Drained:
    """A core that has been drained; sizes in bytes."""

    bytes: int
    stored_bytes: int
    head: elfcore.Head
    truncated: str | None
    """Why it is known to be cut, or None."""


def drain(
    core: int,
    out: int,
    deadline: float,
    *,
    largest: int = UNLIMITED,
    room: Room | None = None,
    raw: bool = not deflate.FAST,
) -> Drained:
    """Copy core to its end into the file out, compressed unless it should stay raw; closes neither.

    deadline is on the monotonic clock, in seconds. What has arrived when it passes, or when out can take no
    more or there is no room for it, is closed into a valid file and marked as truncated.

    Raises TooLarge as soon as it is known that the core has more than largest bytes, OSError if not even the
    end of a valid file fits.
    """
    turns = _Turns(core, Raw(out) if raw else Deflated(out), deadline, largest, room)
    truncated = turns.run(1 if raw else THREADS)
    size, stored = turns.sink.close()
    parsed = elfcore.parse(turns.head)
    if truncated is None:
        truncated = _judged(size, turns.head, parsed.expected_bytes)
    return Drained(size, stored, parsed, truncated)


def _judged(size: int, head: bytearray, expected: int | None) -> str | None:
    """Say why a core that came to its end is not whole: an ELF's program headers tell how long it must be."""
    if expected is None:
        if not b"\x7fELF".startswith(head[:4]):
            return None
        return f"the kernel sent {size} bytes, which end before the core's headers do"
    return f"the kernel sent {size} of {expected} bytes" if size < expected else None


@dataclass(frozen=True)
class _Piece:
    """A piece that was read; size and crc are those of the core up to its end."""

    number: int
    data: memoryview
    size: int
    crc: int


class _Turns:
    """Threads that take turns: one reads a piece while another packs its own; they store in order."""

    def __init__(
        self, core: int, sink: Raw | Deflated, deadline: float, largest: int, room: Room | None
    ) -> None:
        self.sink = sink
        self.head = bytearray()
        self._core = core
        self._deadline = deadline
        self._largest = largest
        self._room = room
        self._reading = threading.Lock()
        self._storing = threading.Condition()
        self._read = self._stored = 0
        self._size = self._crc = 0
        self._ended = self._measured = False
        self._cut: str | None = None
        self._error: BaseException | None = None

    def run(self, threads: int) -> str | None:
        """Move the core into the sink and return why that stopped early, if it did."""
        os.set_blocking(self._core, False)
        helpers = self._helpers(threads - 1)
        self._work()
        for helper in helpers:
            helper.join()
        if isinstance(self._error, (OSError, Full)):
            return f"the spool took no more: {getattr(self._error, 'strerror', None) or self._error}"
        if self._error:
            raise self._error
        return self._cut

    def _helpers(self, count: int) -> list[threading.Thread]:
        """Start up to count threads; where the system allows no more (pids.max), fewer do the work."""
        helpers: list[threading.Thread] = []
        with contextlib.suppress(RuntimeError):
            for _ in range(count):
                helper = threading.Thread(target=self._work, name="drain")
                helper.start()
                helpers.append(helper)
        return helpers

    def _work(self) -> None:
        buffer = memoryview(bytearray(deflate.PIECE))
        try:
            while piece := self._take(buffer):
                self._store(piece, self.sink.pack(piece.data))
        except BaseException as error:  # raised by run, in the caller's thread
            with self._storing:
                self._error = self._error or error
                self._ended = True
                self._storing.notify_all()

    def _take(self, buffer: memoryview) -> _Piece | None:
        with self._reading:
            if self._ended:
                return None
            filled, self._cut = _fill(self._core, buffer, self._deadline)
            self._ended = self._cut is not None or filled < len(buffer)
            if not filled:
                return None
            data = buffer[:filled]
            _grow(self.head, data, self._size)
            self._size += filled
            self._measure()
            self._crc = deflate.crc32(data, self._crc)
            self._read += 1
            return _Piece(self._read - 1, data, self._size, self._crc)

    def _measure(self) -> None:
        """Raise TooLarge if the core is; what it promises is known once its program headers are there."""
        expected = self._size
        if not self._measured and len(self.head) >= elfcore.wanted(self.head):
            self._measured = True
            expected = max(expected, elfcore.parse(self.head).expected_bytes or 0)
        if expected > self._largest:
            self._ended = True  # now, while nobody else reads
            raise TooLarge(expected)

    def _store(self, piece: _Piece, packed: bytes | memoryview) -> None:
        with self._storing:
            self._storing.wait_for(lambda: self._error or self._stored == piece.number)
            if self._error is None:
                if self._room:
                    self._room(len(packed))
                self.sink.append(packed, piece.size, piece.crc)
                self._stored += 1
                self._storing.notify_all()


def _grow(head: bytearray, view: memoryview, taken: int) -> None:
    """Add to the head what is still wanted of it, from the piece that begins at taken bytes of the core."""
    while len(head) < (wanted := min(elfcore.wanted(head), taken + len(view))):
        head += view[len(head) - taken : wanted - taken]


def _fill(core: int, view: memoryview, deadline: float) -> tuple[int, str | None]:
    """Fill view and return how far, and what stopped it if it was not the core's end."""
    poll = select.poll()
    poll.register(core, select.POLLIN)
    # A socket's pages come one by one, each with a wake-up of its own: there, sleeping is what gathers them.
    yields = 0 if stat.S_ISSOCK(os.fstat(core).st_mode) else YIELDS
    filled = empty = 0
    heard = time.monotonic()
    while filled < len(view):
        now = time.monotonic()
        if now >= deadline:
            return filled, "the capture's deadline passed"
        left = min(deadline, heard + STILL_SECONDS) - now
        if left <= 0:
            return filled, f"no byte came for {STILL_SECONDS:.0f} s: the process stands still"
        try:
            count = os.readv(core, [view[filled:]])
        except BlockingIOError:
            empty += 1
            if empty < yields:
                os.sched_yield()
            else:
                poll.poll(left * 1000)
            continue
        except OSError as error:
            return filled, f"the core could not be read on: {error.strerror}"
        if count == 0:
            break
        filled += count
        empty, heard = 0, now
    return filled, None


class Raw:
    """A sink for machines without isal: the guard compresses the file later, off the crash path."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._size = 0

    def pack(self, data: memoryview) -> memoryview:
        """Return what is stored of a piece: all of it."""
        return data

    def append(self, packed: bytes | memoryview, size: int, crc: int) -> None:
        """Store a piece whole or raise OSError, leaving what was stored before."""
        write_all(self._out, packed, self._size)
        self._size = size

    def close(self) -> tuple[int, int]:
        """Return the core's size and the file's."""
        return self._size, self._size


class Deflated:
    """A sink that stores compressed pieces as one gzip member."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._crc = self._size = self._stored = 0
        self._write(deflate.HEADER, deflate.trailer(0, 0))

    def pack(self, data: memoryview) -> bytes:
        """Compress a piece; for any number of threads at once."""
        return deflate.piece(data)

    def append(self, packed: bytes | memoryview, size: int, crc: int) -> None:
        """Store a piece that ends at size bytes of the core, whose CRC-32 up to there is crc.

        Raises OSError when the file takes no more; it then ends with the last whole piece.
        """
        self._write(packed, deflate.trailer(crc, size))
        self._size, self._crc = size, crc

    def close(self) -> tuple[int, int]:
        """End the member after the last stored piece; return the core's size and the file's."""
        self._write(deflate.trailer(self._crc, self._size))
        return self._size, self._stored

    def _write(self, data: bytes | memoryview, end: bytes = b"") -> None:
        """Store data where the end stands now, and an end behind it, so that there is always room for one."""
        write_all(self._out, b"".join((data, end)), self._stored)
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
