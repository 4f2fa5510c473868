"""A namespace's quota: what its dumps take of the store, and a lock so that one node decides at a time.

    <store>/.quota/<namespace>   locked by POSIX record locks, which NFSv4, CephFS and GlusterFS pass on

Not here: what becomes of a core that does not fit (deliver).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coredump_guard import log, store, tree
from coredump_guard.words import size

NEARLY_FULL = 0.9
"""The part of a quota from which on people are warned."""
PATIENCE = 5.0
"""Seconds to wait for the lock: it is held while a namespace's files are counted, or by a node that died."""
_PAUSE = 0.05
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Busy(OSError):  # noqa: N818 # names the lock's state, not this module's
    """Another node holds the lock: try again later."""


@dataclass(frozen=True)
class Usage:
    """What one namespace has of the store, in bytes."""

    namespace: str
    used: int
    quota: int
    freed: int = 0
    """Of what is used, the part that goes once the dump that is decided on has come: it replaces another."""

    @property
    def nearly_full(self) -> bool:
        """Whether people should know."""
        return self.used >= self.quota * NEARLY_FULL

    def fits(self, more: int) -> bool:
        """Whether so many bytes more stay within the quota, once what they replace is gone."""
        return self.used - self.freed + more <= self.quota

    def __str__(self) -> str:
        return f"namespace {self.namespace} uses {size(self.used)} of its quota of {size(self.quota)}"


@contextmanager
def decided(root: int, namespace: str, quota: int, group: int) -> Iterator[Usage]:
    """Say what a namespace uses while no other node may add to it.

    Raises Busy if another node goes on deciding, OSError if the store fails.
    """
    with tree.entered(root, [store.QUOTA], group) as locks:
        fd = tree.regular(locks, namespace, os.O_RDWR | os.O_CREAT)
    try:
        _lock(fd, namespace)
        yield Usage(namespace, used(root, namespace), quota)
    finally:
        os.close(fd)  # and the lock with it: nothing else of this process opens the file


def _lock(fd: int, namespace: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                log.warning(
                    "the store has no locks; nodes that deliver at once may exceed a quota", error=error
                )
                return
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        if time.monotonic() > end:
            raise Busy(errno.EAGAIN, f"another node is deciding on the quota of namespace {namespace}")
        time.sleep(_PAUSE)


def used(root: int, *top: str) -> int:
    """Return the bytes of the files of a namespace's dumps, or of those of one place in it; raises OSError.

    Every directory is opened anew, which makes an NFS client ask the server for it (nfs(5), close-to-open).
    """
    total, left = 0, [list(top)]
    while left:
        place = left.pop()
        with contextlib.ExitStack() as held:
            held.enter_context(
                contextlib.suppress(FileNotFoundError, NotADirectoryError)
            )  # removed meanwhile
            fd = held.enter_context(tree.entered(root, place))
            for entry in held.enter_context(os.scandir(fd)):
                if not entry.is_dir(follow_symlinks=False):
                    total += _bytes(entry)
                elif len(place) < _DEPTH:
                    left.append([*place, entry.name])
    return total


_DEPTH = 4
"""Namespace, pod, container, dump: what lies deeper is no dump's."""


def _bytes(entry: os.DirEntry[str]) -> int:
    with contextlib.suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_size
    return 0
