"""inotify: a descriptor that becomes readable when a file is written; inotify(7).

It misses what is written through another procfs instance: it is for speed, not for truth.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator

_IN_MODIFY = 0x2
_MANY_EVENTS = 1 << 16


@contextlib.contextmanager
def watching(held: Iterable[int]) -> Iterator[int]:
    """Watch the files behind open descriptors; yields what to poll, and ends with the block.

    The files must stay open: of a procfs file that nobody holds, the watch goes silent. Raises OSError where
    the machine has no instance or watch left for us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise _error()
    try:
        for file in held:
            if libc.inotify_add_watch(fd, b"/proc/self/fd/%d" % file, _IN_MODIFY) < 0:
                raise _error()
        yield fd
    finally:
        os.close(fd)


def forget(fd: int) -> None:
    """Take what happened so far off the descriptor."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, _MANY_EVENTS)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"inotify: {os.strerror(number)}")
