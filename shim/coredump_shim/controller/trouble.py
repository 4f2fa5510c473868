"""What the log says of a store that cannot be used: which part of it, why, and what to look at.

Not here: what is done about it (loop, attempt, action).
"""

from __future__ import annotations

import errno
import os

_AWAY = "is the store mounted, and its file server up?"
_OURS = (
    "the controller must be able to write what the guards made, as root or as what the export makes of root"
)
_REMEDIES = {
    errno.ENOENT: _AWAY,
    errno.ENOTDIR: _AWAY,
    errno.ENODEV: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.ESTALE: _AWAY,
    errno.EIO: _AWAY,
    errno.ETIMEDOUT: _AWAY,
    errno.EHOSTDOWN: _AWAY,
    errno.EACCES: _OURS,
    errno.EPERM: _OURS,
    errno.EROFS: f"it is mounted read-only; {_OURS}",
    errno.ENOSPC: "the store is full",
    errno.EDQUOT: "the store's own quota is used up",
}


def said(error: Exception) -> str:
    """Return an error's words; those of a store that fails without its number, with what to look at."""
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return str(error)
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{where}{error.strerror}; {_REMEDIES[error.errno]}"
