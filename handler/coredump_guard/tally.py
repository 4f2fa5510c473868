"""The tally of a crash loop: one record, without a core, for all crashes that are only counted.

Not here: which crashes those are (damping).
"""

from __future__ import annotations

import os
from dataclasses import replace

from coredump_guard import __version__, store
from coredump_guard.capture import boot_id, rfc3339, signal_of
from coredump_guard.damping import Death
from coredump_guard.pattern import Crash
from coredump_guard.record import Capture, Core, Identity, Process, Record, Signal

_NO_START = -1
"""No process started before the boot, so that a tally's id is never that of a dump."""


def begin(
    crash: Crash, owner: Identity, executable: str, sentence: str, node: str, death: Death | None = None
) -> Record:
    """Return the tally of a first crash; sentence says why it is only counted.

    death: that of the loop's last dump, by which is known what the crash did not announce.
    """
    process, signal = _died(crash, executable, death)
    when, whose = rfc3339(crash.time), f"{boot_id()}/{store.directory(owner, node)}"
    return Record(
        id=store.dump_id(crash.time, executable or crash.comm, crash.pid, whose, _NO_START),
        time=when,
        node=node,
        boot_id=boot_id(),
        kernel=os.uname().release,
        identity=owner,
        process=process,
        signal=signal,
        core=Core(0, 0),
        capture=Capture(crash.mode, 0.0, __version__),
        refused=sentence,
        until=when,
    )


def count(tally: Record, crash: Crash, executable: str, sentence: str, death: Death | None = None) -> Record:
    """Return the tally with one more crash, the one that it tells of from now on.

    The clock may have been set back in between.
    """
    process, signal = _died(crash, executable, death)
    until = max(tally.until or tally.time, rfc3339(crash.time))
    counted = replace(tally, refused=sentence, crashes=tally.crashes + 1, until=until)
    return replace(counted, process=process, signal=signal)


def _died(crash: Crash, executable: str, death: Death | None) -> tuple[Process, Signal]:
    """Return process and signal of a crash that nobody looked at; a container may run several programs."""
    like = death if death and death.executable == executable else Death(executable)
    process = Process(
        crash.pid, crash.tid, uid=like.uid, gid=like.gid, comm=crash.comm, executable=executable
    )
    return process, signal_of(crash.signal or like.signal)
