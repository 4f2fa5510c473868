"""Executables and libraries of those who crash: held during the dump, copied into the spool afterwards.

Taken from /proc/PID/map_files, the very files that were mapped, deleted or not; a path through the
container's root would follow its symlinks to wherever the container likes. Only held here, without a word to
the file's file system: that may be a FUSE one of the crasher's own, which never answers. Not here: the
copying, which is a child's work (copying), and the way to the store (debugstore).
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from coredump_guard import copying, filesystems, log
from coredump_guard.config import Config
from coredump_guard.metadata import Metadata
from coredump_guard.modules import Mapped
from coredump_guard.process import Process
from coredump_guard.room import usage
from coredump_guard.spool import Spool

if TYPE_CHECKING:
    import subprocess

MAX_FILES = 100
"""Most files that are taken of one crash, the executable first."""
MAX_HELD = 400
"""Most descriptors that wait for the child."""
SECONDS = 60
"""That a child has for the files of one crash."""
SHARE = 10
"""Per cent of [spool] size that executables may take which wait; what is beyond is left for another crash."""
MAX_BYTES = 1 << 30
"""Most bytes that are copied of one crash."""
MAX_STUCK = 3
"""Children that not even SIGKILL ends, for the file system that they wait for; then no more is begun."""
REMEMBERED, REMEMBERED_SECONDS = 4096, 3600.0
"""How many files are remembered as taken, and for how long: device numbers are used again."""

_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from coredump_guard import copying
copying.main(sys.argv[2:])
"""
_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_Key = tuple[str, str, str]
"""A file's device, inode and build-id: a build-id alone is the process's own word, and may be another's."""

_collector: Collector | None = None


def start(config: Config, wake: Callable[[], None]) -> None:
    """Begin to collect, if that is configured; wake is called when there is something to deliver."""
    global _collector  # noqa: PLW0603 # one per process, as there is one guard; doormen alone have none
    if not config.executables:
        _collector = None
        return
    _collector = Collector(config, wake)
    threading.Thread(target=_collector.run, name="executables", daemon=True).start()


@contextlib.contextmanager
def held(process: Process | None, known: Metadata) -> Iterator[None]:
    """Hold the files that are not known yet, and pass them on at the end, when the process may be gone."""
    collector = _collector
    mountinfo = known.files.get("mountinfo", b"")
    fds = collector.hold(process, known.mapped, mountinfo) if collector and process else []
    try:
        yield
    finally:
        if collector and fds:
            collector.offer(fds)


class Collector:
    """Remembers what was taken, and has the rest copied, one crash's files after the other's."""

    def __init__(self, config: Config, wake: Callable[[], None]) -> None:
        self._config, self._wake = config, wake
        self._waiting: queue.Queue[list[int]] = queue.Queue()
        self._lock = threading.Lock()
        self._held = 0
        self._taken: dict[_Key, float] = {}
        """What was copied or is about to be, and since when."""
        self._keys: dict[int, _Key] = {}
        """Which file each descriptor is of."""
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._directory = f"{config.spool}/{copying.DIRECTORY}"

    def hold(self, process: Process, mapped: list[tuple[Mapped, str]], mountinfo: bytes) -> list[int]:
        """Return descriptors (O_PATH) of files that are not known yet, as many as may be; never raises."""
        fds: list[int] = []
        known = {(module.device, module.inode, build_id): module for module, build_id in mapped[:MAX_FILES]}
        wanted = {key: module for key, module in known.items() if self._is_new(key)}
        with contextlib.suppress(OSError):
            local = _local_devices(mountinfo, {module.device for module in wanted.values()})
            for key, module in list(wanted.items()):
                if module.device in local and self._held + len(fds) < MAX_HELD:
                    with contextlib.suppress(OSError):
                        fds.append(process.open_mapped(module.range))
                        self._keys[fds[-1]] = key
                        del wanted[key]
        with self._lock:
            self._held += len(fds)
            self._forget(wanted)
        return fds

    def _forget(self, keys: Iterable[_Key]) -> None:
        """Take files for new again that were not copied after all."""
        for key in keys:
            self._taken.pop(key, None)

    def _is_new(self, key: _Key) -> bool:
        now = time.monotonic()
        with self._lock:
            if key in self._taken and now - self._taken[key] < REMEMBERED_SECONDS:
                return False
            self._taken.pop(key, None)
            while len(self._taken) >= REMEMBERED:
                del self._taken[next(iter(self._taken))]
            self._taken[key] = now
            return True

    def offer(self, fds: list[int]) -> None:
        """Have files copied; the descriptors are the collector's from now on."""
        self._waiting.put(fds)

    def run(self) -> None:
        """Copy what is offered, for as long as the guard lives."""
        self._prepare()
        while True:
            fds = self._waiting.get()
            try:
                self._copy(fds)
            except Exception as error:  # one crash's files are worth less than those of all that follow
                log.warning("executables could not be copied", error=error)
            finally:
                self._release(fds)
            self._wake()

    def _release(self, fds: list[int]) -> None:
        """Let go of one crash's files; those that are not in the spool, nor were, are new again."""
        keys = [self._keys.pop(fd) for fd in fds if fd in self._keys]  # closed, they are reused
        for fd in fds:
            os.close(fd)
        copied = self._copied()
        with self._lock:
            self._held -= len(fds)
            self._forget(key for key in keys if key[2] not in copied)

    def _copied(self) -> set[str]:
        """Return the build-ids that wait in the spool, or that the store has."""
        names: list[str] = []
        for directory in (self._directory, f"{self._directory}/{copying.STORED}"):
            with contextlib.suppress(OSError):
                names += os.listdir(directory)
        return {name.partition(".")[0] for name in names}

    def _copy(self, fds: list[int]) -> None:
        import subprocess  # noqa: PLC0415 # 15 ms to import, which a doorman alone need not wait for

        self._stuck = [child for child in self._stuck if child.poll() is None]
        if len(self._stuck) >= MAX_STUCK:
            raise OSError(f"{MAX_STUCK} children wait for ever for a file system")
        self._prepare()
        config = self._config
        room = self._room()
        if room <= 0:
            return
        values = [config.spool, config.largest_executable, room, config.spool_free, SECONDS, *fds]
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD, _CODE, *map(str, values)],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={},
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS)
            return
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)
        if child.poll() is None:
            self._stuck.append(child)
        log.warning("an executable could not be read in time", seconds=SECONDS)

    def _room(self) -> int:
        """Return how many bytes the files of one crash may take."""
        size = self._config.spool_size
        return min(MAX_BYTES, size - self._usage(), size * SHARE // 100 - usage(self._directory))

    def _usage(self) -> int:
        """Return what waits in the spool, in bytes."""
        return Spool(self._config.spool).usage() + usage(self._directory)

    def _prepare(self) -> None:
        """Make the directories, and remove what a child that was killed has left."""
        with contextlib.suppress(OSError):
            os.makedirs(f"{self._directory}/{copying.STORED}", 0o750, exist_ok=True)
            for name in os.listdir(self._directory):
                if name.startswith("."):
                    os.unlink(f"{self._directory}/{name}")


def _local_devices(mountinfo: bytes, wanted: set[str]) -> set[str]:
    """Return which devices hold file systems that give a path without waiting; an unknown one may not.

    Older kernels name the file system below an overlay, which only the node's own mounts show.
    """
    kinds = filesystems.kinds(mountinfo)
    if wanted - kinds.keys():
        kinds = {**filesystems.of_node(), **kinds}
    return {device for device in wanted if kinds.get(device, b"nfs") not in filesystems.REMOTE}
