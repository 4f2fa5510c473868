"""What pods have dumps in a store, and which: a stream of names, a pod at a time.

Not here: what the dumps' records say (catalog). No record is opened and nothing is stat'ed, so that a million
dumps are walked in seconds, and in the memory that the largest namespace's names take.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coredump_guard import store
from coredump_shim import beneath
from coredump_shim.controller.trouble import said

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PodDumps:
    """The dumps of one pod. Where they lie says whose they are."""

    namespace: str
    poduid: str
    containers: Mapping[str, Sequence[str]]
    """Ids of the dumps by container, sorted; empty where a container's directory is all that is left."""

    @property
    def signature(self) -> str:
        """Return a text of 16 characters that is another one once a dump has come or gone.

        A crash loop's tally counts on in the same dump; its announcement says that it did.
        """
        named = "\n".join("/".join((name, *ids)) for name, ids in sorted(self.containers.items()) if ids)
        return hashlib.blake2b(named.encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return sum(map(len, self.containers.values()))


def pods(root: str, unreadable: set[str] | None = None) -> Iterator[PodDumps]:
    """Yield every pod that has a directory in the store, namespace by namespace, both sorted.

    Raises OSError if the root cannot be read. A directory below it that cannot be holds up nobody else: its
    pod is left out, with a line in the log, and its namespace added to `unreadable`; that a pod of such a
    namespace is not yielded says nothing.
    """
    with beneath.directory(root) as fd:
        for namespace in filter(store.is_namespace, beneath.subdirectories(fd)):
            yield from _namespace(fd, namespace, set() if unreadable is None else unreadable)


def namespace(root: str, name: str, unreadable: set[str]) -> Iterator[PodDumps]:
    """Yield the pods that have a directory in one namespace's, as `pods` does."""
    if store.is_namespace(name):
        with beneath.directory(root) as fd:
            yield from _namespace(fd, name, unreadable)


def pod(root: str, namespace: str, poduid: str) -> PodDumps:
    """Return one pod's dumps, none where it has no directory. Raises OSError if they cannot be read."""
    if not (store.is_namespace(namespace) and store.is_poduid(poduid)):
        return PodDumps(namespace, poduid, {})
    with beneath.directory(root) as fd:
        containers = {
            name: _named(fd, store.is_dump_id, namespace, poduid, name)
            for name in _named(fd, store.is_container, namespace, poduid)
        }
    return PodDumps(namespace, poduid, containers)


def _namespace(root: int, namespace: str, unreadable: set[str]) -> Iterator[PodDumps]:
    try:
        with beneath.directory(root, namespace) as fd:
            for uid in filter(store.is_poduid, beneath.subdirectories(fd)):
                try:
                    found = _pod(fd, namespace, uid)
                except OSError as error:
                    _complain(f"{namespace}/{uid}", error)
                    unreadable.add(namespace)
                else:
                    if found is not None:
                        yield found
    except OSError as error:
        if error.errno not in beneath.GONE:
            _complain(namespace, error)
            unreadable.add(namespace)


def _pod(namespace_fd: int, namespace: str, poduid: str) -> PodDumps | None:
    try:
        with beneath.directory(namespace_fd, poduid) as fd:
            containers = {
                name: _named(fd, store.is_dump_id, name)
                for name in filter(store.is_container, beneath.subdirectories(fd))
            }
    except OSError as error:
        if error.errno in beneath.GONE:
            return None
        raise
    return PodDumps(namespace, poduid, containers)


def _named(fd: int, is_valid: Callable[[str], bool], *names: str) -> list[str]:
    """Return the directories with a valid name in fd/names…, sorted; none if that is gone or no directory."""
    try:
        with beneath.directory(fd, *names) as found:
            return [name for name in beneath.subdirectories(found) if is_valid(name)]
    except OSError as error:
        if error.errno in beneath.GONE:
            return []
        raise


def _complain(path: str, error: OSError) -> None:
    log.warning("%s in the store cannot be read, and is left as it is: %s", path, said(error))
