"""Where the demo's files are, and the command lines of the programs it shows."""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
WORK = CHECKOUT / "build" / "demo"
RUNTIME = Path("/run/coredump-guard-demo")
"""The guard's sockets; the kernel knows them by this short path."""

GUARD_CONFIG = f"""\
[guard]
node = demo-node
mode = auto
workers = 2
spool = {WORK}/spool
state = {WORK}/state
runtime = {RUNTIME}
[store]
path = {WORK}/store
"""


@dataclass(frozen=True)
class Place:
    """One run's place: its files, all below WORK, and the shim's port."""

    port: int
    guard_config: Path = WORK / "guard.conf"
    guard_log: Path = WORK / "guard.log"
    shim_log: Path = WORK / "shim.log"
    archive: Path = WORK / "coredump.tar.gz"
    unpacked: Path = WORK / "coredump"

    @property
    def server(self) -> str:
        """The shim's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def shim(self) -> list[str]:
        """The command line that serves the store."""
        options = ["--standalone", "--store", f"{WORK}/store", "--listen", f"127.0.0.1:{self.port}"]
        return [_script("coredump-shim"), "serve", *options]

    def guard(self, verb: str) -> list[str]:
        """Return a command line of the guard."""
        return [_script("coredump-guard"), "--config", str(self.guard_config), verb]

    def kubectl(self, *arguments: str) -> list[str]:
        """Return a command line of kubectl that knows nothing of the user's own clusters."""
        own = ["--kubeconfig", "/dev/null", "--cache-dir", f"{WORK}/kubectl-cache", "--server", self.server]
        return ["kubectl", *own, *arguments]


def new_place() -> Place:
    """Return an empty place."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name in ("spool", "state", "store"):
        (WORK / name).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = Place(free.getsockname()[1])
    place.guard_config.write_text(GUARD_CONFIG)
    return place


def _script(name: str) -> str:
    """Return a program of the virtual environment that runs the demo."""
    return str(Path(sys.executable).parent / name)
