"""The canary: a crash of our own, followed from the kernel to the store, read back and removed.

In a cgroup shaped like a pod's, or as a process of the node's own. Not here: that cgroup (podcgroup), and
what is wrong if it does not arrive (doctor).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from coredump_guard import arming, journal, log, podcgroup, store, tree, trial, verify
from coredump_guard.account import ENDS, seconds
from coredump_guard.capture import boot_id
from coredump_guard.config import Config
from coredump_guard.journal import Entry
from coredump_guard.record import MAX_BYTES, Identity, Record
from coredump_guard.words import size

_CRASH = """
import os, resource, signal, sys
with open(sys.argv[1], "w") as procs:
    procs.write(str(os.getpid()))
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
os.kill(os.getpid(), signal.SIGSEGV)
"""
"""Doors don't ask for RLIMIT_CORE, but whoever writes a core file does: none shall lie about afterwards."""
_PAUSE = 0.1
"""Seconds between two looks at the journal."""
_SLACK = 2.0
"""Seconds by which the kernel's whole seconds, and its clock, may be behind ours."""


class Lost(Exception):  # noqa: N818 # says what became of the canary
    """The canary did not arrive; the message says where it was lost, and why."""


class Late(Lost):
    """The canary is safe in the spool, but was not delivered in time."""


@dataclass(frozen=True)
class _Flight:
    """A crash that is followed."""

    config: Config
    owner: Identity
    pid: int
    began: float
    """When it crashed, at the earliest; seconds since the epoch."""
    deadline: float
    """Of the monotonic clock."""

    @property
    def place(self) -> list[str]:
        """Where its dump lies in the store."""
        return store.directory(self.owner, self.config.node).split("/")

    def is_since(self, entry: Entry) -> bool:
        """Whether a line of the journal was written after the crash."""
        with contextlib.suppress(ValueError):
            return entry.boot_id == boot_id() and seconds(entry.time) >= self.began - _SLACK
        return False

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.1, self.deadline - time.monotonic())


def fly(config: Config, host: bool, timeout: float, say: Callable[[str], None]) -> None:
    """Crash and follow it, saying each step; raises Lost with the step that failed, OSError."""
    deadline = time.monotonic() + timeout
    if arming.door_in_force(config) is None:
        raise Lost("armed: core_pattern is not ours, so nothing was crashed: coredump-guard arm")
    say(f"armed: {arming.door_in_force(config)} door")
    poduid, container_id = str(uuid.uuid4()), secrets.token_hex(32)
    began = time.time()
    if host:
        owner, pid = Identity(host=True), _crashed(os.devnull, deadline)
    else:
        owner = Identity(poduid=poduid, container_id=container_id)
        with podcgroup.made(poduid, container_id) as procs:
            pid = _crashed(procs, deadline)
    whose = "of the node itself" if host else f"in pod {poduid}, container {container_id[:12]}…"
    say(f"crashed: process {pid} {whose}")
    _follow(_Flight(config, owner, pid, began, deadline), say)


def _crashed(procs: str, deadline: float) -> int:
    """Crash a process in a cgroup and return its id; raises Lost."""
    command = [sys.executable, "-I", "-S", "-c", _CRASH, procs]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        try:
            _, said = child.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            raise Lost("crashed: the process hangs in the kernel, nobody reads its core") from None
    if child.returncode != -signal.SIGSEGV:
        raise Lost(f"crashed: it did not, but said {said.decode('utf-8', 'replace').strip()[-200:]!r}")
    return child.pid


def _follow(flight: _Flight, say: Callable[[str], None]) -> None:
    end = _awaited(flight, "captured", lambda entry: entry.pid == flight.pid and entry.event in ENDS)
    reason = log.safe(end.reason) if end.reason else ""
    if flight.owner.host and _as_configured(flight.config, end):
        say(f"{end.event}: {reason}, as [policy] host_crashes = {flight.config.host_crashes} says")
        return
    if end.event != "captured":
        raise Lost(f"captured: it was {end.event}: {reason}")
    say(f"captured: {end.dump}")
    try:
        gone = _awaited(flight, "delivered", lambda entry: entry.dump == end.dump and entry.event in _AFTER)
        if gone.event != "delivered":
            raise Lost(f"delivered: it was {gone.event}: {log.safe(gone.reason)}")
    except Lost as error:
        raise Late(f"{error}; the dump {end.dump} waits in the spool and is delivered later") from None
    say(f"delivered: {'/'.join(flight.place)}/{end.dump}")
    _look_up(flight, end.dump, say)


_AFTER = ("delivered", "set aside", "evicted")
"""What the journal says of a dump that has left the spool's queue."""


def _as_configured(config: Config, end: Entry) -> bool:
    """Whether a crash of the node's own ended as the policy wants it, without a dump."""
    return {"chain": "handed on", "drop": "refused"}.get(config.host_crashes) == end.event


def _awaited(flight: _Flight, step: str, wanted: Callable[[Entry], bool]) -> Entry:
    """Wait for a line of the journal; raises Lost."""
    while True:
        for entry in journal.entries(flight.config.state):
            if wanted(entry) and flight.is_since(entry):
                return entry
        if time.monotonic() > flight.deadline:
            raise Lost(f"{step}: not in time, nobody has said what became of it")
        time.sleep(_PAUSE)


def _look_up(flight: _Flight, dump: str, say: Callable[[str], None]) -> None:
    """Read the dump back and remove it, in a child: the store may hang even now."""
    try:
        core = trial.within(flight.left, lambda: _read_back(flight, dump))
    except OSError as error:
        raise Lost(f"read back: {'/'.join(flight.place)}/{dump} in the store: {error}") from None
    stored = f"{size(core['stored_bytes'])} stored"
    say(f"read back: {size(core['bytes'])}, {stored}, sha256 {core['sha256'][:12]}… as in its record")
    try:
        trial.within(flight.left, lambda: _remove(flight, dump))
    except OSError as error:
        raise Lost(f"removed: {'/'.join(flight.place)}/{dump} is still in the store: {error}") from None
    say("removed: from the store")


def _read_back(flight: _Flight, dump: str) -> dict[str, Any]:
    """Return what the record says of the core, which is what the store has; raises OSError."""
    path = [*flight.place, dump]
    with tree.root(flight.config.store) as root, tree.entered(root, path) as directory:
        core = Record.from_json(tree.read(directory, store.INFO, MAX_BYTES)).core
        with os.fdopen(tree.regular(directory, store.CORE), "rb") as file:
            found = verify.inflated(file)
    if core.truncated:
        raise OSError(f"the core is cut: {core.truncated}")
    if asdict(found) != {name: getattr(core, name) for name in ("stored_sha256", "sha256", "bytes")}:
        raise OSError(f"core.gz is not what its record says: {found}")
    return asdict(core)


def _remove(flight: _Flight, dump: str) -> None:
    """Remove the dump with its announcement, and the directory made for it; raises OSError."""
    place = flight.place
    with tree.root(flight.config.store) as root:
        with contextlib.suppress(FileNotFoundError), tree.entered(root, [store.INBOX]) as inbox:
            tree.remove(inbox, dump)
        with tree.entered(root, place) as directory:
            tree.remove(directory, dump)
        if not flight.owner.host:
            with tree.entered(root, place[:-1]) as above:
                os.rmdir(place[-1], dir_fd=above)
