"""Keeps a program's processes: forks them, starts again what died, ends all with one signal.

Not here: what the processes do.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

END = frozenset({signal.SIGTERM, signal.SIGINT})
_WAITED_FOR = END | {signal.SIGCHLD}

GRACE = 10.0
"""Seconds for a process to end after SIGTERM, before SIGKILL, and after that."""
PAUSE = 1.0
"""A process that died within so many seconds of its start is started again only after as many more."""


@dataclass
class _Process:
    name: str
    work: Callable[[int], None]
    pid: int | None = None
    start_at: float = field(default_factory=time.monotonic)
    started: float = 0.0


def run(works: Mapping[str, Callable[[int], None]]) -> None:
    """Run each work in a process of its own until SIGTERM or SIGINT.

    A work is given a descriptor that comes to its end when this process is no more, however it ended.
    Call it before any thread is started: the processes are forked from this one again and again.
    """
    processes = [_Process(name, work) for name, work in works.items()]
    lifeline = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        _keep(processes, lifeline)
    finally:
        _end(processes)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for fd in lifeline:
            os.close(fd)


def _keep(processes: list[_Process], lifeline: tuple[int, int]) -> None:
    while True:
        for process in processes:
            if process.pid is None and process.start_at <= time.monotonic():
                _start(process, lifeline)
        waiting = [process.start_at for process in processes if process.pid is None]
        pause = max(min(waiting, default=float("inf")) - time.monotonic(), 0)
        received = signal.sigtimedwait(_WAITED_FOR, min(pause, 3600))
        if received is not None and received.si_signo in END:
            return
        _reap(processes)


def _start(process: _Process, lifeline: tuple[int, int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(lifeline[1])
        _child(process, lifeline[0])
    process.pid, process.started = pid, time.monotonic()
    log.info("process %s is %d", process.name, pid)


def _child(process: _Process, lifeline: int) -> None:
    """Do the work and leave, without ever returning into what the parent was doing."""
    code = 1
    try:
        with open("/proc/self/comm", "w") as comm:
            comm.write(process.name)
        signal.signal(signal.SIGTERM, _exit_on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the parent, which ends all
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
        process.work(lifeline)
        code = 0
    except SystemExit:
        code = 0
    except Exception:
        log.exception("process %s failed", process.name)
    finally:
        logging.shutdown()
        os._exit(code)


def _exit_on_signal(*_: object) -> None:
    raise SystemExit


def _reap(processes: list[_Process]) -> None:
    for process in processes:
        if process.pid is None:
            continue
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if pid:
            now = time.monotonic()
            log.error("process %s (%d) ended: %d", process.name, pid, os.waitstatus_to_exitcode(status))
            process.pid = None
            process.start_at = now if now - process.started > PAUSE else now + PAUSE


def _end(processes: list[_Process]) -> None:
    """End all, hard if need be; one that a dead file server holds in the kernel is left to the kernel."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(processes, number)
        deadline = time.monotonic() + GRACE
        while _running(processes) and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)


def _signal(processes: list[_Process], number: signal.Signals) -> None:
    for process in processes:
        if process.pid is not None:
            os.kill(process.pid, number)


def _running(processes: list[_Process]) -> bool:
    for process in processes:
        if process.pid is not None and os.waitpid(process.pid, os.WNOHANG)[0]:
            process.pid = None
    return any(process.pid is not None for process in processes)
