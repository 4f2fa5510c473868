"""The guard's code in a process that is killed at its n-th step on a disk, before the step or after it.

A killed process cleans up nothing: what is on the disk then is what the next start finds. What the page cache
would lose with the machine's power is still there. Not here: making the disk ready, and what must be true.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from testbed.waiting import wait_for

STEPS = (
    "fsync",
    "rename",
    "replace",
    "link",
    "unlink",
    "mkdir",
    "rmdir",
    "fchmod",
    "pwrite",
    "posix_fallocate",
)
"""Functions of os that change what a disk holds or make it durable."""


def dies(work: Callable[[], object], number: int, *, after: bool = False, seconds: float = 60) -> bool:
    """Run work in a process of its own that dies at its number-th step; False if work ended before that.

    `after` lets the step happen first. Raises AssertionError if work raises, TimeoutError if it does not end.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(work, number, after)
    try:
        status = wait_for("the process's end", lambda: _ended(pid), seconds)[0]
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert status in (0, -signal.SIGKILL), f"the work itself failed at step {number}; its words are above"
    return status != 0


def _ended(pid: int) -> tuple[int] | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return (os.waitstatus_to_exitcode(status),) if ended else None


def _child(work: Callable[[], object], number: int, after: bool) -> None:
    code = 1
    try:
        _count(number, after)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _count(number: int, after: bool) -> None:
    lock, left = threading.Lock(), [number]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            with lock:  # a step of another thread waits for the death
                left[0] -= 1
                if left[0] == 0 and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                try:
                    return real(*arguments, **named)
                finally:
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

        return step

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))
