"""One dump as a stretch of the archive: its small files packed afresh, its core spliced in as it is stored.

Not here: the archive around it (archive) and sending it (archivefile).
"""

from __future__ import annotations

import hashlib
import logging
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from isal import isal_zlib

from coredump_guard import deflate, record, store
from coredump_shim import beneath, storedcore, tarball
from coredump_shim.catalog import Dump, crash_time
from coredump_shim.storedcore import CoreError, StoredCore

log = logging.getLogger(__name__)

CORE = "core"
CORE_MISSING = "core.missing"
"""Stands, with the reason as its text, in the place of a core that cannot be given as what it was."""

MAX_FILES = 64
MAX_FILES_BYTES = 32 << 20
"""Small files of one dump, in number and bytes; more are left out, since they pass through memory."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RESERVED = frozenset({store.CORE, store.INFO, CORE, CORE_MISSING})
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Bundle:
    """A dump ready to be sent: the deflated head, then the core's stored pieces, then the deflated tail."""

    head: bytes
    core: StoredCore | None
    tail: bytes
    raw_bytes: int
    crc: int
    sums: bytes
    """This dump's lines of SHA256SUMS."""

    @property
    def length(self) -> int:
        """Compressed bytes."""
        return len(self.head) + (self.core.length if self.core else 0) + len(self.tail)

    @property
    def digest(self) -> bytes:
        """Says of two bundles whether they have the same bytes."""
        return hashlib.sha256(
            self.head + struct.pack("<QII", self.length, self.crc, len(self.tail)) + self.sums
        ).digest()[:16]


def pack(root: str, dump: Dump, *, opens_container: bool) -> Bundle:
    """Read a dump's small files and the ends of its core and say what it looks like in an archive.

    With opens_container the container's directory goes before it. The same dump always gives the same bytes.
    Raises OSError if the store does not answer or the dump has gone; one that may not be read is packed as a
    CORE_MISSING that says so.
    """
    place = f"{dump.container}/{dump.id}"
    mtime = crash_time(dump) // 1_000_000
    raw = bytearray(tarball.directory_header(dump.container, mtime) if opens_container else b"")
    raw += tarball.directory_header(place, mtime)
    sums = []
    core, files = _read(root, dump)
    for name, data in files:
        raw += tarball.file_header(f"{place}/{name}", len(data), mtime)
        raw += data + tarball.padding(len(data))
        sums.append(f"{hashlib.sha256(data).hexdigest()}  {place}/{name}\n")
    if core is not None:
        raw += tarball.file_header(f"{place}/{CORE}", core.bytes, mtime)
        if _SHA256.match(dump.record.core.sha256):
            sums.append(f"{dump.record.core.sha256}  {place}/{CORE}\n")
    return _bundle(raw, core, "".join(sums).encode())


def _bundle(raw: bytearray, core: StoredCore | None, sums: bytes) -> Bundle:
    head, crc, size = deflate.piece(raw), deflate.crc32(raw), len(raw)
    if core is None:
        return Bundle(head, None, b"", size, crc, sums)
    tail, tail_crc, tail_size = _padding(-core.bytes % tarball.BLOCK)
    crc = isal_zlib.crc32_combine(crc, core.crc, core.bytes)
    crc = isal_zlib.crc32_combine(crc, tail_crc, tail_size)
    return Bundle(head, core, tail, size + core.bytes + tail_size, crc, sums)


@lru_cache(tarball.BLOCK)
def _padding(size: int) -> tuple[bytes, int, int]:
    zeros = bytes(size)
    return deflate.piece(zeros) if zeros else b"", deflate.crc32(zeros), size


def _read(root: str, dump: Dump) -> tuple[StoredCore | None, list[tuple[str, bytes]]]:
    """Return the core, and the small files with their contents."""
    try:
        with beneath.directory(root, dump.namespace, dump.poduid, dump.container, dump.id) as fd:
            core, why = _core(fd, dump)
            return core, list(_small_files(fd, dump, why))
    except PermissionError as error:
        # It was listed, so it must not be missed without a word.
        log.warning("dump left out of the archive: %s: %s", dump.path, error.strerror)
        return None, [(CORE_MISSING, f"the dump cannot be read: {error.strerror}\n".encode())]


def _small_files(fd: int, dump: Dump, core_missing: str) -> Iterator[tuple[str, bytes]]:
    room = MAX_FILES_BYTES
    yield store.INFO, beneath.read(fd, store.INFO, record.MAX_BYTES)
    if core_missing:
        yield CORE_MISSING, f"{core_missing}\n".encode()
    names = sorted({name for name in dump.record.files if _FILE_NAME.match(name)} - _RESERVED)
    for name in names[:MAX_FILES]:
        data = _small_file(fd, name, room)
        if data is None:
            log.warning("file left out of the archive: %s", f"{dump.path}/{name}")
        else:
            room -= len(data)
            yield name, data


def _small_file(fd: int, name: str, limit: int) -> bytes | None:
    try:
        data = beneath.read(fd, name, limit + 1)
    except OSError as error:
        if error.errno not in beneath.ABSENT:
            raise
        return None
    return data if len(data) <= limit else None


def _core(fd: int, dump: Dump) -> tuple[StoredCore | None, str]:
    """Return the core; or None and why it is not there, where the record says that there is one."""
    if dump.record.refused is not None:
        return None, f"the core was not kept: {dump.record.refused}"
    if not dump.record.core.stored_bytes:
        return None, ""
    try:
        with beneath.regular(fd, store.CORE) as core:
            return storedcore.check(core, dump.record.core), ""
    except CoreError as error:
        why = str(error)
    except OSError as error:
        if error.errno not in beneath.ABSENT:
            raise
        why = f"{store.CORE} cannot be opened: {error.strerror}"
    log.warning("core left out of the archive: %s: %s", dump.path, why)
    return None, why
