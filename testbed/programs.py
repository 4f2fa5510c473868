"""C programs for pods: compiled statically with debug information, cached outside the checkout by content.

Static, so that an image is one file and gdb needs nothing but the executable and the core.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent / "programs"
# Without optimisation a backtrace shows just the calls and the arguments that the source has.
CC = ("gcc", "-std=gnu11", "-g", "-O0")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
LINK = ("-static", "-pthread")


def cache_directory() -> Path:
    """Return where what can be made again is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "coredump-guard"


def program(name: str, link: tuple[str, ...] = LINK) -> Path:
    """Return the executable of programs/NAME.c."""
    return compiled(SOURCES / f"{name}.c", link)


@cache
def compiled(source: Path, link: tuple[str, ...] = LINK) -> Path:
    """Return source's executable, compiling it unless the cache has it.

    Raises RuntimeError with the compiler's words.
    """
    how = "\0".join([*CC, *link, str(source), _compiler()])
    key = hashlib.sha256(source.read_bytes() + b"\0" + how.encode())
    executable = cache_directory() / "programs" / key.hexdigest()[:16] / source.stem
    if not executable.exists():
        executable.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=executable.parent) as scratch:
            made = Path(scratch) / source.stem
            _run([*CC, *WARNINGS, *link, "-o", str(made), str(source)])
            made.rename(executable)
    return executable


def _compiler() -> str:
    return _run([CC[0], "-dumpfullversion", "-dumpmachine"])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise RuntimeError(
            f"{command[0]} is missing: tools/install installs it (Debian: gcc libc6-dev)"
        ) from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout
