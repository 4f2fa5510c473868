"""Whether the clocks agree by which it is told how old something is.

Not here: what is old (rules). Our own, kube-apiserver's (the Date of its answers) and the store's (the mtime
it gives to a file that was just written) must: one that is wrong would have dumps removed too early.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from coredump_guard import store, tree
from coredump_shim import beneath
from coredump_shim.controller.doubt import Doubt

TOLERANCE = 300.0
"""Seconds by which clocks may differ: thresholds are hours, and more is a clock that nobody keeps."""
PROBE = ".clock"
"""File in store.GONE of which the mtime is taken; no namespace's name begins with a dot."""


def check(readings: Mapping[str, float | None]) -> None:
    """Compare readings of clocks, in seconds since the epoch, by whose they are; None: it cannot be read.

    Raises Doubt.
    """
    for whose, reading in readings.items():
        if reading is None:
            raise Doubt(f"{whose} clock cannot be read, and nothing is removed by one clock alone")
    known = {whose: reading for whose, reading in readings.items() if reading is not None}
    earliest, latest = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    apart = known[latest] - known[earliest]
    if apart > TOLERANCE:
        raise Doubt(
            f"{latest} clock is {apart:.0f} s ahead of {earliest} clock; nothing is removed until all agree"
            f" within {TOLERANCE:.0f} s: have them set by NTP"
        )


def of_store(root: str) -> float:
    """Return the store's time, in seconds since the epoch, by writing a file. Raises OSError."""
    with beneath.directory(root) as fd, tree.entered(fd, [store.GONE], -1) as gone:
        name = f"{PROBE}.{os.getpid()}"
        tree.remove(gone, name)
        made = tree.create(gone, name, -1)
        try:
            os.write(made, b"now")
            os.fsync(made)  # an NFS client has the server's time only once it has written
            return os.fstat(made).st_mtime
        finally:
            os.close(made)
            tree.remove(gone, name)
