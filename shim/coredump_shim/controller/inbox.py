"""Announcements of new dumps in <store>/.inbox: found, read, removed; what is none is put aside.

    .inbox/<dump id>        a file whose text is the dump's path below the root (coredump_guard.deliver)
    .inbox/.bad/<name>      what was no announcement

Not here: what is done at one (arrivals), and for how long what was none is kept (leftover). Whoever mounts
the store may put anything here, so no name is trusted, no symlink followed, no FIFO waited for. It is polled:
inotify does not see what other hosts write.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coredump_guard import store
from coredump_shim import beneath

log = logging.getLogger(__name__)

BAD = ".bad"
LONGEST = 512
"""Bytes of an announcement: four names and the slashes between them."""
AT_ONCE = 1000
"""Announcements that are read at once."""
MAX_NAMES = 50_000
"""Names that are looked at at once; the rest has its turn when these are gone."""
MAX_COMPLAINTS = 1000


class NoAnnouncement(ValueError):  # noqa: N818 # names what it is, not this module's error
    """Something in the inbox that announces nothing; the message says why."""


@dataclass(frozen=True)
class Announcement:
    """A dump that has come, or whose record has changed."""

    id: str
    namespace: str
    """"" where the dump is no pod's: of a node itself, or of a container without a name."""
    poduid: str
    container: str
    stamp: tuple[int, int]
    """Tells its file from one that has taken its place."""


class Inbox:
    """The inbox of a store. Methods raise OSError if the store fails."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._known: dict[str, Announcement] = {}
        """Those that were read and are still there."""
        self._complained: set[str] = set()

    def waiting(self) -> tuple[list[Announcement], list[tuple[str, str]]]:
        """Return what waits, the oldest crash first, and what announces nothing: names and reasons."""
        bad: list[tuple[str, str]] = []
        known: dict[str, Announcement] = {}
        # Without an inbox nothing was ever delivered; without a root it raises.
        with (
            beneath.directory(self._root) as root,
            _unless_gone(),
            beneath.directory(root, store.INBOX) as fd,
        ):
            names = sorted(islice(_names(fd), MAX_NAMES))
            known |= {name: self._known[name] for name in names if name in self._known}
            for name in islice((name for name in names if name not in known), AT_ONCE):
                found = self._read(fd, name, bad)
                if found is not None:
                    known[name] = found
        self._known = known
        return sorted(known.values(), key=lambda found: found.id), bad

    def remove(self, done: list[Announcement]) -> None:
        """Remove announcements, but none that has come anew since it was read."""
        with beneath.directory(self._root, store.INBOX) as fd:
            for announcement in done:
                self._known.pop(announcement.id, None)
                with _unless_gone():
                    if _stamp(fd, announcement.id) == announcement.stamp:
                        os.unlink(announcement.id, dir_fd=fd)

    def put_aside(self, name: str, reason: str) -> None:
        """Put away what announces nothing, for an administrator; what cannot be put away is left."""
        self._known.pop(name, None)
        self._complain(name, f"put into {store.INBOX}/{BAD}: {reason}")
        aside = os.fsencode(name)[:200] + b"." + secrets.token_hex(4).encode()
        try:
            with beneath.directory(self._root, store.INBOX) as fd, _made(fd) as bad:
                os.rename(os.fsencode(name), aside, src_dir_fd=fd, dst_dir_fd=bad)
        except FileNotFoundError:
            pass  # removed meanwhile
        except OSError as error:
            self._complain(f"{name}/", f"cannot be put away: {error.strerror}")

    def _read(self, inbox: int, name: str, bad: list[tuple[str, str]]) -> Announcement | None:
        try:
            return _announcement(inbox, name)
        except NoAnnouncement as error:
            bad.append((name, str(error)))
        except FileNotFoundError:
            pass  # removed meanwhile, with its dump
        except OSError as error:
            if error.errno in beneath.ABSENT:
                bad.append((name, f"it cannot be read as a file: {error.strerror}"))
            else:
                self._complain(name, f"cannot be read: {error.strerror}")
        return None

    def _complain(self, name: str, reason: str) -> None:
        if name not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add(name)
            log.warning("announcement %r: %s", name, reason)


def parsed(name: str, text: bytes, stamp: tuple[int, int] = (0, 0)) -> Announcement:
    """Return what a file of the inbox announces. Raises NoAnnouncement."""
    if not store.is_dump_id(name):
        raise NoAnnouncement("its name is no dump's id")
    try:
        *place, dump_id = text.decode("ascii").removesuffix("\n").split("/")
    except ValueError:
        raise NoAnnouncement("its text is no path") from None
    if dump_id != name:
        raise NoAnnouncement("its text names another dump")
    if len(place) == 2 and place[0] in (store.UNIDENTIFIED, store.HOST):
        return Announcement(name, "", "", "", stamp)
    if len(place) != 3 or not (
        store.is_namespace(place[0]) and store.is_poduid(place[1]) and store.is_container(place[2])
    ):
        raise NoAnnouncement("its text is not the path of a dump")
    namespace, poduid, container = place
    return Announcement(name, namespace, poduid, container, stamp)


def _announcement(inbox: int, name: str) -> Announcement:
    with beneath.regular(inbox, name) as fd:
        status = os.fstat(fd)
        if status.st_size > LONGEST:
            raise NoAnnouncement(f"it is {status.st_size} bytes long")
        return parsed(name, os.read(fd, LONGEST), (status.st_ino, status.st_mtime_ns))


def _stamp(inbox: int, name: str) -> tuple[int, int]:
    # Opened, not stat'ed: an NFS client asks the server then (nfs(5), close-to-open).
    with beneath.regular(inbox, name) as fd:
        status = os.fstat(fd)
        return status.st_ino, status.st_mtime_ns


def _names(inbox: int) -> Iterator[str]:
    """Yield the names of what is complete; a leading dot is a draft's, or ours."""
    with os.scandir(inbox) as entries:
        yield from (entry.name for entry in entries if not entry.name.startswith("."))


@contextlib.contextmanager
def _made(inbox: int) -> Iterator[int]:
    """Hold the directory of what was put aside; what has its name and is none gives way."""
    held = contextlib.ExitStack()
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(BAD, 0o750, dir_fd=inbox)
        bad = held.enter_context(beneath.directory(inbox, BAD))
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
        os.rename(BAD, f"{BAD}-{secrets.token_hex(4)}", src_dir_fd=inbox, dst_dir_fd=inbox)
        os.mkdir(BAD, 0o750, dir_fd=inbox)
        bad = held.enter_context(beneath.directory(inbox, BAD))
    with held:
        yield bad


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
