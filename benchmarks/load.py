"""What the benchmarks put on the machine: memory through a pipe, processes that crash, clients that download.

The work is done by the C programs in load/; this only starts them, tells them when and reads what they say.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.programs import c_program
from testbed.waiting import wait_for

KINDS = {"heap": "heap-like", "random": "random", "zero": "90 % zero"}
"""The memory that load/memory.h can make, and how the table calls it."""
SECONDS = 900
"""Longest that anything here may take."""

MIB = 1 << 20


class Producer:
    """Memory on its way into a pipe; `producer()` makes one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self.pipe = process.stdout.fileno()

    def go(self) -> float:
        """Let it write, and return when that was: seconds, monotonic."""
        assert self._process.stdin
        begun = time.monotonic()
        self._process.stdin.write(b"g")
        self._process.stdin.flush()
        return begun

    def finished(self) -> float:
        """Return when the last write returned: seconds, monotonic."""
        assert self._process.stderr
        return float(self._process.stderr.readline())


def settle(mib: int) -> None:
    """Have what was written before on the disk, and this much free memory at hand, before something is timed.

    A virtual machine's balloon gives free pages back to the host within seconds, and the next use of one is
    then many times slower: who writes more through the page cache would pay for the machine's past.
    """
    os.sync()
    page = bytes(MIB)
    with mmap.mmap(-1, mib * MIB) as memory:
        for _ in range(mib):
            memory.write(page)


@contextmanager
def producer(kind: str, mib: int) -> Iterator[Producer]:
    """Start a producer and wait until its memory is made."""
    command = [str(c_program("load/producer.c")), kind, str(mib)]
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)) as process:
        assert process.stderr
        process.stderr.readline()
        yield Producer(process)


@dataclass(frozen=True)
class Crashed:
    """Crashes that are over; times in seconds, monotonic."""

    begun: float
    reaped: float
    dumped: int
    """How many of them ended with WCOREDUMP; the kernel says so of lost ones, too."""


class Crasher:
    """Processes that will crash together; `crasher()` makes one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def prepare(self) -> None:
        """Have it make its processes, in the control group where it is by now."""
        self._line("prepare")

    def go(self) -> Crashed:
        """Let all of them crash, and return when the last has been reaped."""
        begun = time.monotonic()
        reaped, dumped = self._line("go").split()
        return Crashed(begun, float(reaped), int(dumped))

    def _line(self, command: str) -> bytes:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the crasher ended early")
        return answer


@contextmanager
def crasher(kind: str, mib: int, count: int = 1) -> Iterator[Crasher]:
    """Start a crasher; its processes come with `prepare`."""
    command = [str(c_program("load/crasher.c")), kind, str(mib), str(count)]
    with ended(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        yield Crasher(process)


@dataclass(frozen=True)
class Fetched:
    """What one client got; times in seconds since the start of all of them."""

    status: int
    length: int
    """Content-Length, -1 without one."""
    body: int
    first: float
    """To the first byte of the body."""
    last: float


def fetch(port: int, path: str, count: int) -> list[Fetched]:
    """Download the same thing with this many clients at once.

    Raises RuntimeError if one of them did not get all of it.
    """
    command = [str(c_program("load/fetch.c")), str(port), path, str(count)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise RuntimeError(f"fetch {path} from port {port} ended with {done.returncode}: {done.stderr}")
    clients = [_fetched(line.split()) for line in done.stdout.splitlines()]
    for client in clients:
        if client.status != 200 or client.body != client.length:
            raise RuntimeError(f"{path} from port {port} was not served whole: {client}")
    return clients


def _fetched(words: list[str]) -> Fetched:
    return Fetched(int(words[0]), int(words[1]), int(words[2]), float(words[3]), float(words[4]))


@contextmanager
def fetching(port: int, path: str, count: int) -> Iterator[Callable[[], bool]]:
    """Have clients download over and over; yields a function that says whether they still do.

    At the end they are cut off.
    """
    command = [str(c_program("load/fetch.c")), str(port), path, str(count), "again"]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL)) as process:
        yield lambda: process.poll() is None


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process at the end, asking first."""
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            wait_for(f"{process.args!r} ends", lambda: process.poll() is not None, 10)
        process.kill()
        process.wait(timeout=10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
