"""A look at a store: what can be seen of it in a few calls, made in a child since any of them may hang.

Not here: what ought to be seen (storecheck).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from coredump_guard import store, trial
from coredump_shim import beneath

_LONGEST = 128


@dataclass(frozen=True)
class Look:
    """What was seen."""

    mounted: bool
    """Whether it is another file system than the directory it is in."""
    used: bool
    """Whether a node has ever delivered anything to it."""
    dump: str
    """A dump whose core was opened and read; "" if there is none."""
    unreadable: str
    """Why a dump's core could not be read; "" if it could."""
    cluster: str
    """The UID of the namespace kube-system of the cluster whose store it is; "" if it does not say."""
    stamp: float | None
    """When a file was written there just now, by the store's clock; None if none can be."""
    readonly: str
    """Why no file can be written; "" if one can."""


def look(root: str, seconds: float) -> Look:
    """Look at a store. Raises OSError, TimeoutError if it does not answer in time."""
    return Look(**trial.within(seconds, lambda: asdict(_look(root))))


def lacking(root: str, pods: list[tuple[str, str]], seconds: float) -> int:
    """Return of how many pods, by namespace and UID, a store has no directory. Raises as `look` does."""
    return int(trial.within(seconds, lambda: _lacking(root, pods)))


def _lacking(root: str, pods: list[tuple[str, str]]) -> int:
    with beneath.directory(root) as fd:
        return sum(not _has(fd, *pod) for pod in pods)


def _has(fd: int, namespace: str, poduid: str) -> bool:
    if not (store.is_namespace(namespace) and store.is_poduid(poduid)):
        return False
    try:
        with beneath.directory(fd, namespace, poduid):
            return True
    except OSError as error:
        if error.errno in beneath.GONE:
            return False
        if error.errno == errno.EACCES:  # it is there, and another finding says that it cannot be read
            return True
        raise


def _look(root: str) -> Look:
    with beneath.directory(root) as fd:
        mounted = os.fstat(fd).st_dev != os.stat("..", dir_fd=fd).st_dev
        dump, unreadable = _read(fd)
        used = bool(dump) or store.INBOX in beneath.subdirectories(fd)
        stamp, readonly = _write(fd)
        return Look(mounted, used, dump, unreadable, _cluster(fd), stamp, readonly)


def _cluster(fd: int) -> str:
    with suppress(FileNotFoundError):
        return beneath.read(fd, store.CLUSTER, _LONGEST).decode("ascii", "replace").strip()
    return ""


def _read(fd: int) -> tuple[str, str]:
    """Return a dump, and why it cannot be read."""
    dump: tuple[str, ...] | None = ()
    try:
        dump = next(_dumps(fd, ()), None)
        if dump is None:
            return "", ""
        with beneath.directory(fd, *dump) as directory:
            beneath.read(directory, store.INFO, 1)
            with suppress(FileNotFoundError):  # a crash that was refused has no core
                beneath.read(directory, store.CORE, 1)
    except OSError as error:
        return "/".join(dump or ()), error.strerror or str(error)
    return "/".join(dump), ""


_LEVELS = (store.is_namespace, store.is_poduid, store.is_container, store.is_dump_id)


def _dumps(fd: int, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of dumps, opening no more than it takes to the next one."""
    if len(above) == len(_LEVELS):
        yield above
        return
    with beneath.directory(fd, *above) as here:
        there = [name for name in beneath.subdirectories(here) if _LEVELS[len(above)](name)]
    for name in there:
        yield from _dumps(fd, (*above, name))


def _write(fd: int) -> tuple[float | None, str]:
    """Return when a file was written, or why none can be."""
    name = f".check-{os.getpid()}"
    try:
        made = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
        )
    except OSError as error:
        return None, error.strerror or str(error)
    try:
        os.write(made, b"now")
        os.fsync(made)  # an NFS client has the server's time only once it has written
        return os.fstat(made).st_mtime, ""
    except OSError as error:
        return None, error.strerror or str(error)
    finally:
        os.close(made)
        os.unlink(name, dir_fd=fd)
