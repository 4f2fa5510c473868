"""What people did to endpoints, kept as files: those they created, and the marks of those they deleted.

Not here: endpoints as the API shows them (endpoint), and the dumps.

<state>/<namespace>/<name>    JSON: a `Kept`. The file is named as the endpoint, since a name of 253
                              characters leaves no room for a suffix. A leading dot: being written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from coredump_guard import store
from coredump_shim import beneath

log = logging.getLogger(__name__)

MAX_BYTES = 8 << 20
"""Longest file that is read."""
MAX_COMPLAINTS = 1000
"""Files that are complained of, once each."""


@dataclass(frozen=True)
class Kept:
    """An endpoint that was created, or, where `deleted` is set, the mark that it was deleted."""

    uid: str = ""
    created: str = ""
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes creationTimestamp."""
    poduid: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    deleted: str = ""
    """When it was deleted, RFC 3339 in UTC."""
    hidden: list[str] = field(default_factory=list)
    """Ids of the dumps that were there when it was deleted: any other dump brings the endpoint back."""


class Keeper:
    """The files below the state directory, which nodes can write to where it lies in the store.

    So every name is checked before it becomes a path, and no symlink is followed.
    """

    def __init__(self, state: str) -> None:
        self._parent, self._name = os.path.split(os.path.abspath(state))
        self._complained: set[str] = set()

    def namespaces(self) -> list[str]:
        """Return the namespaces in which something is kept. Raises OSError."""
        try:
            with beneath.directory(self._parent, self._name) as fd:
                return [name for name in beneath.subdirectories(fd) if store.is_namespace(name)]
        except OSError as error:
            _unless_absent(error)
            return []

    def all(self, namespace: str) -> dict[str, Kept]:
        """Return what is kept in a namespace, by the endpoint's name. Raises OSError."""
        if not store.is_namespace(namespace):
            return {}
        try:
            with beneath.directory(self._parent, self._name, namespace) as fd:
                names = filter(store.is_pod, os.listdir(fd))
                found = {name: self._read(fd, namespace, name) for name in names}
        except OSError as error:
            _unless_absent(error)
            return {}
        return {name: kept for name, kept in found.items() if kept is not None}

    def put(self, namespace: str, name: str, kept: Kept) -> None:
        """Keep this, whole or not at all. Raises OSError, and ValueError for a name that cannot be."""
        if not (store.is_namespace(namespace) and store.is_pod(name)):
            raise ValueError(f"not an endpoint's name: {namespace!r}/{name!r}")
        text = json.dumps(dataclasses.asdict(kept), indent=1) + "\n"
        with (
            beneath.directory(self._parent) as parent,
            _made(parent, self._name) as state,
            _made(state, namespace) as directory,
        ):
            _write(directory, name, text.encode())

    def _read(self, directory: int, namespace: str, name: str) -> Kept | None:
        try:
            return _kept(json.loads(beneath.read(directory, name, MAX_BYTES)))
        except OSError as error:
            _unless_absent(error)
            reason = error.strerror
        except (ValueError, RecursionError) as error:
            reason = str(error)
        path = f"{namespace}/{name}"
        if path not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add(path)
            log.warning("left out %r, which is not a kept endpoint: %s", path, reason)
        return None


def _unless_absent(error: OSError) -> None:
    if error.errno not in beneath.ABSENT:
        raise error


@contextlib.contextmanager
def _made(parent: int, name: str) -> Iterator[int]:
    """Hold a descriptor of a directory that is made if need be."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o750, dir_fd=parent)
    with beneath.directory(parent, name) as fd:
        yield fd


def _write(directory: int, name: str, data: bytes) -> None:
    temporary = f".new-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o640, dir_fd=directory), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def _kept(data: object) -> Kept:
    if not isinstance(data, dict):
        raise ValueError("not an object")  # noqa: TRY004 (a wrong file, not a wrong argument)
    values = {entry.name: data[entry.name] for entry in dataclasses.fields(Kept) if entry.name in data}
    for name, value in values.items():
        if type(value) is not type(getattr(_EMPTY, name)):
            raise ValueError(f"{name} has the wrong type")
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not all(isinstance(item, str) for item in inner):
            raise ValueError(f"{name} must hold strings")
    return Kept(**values)


_EMPTY = Kept()
