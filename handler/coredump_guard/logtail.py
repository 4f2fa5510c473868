"""The end of a container's log, as the runtime wrote it: CRI's format or docker's JSON, rotated files too.

Whoever may write to the node's /var/log (a pod with a hostPath) may put anything there: no symlink is
followed but cri-dockerd's own, and memory is bounded. Not here: whose log it is (identity).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator

from coredump_guard import identity, store
from coredump_guard.process import Process
from coredump_guard.record import Identity

NAME = "log"
"""The file of a dump."""
MAX_BYTES = 1 << 20
"""Most that is kept, whatever the configuration says."""
MAX_INFLATED = 64 << 20
"""Most that a rotated file may inflate to; a kubelet rotates at 10 MiB (containerLogMaxSize)."""

_PODS = "var/log/pods"
_DOCKER = "/var/lib/docker/containers/{0}/{0}-json.log"
_CURRENT = re.compile(r"(\d{1,9})\.log\Z", re.ASCII)
_ROTATED = re.compile(r"(\d{1,9})\.log\.(\d{8}-\d{6})(\.gz)?\Z", re.ASCII)
_LINE = re.compile(rb"(\d{4}-\d\d-\d\dT[0-9:.+Z-]{1,40}) (stdout|stderr) ([FP])(?::\S*)? ?(.*)", re.DOTALL)
"""<RFC 3339> <stream> <tags> <text>: kubernetes/design-proposals, kubelet-cri-logging."""
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def held(process: Process | None, owner: Identity, size: int) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Hold the way to the log of a process's container; yields what reads it when the process has gone."""
    with contextlib.ExitStack() as stack:
        root = None
        with contextlib.suppress(OSError):
            if process is not None and owner.complete and size:
                root = identity.open_root(process, owner)
                stack.callback(os.close, root)

        def read() -> dict[str, bytes]:
            with contextlib.suppress(OSError):
                if root is not None and (data := tail(root, owner, size)):
                    return {NAME: data}
            return {}

        yield read


def tail(root: int, owner: Identity, size: int) -> bytes:
    """Return the last lines of a container's log, `<time> <stream> <text>`, together at most size bytes.

    root is the node's root directory as the container's monitor sees it. The last words may be missing while
    the runtime still writes. Raises OSError if there is no such log.
    """
    size = min(size, MAX_BYTES)
    raw = b""
    with contextlib.ExitStack() as held:
        directory = _directory(held, root, owner)
        for name in _newest_first(os.listdir(directory), owner.restarts):
            with contextlib.suppress(OSError):  # rotated away at this moment, or not a log
                fd = _open(directory, name, root, owner.container_id)
                try:
                    # Our lines are shorter than those of the file, docker's by some tens of bytes.
                    raw = _end(fd, 2 * size - len(raw), compressed=name.endswith(".gz")) + raw
                finally:
                    os.close(fd)
            if len(raw) >= 2 * size:
                break
    return last_lines(raw, size)


def last_lines(raw: bytes, size: int) -> bytes:
    """Return as many lines of a log's end as fit into size bytes, oldest first, their parts joined."""
    kept: list[bytes] = []
    left = size
    for time, stream, text in reversed(list(_joined(raw))):
        line = b"%b %b %b\n" % (time, stream, text)
        if len(line) > left:
            if not kept:  # one endless line: its end
                before = len(line) - len(text) - 1
                kept.append(line[:before] + line[-max(1, left - before) :])
            break
        kept.append(line)
        left -= len(line)
    return b"".join(reversed(kept))


def _joined(raw: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (time, stream, text) of whole lines; what is begun and never ended comes last."""
    begun: dict[bytes, tuple[bytes, list[bytes]]] = {}
    for line in raw.split(b"\n"):
        parsed = _from_docker(line) if line.startswith(b"{") else _from_cri(line)
        if parsed is None:  # cut, or not of a runtime
            continue
        time, stream, text, whole = parsed
        first, parts = begun.setdefault(stream, (time, []))
        parts.append(text)
        if whole:
            del begun[stream]
            yield first, stream, b"".join(parts)
    for stream, (time, parts) in begun.items():
        yield time, stream, b"".join(parts)


def _from_cri(line: bytes) -> tuple[bytes, bytes, bytes, bool] | None:
    match = _LINE.match(line)
    return (match[1], match[2], match[4], match[3] == b"F") if match else None


def _from_docker(line: bytes) -> tuple[bytes, bytes, bytes, bool] | None:
    """Read a line of docker's json-file driver: {"log": text, "stream": …, "time": …}."""
    try:
        values = json.loads(line)
        text, stream, time = (
            values[key].encode("utf-8", "backslashreplace") for key in ("log", "stream", "time")
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    inner = text.removesuffix(b"\n").replace(b"\n", b"\\n")
    return _from_cri(b"%b %b %b %b" % (time, stream, b"F" if text.endswith(b"\n") else b"P", inner))


def _directory(held: contextlib.ExitStack, root: int, owner: Identity) -> int:
    names = (f"{owner.namespace}_{owner.pod}_{owner.poduid}", owner.container)
    if not (owner.complete and store.is_poduid(owner.poduid) and store.is_container(owner.container)):
        raise FileNotFoundError(2, "the container is not named")
    directory = os.open(_PODS, _DIRECTORY, dir_fd=root)
    held.callback(os.close, directory)
    for name in names:
        directory = os.open(name, _DIRECTORY, dir_fd=directory)
        held.callback(os.close, directory)
    return directory


def _newest_first(names: list[str], restarts: int | None) -> list[str]:
    """Return the names of one container's log files, the one being written first, then rotated ones."""
    numbers = [int(match[1]) for match in map(_CURRENT.match, names) if match]
    number = restarts if restarts is not None else max(numbers, default=0)
    rotated = [match for match in map(_ROTATED.match, names) if match and int(match[1]) == number]
    older = sorted(rotated, key=lambda match: match[2], reverse=True)
    return [f"{number}.log", *(match.string for match in older)]


def _open(directory: int, name: str, root: int, container_id: str) -> int:
    """Open a log file; a symlink only if it is the one that cri-dockerd makes for this container."""
    docker = _DOCKER.format(container_id)
    if store.is_poduid(container_id) and _link(directory, name) == docker:
        fd = os.open(docker[1:], _FILE, dir_fd=root)
    else:
        fd = os.open(name, _FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{name} is not a regular file")
    return fd


def _link(directory: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""


def _end(fd: int, size: int, *, compressed: bool) -> bytes:
    """Return the last bytes of a file; nothing of one that inflates to too much, or is no gzip file."""
    if not compressed:
        return os.pread(fd, size, max(0, os.fstat(fd).st_size - size))
    inflate, kept, total = zlib.decompressobj(31), bytearray(), 0
    try:
        while not inflate.eof and (data := inflate.unconsumed_tail or os.read(fd, 1 << 16)):
            part = inflate.decompress(data, 1 << 18)
            kept += part
            del kept[: max(0, len(kept) - size)]
            total += len(part)
            if total > MAX_INFLATED:
                return b""
    except zlib.error:
        return b""
    return bytes(kept)
