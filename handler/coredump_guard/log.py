"""The guard's log: one line with fields to journald's own protocol or, elsewhere, to standard error.

Values may be the crasher's words: they are escaped, so that no name can forge a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys

JOURNAL = "/run/systemd/journal/socket"
_LEVELS = {"error": 3, "warning": 4, "info": 6}


def info(message: str, **fields: object) -> None:
    """Log what an administrator may want to know."""
    _emit("info", message, fields)


def warning(message: str, **fields: object) -> None:
    """Log what an administrator should look at some time."""
    _emit("warning", message, fields)


def error(message: str, **fields: object) -> None:
    """Log what needs an administrator."""
    _emit("error", message, fields)


def _emit(level: str, message: str, fields: dict[str, object]) -> None:
    # A full disk or a closed pipe behind standard error must cost a line, never a core.
    with contextlib.suppress(OSError, ValueError):
        _write(level, message, fields)


def _write(level: str, message: str, fields: dict[str, object]) -> None:
    known = {name: safe(value) for name, value in fields.items() if value is not None}
    line = " ".join([message, *(f"{name}={value}" for name, value in known.items())])
    if _stderr_is_journal():
        entry = {"MESSAGE": line, "PRIORITY": _LEVELS[level], "SYSLOG_IDENTIFIER": "coredump-guard"}
        entry.update({f"COREDUMP_GUARD_{name.upper()}": value for name, value in known.items()})
        _send("".join(f"{name}={value}\n" for name, value in entry.items()))
    else:
        sys.stderr.write(f"{level}: {line}\n")
        sys.stderr.flush()


def safe(value: object) -> str:
    """Write a value as one word of printable ASCII, or as a JSON string: nothing in it acts on a terminal."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and " " not in text and '"' not in text and text
    return text if plain else json.dumps(text)


def _stderr_is_journal() -> bool:
    """Whether systemd connected standard error to the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    if not stream:
        return False
    status = os.fstat(2)
    return stream == f"{status.st_dev}:{status.st_ino}"


def _send(entry: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        try:
            journal.sendto(entry.encode(), JOURNAL)
        except OSError:
            sys.stderr.write(entry.partition("\n")[0] + "\n")
