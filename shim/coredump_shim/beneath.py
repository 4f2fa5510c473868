"""Opening directories and files below a root that somebody hostile may have written, never by a symlink.

Not here: which names mean what (coredump_guard.store) and what the files say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What it means that there is nothing of the right kind by this name."""

ABSENT = GONE | {errno.EACCES}
"""What it means that there is nothing usable by this name; any other error is the store's own trouble."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def directory(root: str | int, *names: str) -> Iterator[int]:
    """Hold a descriptor of root/names…; root is a path, trusted and followed, or a directory's descriptor.

    Raises OSError; its errno is in ABSENT where one of the names is not a directory (a symlink is none).
    """
    with _held(_root(root)) as fd, _descend(fd, names) as found:
        yield found


@contextmanager
def regular(directory_fd: int, name: str) -> Iterator[int]:
    """Hold a descriptor of the regular file `name` in a directory.

    Raises OSError; its errno is in ABSENT where there is none (a symlink, FIFO or device is none).
    """
    fd = open_regular(directory_fd, name)
    with _held(fd):
        yield fd


def open_regular(directory_fd: int, name: str) -> int:
    """Open the regular file `name` in a directory for as long as the caller keeps it; raises as `regular`."""
    fd = os.open(name, _REGULAR, dir_fd=directory_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, "is not a regular file", name)
    return fd


def read(directory_fd: int, name: str, limit: int) -> bytes:
    """Return at most `limit` bytes of a regular file; raises as `regular`."""
    with regular(directory_fd, name) as fd:
        pieces = []
        while limit > 0 and (piece := os.read(fd, min(limit, 1 << 20))):
            pieces.append(piece)
            limit -= len(piece)
    return b"".join(pieces)


def subdirectories(directory_fd: int) -> list[str]:
    """Return the names of the directories in a directory, sorted."""
    with os.scandir(directory_fd) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _root(root: str | int) -> int:
    if isinstance(root, int):
        return os.dup(root)
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextmanager
def _held(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _descend(fd: int, names: tuple[str, ...], depth: int = 0) -> Iterator[int]:
    if depth == len(names):
        yield fd
        return
    try:
        opened = os.open(names[depth], _DIRECTORY, dir_fd=fd)
    except OSError as error:
        error.filename = "/".join(
            names[: depth + 1]
        )  # which tells more than the name that could not be opened
        raise
    with _held(opened) as below, _descend(below, names, depth + 1) as found:
        yield found
