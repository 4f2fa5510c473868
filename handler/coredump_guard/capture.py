"""The capture engine: one crash, by whichever door it came, becomes one dump in the spool.

First what disappears with the process is read, then the core is drained, then the process is let go, and
only then does anything wait for the disk. Not here: which crashes are captured (engine).
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from dataclasses import replace
from datetime import datetime, timezone

from coredump_guard import __version__, deflate, elfcore, executables, log, logtail, metadata, store
from coredump_guard.arrival import Arrival
from coredump_guard.config import Config
from coredump_guard.drain import Drained, drain
from coredump_guard.pattern import Crash
from coredump_guard.process import Process
from coredump_guard.record import Capture, Core, Identity, Record, RecordError, Signal
from coredump_guard.record import Process as ProcessRecord
from coredump_guard.salvage import CUT_OFF
from coredump_guard.spool import Draft, Spool
from coredump_guard.verdict import Verdict

PROC = "/proc"
RECORD_ROOM = 512 << 10
"""Bytes set aside for the record before the core may take the rest of the disk."""
KEEP = Verdict()
_FINAL = f"{store.INFO}.new"
"""The record's name until the core is there: never half a record is called one."""


def capture(
    arrival: Arrival, held: Process | None, owner: Identity, config: Config, verdict: Verdict = KEEP
) -> Record:
    """Turn a crash into a dump in the spool and return its record; the process is free when its core is read.

    held is None for a process that was gone before it could be looked at: its core is kept all the same.

    Raises OSError if the spool takes nothing at all, TooLarge if the core has more bytes than may be kept.
    """
    began = time.monotonic()
    crash, spool = arrival.crash, Spool(config.spool)
    unknown = metadata.Metadata(ProcessRecord(crash.pid, crash.tid, comm=crash.comm), 0, {})
    known = unknown if held is None else metadata.gather(held, crash.tid, environ=config.environ)
    record = _begun(crash, known, owner, config, verdict)
    tail = logtail.held(held, owner, config.log_size)
    programs = executables.held(None if verdict.refused else held, known)
    with programs, spool.draft(record.id) as draft, tail as read_log:
        draft.reserve(_FINAL, RECORD_ROOM)
        files = _written(draft, known.files)
        # Should the guard die from here on, the next one finds what is known.
        _written(draft, {store.INFO: replace(record, files=files).to_json().encode()})
        if verdict.refused:
            arrival.refuse()
        else:
            drained = _drained(draft, arrival, began, config, verdict)
            record = _with_core(record, drained, held)
        arrival.close()
        files += _written(draft, read_log())
        seconds = round(time.monotonic() - began, 3)
        record = replace(
            record,
            capture=replace(record.capture, seconds=seconds),
            replaces=_replaced(spool, verdict),
            files=sorted(files),
        )
        record = metadata.fitted(record, RECORD_ROOM)
        draft.fill(_FINAL, record.to_json().encode())
        draft.rename(_FINAL, store.INFO)
    if verdict.replaces:
        _remove(spool, verdict.replaces)
    return record


def _begun(
    crash: Crash, known: metadata.Metadata, owner: Identity, config: Config, verdict: Verdict
) -> Record:
    """Return the record as far as it is known before the core is drained."""
    name = known.process.executable or known.process.comm
    record = Record(
        id=store.dump_id(crash.time, name, crash.pid, boot_id(), known.start_time),
        time=rfc3339(crash.time),
        node=config.node,
        boot_id=boot_id(),
        kernel=os.uname().release,
        identity=owner,
        process=known.process,
        signal=signal_of(crash.signal),
        core=Core(0, 0, None if verdict.refused else CUT_OFF),
        capture=Capture(crash.mode, 0.0, __version__),
        refused=verdict.refused,
        threads=known.threads,
        modules=known.modules,
    )
    return metadata.fitted(record, RECORD_ROOM)


def _drained(draft: Draft, arrival: Arrival, began: float, config: Config, verdict: Verdict) -> Drained:
    until = began + config.deadline
    failure = _begin(arrival)
    out = draft.create(store.CORE if deflate.FAST else store.RAW_CORE)
    try:
        if failure:
            with open(os.devnull, "rb") as nothing:  # the file that an empty core has
                return replace(drain(nothing.fileno(), out, until), truncated=failure)
        return drain(arrival.core, out, until, largest=config.largest_core, room=verdict.room)
    finally:
        os.close(out)


def _begin(arrival: Arrival) -> str | None:
    """Ask for the core; returns why there is none, since what is known of the crash is kept all the same."""
    try:
        arrival.begin()
    except ConnectionError:
        return "the process died before it gave its core"
    except OSError as error:
        return f"the kernel gave no core: {error.strerror or error}"
    return None


def _with_core(record: Record, drained: Drained, held: Process | None) -> Record:
    """Add what the core tells; its thread only the socket does not announce."""
    tid = record.process.tid
    if tid is None and held is not None:
        tid = metadata.crashed_thread(held, drained.head.tid)
    return replace(
        record,
        process=replace(record.process, tid=tid),
        signal=signal_of(record.signal.number, drained.head),
        core=Core(drained.bytes, drained.stored_bytes, drained.truncated),
    )


def _remove(spool: Spool, dump_id: str) -> None:
    """Remove a dump whose place another one has taken, which stands whether this succeeds or not."""
    try:
        spool.remove(dump_id)
    except FileNotFoundError:
        pass  # it has been delivered: then deliver replaces it
    except OSError as error:
        log.warning("a dump that was replaced could not be removed", dump=dump_id, error=error)


def _replaced(spool: Spool, verdict: Verdict) -> str | None:
    """Return which dump in the store this one takes the place of: that of a dump which never got there."""
    dump_id = verdict.replaces
    if dump_id:
        with contextlib.suppress(OSError, RecordError):
            return spool.record(dump_id).replaces or dump_id
    return dump_id


def _written(draft: Draft, files: dict[str, bytes]) -> list[str]:
    """Store what was read of the process, as far as there is room; return the names of what was stored."""
    names = []
    for name, data in files.items():
        with contextlib.suppress(OSError):
            draft.write(name, data)
            names.append(name)
    return names


def signal_of(announced: int | None, head: elfcore.Head = elfcore.Head()) -> Signal:  # noqa: B008 # frozen
    """Return the signal that was announced or, where none was, the one that the core names."""
    number = announced or head.signal or 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return Signal(number, name, head.code, None if head.address is None else f"{head.address:#x}")


def rfc3339(when: float) -> str:
    """Write a time in seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    text = datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def boot_id() -> str:
    """Return the id that the kernel gave this boot (random(4))."""
    return _boot_id(PROC)


@functools.cache
def _boot_id(proc: str) -> str:
    with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
