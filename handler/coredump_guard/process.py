"""A dying process as /proc shows it, held by descriptors so that a reused PID is never read.

Not here: what the files mean (container, identity, metadata).
"""

from __future__ import annotations

import contextlib
import os
import select
import stat as statmode
import struct

READ_LIMIT = 1 << 20
"""Most bytes taken of any one file."""

PAGE = os.sysconf("SC_PAGESIZE")
_PRESENT, _SWAPPED = 1 << 63, 1 << 62
"""Of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""


class Gone(Exception):  # noqa: N818 # not an error of ours: the process has been reaped
    """The process could not be held, or the PID was another's by the time we looked."""


class Process:
    """One process's directory in /proc, held open: reads after its end fail, they never show a successor.

    Where the leader thread has exited, exe, maps and others are readable through a living thread only,
    so that everything is read through the crashed thread's directory when it is known.
    """

    def __init__(self, proc: str, pid: int, tid: int | None = None) -> None:
        self.pid = pid
        self.proc = proc
        try:
            self._leader = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Gone(f"/proc/{pid}: {error.strerror}") from None
        self._thread = os.dup(self._leader)
        self._tid = str(pid)
        for candidate in self._candidates(tid):
            with contextlib.suppress(OSError):
                fd = os.open(
                    f"task/{candidate}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._leader
                )
                os.dup2(fd, self._thread, inheritable=False)
                self._tid = candidate
                os.close(fd)
                break

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._leader)
        os.close(self._thread)

    def _candidates(self, tid: int | None) -> list[str]:
        """Return the threads to read through, best first: the crashed one, else any that still lives."""
        if tid is not None:
            return [str(tid)]
        if self._alive("."):
            return []
        return [thread for thread in self.threads() if self._alive(f"task/{thread}")]

    def _alive(self, directory: str) -> bool:
        try:
            os.readlink(f"{directory}/exe", dir_fd=self._leader)
        except OSError:
            return False
        return True

    def threads(self) -> list[str]:
        """Return the ids of the threads that are still there."""
        try:
            fd = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._leader)
        except OSError:
            return []
        try:
            return sorted(os.listdir(fd), key=int)
        finally:
            os.close(fd)

    def of_thread(self, thread: str, name: str, limit: int) -> bytes:
        """Return the beginning of a file of one of the threads; raises OSError."""
        fd = os.open(f"task/{thread}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._leader)
        try:
            return os.read(fd, limit)
        finally:
            os.close(fd)

    def read(self, name: str, limit: int = READ_LIMIT) -> bytes:
        """Return up to limit bytes of a file of the process.

        Raises OSError, ESRCH once the process is gone.
        """
        fd = self.open(name)
        try:
            if not statmode.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(f"{name} is not a regular file")
            return read_all(fd, limit)
        finally:
            os.close(fd)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a file of the process and return the descriptor."""
        return os.open(name, flags | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._thread)

    def open_mapped(self, addresses: str) -> int:
        """Return a path descriptor (O_PATH) of a mapped file, by its addresses as maps has them.

        Only whole processes have map_files, but the kernel shows every thread as one that is asked for by its
        id: that is how it can be had where the leader has exited. Raises OSError.
        """
        directory = os.open(f"{self.proc}/{self._tid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.stat(f"task/{self.pid}", dir_fd=directory)  # still a thread of this process
            return os.open(f"map_files/{addresses}", os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)

    def resident(self, start: int, end: int) -> bool:
        """Whether all pages of a range of the process's memory are there or in swap.

        Reading a page that is not can wait for ever: for a FUSE file system of the crasher's own, which never
        answers, or for its userfaultfd. That holds for /proc/PID/{mem,cmdline,environ}.
        """
        first, pages = start // PAGE, (end + PAGE - 1) // PAGE - start // PAGE
        if pages <= 0:
            return False
        fd = self.open("pagemap")
        try:
            entries = os.pread(fd, pages * 8, first * 8)
        finally:
            os.close(fd)
        there = all(entry & (_PRESENT | _SWAPPED) for (entry,) in struct.iter_unpack("=Q", entries))
        return len(entries) == pages * 8 and there

    def memory(self, address: int, size: int, *, fetch: bool = False) -> bytes:
        """Return bytes of the process's memory, none where a page must be fetched first and fetch is not set.

        Raises OSError.
        """
        if not fetch and not self.resident(address, address + size):
            return b""
        fd = self.open("mem")
        try:
            return os.pread(fd, size, address)
        finally:
            os.close(fd)

    def link(self, name: str) -> str:
        """Return the target of exe, cwd or another link; the text is the crasher's to choose."""
        return os.readlink(name, dir_fd=self._thread)

    def text(self, name: str) -> str:
        """Return a small file as text that is safe in JSON; empty when it cannot be read."""
        try:
            return decode(self.read(name))
        except OSError:
            return ""


def read_all(fd: int, limit: int) -> bytes:
    """Read a descriptor to its end or to limit bytes."""
    parts: list[bytes] = []
    while limit > 0:
        part = os.read(fd, min(limit, 1 << 16))
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def decode(data: bytes) -> str:
    """Turn bytes of the crasher's into text without losing any."""
    return data.decode("utf-8", "backslashreplace")


def hold(proc: str, pid: int, tid: int | None, pidfd: int | None, core: int) -> Process:
    """Hold the crashed process, making sure that the PID is still its own.

    The proof comes after the directory is open: a pidfd that has not become readable, or, on kernels that
    give none, a core whose writer still lives. CVE-2025-4598 was the missing proof.

    Raises Gone.
    """
    process = Process(proc, pid, tid)
    poll = select.poll()
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    else:
        poll.register(core, 0)  # POLLHUP is always reported
    if poll.poll(0):  # also POLLNVAL and POLLERR: what is no proof proves nothing
        process.__exit__()
        raise Gone(f"process {pid} ended before it could be looked at")
    return process
