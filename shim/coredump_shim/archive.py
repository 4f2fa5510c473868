"""The plan of an archive: one gzip stream over many dumps, its exact length and entity tag.

Not here: what one dump looks like in it (bundle), reading it (archivefile), which dumps (selection).

Dumps follow each other by id, so by time, and SHA256SUMS comes last: a dump that arrives later lengthens
the archive without changing what was before it. Nothing is recompressed, no file is kept open, and of a
dump only its place is kept: its bundle is made again, and compared, when its turn comes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from isal import isal_zlib

from coredump_guard import deflate
from coredump_shim import beneath, bundle, tarball
from coredump_shim.bundle import Bundle
from coredump_shim.catalog import Dump, crash_time
from coredump_shim.etag import ETag

SUMS = "SHA256SUMS"
OPENING = deflate.HEADER
"""What an archive begins with: the header of its one gzip member."""


class ChangedError(OSError):
    """The store no longer holds what an archive was planned from."""


@dataclass(frozen=True)
class Place:
    """A dump's bundle in an archive."""

    dump: Dump
    opens_container: bool
    start: int
    """Offset in the archive, compressed."""
    length: int
    digest: bytes


@dataclass(frozen=True)
class Plan:
    """An archive that can be sent from any offset on."""

    root: str
    places: tuple[Place, ...]
    closing: bytes
    """What follows the bundles: SHA256SUMS, tar's end, gzip's trailer."""
    etag: ETag

    @property
    def closing_start(self) -> int:
        """Offset of `closing`."""
        return self.places[-1].start + self.places[-1].length if self.places else len(OPENING)

    @property
    def length(self) -> int:
        """Bytes of the whole archive."""
        return self.closing_start + len(self.closing)

    def place(self, offset: int) -> Place | None:
        """Return which bundle lies at an offset, None before the first and behind the last."""
        if not len(OPENING) <= offset < self.closing_start:
            return None
        return self.places[bisect_right(self.places, offset, key=lambda place: place.start) - 1]

    def bundle(self, place: Place) -> Bundle:
        """Make a planned bundle again. Raises OSError, ChangedError if it is no longer what it was."""
        packed = bundle.pack(self.root, place.dump, opens_container=place.opens_container)
        if packed.digest != place.digest:
            raise ChangedError(f"changed while it was being downloaded: {place.dump.path}")
        return packed


class Planner:
    """Puts dumps into a plan, some at a time, so that a caller can give each step its deadline."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._places: list[Place] = []
        self._containers: set[str] = set()
        self._length = len(OPENING)
        self._raw = _Raw()
        self._sums = _Sums()
        self._digest = hashlib.sha256()
        self._cutoff = 0

    def add(self, dumps: Iterable[Dump]) -> None:
        """Append dumps, sorted by id; one that is gone by now is left out. Raises OSError."""
        for dump in dumps:
            try:
                packed = bundle.pack(self._root, dump, opens_container=dump.container not in self._containers)
            except OSError as error:
                if error.errno not in beneath.GONE:
                    raise
            else:
                self._append(dump, packed)

    def _append(self, dump: Dump, packed: Bundle) -> None:
        opens = dump.container not in self._containers
        place = Place(dump, opens, self._length, packed.length, packed.digest)
        self._places.append(place)
        self._containers.add(dump.container)
        self._length += packed.length
        self._raw.extend(packed.crc, packed.raw_bytes)
        self._sums.add(packed.sums)
        self._digest.update(packed.digest)
        self._cutoff = max(self._cutoff, dump.arrived)

    def plan(self) -> Plan:
        """Return the plan of what was added; it has no places if that was nothing."""
        self._sums.flush()
        newest = crash_time(self._places[-1].dump) // 1_000_000 if self._places else 0
        header = tarball.file_header(SUMS, self._sums.raw.bytes, newest)
        end = tarball.padding(self._sums.raw.bytes) + tarball.END
        pieces = [deflate.piece(header), *self._sums.pieces, deflate.piece(end)]
        raw = self._raw
        raw.extend(deflate.crc32(header), len(header))
        raw.extend(self._sums.raw.crc, self._sums.raw.bytes)
        raw.extend(deflate.crc32(end), len(end))
        closing = b"".join(pieces) + deflate.trailer(raw.crc, raw.bytes)
        self._digest.update(closing)
        etag = ETag(self._cutoff, self._digest.hexdigest()[:32])
        return Plan(self._root, tuple(self._places), closing, etag)


@dataclass
class _Raw:
    """Uncompressed bytes passed so far: how many, and their CRC-32."""

    crc: int = 0
    bytes: int = 0

    def extend(self, crc: int, size: int) -> None:
        self.crc = isal_zlib.crc32_combine(self.crc, crc, size)
        self.bytes += size


class _Sums:
    """The text of SHA256SUMS, kept deflated."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.raw = _Raw()
        self._text = bytearray()

    def add(self, lines: bytes) -> None:
        self._text += lines
        if len(self._text) >= deflate.PIECE:
            self.flush()

    def flush(self) -> None:
        self.pieces.append(deflate.piece(self._text))
        self.raw.extend(deflate.crc32(self._text), len(self._text))
        self._text.clear()
