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
from functools import partial
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
            p99s = interleave(ROUNDS, lambda: busy(shim, made.url), lambda: busy(go, "/dump"))
        with _stalled(shim, made.url):
            stalled = latencies(partial(servers.healthy, shim), lambda: True)
    return [
        compared(("health", f"p99, {CLIENTS} downloads, Go"), "ms", p99s, RATIO_GOAL),
        alone(("health", f"p99, {CLIENTS} stalled readers"), "ms", percentile(stalled, 99), STALLED_GOAL),
    ]


def busy(port: int, path: str) -> float:
    """Return the p99 of a plain server's health while clients download from it."""
    with load.fetching(port, path, CLIENTS) as fetching:
        took = latencies(partial(servers.healthy, port), fetching)
        assert fetching(), "the downloads failed"
        return percentile(took, 99)


def latencies(probe: Callable[[], bool], on: Callable[[], bool]) -> list[float]:
    """Probe for SECONDS, or while `on` says so, and return what each took, in milliseconds."""
    took = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and on():
        begun = time.monotonic()
        assert probe(), "no healthy answer"
        took.append((time.monotonic() - begun) * 1000)
        time.sleep(PAUSE)
    return took


def percentile(values: list[float], percent: int) -> float:
    """Return the value that so many percent do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


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
