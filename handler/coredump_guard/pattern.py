"""core_pattern of ours: the module that builds it also parses the arguments the kernel makes of it.

Not here: writing it to the kernel and remembering what was there before (arming).
Facts: core(5), "Piping core dumps to a program"; fs/coredump.c.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

MAX_LENGTH = 127
"""Usable characters; the kernel silently truncates what is longer (CORENAME_MAX_SIZE)."""

SPECIFIERS = "%P %I %s %t %d %c F%F %h %e"
"""Names come last: kernels before 5.3 split the arguments after expansion, and names may hold spaces.

%F (6.16, a pidfd) is unknown to older kernels and then leaves the bare "F", so that no position shifts.
"""

DOORMAN = "doorman.py"
KERNEL_SOCKET = "kernel.sock"
RUNTIME_PREFIX = "coredump-guard"
"""How the runtime directory's name begins, wherever it is: our pattern is known by it."""

_RUNTIME = rf"/{RUNTIME_PREFIX}[^/ ]*"
_OURS = re.compile(rf"\|\S+ -I -S \S*{_RUNTIME}/{DOORMAN}( |$)|@@?\S*{_RUNTIME}/{KERNEL_SOCKET}$")

UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True)
class Crash:
    """What is known of a crash the moment it is announced; names are raw and hostile."""

    pid: int
    tid: int | None = None
    """The thread that crashed; the socket does not tell."""
    signal: int | None = None
    time: float = 0.0
    dumpable: int = 1
    """1 an ordinary process, 2 one that changed its ids: root's eyes only (PR_SET_DUMPABLE(2const))."""
    rlimit_core: int = UNLIMITED
    hostname: str = ""
    comm: str = ""
    mode: str = "pipe"


def pipe_pattern(interpreter: str, doorman: str) -> str:
    """Build the pattern that starts the doorman.

    Raises ValueError if the kernel would truncate it or split it in the wrong place.
    """
    pattern = f"|{interpreter} -I -S {doorman} {SPECIFIERS}"
    for path in (interpreter, doorman):
        _refuse_special(path)
    if len(pattern.encode()) > MAX_LENGTH:
        raise ValueError(
            f"core_pattern would be {len(pattern)} characters long, at most {MAX_LENGTH}: {pattern}"
        )
    return pattern


def socket_pattern(path: str) -> str:
    """Build the pattern that makes the kernel connect to a socket, with request and acknowledge (6.17)."""
    pattern = f"@@{path}"
    _refuse_special(path)
    if not path.startswith("/") or len(pattern.encode()) > 107:
        raise ValueError(f"not a path that the kernel would connect to: {path}")
    return pattern


def _refuse_special(path: str) -> None:
    """The kernel splits at spaces and expands what follows a '%' (format_corename in fs/coredump.c)."""
    if " " in path or "%" in path:
        raise ValueError(f"core_pattern cannot hold a path with a space or a '%': {path}")


def is_ours(pattern: str) -> bool:
    """Whether any coredump-guard wrote this pattern, so that it must never be taken for the original."""
    return _OURS.match(pattern.strip()) is not None


def leads_to(pattern: str) -> str:
    """Return the doorman or socket that a pattern of ours leads to: it tells which installation's it is."""
    return pattern.split()[3] if pattern.startswith("|") else pattern.strip().lstrip("@")


def parse_arguments(arguments: list[str], mode: str = "pipe") -> Crash:
    """Read the doorman's arguments back.

    Raises ValueError on anything that `pipe_pattern` cannot have produced.
    """
    if len(arguments) < 8:
        raise ValueError(f"{len(arguments)} arguments from core_pattern, at least 8 expected")
    pid, tid, signal, when, dumpable, rlimit = (_number(text) for text in arguments[:6])
    if not arguments[6].startswith("F"):
        raise ValueError(f"argument 7 from core_pattern should begin with F, is {arguments[6][:40]!r}")
    return Crash(
        pid=pid,
        tid=tid,
        signal=signal,
        time=float(when) or time.time(),
        dumpable=dumpable,
        rlimit_core=rlimit,
        hostname=arguments[7],
        comm=" ".join(arguments[8:]),
        mode=mode,
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"not a number from core_pattern: {text[:40]!r}")
    return int(text)
