"""Crashes of the host's own processes: handed on to whatever core_pattern named before us.

A previous program is started as the kernel would start it; a previous file is written as the kernel would
write it, with the rights of the process that died. Facts: core(5); fs/coredump.c, format_corename.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import select
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout

from coredump_guard import launcher, log, metadata
from coredump_guard.arrival import Arrival
from coredump_guard.pattern import UNLIMITED
from coredump_guard.process import Process

_SPECIFIER = re.compile(r"%(.?)", re.DOTALL)
_NSPID = re.compile(r"^NSpid:.*?(\d+)$", re.MULTILINE)
_IDS = re.compile(r"^(Uid|Gid):\s*(\d+)", re.MULTILINE)
_LIMIT = re.compile(r"^Max core file size\s+(\S+)", re.MULTILINE)
_CHUNK = 1 << 20
CREATE_SECONDS = 10.0
_PROGRAMS = threading.BoundedSemaphore(64)
"""Previous programs that may run at once: what they hold is the node's memory, and descriptors of ours."""
_CREATORS = threading.BoundedSemaphore(8)
"""Threads that may make a file at once, and so at most those that a dead file server keeps for ever."""

_NO_ANSWER = "its directory does not answer"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

NEVER_DUMPED = 1
"""RLIMIT_CORE of what core_pattern starts, and of all its children: the kernel gives them no core over a
pipe, so that a handler that crashes is not started for itself for ever. The guard passes it on."""


class CannotHandOn(Exception):  # noqa: N818 # a reason, told to the log and the record
    """What was there before cannot be given this core; the message says why."""


def hand_on(arrival: Arrival, held: Process, original: str, deadline: float) -> str:
    """Give the core to the original core_pattern's owner and say in a few words what was done.

    Returns when a program has been started, or a file been written; deadline is when that must be over, in
    seconds on the monotonic clock. Raises CannotHandOn.
    """
    if original.startswith("@"):
        raise CannotHandOn("the previous core_pattern is a socket, which only the kernel can serve")
    values = specifiers(arrival, held)
    if original.startswith("|"):
        if int(values["c"]) == NEVER_DUMPED:
            raise CannotHandOn("it is the previous core_pattern's program itself")
        command = [expand(word, values) for word in original[1:].split()]
        if not command:
            raise CannotHandOn("the previous core_pattern is a pipe to nothing")
        return _run(command, arrival, deadline)
    return _write_file(original, arrival, held, values, deadline)


def specifiers(arrival: Arrival, held: Process) -> dict[str, str]:
    """Return what core(5)'s specifiers mean for this crash; those of names cannot form a path."""
    crash, status = arrival.crash, held.text("status")
    comm, executable = crash.comm or held.text("comm").removesuffix("\n"), metadata.executable(held)
    inner, ids = _NSPID.search(status), dict(_IDS.findall(status))
    names = {"h": crash.hostname or os.uname().nodename, "e": comm, "E": executable}
    names["f"] = os.path.basename(executable) or comm
    numbers = {
        "p": inner[1] if inner else crash.pid,
        "P": crash.pid,
        "i": crash.tid or crash.pid,
        "I": crash.tid or crash.pid,
        "u": ids.get("Uid", -1),
        "g": ids.get("Gid", -1),
        "d": crash.dumpable,
        "s": crash.signal or 0,
        "t": int(crash.time or time.time()),
        "c": core_limit(arrival, held),
        "C": 0,
        "F": "" if arrival.pidfd is None else arrival.pidfd,
    }
    return {
        **{k: _part(v) for k, v in names.items()},
        **{k: str(v) for k, v in numbers.items()},
        "%": "%",
    }


def _part(name: str) -> str:
    """Make a name that is the crasher's into a part of a path, as cn_esc_printf in fs/coredump.c does."""
    return "!" + name[1:] if name in ("", ".", "..") else name.replace("/", "!")


def core_limit(arrival: Arrival, held: Process) -> int:
    """Return RLIMIT_CORE of the process in bytes; only the pipe announces it."""
    if arrival.crash.mode != "socket":
        return arrival.crash.rlimit_core
    found = _LIMIT.search(held.text("limits"))
    return int(found[1]) if found and found[1].isdigit() else UNLIMITED


def expand(word: str, values: dict[str, str]) -> str:
    """Expand the specifiers of one word; unknown ones become nothing, as in the kernel."""
    return _SPECIFIER.sub(lambda match: values.get(match[1], ""), word)


def _run(command: list[str], arrival: Arrival, deadline: float) -> str:
    """Start the previous program as the kernel does: the core on its input, no environment, in /."""
    started: Future[None] = Future()

    def attend() -> None:
        try:
            arrival.begin()
            program = _launch(command, arrival)
        except BaseException as error:  # raised in the thread that waits for it
            started.set_exception(error)
        else:
            started.set_result(None)
            _reap(program, command[0])

    try:
        # The thread that reaps it is there first: nothing can fail once the program has the core.
        _in_thread(_PROGRAMS, deadline - time.monotonic(), attend, "too many started before still run")
        started.result()
    except OSError as error:
        raise CannotHandOn(f"{command[0]} could not be started: {error.strerror or error}") from None
    return f"to {command[0]}"


def _in_thread(slots: threading.Semaphore, seconds: float, work: Callable[[], None], busy: str) -> None:
    """Let work run in a thread that takes one of the slots; OSError if none is free in time, or no thread."""
    if not slots.acquire(timeout=max(0.0, seconds)):
        raise OSError(errno.ETIMEDOUT, busy)

    def run() -> None:
        try:
            work()
        finally:
            slots.release()

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # at the limit of threads
        slots.release()
        raise OSError(errno.EAGAIN, str(error)) from None


def _launch(command: list[str], arrival: Arrival) -> subprocess.Popen[bytes]:
    """Start a program by way of the launcher; raises OSError."""
    told, report = os.pipe()
    try:
        fds = [report] if arrival.pidfd is None else [report, arrival.pidfd]
        start = [sys.executable, "-I", "-S", launcher.__file__, str(report), *command]
        quiet = subprocess.DEVNULL
        program = subprocess.Popen(
            start, stdin=arrival.core, stdout=quiet, stderr=quiet, cwd="/", env={}, pass_fds=fds
        )
    except OSError:
        os.close(told)
        raise
    finally:
        os.close(report)
    with os.fdopen(told, "rb") as answer:  # ends when the program takes the launcher's place
        failure = int(answer.read() or 0)
    if failure:
        program.wait()
        raise OSError(failure, os.strerror(failure))
    return program


def _reap(program: subprocess.Popen[bytes], name: str) -> None:
    status = program.wait()
    if status:
        log.warning("the previous core_pattern's program failed", program=name, status=status)


def _write_file(
    original: str, arrival: Arrival, held: Process, values: dict[str, str], deadline: float
) -> str:
    """Write the file that the kernel would have written, in a thread that has the dead process's rights."""
    limit = int(values["c"])
    name = expand(original or "core", values)
    if "%p" not in original and _uses_pid():
        name += f".{values['p']}"
    if limit < os.sysconf("SC_PAGE_SIZE"):
        arrival.refuse()
        return "nowhere: its RLIMIT_CORE forbids a file"
    if arrival.crash.dumpable == 2 and not name.startswith("/"):
        arrival.refuse()
        return "nowhere: it changed its ids, and core_pattern names no absolute path"
    uid, gid = (int(values[key]) if arrival.crash.dumpable == 1 else 0 for key in "ug")
    try:
        out = _create_as(uid, gid, name, held)
    except OSError as error:
        raise CannotHandOn(f"the file {name!r} could not be made: {error.strerror}") from None
    try:
        arrival.begin()
        _copy(arrival.core, out, limit, deadline)
    except OSError as error:
        return f"to the file {name!r}, cut short: {error.strerror}"
    finally:
        os.close(out)
    return f"to the file {name!r}"


def _uses_pid() -> bool:
    with open("/proc/sys/kernel/core_uses_pid", encoding="ascii") as file:
        return file.read().strip() != "0"


def _create_as(uid: int, gid: int, name: str, held: Process) -> int:
    """Create or empty the file name as the process sees it, with the rights of uid and gid; return it open.

    Its directories may be on a file server that is dead: then the thread is given up, not we. Raises OSError.
    """
    made: Future[int] = Future()
    process = held.open(".", os.O_PATH | os.O_DIRECTORY)  # the thread's own: it may outlast held

    def create() -> None:
        try:
            out = _create(uid, gid, name, process)
        except BaseException as error:  # raised in the thread that waits for it
            with contextlib.suppress(InvalidStateError):
                made.set_exception(error)
        else:
            _give(made, out)
        finally:
            os.close(process)

    try:
        _in_thread(_CREATORS, CREATE_SECONDS, create, _NO_ANSWER)
    except OSError:
        os.close(process)
        raise
    try:
        return made.result(CREATE_SECONDS)
    except FutureTimeout:
        if not made.cancel():  # it came at the last moment, or is an error of this very name
            return made.result()
        raise OSError(errno.ETIMEDOUT, _NO_ANSWER) from None


def _give(made: Future[int], out: int) -> None:
    """Hand a descriptor to who waits for it; closed if nobody does any more."""
    try:
        made.set_result(out)
    except InvalidStateError:
        os.close(out)


def _create(uid: int, gid: int, name: str, process: int) -> int:
    """Create or empty the file in this thread, for good with the rights of uid and gid; process is in /proc.

    setfsuid(2) holds for one thread and takes the capabilities over files with it: so paths are followed
    with the crasher's rights, whatever links lie there, in a thread that ends afterwards.
    """
    absolute = name.startswith("/")
    directory = os.open("root" if absolute else "cwd", _DIRECTORY, dir_fd=process)
    try:
        # The link in /proc does not tell: after pivot_root(2), in every container, it reads "/" as well.
        if absolute and not os.path.samestat(os.fstat(directory), os.stat("/")):
            raise CannotHandOn("it ran in a root directory of its own")
        libc = ctypes.CDLL(None)
        libc.setfsgid(gid)
        libc.setfsuid(uid)
        out = os.open(name, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        _check_owned(out, uid)
        os.ftruncate(out, 0)
    except OSError:
        os.close(out)
        raise
    return out


def _check_owned(out: int, uid: int) -> None:
    """Raise OSError for a file that the kernel would not dump into either: a device, a link, another's."""
    status = os.fstat(out)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != uid:
        raise PermissionError(1, "it is not a regular file of the process's own")


def _copy(core: int, out: int, limit: int, deadline: float) -> None:
    copied = 0
    poll = select.poll()
    poll.register(core, select.POLLIN)
    while copied < limit:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise OSError(errno.ETIMEDOUT, "the deadline passed")
        data = os.read(core, min(_CHUNK, limit - copied))
        if not data:
            return
        view = memoryview(data)
        while view:
            view = view[os.write(out, view) :]
        copied += len(data)
