"""The spool: the node's local directory of dumps that are not yet delivered.

    <root>/incoming/<dump id>/   being captured, locked by whoever writes it
    <root>/ready/<dump id>/      whole and on disk, waiting for delivery
    <root>/broken/<dump id>/     what could not be read back, kept for a person to look at

Not here: draining a core (drain) and delivery (deliver).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from coredump_guard import store
from coredump_guard.record import Record

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640

_DELIVERED = ".delivered"
"""Marks what is being removed, so that nobody takes it for a capture that was cut off."""


class Draft:
    """A dump that is being captured: files are created in it once, and it becomes visible as a whole."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.names = set(os.listdir(fd))

    def create(self, name: str) -> int:
        """Create a file of the dump and return its descriptor; raises OSError if it is there already."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, FILE_MODE, dir_fd=self._fd)
        self.names.add(name)
        return fd

    def write(self, name: str, data: bytes) -> None:
        """Create a small file of the dump, whole or not at all; raises OSError."""
        fd = self.create(name)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
        except OSError:
            os.unlink(name, dir_fd=self._fd)
            self.names.remove(name)
            raise

    def reserve(self, name: str, size: int) -> None:
        """Create a file and set aside room for it, in bytes; raises OSError if there is none."""
        fd = self.create(name)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)

    def fill(self, name: str, data: bytes) -> None:
        """Write a file that was reserved."""
        with os.fdopen(
            os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd), "wb"
        ) as file:
            file.write(data)
            file.truncate()

    def open(self, name: str) -> int:
        """Open a file of the dump for reading and return its descriptor; raises OSError."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)

    def rename(self, name: str, new: str) -> None:
        """Give a file another name, in place of what is called that."""
        os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self.names.remove(name)
        self.names.add(new)

    def unlink(self, name: str) -> None:
        """Take a file out of the dump again."""
        os.unlink(name, dir_fd=self._fd)
        self.names.remove(name)

    def sync(self) -> None:
        """Make the dump's files and their names durable."""
        for name in self.names:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        os.fsync(self._fd)


class Spool:
    """The directory; dumps are known by their ids, whose order is that of the crashes."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.ready = f"{root}/ready"
        self._incoming = f"{root}/incoming"
        self.broken = f"{root}/broken"

    def prepare(self) -> None:
        """Create what is missing."""
        for directory in (self.ready, self._incoming, self.broken):
            if not os.path.isdir(directory):
                os.makedirs(directory, DIRECTORY_MODE, exist_ok=True)

    @contextmanager
    def draft(self, dump_id: str) -> Iterator[Draft]:
        """Begin a dump; it appears among `pending` when the block ends, or not at all if it raises."""
        path = f"{self._incoming}/{dump_id}"
        self.prepare()  # somebody may have removed it under us
        fd = _locked_directory(path)
        try:
            draft = Draft(fd)
            yield draft
            self._show(draft, dump_id)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            os.close(fd)

    @contextmanager
    def adopt(self, dump_id: str) -> Iterator[Draft]:
        """Go on with a draft whose writer died; it is left as it is if the block raises, for another time.

        Raises BlockingIOError if the writer lives, FileNotFoundError if it has just ended.
        """
        path = f"{self._incoming}/{dump_id}"
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.stat(path)
            draft = Draft(fd)
            yield draft
            self._show(draft, dump_id)
        finally:
            os.close(fd)

    def _show(self, draft: Draft, dump_id: str) -> None:
        draft.sync()
        os.rename(f"{self._incoming}/{dump_id}", f"{self.ready}/{dump_id}")
        sync_directory(self.ready)

    def abandoned(self) -> list[str]:
        """Return the ids of the drafts whose writer died, and finish removals that were cut short."""
        found = []
        for name in sorted(os.listdir(self._incoming)):
            path = f"{self._incoming}/{name}"
            # Blocked: a doorman captures into it at this moment. Not found: that one has just finished.
            with contextlib.suppress(BlockingIOError, FileNotFoundError, NotADirectoryError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.stat(path)
                    if name.endswith(_DELIVERED):
                        shutil.rmtree(path)
                    else:
                        found.append(name)
                finally:
                    os.close(fd)
        return found

    def discard(self, name: str) -> None:
        """Remove a draft that nothing can be made of."""
        shutil.rmtree(f"{self._incoming}/{name}")

    def rewrite(self, record: Record) -> None:
        """Let a dump that is nothing but its record wait for delivery, in the place of an older record.

        Raises OSError.
        """
        new = f"{self._incoming}/{record.id}.record"
        with open(new, "wb", opener=_private) as file:
            file.write(record.to_json().encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.rename(new, f"{self.path(record.id)}/{store.INFO}")
            sync_directory(self.path(record.id))
        except FileNotFoundError:  # none waits, or it has just been delivered
            os.unlink(new)
            with self.draft(record.id) as draft:
                draft.write(store.INFO, record.to_json().encode())

    def pending(self) -> list[str]:
        """Return the ids of the dumps that wait for delivery, oldest crash first."""
        return sorted(name for name in os.listdir(self.ready) if store.is_dump_id(name))

    def path(self, dump_id: str) -> str:
        """Return the directory of a dump that waits for delivery."""
        return f"{self.ready}/{dump_id}"

    def record(self, dump_id: str) -> Record:
        """Read a waiting dump's record; raises OSError or RecordError."""
        return self._record(self.path(dump_id))

    @staticmethod
    def _record(path: str) -> Record:
        with open(f"{path}/{store.INFO}", "rb") as file:
            return Record.from_json(file.read())

    def remove(self, dump_id: str, delivered: Record | None = None) -> bool:
        """Remove a dump; False, and it stays, if its record is no longer the one that was delivered."""
        if delivered is not None and self.record(dump_id) != delivered:
            return False
        # Renamed first, so that a removal cut short never leaves half a dump among the pending.
        trash = f"{self._incoming}/{dump_id}{_DELIVERED}"
        os.rename(self.path(dump_id), trash)
        if delivered is not None and self._record(trash) != delivered:
            # A tally went on in between; where it began anew in the same place, that counts all of it.
            with contextlib.suppress(OSError):
                os.rename(trash, self.path(dump_id))
                return False
        shutil.rmtree(trash)
        return True

    def set_aside(self, dump_id: str) -> str:
        """Move a dump that cannot be delivered out of the way and return where it lies now."""
        # Numbered: the same dump may have been set aside, mended and put back by a person before.
        taken = os.listdir(self.broken)
        names = (dump_id, *(f"{dump_id}.{number}" for number in range(len(taken))))
        aside = f"{self.broken}/{next(name for name in names if name not in taken)}"
        os.rename(self.path(dump_id), aside)
        return aside

    def usage(self) -> int:
        """Return the bytes that waiting dumps take on disk."""
        total = 0
        for directory, _, names in os.walk(self.ready):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
                    total += os.lstat(f"{directory}/{name}").st_blocks * 512
        return total


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def _locked_directory(path: str) -> int:
    """Make a directory and return it open and locked; a starting guard may remove it before it is locked."""
    os.mkdir(path, DIRECTORY_MODE)
    while True:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(fd)):
                    return fd
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, DIRECTORY_MODE)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
