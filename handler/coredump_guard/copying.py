"""A child of the guard that copies ELF files into the spool: what hangs or breaks there is the child's alone.

    <spool>/debug/<build-id>.<16 hex digits of its SHA-256>   whole and on disk, waiting for delivery
    <spool>/debug/stored/<the same name>                      empty: the store has it
    <spool>/debug/.<number>                                   being copied

Not here: which files (executables), and their way to the store (debugstore).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import signal
import stat
import sys

from coredump_guard import modules

DIRECTORY, STORED = "debug", "stored"
NAME = re.compile(r"(?P<build_id>[0-9a-f]{4,128})\.(?P<digest>[0-9a-f]{16})\Z")
"""A file in the spool; a build-id of less than two bytes has no place in the store's layout."""
MEMORY = 256 << 20
"""Most address space of the child, in bytes."""
_CHUNK = 1 << 20


def main(arguments: list[str]) -> None:
    """Copy files: spool, most bytes of one and of all, bytes to keep free, seconds, descriptors."""
    spool, limit, room, keep_free, seconds, *fds = arguments
    signal.alarm(int(seconds))  # also where the guard has died
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(10)
    os.umask(0o027)
    left, directory = int(room), f"{spool}/{DIRECTORY}"
    for fd in fds:
        with contextlib.suppress(OSError, OverflowError):  # the others may be better
            name = copy(int(fd), directory, min(int(limit), left), int(keep_free))
            left -= os.stat(f"{directory}/{name}").st_size if name else 0


def copy(path: int, directory: str, limit: int, keep_free: int) -> str | None:
    """Copy the file behind an O_PATH descriptor and return the copy's name; None for one that is not stored.

    Raises OSError, OverflowError.
    """
    if not stat.S_ISREG(os.fstat(path).st_mode):  # before it is opened: that may start a device
        return None
    source = os.open(f"/proc/self/fd/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        size, disk = os.fstat(source).st_size, os.statvfs(directory)
        if size > limit or disk.f_bavail * disk.f_frsize - size < keep_free:
            return None
        build_id = _build_id(source)
        if build_id and _is_stored(source, build_id, directory, limit):
            return None
        return _copied(source, directory, limit) if build_id else None
    finally:
        os.close(source)


def _copied(source: int, directory: str, limit: int) -> str | None:
    draft = f"{directory}/.{os.getpid()}"
    try:
        with open(draft, "x+b") as out:
            digest = _digest(source, limit, out.write)
            out.flush()
            build_id = _build_id(out.fileno())  # of what was copied: the source may have changed
            if not digest or not build_id:
                return None
            os.fsync(out.fileno())
        name = f"{build_id}.{digest}"
        os.rename(draft, f"{directory}/{name}")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
    return name


def _is_stored(source: int, build_id: str, directory: str, limit: int) -> bool:
    stored = [name for name in os.listdir(f"{directory}/{STORED}") if name.startswith(f"{build_id}.")]
    return bool(stored) and f"{build_id}.{_digest(source, limit)}" in stored


def _digest(source: int, limit: int, write: object = None) -> str:
    """Return the beginning of a file's SHA-256, writing on the way; empty for one longer than limit."""
    digest, at = hashlib.sha256(), 0
    while data := os.pread(source, _CHUNK, at):
        at += len(data)
        if at > limit:
            return ""
        digest.update(data)
        if callable(write):
            write(data)
    return digest.hexdigest()[:16]


def _build_id(fd: int) -> str:
    """Return a file's build-id; empty for what is no ELF file or has none that makes a name."""
    found = modules.build_id(lambda at, size: os.pread(fd, size, at), in_memory=False) or ""
    return found if NAME.match(f"{found}.{'0' * 16}") else ""


if __name__ == "__main__":
    main(sys.argv[1:])
