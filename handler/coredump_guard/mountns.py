"""Init's mount namespace: work done there from a process that lives in one of its own.

Not here: what is done there. Facts: setns(2); a core_pattern that begins with '@' is taken from init's mount
namespace only (check_coredump_socket in fs/coredump.c), and a sandboxed unit sees /proc/sys read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_PF_KTHREAD = 0x200000


def in_init(work: Callable[[], T]) -> T:
    """Call work in init's mount namespace and return what it returns; what it raises is raised here.

    Where this process is in that namespace already, or may not enter it, work is called where we are.
    """
    namespace = _elsewhere()
    if namespace is None:
        return work()
    # Only needed in a sandbox. A thread of its own goes there and ends with it: nobody else has moved.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_inside, namespace, work).result()
    finally:
        os.close(namespace)


def _elsewhere() -> int | None:
    """Open init's mount namespace, if it is not our own."""
    # Some machines let not even root look at init; the kernel's own threads share its namespace.
    for process in ("/proc/1", "/proc/2"):
        try:
            if process == "/proc/2" and not _is_kernel_thread(process):
                return None
            namespace = os.open(f"{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/mnt")):
            return namespace
        os.close(namespace)
        return None
    return None


def _is_kernel_thread(process: str) -> bool:
    """Whether this is kthreadd, and not some process in a PID namespace; proc(5), stat, field 9."""
    with open(f"{process}/stat", encoding="utf-8", errors="replace") as file:
        return bool(int(file.read().rpartition(")")[2].split()[6]) & _PF_KTHREAD)


def _inside(namespace: int, work: Callable[[], T]) -> T:
    import ctypes  # noqa: PLC0415 # os.setns and os.unshare come with Python 3.12

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_FS) == 0:  # a root and working directory of this thread's own, as setns(2) wants
        libc.setns(namespace, _CLONE_NEWNS)
    return work()
