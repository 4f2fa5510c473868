"""A trial: something that may hang or fail, done in a child that can be given up.

For doctor and canary, which have no threads; not for the guard.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, NoReturn

_LONGEST = 1 << 20


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Call work in a child and return what it returned, which must be fit for JSON.

    Raises OSError with what the child's said, TimeoutError when the time is over: then the child is killed,
    and left behind if a file server holds it, since nothing can end it before that answers.
    """
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _be_the_child(send, work)
    os.close(send)
    try:
        answer = json.loads(_all(receive, time.monotonic() + seconds) or '{"error": "it died"}')
    finally:
        os.close(receive)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _reap(child)
    if "error" in answer:
        raise OSError(answer["error"])
    return answer["value"]


def _be_the_child(send: int, work: Callable[[], Any]) -> NoReturn:
    try:
        # Whoever reads what we print must not have to wait for a child that hangs.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            answer = {"value": work()}
        except (OSError, ValueError) as error:
            answer = {"error": getattr(error, "strerror", None) or str(error)}
        os.write(send, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _all(fd: int, deadline: float) -> bytes:
    data = b""
    while len(data) < _LONGEST:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("it does not answer")
        part = os.read(fd, 1 << 16)
        if not part:
            break
        data += part
    return data


def _reap(child: int) -> None:
    """Take the child's end, unless it is stuck in the kernel: then whoever started us gets it."""
    for _ in range(20):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.01)


def start(command: list[str], seconds: float) -> str:
    """Run a program as the kernel starts the doorman: in /, with an empty environment.

    Returns "" if it succeeds, else what it said last. Raises OSError if it cannot be started.
    """
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it does not end within {seconds:g} s"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"exit status {done.returncode}"
