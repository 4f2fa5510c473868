"""Whether the store's file system is mounted: what lies beneath its mount point is never taken for it.

    <state>/mounts/<hash of the path>   remembers that the store was seen on a disk that is not the node's own

Not here: mounting, and a store that is mounted and does not answer.
"""

from __future__ import annotations

import errno
import hashlib
import os


def check(root: int, path: str, state: str) -> None:
    """Raise OSError if the open store is on the node's own disk and was on another before; else remember."""
    note = f"{state}/mounts/{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    os.makedirs(os.path.dirname(note), 0o755, exist_ok=True)
    own = os.fstat(root).st_dev == os.stat(state).st_dev
    if own and os.path.exists(note):
        reason = f"{path} is not mounted; if it is meant to be a local directory now, remove {note}"
        raise OSError(errno.ENODEV, reason)
    if not own and not os.path.exists(note):
        with open(note, "w", encoding="utf-8") as file:
            file.write(f"{path}\n")
