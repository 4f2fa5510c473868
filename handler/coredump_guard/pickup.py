"""A dump in the spool made ready for delivery: its record is read, its core compressed if it is not yet.

Not here: the spool's layout (spool) and bringing a dump to the store (deliver).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from coredump_guard import store
from coredump_guard.drain import drain
from coredump_guard.record import Record
from coredump_guard.spool import FILE_MODE, Spool, sync_directory

_DAY = 86400.0
_PIECE = 1 << 20


class BrokenDump(Exception):  # noqa: N818 # names the dump's state, not this module's
    """A dump in the spool that cannot be delivered, however often it is tried."""


class LocalError(OSError):
    """The node's own disk failed; the store is not to blame."""


@contextmanager
def local() -> Iterator[None]:
    """Raise what the node's own disk says as LocalError."""
    try:
        yield
    except OSError as error:
        raise LocalError(error.errno, error.strerror, error.filename) from error


def prepared(spool: Spool, dump_id: str) -> Record:
    """Return the record of a dump that is ready to be delivered: with its core in core.gz, or without one.

    Raises LocalError, BrokenDump.
    """
    record = _record(spool, dump_id)
    if record.refused is not None:
        return record
    source = spool.path(dump_id)
    with local():
        files = os.listdir(source)
        if store.RAW_CORE in files:
            return _compress(source, record)
    if store.CORE not in files:
        raise BrokenDump("its core is missing in the spool")
    return record


def files(spool: Spool, record: Record) -> list[str]:
    """Return the names of a dump's files but its record, the core last; raises LocalError."""
    with local():
        # Its record is written anew, by us and by a tally's next crash; a refused dump has no core.
        small = [name for name in os.listdir(spool.path(record.id)) if not name.startswith(store.INFO)]
    core = [] if record.refused is not None else [store.CORE]
    return sorted(name for name in small if name not in (store.CORE, store.RAW_CORE)) + core


def size(spool: Spool, record: Record) -> int:
    """Return the bytes of those files; raises LocalError."""
    with local():
        return sum(os.stat(f"{spool.path(record.id)}/{name}").st_size for name in files(spool, record))


@contextmanager
def opened(spool: Spool, dump_id: str, name: str) -> Iterator[BinaryIO]:
    """Open one of a dump's files for `read`; raises LocalError."""
    with local():
        file = open(f"{spool.path(dump_id)}/{name}", "rb", buffering=0, opener=_private)  # noqa: SIM115 # below
    with file:
        yield file


def read(file: BinaryIO) -> bytes:
    """Return the next piece of a file that was opened here, none at its end; raises LocalError."""
    with local():
        return file.read(_PIECE)


def _record(spool: Spool, dump_id: str) -> Record:
    try:
        record = spool.record(dump_id)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        raise BrokenDump(f"its record cannot be read: {error}") from None
    except OSError as error:
        raise LocalError(error.errno, error.strerror, error.filename) from error
    if record.id != dump_id:
        raise BrokenDump(f"its record is that of {record.id}")
    return record


def _compress(source: str, record: Record) -> Record:
    """Compress a core that was captured without isal; what is interrupted begins again."""
    core, packed = f"{source}/{store.RAW_CORE}", f"{source}/{store.CORE}"
    with open(core, "rb") as raw, open(packed, "wb", opener=_private) as out:
        if (size := os.fstat(raw.fileno()).st_size) != record.core.bytes:
            raise BrokenDump(f"its core has {size} bytes in the spool, its record says {record.core.bytes}")
        drained = drain(raw.fileno(), out.fileno(), time.monotonic() + _DAY, raw=False)
        os.fsync(out.fileno())
    if drained.bytes != record.core.bytes:
        raise OSError(errno.ENOSPC, "no room in the spool to compress the core")
    record = replace(record, core=replace(record.core, stored_bytes=drained.stored_bytes))
    with open(f"{source}/{store.INFO}.new", "wb", opener=_private) as file:
        file.write(record.to_json().encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{source}/{store.INFO}.new", f"{source}/{store.INFO}")
    sync_directory(source)
    os.unlink(core)
    return record


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
