"""The tally of a crash loop: one record, without a core, for all crashes that are only counted.

Not here: which crashes those are (damping).
"""

from __future__ import annotations

import os
from dataclasses import replace

from coredump_guard import __version__, store
from coredump_guard.capture import boot_id, rfc3339, signal_of
from coredump_guard.pattern import Crash
from coredump_guard.record import Capture, Core, Identity, Process, Record

_NO_START = -1
"""No process started before the boot, so that a tally's id is never that of a dump."""


def begin(crash: Crash, owner: Identity, executable: str, sentence: str, node: str) -> Record:
    """Return the tally of a first crash; sentence says why it is only counted."""
    when, whose = rfc3339(crash.time), f"{boot_id()}/{store.directory(owner, node)}"
    return Record(
        id=store.dump_id(crash.time, executable or crash.comm, crash.pid, whose, _NO_START),
        time=when,
        node=node,
        boot_id=boot_id(),
        kernel=os.uname().release,
        identity=owner,
        process=Process(crash.pid, crash.tid, comm=crash.comm, executable=executable),
        signal=signal_of(crash.signal),
        core=Core(0, 0),
        capture=Capture(crash.mode, 0.0, __version__),
        refused=sentence,
        until=when,
    )


def count(tally: Record, crash: Crash, sentence: str) -> Record:
    """Return the tally with one more crash; the clock may have been set back in between."""
    until = max(tally.until or tally.time, rfc3339(crash.time))
    return replace(tally, refused=sentence, crashes=tally.crashes + 1, until=until)
