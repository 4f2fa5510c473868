"""The network that a cluster lives in: a namespace of this process's own, with addresses for its servers.

So fixed ports collide with nothing, and nothing is reachable from outside. Not here: what listens there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ADDRESS = "198.18.0.1"
"""The control plane's; 198.18.0.0/15 is reserved for tests (RFC 2544). kube-apiserver refuses loopback
addresses in Endpoints and EndpointSlices."""
GATEWAYS = [f"198.18.0.{last}" for last in range(2, 10)]
"""Addresses for gateways and more servers."""
NODE = "198.18.0.10"

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@cache
def enter() -> int:
    """Put this thread, and all that it starts from now on, into a network namespace of its own; once.

    Returns a descriptor of the namespace that it came from. Raises OSError without CAP_SYS_ADMIN.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(CLONE_NEWNET):
        raise _error("unshare(CLONE_NEWNET)")
    _ip("link", "set", "lo", "up")
    for address in (ADDRESS, *GATEWAYS, NODE):
        _ip("address", "add", f"{address}/32", "dev", "lo")
    return before


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Start something in the machine's own network: only there the kernel announces crashes."""
    before = enter()
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(before)
        yield
    finally:
        _set(here)
        os.close(here)


def inhabitants() -> set[int]:
    """Return the ids of the other processes in this thread's network namespace; none before enter()."""
    if not enter.cache_info().currsize:
        return set()
    ours, found = os.readlink("/proc/thread-self/ns/net"), set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if os.readlink(process / "ns/net") == ours:
                found.add(int(process.name))
    return found - {os.getpid()}


def _set(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise _error("setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=30)


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
