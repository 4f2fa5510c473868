"""A stand-alone shim in processes of its own, as the command line starts it, on a free port.

Not here: dumps to serve (dumps).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from pathlib import Path

from coredump_shim import config, serving
from coredump_shim.app import create_app
from testbed.ending import end

DEADLINE = 30.0
ENDPOINTS = "/apis/coredump.fujitsu.com/v1alpha1/namespaces/demo/coredumpendpoints"


@dataclass(frozen=True)
class Shim:
    """One that runs."""

    pid: int
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def dump(self) -> str:
        """Where the dumps of pod `web` in namespace `demo` are."""
        return f"{self.url}{ENDPOINTS}/web/dump"

    def process(self, name: str) -> int:
        """Return the pid of the shim's process of this name; wait until there is one."""
        for _ in waiting(f"no process {name}"):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for child in children:
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child}/comm").read_text().strip() == name:
                        return int(child)
        raise AssertionError

    def wait_for_log(self, text: str) -> str:
        """Wait for a line in the log and return it."""
        for _ in waiting(f"not in the log: {text}"):
            for line in self.log.read_text().splitlines():
                if text in line:
                    return line
        raise AssertionError


def waiting(complaint: str) -> Iterator[None]:
    """Go round until the deadline, which fails with a complaint."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    raise AssertionError(complaint)


@contextlib.contextmanager
def shim(store: Path, log: Path, *, stall_seconds: float = 60) -> Iterator[Shim]:
    """Run a shim over a store; afterwards none of its processes is left."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, store, str(port), str(stall_seconds)], stderr=stderr
        )
    try:
        running = Shim(process.pid, port, log)
        _wait_until_healthy(running)
        yield running
    finally:
        end(process, DEADLINE)


def _wait_until_healthy(running: Shim) -> None:
    for _ in waiting(f"the shim does not come up: {running.log.read_text()}"):
        try:
            with get(f"{running.url}/healthz"):
                return
        except urllib.error.URLError:
            continue


def get(url: str) -> HTTPResponse:
    """Begin to read a URL of the shim."""
    response: HTTPResponse = urllib.request.urlopen(url, timeout=DEADLINE)  # noqa: S310 (our own http:)
    return response


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _main(store: str, port: str, stall_seconds: str) -> None:
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s: %(message)s")
    settings = config.standalone(store, None, f"127.0.0.1:{port}", anywhere_allowed=False)
    serving.serve(
        partial(create_app, settings),
        serving.listen((settings.host, settings.port)),
        threads=settings.threads,
        max_body=settings.max_body,
        stall_seconds=float(stall_seconds),
    )


if __name__ == "__main__":
    signal.alarm(600)  # whatever happens to the test, this ends
    _main(*sys.argv[1:])
