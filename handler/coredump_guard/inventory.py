"""What a person asks for by `list`, `show` and `log`: the dumps in the spool, and what became of the others.

Reads only; the guard need not run. Not here: the numbers (account, status).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

from coredump_guard import journal, log, store
from coredump_guard.account import ANNOUNCED, CARRIED, seconds
from coredump_guard.config import Config
from coredump_guard.journal import Entry
from coredump_guard.record import MAX_BYTES, Identity, Record, RecordError, Signal
from coredump_guard.words import size

STATES = {"ready": "waiting", "incoming": "being captured", "broken": "set aside"}
"""The spool's directories and what is said of the dumps in them."""


_LAST = 10
"""Lines of the journal that a person is shown of one dump."""
_LONGEST = 1000
"""Characters of one line of a record."""


class NoSuchDump(Exception):  # noqa: N818 # names what was not found
    """No dump, or more than one, goes by what was given; the message says what there is."""


def dumps(config: Config) -> list[dict[str, Any]]:
    """Return the dumps in the spool, oldest crash first; raises OSError where it cannot be read."""
    found = [
        _described(f"{config.spool}/{directory}/{name}", name, state)
        for directory, state in STATES.items()
        for name in _names(f"{config.spool}/{directory}")
    ]
    return sorted(found, key=lambda dump: str(dump["id"]))


def find(config: Config, wanted: str) -> dict[str, Any]:
    """Return what is known of the one dump whose id begins so, also when it has left the spool.

    Raises NoSuchDump, or OSError where spool or journal cannot be read.
    """
    spooled = {str(dump["id"]): dump for dump in dumps(config)}
    past: dict[str, list[Entry]] = {}
    for entry in history(config):
        if entry.dump.startswith(wanted) and wanted:
            past.setdefault(entry.dump, []).append(entry)
    matching = {name for name in spooled if name.startswith(wanted) and wanted} | past.keys()
    exact = matching & {wanted}
    if len(matching) != 1 and not exact:
        raise NoSuchDump(_complaint(wanted, sorted(matching), list(spooled)))
    dump_id = next(iter(exact or matching))
    record = _record(spooled[dump_id]["path"]) if dump_id in spooled else None
    return {
        "id": dump_id,
        "state": spooled[dump_id]["state"] if dump_id in spooled else past[dump_id][-1].event,
        "path": spooled[dump_id]["path"] if dump_id in spooled else _delivered_to(config, past[dump_id]),
        "record": dataclasses.asdict(record) if record else None,
        "journal": [as_json(entry) for entry in past.get(dump_id, [])],
    }


def _delivered_to(config: Config, told: list[Entry]) -> str:
    """Return where a dump was delivered to, by the journal: a store that hangs is not asked."""
    place = next((entry.place for entry in reversed(told) if entry.place), "")
    gone = told[-1].event == "evicted"
    return f"{config.store}/{place}/{told[-1].dump}" if place and not gone else ""


def history(config: Config, since: float = 0.0) -> Iterator[Entry]:
    """Yield the journal's lines of crashes and dumps since a time in seconds since the epoch, oldest first.

    Raises OSError where it cannot be read.
    """
    for entry in journal.entries(config.state):
        if entry.event in (ANNOUNCED, CARRIED):
            continue
        with contextlib.suppress(ValueError):
            if seconds(entry.time) >= since:
                yield entry


def as_json(entry: Entry) -> dict[str, Any]:
    """Return a line of the journal for machines."""
    return {key: value for key, value in dataclasses.asdict(entry).items() if key != "counts"}


def line(entry: Entry) -> str:
    """Return a line of the journal for a person; the crasher's words in it are escaped."""
    words = [entry.time, entry.event, entry.whose, entry.signal, entry.executable, entry.dump]
    text = "  ".join(log.safe(word) if word != entry.event else word for word in words if word)
    pid = f"  pid={entry.pid}" if entry.pid and not entry.dump else ""
    return f"{text}{pid}" + (f"  {log.safe(entry.reason)}" if entry.reason else "")


def table(found: list[dict[str, Any]]) -> str:
    """Return the dumps in the spool for a person."""
    if not found:
        return "The spool is empty.\n"
    rows = [("STATE", "SIZE", "SIGNAL", "WHOSE", "ID")]
    rows += [
        (dump["state"], size(dump["bytes"]), _word(dump["signal"]), _word(dump["whose"]), dump["id"])
        for dump in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) + "\n" for row in rows
    )


def _word(text: str) -> str:
    return log.safe(text) if text else "-"


def render(found: dict[str, Any]) -> str:
    """Return one dump for a person; the crasher's words in it are escaped."""
    lines = [("id", found["id"]), ("state", found["state"]), ("path", found["path"])]
    if found["record"]:
        lines += _lines(Record.from_json(json.dumps(found["record"])))
    told = found["journal"]
    lines += [("journal", line(Entry(**entry))) for entry in told[-_LAST:]]
    if len(told) > _LAST:  # a crash loop's tally has one for each crash
        lines.append(("", f"and {len(told) - _LAST} before those: --json has them all"))
    return "".join(f"{name:>10}  {text}\n" for name, text in lines if text)


def _lines(record: Record) -> list[tuple[str, str]]:
    process, died, core = record.process, record.signal, record.core
    code = "" if died.code is None else f", code {died.code}"
    address = f", address {log.safe(died.address)}" if died.address else ""
    if record.refused:
        kept = f"NOT KEPT: {log.safe(record.refused)}"
    else:
        whole = f"CUT: {log.safe(core.truncated)}" if core.truncated else "whole"
        kept = f"{size(core.bytes)}, {size(core.stored_bytes)} stored; {whole}"
    return [
        ("crash", log.safe(record.time)),
        ("until", f"{log.safe(record.until)}, {record.crashes} crashes" if record.until else ""),
        ("whose", log.safe(whose(record.identity))),
        ("image", log.safe(record.identity.image) if record.identity.image else ""),
        ("process", f"{process.pid}, user {process.uid}, group {process.gid}, {process.threads} threads"),
        ("executable", log.safe(process.executable or process.comm)),
        ("cmdline", " ".join(log.safe(word) for word in process.cmdline)[:_LONGEST]),
        ("signal", f"{log.safe(_signal(died))}{code}{address}"),
        ("core", kept),
        ("capture", f"{log.safe(record.capture.mode)}, {record.capture.seconds:g} s"),
        ("files", " ".join(log.safe(name) for name in record.files)[:_LONGEST]),
    ]


def _signal(died: Signal) -> str:
    return died.name if died.number else "unknown"


def whose(owner: Identity) -> str:
    """Say whose process it was: namespace/pod/container, host, or unidentified."""
    if owner.complete:
        return f"{owner.namespace}/{owner.pod}/{owner.container}"
    return "host" if owner.host else "unidentified"


def _names(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:  # no guard has run yet
        return []
    # Those set aside may be numbered, those delivered are marked while they are removed.
    return [name for name in names if store.is_dump_id(name) or store.is_dump_id(name.rpartition(".")[0])]


def _described(path: str, name: str, state: str) -> dict[str, Any]:
    if name.endswith(".delivered"):
        name, state = name.rpartition(".")[0], "delivered, being removed"
    record = _record(path)
    return {
        "id": name,
        "time": record.time if record else "",
        "whose": whose(record.identity) if record else "",
        "signal": _signal(record.signal) if record else "",
        "bytes": _size(path),
        "state": state,
        "path": path,
    }


def _record(path: str) -> Record | None:
    """Read a record; None while there is none, or where it is no good."""
    try:
        with open(f"{path}/{store.INFO}", "rb") as file:
            return Record.from_json(file.read(MAX_BYTES + 1))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, RecordError):
        return None


def _size(path: str) -> int:
    """Return what a dump takes on disk, in bytes."""
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # delivered meanwhile
        for entry in os.scandir(path):
            total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _complaint(wanted: str, matching: list[str], spooled: list[str]) -> str:
    if matching:
        return f"{log.safe(wanted)} is the beginning of {len(matching)} dumps: {', '.join(matching[-10:])}"
    there = f"in the spool: {', '.join(spooled[-10:])}" if spooled else "the spool is empty"
    return f"no dump's id begins with {log.safe(wanted)}; {there}; those before: coredump-guard log"
