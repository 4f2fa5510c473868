"""Whether the store's file system is mounted: what lies beneath its mount point is never taken for it.

    <state>/mounts/<hash of the path>   remembers that the store was seen on a disk that is not the node's own

Not here: mounting, and a store that is mounted and does not answer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from coredump_guard import tree


@contextmanager
def mounted(path: str, state: str) -> Iterator[int]:
    """Hold a descriptor of the store's root.

    Raises OSError if it is not there, or on the node's own disk and was seen on another before.
    """
    with tree.root(path) as root:
        _check(root, path, state)
        yield root


def _check(root: int, path: str, state: str) -> None:
    note = f"{state}/mounts/{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    with contextlib.suppress(OSError):  # a full disk here is no reason to keep dumps from the store
        os.makedirs(os.path.dirname(note), 0o755, exist_ok=True)
    if not os.path.isdir(state):
        return
    own = os.fstat(root).st_dev == os.stat(state).st_dev
    if own and os.path.exists(note):
        reason = f"{path} is not mounted; if it is meant to be a local directory now, remove {note}"
        raise OSError(errno.ENODEV, reason)
    if not own and not os.path.exists(note):
        with contextlib.suppress(OSError), open(note, "w", encoding="utf-8") as file:
            file.write(f"{path}\n")
