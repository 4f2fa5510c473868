"""A process that the demo starts, whose log it can show, and that it ends again."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import interrupts
from testbed.ending import end
from testbed.waiting import wait_for

STOP = 15
"""Seconds that a service may take to end by itself."""


@contextmanager
def service(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output in a log; afterwards it has ended.

    It is in a session of its own, since Ctrl-C is for the demo, which still needs it to put things back;
    should the demo be killed, the kernel ends it (prctl PR_SET_PDEATHSIG).
    """
    process = None
    try:
        with interrupts.held():
            process = _started(command, log)
        yield process
    finally:
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                end(process, STOP)


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def wait_for_service(process: subprocess.Popen[bytes], what: str, done: Callable[[], bool]) -> None:
    """Wait until a service has done something; raises RuntimeError if it ends instead, or TimeoutError."""

    def look() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode}")
        return done()

    wait_for(what, look, seconds=30)
