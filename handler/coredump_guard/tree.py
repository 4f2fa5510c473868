"""The store's directories, held by their descriptors: no symlink is followed in them, no FIFO waited for.

Whoever else can write to the store may put anything anywhere at any time; a path that was checked may lead
elsewhere when it is used, a descriptor cannot. Not here: which names mean what (store).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from coredump_guard.spool import DIRECTORY_MODE, FILE_MODE

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFINISHED = 0o500
"""Mode of a directory that has not got its group yet: whoever finds it so gives it."""

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""What it means that there is nothing of the right kind by a name; any other error is the store's trouble."""


@contextmanager
def root(path: str) -> Iterator[int]:
    """Hold the store's root, the administrator's own, a link or not; raises OSError if it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, f"{path} is not there: is it mounted?") from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def entered(directory: int, names: Sequence[str], group: int | None = None) -> Iterator[int]:
    """Hold directory/names…; with a group (-1: leave it as it comes) what is missing is made, durably.

    Raises OSError; NotADirectoryError names what is none.
    """
    with contextlib.ExitStack() as held:
        for depth, name in enumerate(names, 1):
            made = group is not None and _made(directory, name)
            try:
                below = os.open(name, _DIRECTORY, dir_fd=directory)
            except NotADirectoryError:
                reason = f"{'/'.join(names[:depth])} in the store is not a directory"
                raise NotADirectoryError(errno.ENOTDIR, reason) from None
            held.callback(os.close, below)
            if group is not None:
                _finish(below, group)
                if made:
                    os.fsync(directory)
            directory = below
        yield directory


def _made(directory: int, name: str) -> bool:
    try:
        os.mkdir(name, _UNFINISHED, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def _finish(directory: int, group: int) -> None:
    if stat.S_IMODE(os.fstat(directory).st_mode) == _UNFINISHED:
        if group >= 0:
            os.fchown(directory, -1, group)
        os.fchmod(directory, DIRECTORY_MODE)


def create(directory: int, name: str, group: int) -> int:
    """Create a file that is not there yet and return its descriptor, for writing; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, FILE_MODE, dir_fd=directory)
    try:
        if group >= 0:
            os.fchown(fd, -1, group)
    except OSError:
        os.close(fd)
        raise
    return fd


def write(directory: int, name: str, data: bytes, group: int) -> None:
    """Write a small file, durably, in the place of whatever has the name."""
    remove(directory, name)
    with os.fdopen(create(directory, name, group), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def regular(directory: int, name: str, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of a regular file; raises OSError, its errno in ABSENT where there is none."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(name, flags, FILE_MODE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, f"{name} is not a regular file")
    return fd


def read(directory: int, name: str, limit: int) -> bytes:
    """Return at most `limit` bytes of a regular file; raises as `regular`."""
    with os.fdopen(regular(directory, name), "rb") as file:
        return file.read(limit)


def exists(directory: int, name: str) -> bool:
    """Whether anything has this name."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(name, dir_fd=directory)
        return True
    return False


def remove(directory: int, name: str) -> None:
    """Remove what has this name, if anything: a directory with all that is in it, a link itself.

    However deep that is, only one directory of it is open at a time and nothing recurs: directories in it are
    moved up first, where an interruption leaves them with names that begin with this one.
    """
    left = [name]
    while left:
        here = left.pop()
        try:
            os.unlink(here, dir_fd=directory)
        except IsADirectoryError:
            with entered(directory, [here]) as below:
                for entry in _directories(below):
                    left.append(f"{name}.{secrets.token_hex(8)}")
                    os.rename(entry, left[-1], src_dir_fd=below, dst_dir_fd=directory)
            os.rmdir(here, dir_fd=directory)
        except FileNotFoundError:
            pass


def _directories(directory: int) -> Iterator[str]:
    """Remove the files of a directory and yield the names of its directories."""
    for name in names(directory):
        try:
            os.unlink(name, dir_fd=directory)
        except IsADirectoryError:
            yield name


def names(directory: int) -> Iterator[str]:
    """Yield the names in a directory one by one: there may be more of them than memory holds."""
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.name
