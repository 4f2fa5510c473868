"""The store's executables and libraries, by build-id: <store>/.debug/.build-id/ab/cdef…, where gdb looks.

With <store>/.debug as debug-file-directory, gdb takes a core's program and libraries from .build-id/ab/cdef…
and separate debug information from the same name with .debug behind it (gdb's manual, Separate Debug Files).
A build-id is whatever a program's maker wrote, so that another file may claim one that is taken: the first
stays, the other gets a name of its own. Not here: how the files got into the spool (executables, copying).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time

from coredump_guard import copying, log, machine, mount, tree
from coredump_guard.config import Config

DIRECTORY = (".debug", ".build-id")
BELIEVED = 86400
"""Seconds for which it is believed that the store still has what it took."""
_CHUNK = 1 << 20


def deliver(config: Config) -> None:
    """Bring what waits in the spool to the store.

    Raises OSError while the store takes it not, or not all, the first if there are several; what it took is
    no longer in the spool.
    """
    waiting = f"{config.spool}/{copying.DIRECTORY}"
    stored = f"{waiting}/{copying.STORED}"
    with contextlib.suppress(OSError):
        _forget(stored)
    try:
        names = sorted(name for name in os.listdir(waiting) if copying.NAME.match(name))
    except FileNotFoundError:  # nothing was ever collected
        return
    if not names:
        return
    trouble: OSError | None = None
    with mount.mounted(config.store, config.state) as root:
        for name in names:
            try:
                with open(f"{waiting}/{name}", "rb", opener=_no_link) as file:
                    _bring(file.fileno(), name, root, config)
                os.unlink(f"{waiting}/{name}")
            except OSError as error:  # those behind it may be better
                trouble = trouble or error
                continue
            # Without it the file may be copied once more, to be found in the store.
            with contextlib.suppress(OSError), open(f"{stored}/{name}", "wb", opener=_no_link):
                pass
    if trouble:
        raise trouble


def _bring(source: int, name: str, root: int, config: Config) -> None:
    match = copying.NAME.match(name)
    assert match is not None  # noqa: S101 # deliver takes no other
    build_id, digest = match["build_id"], match["digest"]
    prefix, rest = build_id[:2], build_id[2:]
    with tree.entered(root, [*DIRECTORY, prefix], config.group) as directory:
        draft = f".{rest}.{machine.identifier(config.state)}"
        tree.remove(directory, draft)  # what an interruption left
        if _holds(directory, rest, source, digest) or tree.exists(directory, f"{rest}.{digest}"):
            return
        _copy(source, directory, draft, digest, config.group)
        try:
            _link(directory, draft, rest)
            log.info("an executable was stored", build_id=build_id)
        except FileExistsError:
            log.warning(
                "two different files claim one build-id; both are kept", build_id=build_id, sha256=digest
            )
            with contextlib.suppress(FileExistsError):
                _link(directory, draft, f"{rest}.{digest}")
        tree.remove(directory, draft)
        os.fsync(directory)


def _holds(directory: int, name: str, source: int, digest: str) -> bool:
    """Whether the store has this very file by that name."""
    try:
        there = tree.regular(directory, name)
    except OSError as error:
        if error.errno in tree.ABSENT:
            return False
        raise
    try:
        same = os.fstat(there).st_size == os.fstat(source).st_size
        return same and _sum(there) == digest
    finally:
        os.close(there)


def _copy(source: int, directory: int, name: str, digest: str, group: int) -> None:
    """Copy a file durably and read it back.

    Raises OSError, also if what the store has now is not what it was given.
    """
    out = tree.create(directory, name, group)
    try:
        offset = 0
        while sent := os.sendfile(out, source, offset, 1 << 30):
            offset += sent
        os.fsync(out)
    finally:
        os.close(out)
    there = tree.regular(directory, name)
    try:
        if _sum(there) != digest:
            raise OSError(
                errno.EIO, "an executable read back from the store differs from the one in the spool"
            )
    finally:
        os.close(there)


def _link(directory: int, draft: str, name: str) -> None:
    """Show a file by a name that nobody has, on any file system; raises FileExistsError."""
    try:
        os.link(draft, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if tree.exists(directory, name):
            raise FileExistsError(errno.EEXIST, name) from None
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)


def _sum(fd: int) -> str:
    digest, at = hashlib.sha256(), 0
    while data := os.pread(fd, _CHUNK, at):
        digest.update(data)
        at += len(data)
    return digest.hexdigest()[:16]


def _forget(stored: str) -> None:
    """Believe no longer what was learned long ago: somebody may have emptied the store."""
    for name in os.listdir(stored):
        if time.time() - os.stat(f"{stored}/{name}").st_mtime > BELIEVED:
            os.unlink(f"{stored}/{name}")


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
