"""Delivery of one dump: from the spool to the store, verified, and safe to repeat after any interruption.

Not here: when to try and how often (deliverer).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Collection
from dataclasses import replace
from typing import BinaryIO

from coredump_guard import deflate, store
from coredump_guard.capture import rfc3339
from coredump_guard.config import Config
from coredump_guard.drain import drain
from coredump_guard.record import Core, Record
from coredump_guard.spool import DIRECTORY_MODE, FILE_MODE, Spool, sync_directory

_CHUNK = 1 << 20
_INBOX, _INCOMPLETE = ".inbox", ".incomplete"
"""Appended to a dump's id in .incoming: its announcement; what lay in its place without a record."""


class BrokenDump(Exception):  # noqa: N818 # names the dump's state, not this module's
    """A dump in the spool that cannot be delivered, however often it is tried."""


def deliver(spool: Spool, dump_id: str, config: Config) -> Record:
    """Bring one dump to the store, announce it there and remove it from the spool; returns its record.

    Raises OSError while the store does not take it (try again), BrokenDump if the dump itself is at fault.
    """
    source = spool.path(dump_id)
    record = _record(spool, dump_id)
    files = os.listdir(source)
    if store.RAW_CORE in files:
        record = _compress(source, record)
    elif store.CORE not in files:
        raise BrokenDump("its core is missing in the spool")
    place = store.directory(record.identity, record.node)
    if not os.path.isdir(config.store):
        raise FileNotFoundError(2, f"{config.store} is not there: is it mounted?")
    _make(config.store, place, config.group)
    target = f"{config.store}/{place}/{dump_id}"
    if os.path.islink(target) or not os.path.lexists(f"{target}/{store.INFO}"):
        record = _bring(source, record, f"{config.store}/{place}", config)
    _announce(dump_id, f"{place}/{dump_id}", config)
    spool.remove(dump_id)
    return record


def tidy(config: Config, pending: Collection[str]) -> None:
    """Remove from this node's .incoming what deliveries of dumps that are not pending any more have left.

    Raises OSError if it cannot, FileNotFoundError where nothing was ever delivered.
    """
    incoming = f"{config.store}/{store.INCOMING}/{config.node}"
    for directory in (os.path.dirname(incoming), incoming):
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            raise NotADirectoryError(20, f"{directory} is not a directory")
    for name in os.listdir(incoming):
        ours = store.is_dump_id(name.removesuffix(_INBOX).removesuffix(_INCOMPLETE))
        if ours and name not in pending:
            _remove(f"{incoming}/{name}")


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)  # a link: itself, not what it leads to


def _record(spool: Spool, dump_id: str) -> Record:
    try:
        record = spool.record(dump_id)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        raise BrokenDump(f"its record cannot be read: {error}") from None
    if record.id != dump_id:
        raise BrokenDump(f"its record is that of {record.id}")
    return record


def _compress(source: str, record: Record) -> Record:
    """Compress a core that was captured without isal; what is interrupted begins again."""
    core, packed = f"{source}/{store.RAW_CORE}", f"{source}/{store.CORE}"
    with open(core, "rb") as raw, open(packed, "wb", opener=_private) as out:
        if (size := os.fstat(raw.fileno()).st_size) != record.core.bytes:
            raise BrokenDump(f"its core has {size} bytes in the spool, its record says {record.core.bytes}")
        drained = drain(raw.fileno(), out.fileno(), time.monotonic() + 86400, raw=False)
        os.fsync(out.fileno())
    if drained.bytes != record.core.bytes:
        raise OSError(28, "no room in the spool to compress the core")
    record = replace(record, core=replace(record.core, stored_bytes=drained.stored_bytes))
    _write(f"{source}/{store.INFO}.new", record.to_json().encode(), -1)
    os.replace(f"{source}/{store.INFO}.new", f"{source}/{store.INFO}")
    sync_directory(source)
    os.unlink(core)
    return record


def _bring(source: str, record: Record, place: str, config: Config) -> Record:
    """Copy the dump into .incoming, read it back, and rename it to its place."""
    incoming = f"{config.store}/{store.INCOMING}/{config.node}"
    draft = f"{incoming}/{record.id}"
    _make(config.store, os.path.relpath(incoming, config.store), config.group)  # checks what rmtree follows
    for left in (draft, draft + _INCOMPLETE):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(left)
    _make(config.store, os.path.relpath(draft, config.store), config.group)
    for name in os.listdir(source):
        if name != store.INFO:
            _copy(f"{source}/{name}", f"{draft}/{name}", config.group)
    record = replace(record, core=_verified(source, draft, record.core), delivered=rfc3339(time.time()))
    _write(f"{draft}/{store.INFO}", record.to_json().encode(), config.group)
    sync_directory(draft)
    _rename(draft, f"{place}/{record.id}")
    sync_directory(place)
    return record


def _rename(draft: str, target: str) -> None:
    """Show the dump; a directory without a record that lies in its place gives way, being no dump."""
    try:
        os.rename(draft, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        os.rename(target, draft + _INCOMPLETE)
        os.rename(draft, target)
        shutil.rmtree(draft + _INCOMPLETE)


def _verified(source: str, draft: str, core: Core) -> Core:
    """Read the delivered core back and inflate it: what arrived is what the kernel sent, by size and CRC-32.

    Raises OSError if the store changed it, BrokenDump if it was no good in the spool already.
    """
    with open(f"{draft}/{store.CORE}", "rb") as file:
        stored, inner, size = _inflate(file)
    if stored != _sha256(f"{source}/{store.CORE}"):
        raise OSError(5, "core.gz read back from the store differs from the one in the spool")
    if size != core.bytes:
        found = "is damaged" if size < 0 else f"inflates to {size} bytes"
        raise BrokenDump(f"core.gz {found}, its record says {core.bytes} bytes")
    return replace(core, stored_sha256=stored, sha256=inner)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def _inflate(file: BinaryIO) -> tuple[str, str, int]:
    """Return SHA-256 of the stored bytes, SHA-256 of the core in them, and its size, -1 if it is damaged."""
    stored, inner, size = hashlib.sha256(), hashlib.sha256(), 0
    inflate = deflate.decompressobj(31)
    while data := file.read(_CHUNK):
        stored.update(data)
        # A piece of zeros inflates a thousandfold: never more than this at once.
        while data and size >= 0:
            try:
                part = inflate.decompress(data, _CHUNK)
            except deflate.error:
                size = -1
                break
            inner.update(part)
            size += len(part)
            data = inflate.unconsumed_tail
    return stored.hexdigest(), inner.hexdigest(), size if inflate.eof else -1


def _announce(dump_id: str, path: str, config: Config) -> None:
    _make(config.store, f"{store.INCOMING}/{config.node}", config.group)
    _make(config.store, store.INBOX, config.group)
    draft = f"{config.store}/{store.INCOMING}/{config.node}/{dump_id}{_INBOX}"
    _write(draft, f"{path}\n".encode(), config.group)
    os.replace(draft, f"{config.store}/{store.INBOX}/{dump_id}")
    sync_directory(f"{config.store}/{store.INBOX}")


def _make(root: str, below: str, group: int) -> None:
    """Make directories below root, each of them durable and of the configured group."""
    path = root
    for part in below.split("/"):
        parent, path = path, f"{path}/{part}"
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise NotADirectoryError(20, f"{path} is not a directory") from None
            continue
        if group >= 0:
            os.chown(path, -1, group)
        sync_directory(parent)


def _copy(source: str, target: str, group: int) -> None:
    with open(source, "rb") as file, open(target, "xb", opener=_private) as out:
        offset = 0
        while sent := os.sendfile(out.fileno(), file.fileno(), offset, 1 << 30):
            offset += sent
        _settle(out.fileno(), group)


def _write(path: str, data: bytes, group: int) -> None:
    with open(path, "wb", opener=_private) as out:
        out.write(data)
        out.flush()
        _settle(out.fileno(), group)


def _settle(fd: int, group: int) -> None:
    """Give an open file to the group (never by its path) and to the disk."""
    if group >= 0:
        os.fchown(fd, -1, group)
    os.fsync(fd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
