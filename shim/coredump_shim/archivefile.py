"""An archive as a file: seekable and read-only, over a plan, without a temporary file.

Not here: how the archive comes about (archive) and the HTTP around it (downloads, serving).
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coredump_guard import store
from coredump_shim import beneath, storedcore
from coredump_shim.archive import OPENING, ChangedError, Place, Plan
from coredump_shim.bundle import Bundle

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True)
class _Stretch:
    """Bytes that lie together: in memory, or in the file that is open."""

    start: int
    """Offset in the archive."""
    length: int
    memory: bytes | None
    offset: int = 0
    """Where the bytes begin in the file."""


class ArchiveFile(io.RawIOBase):
    """The bytes `start` to `stop` of a plan's archive; offsets count from `start`.

    Reading never ends early: where the store no longer holds what was planned, it raises ChangedError, and
    OSError where the store does not answer. `closed_at` is called once, with how many bytes were read.
    """

    def __init__(self, plan: Plan, start: int, stop: int, closed_at: Callable[[int], None] | None = None):
        super().__init__()
        self._plan, self._start, self._stop = plan, start, stop
        self._position = start
        self._closed_at = closed_at
        self._place: Place | None = None
        self._bundle: Bundle | None = None
        self._core: int | None = None
        self._stretch = _Stretch(0, len(OPENING), OPENING)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte read."""
        return self._position - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset; costs nothing until something is read there."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._position, os.SEEK_END: self._stop}[whence]
        if base + offset < self._start:
            raise ValueError("negative seek position")
        self._position = base + offset
        return self.tell()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read at least one byte into a buffer; 0 only at the end."""
        with memoryview(buffer).cast("B") as view:
            data = self._read(len(view))
            view[: len(data)] = data
        return len(data)

    def transmit(self, sock: socket.socket, limit: int) -> int:
        """Send at most limit bytes from where the file stands, without moving; return how many.

        Cores go from the store's file to the socket without passing through this process (sendfile(2)).
        Raises BlockingIOError when the socket takes nothing now.
        """
        stretch, skip, count = self._here(limit)
        if stretch.memory is not None:
            with memoryview(stretch.memory) as view:
                return sock.send(view[skip : skip + count])
        if self._core is None or count == 0:
            return 0
        return _some(os.sendfile(sock.fileno(), self._core, stretch.offset + skip, count))

    def close(self) -> None:
        """Let go of the store."""
        if not self.closed:
            self._leave()
            if self._closed_at is not None:
                self._closed_at(min(self._position, self._stop) - self._start)
        super().close()

    def _read(self, limit: int) -> bytes:
        stretch, skip, count = self._here(limit)
        if stretch.memory is not None:
            data = stretch.memory[skip : skip + count]
        elif self._core is not None and count:
            data = os.pread(self._core, count, stretch.offset + skip)
            _some(len(data))
        else:
            data = b""
        self._position += len(data)
        return data

    def _here(self, limit: int) -> tuple[_Stretch, int, int]:
        """Return the stretch at the position, how far in the position is, and how much may be taken."""
        if self._position >= self._stop or limit <= 0:
            return _Stretch(self._position, 0, b""), 0, 0
        if not 0 <= self._position - self._stretch.start < self._stretch.length:
            self._stretch = self._find()
        skip = self._position - self._stretch.start
        return self._stretch, skip, min(limit, self._stretch.length - skip, self._stop - self._position)

    def _find(self) -> _Stretch:
        plan, position = self._plan, self._position
        if position < len(OPENING):
            return _Stretch(0, len(OPENING), OPENING)
        place = plan.place(position)
        if place is None:
            self._leave()
            return _Stretch(plan.closing_start, len(plan.closing), plan.closing)
        packed = self._enter(place)
        core_start = place.start + len(packed.head)
        if position < core_start:
            return _Stretch(place.start, len(packed.head), packed.head)
        if packed.core is not None and position < core_start + packed.core.length:
            return _Stretch(core_start, packed.core.length, None, packed.core.start)
        return _Stretch(place.start + place.length - len(packed.tail), len(packed.tail), packed.tail)

    def _enter(self, place: Place) -> Bundle:
        """Make this the dump that is open: one at a time."""
        if self._bundle is None or self._place is not place:
            self._leave()
            packed = self._plan.bundle(place)
            self._core = _open(self._plan.root, place, packed)
            self._place, self._bundle = place, packed
        return self._bundle

    def _leave(self) -> None:
        if self._core is not None:
            os.close(self._core)
        self._core = self._place = self._bundle = None


def _open(root: str, place: Place, packed: Bundle) -> int | None:
    if packed.core is None:
        return None
    dump = place.dump
    with beneath.directory(root, dump.namespace, dump.poduid, dump.container, dump.id) as directory:
        fd = beneath.open_regular(directory, store.CORE)
    try:
        if storedcore.check(fd, dump.record.core) != packed.core:
            raise ChangedError(f"changed while it was being downloaded: {dump.path}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _some(count: int) -> int:
    """Return a count of bytes that must not be 0: a file that ends early would be read for ever."""
    if count == 0:
        raise ChangedError("a core in the store became shorter while it was being downloaded")
    return count
