"""Delivery of one dump: from the spool to the store, verified, and safe to repeat after any interruption.

Not here: when to try and how often (deliverer), and what is checked and compressed in the spool (pickup).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from coredump_guard import machine, mount, pickup, quota, store, tree, verify
from coredump_guard.capture import rfc3339
from coredump_guard.config import UNLIMITED, Config
from coredump_guard.drain import write_all
from coredump_guard.pickup import BrokenDump, local
from coredump_guard.quota import Usage
from coredump_guard.record import MAX_BYTES, Core, Record, RecordError
from coredump_guard.spool import Spool

_INBOX, _INCOMPLETE, _RECOUNT = ".inbox", ".incomplete", ".recount"
"""Appended to a dump's id among our drafts: its announcement; what lay in its place and is no whole dump of
this id; a tally's newer record."""
_SUMS = 256
"""Bytes by which a record grows when it is delivered: two sums and a time."""
RECENTLY = 86400
"""Seconds after which another machine that used our name is no longer mentioned."""


class Vanished(Exception):  # noqa: N818 # names the dump's state, not this module's
    """A dump that is no longer in the spool: a newer one of its crash loop replaced it."""


@dataclass(frozen=True)
class Delivery:
    """What became of a dump."""

    record: Record
    """As the store has it: its `refused` may come from a quota that left no room for the core."""
    usage: Usage | None = None
    """What its namespace has of the store now; None where no quota is set or none was asked for."""
    evicted: Record | None = None
    """The dump that it replaced in the store."""
    superseded: bool = False
    """A tally went on meanwhile: its newer record waits in the spool."""


@dataclass(frozen=True)
class _Store:
    """Descriptors of the directories that one delivery needs."""

    root: int
    drafts: int
    place: int
    """Where the dump's directory belongs."""
    group: int


def deliver(spool: Spool, dump_id: str, config: Config) -> Delivery:
    """Bring one dump to the store, announce it there and remove it from the spool.

    Raises OSError while the store does not take it (try again), LocalError if that is the spool's fault,
    BrokenDump if it is the dump's own, Vanished if the dump is gone.
    """
    try:
        return _deliver(spool, dump_id, config)
    except (OSError, BrokenDump):
        if os.path.lexists(spool.path(dump_id)):
            raise
        raise Vanished(dump_id) from None


def tidy(config: Config, pending: Collection[str]) -> None:
    """Remove what deliveries of dumps that are not pending any more have left among this machine's drafts.

    Raises OSError if it cannot, FileNotFoundError where nothing was ever delivered.
    """
    with tree.root(config.store) as root, tree.entered(root, _drafts(config)) as drafts:
        for name in list(tree.names(drafts)):
            if name not in pending:
                tree.remove(drafts, name)


def namesakes(config: Config) -> list[str]:
    """Return the drafts' directories of other machines that went by this node's name within a day.

    Raises OSError if the store fails.
    """
    ours, found = _drafts(config)[-1], []
    with contextlib.ExitStack() as held:
        root = held.enter_context(tree.root(config.store))
        held.enter_context(contextlib.suppress(FileNotFoundError))  # nothing was ever delivered there
        incoming = held.enter_context(tree.entered(root, [store.INCOMING]))
        for name in tree.names(incoming):
            if name != ours and store.is_incoming_of(name, config.node):
                age = time.time() - os.lstat(name, dir_fd=incoming).st_mtime
                found += [name] if age < RECENTLY else []
    return sorted(found)


def _drafts(config: Config) -> list[str]:
    with local():
        return store.incoming(config.node, machine.identifier(config.state)).split("/")


def _deliver(spool: Spool, dump_id: str, config: Config) -> Delivery:
    record = pickup.prepared(spool, dump_id)
    place = store.directory(record.identity, record.node)
    with _opened(place, config) as at:
        known = _known(at, record)
        delivery = _again(at, record, known) if known else _bring(at, spool, record, config)
        _announce(at, f"{place}/{dump_id}")
    with local():
        return replace(delivery, superseded=not spool.remove(dump_id, record))


@contextmanager
def _opened(place: str, config: Config) -> Iterator[_Store]:
    with contextlib.ExitStack() as held:
        root = held.enter_context(mount.mounted(config.store, config.state))
        drafts = held.enter_context(tree.entered(root, _drafts(config), config.group))
        below = held.enter_context(tree.entered(root, place.split("/"), config.group))
        yield _Store(root, drafts, below, config.group)


def _known(at: _Store, record: Record) -> Record | None:
    """Return what the store has of this dump already, a tally brought up to date; None if it is not whole."""
    theirs = _stored(at.place, record.id)
    if theirs is None or (theirs.refused is None and not _has_core(at.place, theirs)):
        return None
    if theirs.refused is None or record.crashes <= theirs.crashes:
        return theirs
    record = replace(record, delivered=rfc3339(time.time()))
    tree.write(at.drafts, record.id + _RECOUNT, record.to_json().encode(), at.group)
    with tree.entered(at.place, [record.id]) as dump:
        os.rename(record.id + _RECOUNT, store.INFO, src_dir_fd=at.drafts, dst_dir_fd=dump)
        os.fsync(dump)
    return record


def _stored(place: int, dump_id: str) -> Record | None:
    try:
        with tree.entered(place, [dump_id]) as dump:
            record = Record.from_json(tree.read(dump, store.INFO, MAX_BYTES + 1))
    except RecordError:
        return None
    except OSError as error:
        if error.errno not in tree.ABSENT:
            raise
        return None
    return record if record.id == dump_id else None


def _has_core(place: int, record: Record) -> bool:
    try:
        with tree.entered(place, [record.id]) as dump, open(tree.regular(dump, store.CORE), "rb") as core:
            return os.fstat(core.fileno()).st_size == record.core.stored_bytes
    except OSError as error:
        if error.errno not in tree.ABSENT:
            raise
        return False


def _again(at: _Store, record: Record, known: Record) -> Delivery:
    """Finish a delivery that was cut short."""
    return Delivery(known, evicted=_evict(at, record) if known.refused == record.refused else None)


def _bring(at: _Store, spool: Spool, record: Record, config: Config) -> Delivery:
    """Copy the dump among our drafts, read it back, and rename it to its place; what it replaces goes."""
    wanted, evicted = record.refused, None
    for left in (record.id, record.id + _INCOMPLETE):
        tree.remove(at.drafts, left)
    with _decided(at, record, config) as before:  # what does not fit now is not copied in vain
        record = _fitting(record, before, pickup.size(spool, record))
    with tree.entered(at.drafts, [record.id], at.group) as draft:
        size, core = _copied(spool, record, draft, at.group)
        record = replace(record, core=core, delivered=rfc3339(time.time()))
        with _decided(at, record, config) as usage:
            fitting = _fitting(record, usage, size)
            if fitting.refused != record.refused:
                os.unlink(store.CORE, dir_fd=draft)
            tree.write(draft, store.INFO, fitting.to_json().encode(), at.group)
            os.fsync(draft)
            _show(at, spool, record.id)
            if fitting.refused == wanted:  # a core that found no room evicts none
                # After it came, so that no core is lost if we die in between (then both count until this
                # delivery is repeated), and under the lock: nobody else decides while both are there.
                evicted = _evict(at, record)
    if usage is not None and fitting.refused is None:
        usage = replace(usage, used=usage.used - usage.freed + size, freed=0)
    return Delivery(fitting, usage or before, evicted)


@contextmanager
def _decided(at: _Store, record: Record, config: Config) -> Iterator[Usage | None]:
    """Say what the namespace of a dump with a core uses, while no other node may add to it."""
    if config.quota == UNLIMITED or not record.identity.complete or record.refused is not None:
        yield None
    else:
        with quota.decided(at.root, record.identity.namespace, config.quota, at.group) as usage:
            gone, whose = _replaced(at, record), record.identity
            place = (whose.namespace, whose.poduid, whose.container)
            yield replace(usage, freed=quota.used(at.root, *place, gone.id)) if gone else usage


def _fitting(record: Record, usage: Usage | None, size: int) -> Record:
    """Return the record of what the quota allows: the dump, of this size, or the crash without its core."""
    if usage is None or usage.fits(size):
        return record
    return replace(record, refused=f"{usage} ([store] quota)", core=Core(0, 0))


def _copied(spool: Spool, record: Record, draft: int, group: int) -> tuple[int, Core]:
    """Copy all but the record; return the bytes that will be, and the core as it was read back.

    Raises OSError if the store changed it, BrokenDump if it was no good in the spool already.
    """
    size, sent = len(record.to_json()) + _SUMS, ""
    for name in pickup.files(spool, record):
        with pickup.opened(spool, record.id, name) as file:
            copied, sent = _copy(file, draft, name, group)
            size += copied
    if record.refused is not None:
        return size, record.core
    with open(tree.regular(draft, store.CORE), "rb") as stored:
        found = verify.inflated(stored)
    if found.stored_sha256 != sent:
        raise OSError(errno.EIO, "core.gz read back from the store differs from the one in the spool")
    if found.bytes != record.core.bytes:
        state = "is damaged" if found.bytes < 0 else f"inflates to {found.bytes} bytes"
        raise BrokenDump(f"core.gz {state}, its record says {record.core.bytes} bytes")
    return size, replace(record.core, stored_sha256=found.stored_sha256, sha256=found.sha256)


def _copy(file: BinaryIO, directory: int, name: str, group: int) -> tuple[int, str]:
    """Copy one file, durably; return its size and SHA-256 as they were read."""
    digest, size = hashlib.sha256(), 0
    with open(tree.create(directory, name, group), "wb", buffering=0) as out:
        while data := pickup.read(file):
            digest.update(data)
            write_all(out.fileno(), data, size)
            size += len(data)
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def _show(at: _Store, spool: Spool, dump_id: str) -> None:
    """Rename a draft to its place; what lies there and is no whole dump of this id gives way, a link too."""
    if not os.path.lexists(spool.path(dump_id)):
        raise Vanished(dump_id)
    try:
        os.rename(dump_id, dump_id, src_dir_fd=at.drafts, dst_dir_fd=at.place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        os.rename(dump_id, dump_id + _INCOMPLETE, src_dir_fd=at.place, dst_dir_fd=at.drafts)
        os.rename(dump_id, dump_id, src_dir_fd=at.drafts, dst_dir_fd=at.place)
        tree.remove(at.drafts, dump_id + _INCOMPLETE)
    os.fsync(at.place)


def _announce(at: _Store, path: str) -> None:
    dump_id = os.path.basename(path)
    with tree.entered(at.root, [store.INBOX], at.group) as inbox:
        tree.write(at.drafts, dump_id + _INBOX, f"{path}\n".encode(), at.group)
        os.rename(dump_id + _INBOX, dump_id, src_dir_fd=at.drafts, dst_dir_fd=inbox)
        os.fsync(inbox)


def _replaced(at: _Store, record: Record) -> Record | None:
    """Return the dump that this one replaces, if it is in the same container's directory and of this node."""
    if record.replaces in (None, record.id) or not store.is_dump_id(record.replaces):
        return None
    gone = _stored(at.place, record.replaces)
    return gone if gone is not None and gone.node == record.node else None


def _evict(at: _Store, record: Record) -> Record | None:
    """Remove the dump that this one replaces."""
    gone = _replaced(at, record)
    if gone is None:
        return None
    # Its announcement first: a removal cut short is repeated as long as the dump is there.
    with tree.entered(at.root, [store.INBOX], at.group) as inbox:
        tree.remove(inbox, gone.id)
    tree.remove(at.drafts, gone.id)
    os.rename(gone.id, gone.id, src_dir_fd=at.place, dst_dir_fd=at.drafts)
    os.fsync(at.place)
    tree.remove(at.drafts, gone.id)
    return gone
