"""The capture engine: one crash, by whichever door it came, becomes one dump in the spool.

First what disappears with the process is read, then the core is drained, then the process is let go, and
only then does anything wait for the disk. Not here: which crashes are captured (engine).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import replace
from datetime import datetime, timezone

from coredump_guard import __version__, deflate, metadata, store
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config
from coredump_guard.drain import Drained, drain
from coredump_guard.process import Process
from coredump_guard.record import Capture, Core, Identity, Record, Signal
from coredump_guard.record import Process as ProcessRecord
from coredump_guard.spool import Draft, Spool

PROC = "/proc"
RECORD_ROOM = 512 << 10
"""Bytes set aside for the record before the core may take the rest of the disk."""


def capture(arrival: Arrival, held: Process | None, owner: Identity, config: Config) -> Record:
    """Turn a crash into a dump in the spool and return its record; the process is free when its core is read.

    held is None for a process that was gone before it could be looked at: its core is kept all the same.

    Raises OSError if the spool takes nothing at all.
    """
    began = time.monotonic()
    crash = arrival.crash
    unknown = metadata.Metadata(ProcessRecord(crash.pid, crash.tid, comm=crash.comm), 0, {})
    known = unknown if held is None else metadata.gather(held, crash.tid, environ=config.environ)
    name = known.process.executable or known.process.comm
    dump_id = store.dump_id(crash.time, name, crash.pid, boot_id(), known.start_time)
    with Spool(config.spool).draft(dump_id) as draft:
        draft.reserve(store.INFO, RECORD_ROOM)
        files = _written(draft, known.files)
        arrival.begin()
        out = draft.create(store.CORE if deflate.FAST else store.RAW_CORE)
        try:
            drained = drain(arrival.core, out, began + config.deadline)
            tid = crash.tid  # which the socket does not tell, but the core does
            if tid is None and held is not None:
                tid = metadata.crashed_thread(held, drained.head.tid)
            arrival.close()
        finally:
            os.close(out)
        record = Record(
            id=dump_id,
            time=rfc3339(crash.time),
            node=config.node,
            boot_id=boot_id(),
            kernel=os.uname().release,
            identity=owner,
            process=replace(known.process, tid=tid),
            signal=_signal(crash.signal, drained),
            core=Core(drained.bytes, drained.stored_bytes, drained.truncated),
            capture=Capture(crash.mode, round(time.monotonic() - began, 3), __version__),
            threads=known.threads,
            modules=known.modules,
            files=files,
        )
        record = metadata.fitted(record, RECORD_ROOM)
        draft.fill(store.INFO, record.to_json().encode())
    return record


def _written(draft: Draft, files: dict[str, bytes]) -> list[str]:
    """Store what was read of the process, as far as there is room; return the names of what was stored."""
    names = []
    for name, data in files.items():
        with contextlib.suppress(OSError):
            draft.write(name, data)
            names.append(name)
    return sorted(names)


def _signal(announced: int | None, drained: Drained) -> Signal:
    number = announced or drained.head.signal or 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    address = drained.head.address
    return Signal(number, name, drained.head.code, None if address is None else f"{address:#x}")


def rfc3339(when: float) -> str:
    """Write a time in seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    text = datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def boot_id() -> str:
    """Return the id that the kernel gave this boot (random(4))."""
    with open(f"{PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
