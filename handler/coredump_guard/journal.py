"""The journal: one line for what became of each crash and of each dump, kept over the guard's restarts.

    <state>/journal       JSON lines, oldest first
    <state>/journal.old   the lines before those

Appended by the guard and by doormen alone; a line that cannot be written costs nothing but itself.
Not here: counting the lines (account).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

from coredump_guard import log

MAX_BYTES = 4 << 20
"""Of the journal before it becomes the old one: some 15,000 lines."""
_TEXT = 512
"""Longest text of one field, in characters; reasons and names may hold the crasher's words."""


@dataclass(frozen=True)
class Entry:
    """One line.

    event, of a crash: captured, refused, handed on, missed; of a dump: delivered, set aside, evicted.
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


def append(state: str, entry: Entry) -> None:
    """Add a line to the journal below the state directory; what goes wrong is logged, never raised."""
    values = {key: value[:_TEXT] if isinstance(value, str) else value for key, value in _given(entry)}
    line = (json.dumps(values) + "\n").encode()
    try:
        with _locked(state) as fd:
            if os.fstat(fd).st_size > MAX_BYTES:
                os.rename(f"{state}/journal", f"{state}/journal.old")
                with _locked(state) as new:
                    os.write(new, line)
            else:
                os.write(fd, line)
    except OSError as error:
        log.warning("the journal takes no line", state=state, error=error.strerror)


def entries(state: str) -> Iterator[Entry]:
    """Read all lines, oldest first; what is no line of ours (one cut short by a full disk) is passed over."""
    for name in ("journal.old", "journal"):
        with contextlib.suppress(FileNotFoundError), open(f"{state}/{name}", "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, TypeError):
                    yield _entry(json.loads(line))


def _given(entry: Entry) -> list[tuple[str, object]]:
    return [(key, value) for key, value in dataclasses.asdict(entry).items() if value]


def _entry(values: object) -> Entry:
    if not isinstance(values, dict):
        raise TypeError("a line is an object")
    known = {field.name: field for field in dataclasses.fields(Entry)}
    for key, value in values.items():
        if key in known and type(value).__name__ != known[key].type:
            raise TypeError(key)
    return Entry(**{key: value for key, value in values.items() if key in known})


@contextlib.contextmanager
def _locked(state: str) -> Iterator[int]:
    """Open the journal for appending, so that no other process renames it meanwhile."""
    fd = _open(state)
    while not _is_current(fd, state):
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


def _is_current(fd: int, state: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), os.stat(f"{state}/journal"))
    return False
