"""What is left over in the inbox, bounded: what was no announcement (.bad), and drafts that nobody completed.

Not here: what is put aside (inbox). An administrator may look at it for a while; then it goes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable

from coredump_guard import store, tree
from coredump_guard.words import counted
from coredump_shim import beneath
from coredump_shim.controller.inbox import BAD

log = logging.getLogger(__name__)

MAX_AGE = 7 * 86400.0
"""Seconds for which it is kept, counted from when it was put there."""
MAX_COUNT = 1000
"""How much of each is kept, the newest."""


def tidy(root: str, clock: Callable[[], float] = time.time) -> None:
    """Remove what is too old or too much. Raises OSError."""
    try:
        with beneath.directory(root) as top, beneath.directory(top, store.INBOX) as inbox:
            _bound(inbox, (name for name in os.listdir(inbox) if _is_draft(name)), clock(), "draft")
            with beneath.directory(inbox, BAD) as bad:
                _bound(bad, os.listdir(bad), clock(), "former announcement")
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise


def _is_draft(name: str) -> bool:
    return name.startswith(".") and name != BAD


def _bound(directory: int, names: Iterable[str], now: float, what: str) -> None:
    found = sorted((_since(directory, name), name) for name in names)
    kept = [(since, name) for since, name in found[-MAX_COUNT:] if now - since <= MAX_AGE]
    gone = found[: len(found) - len(kept)]
    for _, name in gone:
        tree.remove(directory, name)
    if gone:
        log.info("removed from the inbox: %s", counted(len(gone), what))


def _since(directory: int, name: str) -> float:
    # The ctime, which a rename sets and nobody can.
    try:
        return os.lstat(name, dir_fd=directory).st_ctime
    except FileNotFoundError:
        return 0.0
