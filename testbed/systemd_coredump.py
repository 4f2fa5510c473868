"""systemd's own core dump handler as a node has it, where no systemd runs: program, socket and service.

From Debian's package, unpacked outside the checkout and never installed: its installation would set
core_pattern. Not here: what is handed to it.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.programs import cache_directory

PACKAGES = ("systemd-coredump", "libsystemd-shared")
SOCKET = Path("/run/systemd/coredump")
STORAGE = Path("/var/lib/systemd/coredump")
"""Both are built into the program."""
ARGUMENTS = "%P %u %g %s %t 9223372036854775808 %h %d"
"""What the package's sysctl.d/50-coredump.conf has in core_pattern."""
_SERVE = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" 3<&0'
"""How systemd starts a service for an accepted connection (sd_listen_fds(3))."""


def program() -> Path:
    """Return a program that is systemd-coredump; raises RuntimeError if the package cannot be had."""
    directory = cache_directory() / "systemd-coredump"
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
            _unpack(Path(scratch))
            Path(scratch, "tree").rename(directory)
    return directory / "systemd-coredump"


def _unpack(scratch: Path) -> None:
    command = ["apt-get", "-qq", "download", *PACKAGES]
    done = subprocess.run(command, check=False, cwd=scratch, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    for package in scratch.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, scratch / "tree"], check=True, timeout=60)
    # The library that the program was built with, whatever the machine has; the kernel starts us without
    # environment, so that it stands here.
    real = next(scratch.glob("tree/**/systemd/systemd-coredump")).relative_to(scratch / "tree")
    library = next(scratch.glob("tree/**/libsystemd-shared-*.so")).relative_to(scratch / "tree").parent
    wrapper = scratch / "tree" / "systemd-coredump"
    wrapper.write_text(
        f'#!/bin/sh\nhere=${{0%/*}}\nLD_LIBRARY_PATH=$here/{library} exec "$here/{real}" "$@"\n'
    )
    wrapper.chmod(0o755)


@contextmanager
def service() -> Iterator[Path]:
    """Listen where systemd would and start the service for each core, as its .socket unit says.

    Yields the directory of the cores, which are removed afterwards.
    """
    before = set(STORAGE.glob("*")) if STORAGE.is_dir() else None
    STORAGE.mkdir(parents=True, exist_ok=True)
    made = [path for path in (SOCKET.parent,) if not path.exists()]
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listening.bind(str(SOCKET))
        listening.listen()
        acceptor = threading.Thread(target=_serve, args=(listening,), daemon=True)
        acceptor.start()
        yield STORAGE
        listening.shutdown(socket.SHUT_RDWR)
        acceptor.join(timeout=60)
    finally:
        listening.close()
        SOCKET.unlink(missing_ok=True)
        for path in set(STORAGE.glob("*")) - (before or set()):
            path.unlink()
        if before is None:
            shutil.rmtree(STORAGE)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _serve(listening: socket.socket) -> None:
    while True:
        try:
            peer, _ = listening.accept()
        except OSError:
            return
        with peer:
            subprocess.run(
                ["sh", "-c", _SERVE, str(program())],
                check=False,
                stdin=peer.fileno(),
                timeout=60,
                stderr=subprocess.DEVNULL,
            )
