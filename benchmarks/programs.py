"""The C and Go programs of the benchmarks: built when their sources change, kept outside the checkout.

Not here: running them (load, servers).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path

from testbed.programs import cache_directory

HERE = Path(__file__).parent
CC = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


@cache
def c_program(source: str) -> Path:
    """Return the executable of a C file below benchmarks/."""
    path = HERE / source
    made = _built(path, [path, *path.parent.glob("*.h")])
    if not made.exists():
        _run("gcc libc6-dev", *CC, "-o", str(made), str(path))
    return made


@cache
def go_server() -> Path:
    """Return the executable of baseline/server."""
    sources = HERE / "baseline" / "server"
    made = _built(sources, sorted(sources.iterdir()))
    if not made.exists():
        _run("golang-go", "go", "build", "-o", str(made), ".", directory=sources)
    return made


def tool(name: str, package: str) -> str:
    """Return the path of an installed program.

    Raises RuntimeError naming the Debian package it comes in.
    """
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing; on Debian: apt-get install --no-install-recommends {package}")
    return path


def _built(source: Path, sources: list[Path]) -> Path:
    """Return where the executable of these sources belongs; the name changes with what is in them."""
    content = b"\0".join(path.read_bytes() for path in sources) + "\0".join(CC).encode()
    key = hashlib.sha256(content).hexdigest()
    directory = cache_directory() / "benchmarks" / key[:16]
    directory.mkdir(parents=True, exist_ok=True)
    return directory / source.stem


def _run(package: str, name: str, *arguments: str, directory: Path | None = None) -> None:
    command = [tool(name, package), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, cwd=directory)
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)} failed:\n{done.stderr}")
