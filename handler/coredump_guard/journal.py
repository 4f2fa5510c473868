"""The journal: one line for what became of each crash and of each dump, kept over the guard's restarts.

    <state>/journal       JSON lines, oldest first
    <state>/journal.old   the lines before those

Appended by the guard and by doormen alone; a line that cannot be written costs nothing but itself. A new
journal begins with the counts of all that came before in this boot. Not here: counting (account).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from coredump_guard import account, log

MAX_BYTES = 4 << 20
"""Of the journal before it becomes the old one: some 15,000 lines."""
_TEXT = 512
"""Longest text of one field, in characters; reasons and names may hold the crasher's words."""


@dataclass(frozen=True)
class Entry:
    """One line.

    event, of a crash: announced by the kernel, then captured, refused, handed on or missed; of a dump:
    delivered, set aside, evicted; of a journal: carried, with the counts of the journals before.
    """

    time: str
    """RFC 3339 in UTC."""
    boot_id: str
    event: str
    reason: str = ""
    pid: int = 0
    signal: str = ""
    executable: str = ""
    whose: str = ""
    """namespace/pod/container, host, or unidentified."""
    dump: str = ""
    place: str = ""
    """Where a delivered dump lies, below the store's root."""
    counts: dict[str, int] = field(default_factory=dict)


def append(state: str, entry: Entry) -> None:
    """Add a line to the journal below the state directory; what goes wrong is logged, never raised."""
    try:
        with _locked(state) as fd:
            if os.fstat(fd).st_size <= MAX_BYTES:
                _write(fd, entry)
                return
            carried = _carried(state, entry)
            os.rename(f"{state}/journal", f"{state}/journal.old")
            with _locked(state) as new:
                _write(new, carried)
                _write(new, entry)
    except OSError as error:
        log.warning("the journal takes no line", state=state, error=error.strerror)


def _write(fd: int, entry: Entry) -> None:
    """Write a line, whole or not at all; raises OSError."""
    values = {key: value[:_TEXT] if isinstance(value, str) else value for key, value in _given(entry)}
    line, before = (json.dumps(values) + "\n").encode(), os.fstat(fd).st_size
    if os.write(fd, line) < len(line):
        os.ftruncate(fd, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _carried(state: str, entry: Entry) -> Entry:
    ledger = account.Ledger(entry.boot_id)
    for line in entries(state):
        ledger.add(line)
    return Entry(entry.time, entry.boot_id, account.CARRIED, counts=dict(ledger.counts))


def entries(state: str) -> Iterator[Entry]:
    """Read all lines, oldest first; what is no line of ours (one cut short by a full disk) is passed over."""
    for name in ("journal.old", "journal"):
        with contextlib.suppress(FileNotFoundError), open(f"{state}/{name}", "rb") as file:
            yield from _lines(file)


class Follower:
    """Reads the journal and then whatever any process appends to it, over a rotation."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._inode = self._offset = 0
        """How far it has been read: up to where in which file."""

    def new(self) -> Iterator[Entry]:
        """Yield the lines that came since the last time; the first time, all of them."""
        with contextlib.ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for name in ("journal", "journal.old"):  # one that becomes the old one in between is read once
                with contextlib.suppress(FileNotFoundError):
                    file: BinaryIO = stack.enter_context(open(f"{self._state}/{name}", "rb"))
                    files.setdefault(os.fstat(file.fileno()).st_ino, file)
            unread = list(reversed(files.items()))
            while self._inode in files and unread[0][0] != self._inode:
                del unread[0]  # it was read to its end before
            for inode, file in unread:
                if inode == self._inode:
                    file.seek(self._offset)
                yield from _lines(file)
                self._inode, self._offset = inode, file.tell()


def _lines(file: BinaryIO) -> Iterator[Entry]:
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)  # it is being written
            return
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            yield _entry(json.loads(line))


def _given(entry: Entry) -> list[tuple[str, object]]:
    return [(key, value) for key, value in dataclasses.asdict(entry).items() if value]


def _entry(values: object) -> Entry:
    if not isinstance(values, dict):
        raise TypeError("a line is an object")
    known = {field.name: field for field in dataclasses.fields(Entry)}
    for key, value in values.items():
        if key in known and type(value).__name__ != str(known[key].type).partition("[")[0]:
            raise TypeError(key)
    if not all(isinstance(count, int) for count in values.get("counts", {}).values()):
        raise TypeError("counts are numbers")
    return Entry(**{key: value for key, value in values.items() if key in known})


@contextlib.contextmanager
def _locked(state: str) -> Iterator[int]:
    """Open the journal for appending, so that no other process renames it meanwhile."""
    fd = _open(state)
    while not _is_current(fd, f"{state}/journal"):
        os.close(fd)
        fd = _open(state)
    try:
        yield fd
    finally:
        os.close(fd)


def _open(state: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(f"{state}/journal", flags, 0o640)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _is_current(fd: int, path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False
