"""What a shim is told at its start: one frozen value, parsed and checked once.

Not here: the command line that it comes from (cli).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import subprocess
from dataclasses import dataclass

log = logging.getLogger(__name__)

ANYWHERE_WARNING = (
    "WARNING: listening on {listen} without any authentication or encryption: whoever reaches this address "
    "reads every core in the store, and so the memory of every process that crashed"
)

_LISTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})\Z")


Address = tuple[str, int] | str


class ConfigError(ValueError):
    """A setting that cannot be; the message names it and the remedy."""


RUN_DIR = "/run/coredump-shim"
WATCHES = 64
"""Watches at one time in a cluster: kubectl's, and two for each controller that looks after our objects."""
RELAYED = 32
"""Other requests at one time that wait for kube-apiserver's answer to them."""
REVIEWED = 128
"""Requests at one time that wait for kube-apiserver's word on who asks and what he may: as many as HAProxy
lets through, since all of one busy caller's wait together when what was known of him is 10 s old."""


@dataclass(frozen=True)
class Joined:
    """How a shim belongs to a cluster."""

    kubeconfig: str | None
    """Its own credentials; None for those of the pod's service account."""
    run_dir: str = RUN_DIR
    """Directory of the sockets and files that it shares with HAProxy (rundir)."""


@dataclass(frozen=True)
class Config:
    """A shim: stand-alone, or one that is joined to a cluster."""

    store: str
    """Root of the store, an absolute path."""
    state: str = ""
    """Stand-alone: directory in which created and deleted endpoints are kept."""
    joined: Joined | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    max_body: int = 1 << 20
    """Largest body of a request, in bytes; what etcd lets an object have."""
    max_watches: int = 16
    """Watches at one time; each holds a thread of the server."""
    max_reads: int = 8
    """Store look-ups at one time."""
    max_waiting: int = 64
    """Look-ups that may wait for their turn before discovery waits as well; each holds a server thread."""
    store_seconds: float = 5.0
    """How long one look-up in the store may take, waiting for its turn included."""

    @property
    def threads(self) -> int:
        """Return how many threads the server needs so that discovery finds a free one while a store hangs."""
        asking = RELAYED + REVIEWED if self.joined else 0
        return self.max_watches + self.max_reads + self.max_waiting + asking + 8

    @property
    def address(self) -> Address:
        """Return where to listen: host and port, or the path of HAProxy's way to us."""
        return f"{self.joined.run_dir}/shim.sock" if self.joined else (self.host, self.port)

    @property
    def anywhere(self) -> bool:
        """Whether others than this machine can reach it."""
        return not is_loopback(self.host)


def standalone(store: str, state: str | None, listen: str, *, anywhere_allowed: bool) -> Config:
    """Check the settings of a stand-alone shim. Raises ConfigError."""
    host, port = parse_listen(listen)
    if not is_loopback(host) and not anywhere_allowed:
        raise ConfigError(
            f"--listen {listen} is not a loopback address, and a stand-alone shim has no authentication: "
            "whoever reaches it can read every core. Use 127.0.0.1 (and ssh -L to reach it from elsewhere), "
            "or say --insecure-listen-anywhere as well"
        )
    root = os.path.abspath(store)
    _check_directory(root, store)
    kept = _made(state) if state else f"{root}/.endpoints"
    return Config(root, kept, host=host, port=port)


def joined(store: str, kubeconfig: str | None, run_dir: str) -> Config:
    """Check the settings of a shim of a cluster; without a kubeconfig it is in a pod. Raises ConfigError."""
    root = os.path.abspath(store)
    _check_directory(root, store)
    if not os.path.isdir(run_dir):
        raise ConfigError(
            f"--run-dir {run_dir} is not a directory; make it, for the shim's and HAProxy's group"
        )
    member = Joined(kubeconfig, os.path.abspath(run_dir))
    return Config(root, joined=member, max_watches=WATCHES)


def _check_directory(root: str, store: str) -> None:
    """Raise ConfigError if the store is no directory; one that does not answer may yet be one.

    A process of its own looks, since a dead file server would hold whoever looks: the shim starts all the
    same then, so that everything but the store is served.
    """
    look = subprocess.Popen(["test", "-d", root])
    try:
        status = look.wait(Config.store_seconds)
    except subprocess.TimeoutExpired:
        look.kill()  # it ends when the file server is back
        log.warning(
            "--store %s does not answer within %g s; is its file server up?", store, Config.store_seconds
        )
        return
    if status:
        raise ConfigError(f"--store {store} is not a directory; name the directory the nodes deliver to")


def _made(state: str) -> str:
    try:
        os.makedirs(state, 0o750, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--state {state}: {error.strerror}; name a directory that can be written"
        ) from None
    return os.path.realpath(state)


def parse_listen(text: str, option: str = "--listen") -> tuple[str, int]:
    """Return address and port of `ADDRESS:PORT`, `[IPv6]:PORT` or `:PORT`. Raises ConfigError."""
    match = _LISTEN.match(text)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(f"{option} {text!r} must be ADDRESS:PORT, for example 127.0.0.1:8080 or [::1]:8080")
    return match["six"] or match["host"] or "0.0.0.0", int(match["port"])  # noqa: S104 (refused unless asked for)


def is_loopback(host: str) -> bool:
    """Whether this address or name can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
