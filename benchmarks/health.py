"""health: how long /healthz takes while 64 clients download, and while 64 have stopped reading.

Every probe is a connection of its own, as a kubelet's is.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import dumps, load, servers
from benchmarks.report import Row, alone, at_most, compared, interleave

CLIENTS = 64
SECONDS = 10
ROUNDS = 3
PAUSE = 0.01
"""Seconds between two probes."""
RATIO_GOAL = at_most(0.05)
STALLED_GOAL = at_most(100)


def measure(scratch: Path) -> list[Row]:
    """Measure both; the Go server has only the first."""
    made = dumps.make(scratch)
    with servers.shim(made.store) as shim:
        with servers.baseline(made.raw, scratch / "tmp") as go:
            p99s = interleave(ROUNDS, lambda: _busy(shim, made.url), lambda: _busy(go, "/dump"))
        with _stalled(shim, made.url):
            stalled = _p99(shim, lambda: True)
    return [
        compared(("health", f"p99, {CLIENTS} downloads, Go"), "ms", p99s, RATIO_GOAL),
        alone(("health", f"p99, {CLIENTS} stalled readers"), "ms", stalled, STALLED_GOAL),
    ]


def _busy(port: int, path: str) -> float:
    with load.fetching(port, path, CLIENTS) as fetching:
        p99 = _p99(port, fetching)
        assert fetching(), "the downloads failed"
        return p99


def _p99(port: int, on: Callable[[], bool]) -> float:
    """Probe for SECONDS and return the 99th percentile in milliseconds."""
    took = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and on():
        begun = time.monotonic()
        assert servers.healthy(port), "/healthz does not answer"
        took.append((time.monotonic() - begun) * 1000)
        time.sleep(PAUSE)
    return statistics.quantiles(took, n=100, method="inclusive")[98]


@contextmanager
def _stalled(port: int, path: str) -> Iterator[None]:
    """Hold downloads open that nobody reads."""
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        time.sleep(1)  # until the server has filled what it can
        yield
