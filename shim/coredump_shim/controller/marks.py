"""Since when something is gone: <store>/.gone/<namespace>/<pod uid>, its text the time it was first missed.

Not here: when that is long enough (rules). On the store, marks outlive the controller; one that is lost, or
is no time, costs only that the count begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from coredump_guard import store, tree
from coredump_shim import beneath, rfc3339

_LONGEST = 64


def namespaces(root: str) -> list[str]:
    """Return the namespaces with marks. Raises OSError."""
    return _names(root, beneath.subdirectories)


def all_of(root: str, namespace: str) -> list[str]:
    """Return the names with a mark in a namespace. Raises OSError."""
    return _names(root, lambda fd: sorted(filter(store.is_poduid, tree.names(fd))), namespace)


def since(root: str, namespace: str, name: str) -> float | None:
    """Return the time of a mark in seconds since the epoch, None where there is none that says one.

    Raises OSError.
    """
    try:
        with beneath.directory(root, store.GONE, namespace) as fd:
            text = beneath.read(fd, name, _LONGEST)
        return rfc3339.microseconds(text.decode("ascii").strip()) / 1e6
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
    except ValueError:
        pass
    return None


def make(root: str, namespace: str, name: str, when: float) -> None:
    """Write a mark in the place of whatever has its name. Raises OSError."""
    text = datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with beneath.directory(root) as fd, tree.entered(fd, [store.GONE, namespace], -1) as marks:
        tree.write(marks, name, f"{text}\n".encode(), -1)


def clear(root: str, namespace: str, name: str) -> None:
    """Remove a mark, and the directory of the last one of its namespace. Raises OSError."""
    try:
        with beneath.directory(root, store.GONE) as gone:
            with beneath.directory(gone, namespace) as fd:
                tree.remove(fd, name)
            with suppress(OSError):  # it is not empty
                os.rmdir(namespace, dir_fd=gone)
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise


def _names(root: str, listed: Callable[[int], list[str]], *below: str) -> list[str]:
    try:
        with beneath.directory(root, store.GONE, *below) as fd:
            return listed(fd)
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
        return []
