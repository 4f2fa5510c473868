"""Executables in <store>/.debug/.build-id that no dump refers to any more.

Not here: how they came there (coredump_guard.debugstore). Which are referred to stands in the dumps' records
only; so they are looked through once in a while, and only in a store with few enough to take seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from coredump_guard import record, store
from coredump_guard.debugstore import DIRECTORY
from coredump_guard.record import Record, RecordError
from coredump_shim import beneath
from coredump_shim.controller import marks, unowned, walk
from coredump_shim.controller.action import REMOVE, Pass
from coredump_shim.controller.clocks import TOLERANCE

MOST = 20_000
"""Dumps whose records are looked through; the executables of a store with more are left to its people."""
PAUSE = 3600.0
"""Seconds between two looks."""
MARKS = "_debug"
"""Stands for a namespace among the marks; none has this name."""
_LOOKED = "looked"

_PREFIX = re.compile(r"[0-9a-f]{2}\Z")
_REST = re.compile(r"([0-9a-f]{2,94})(\.[0-9a-f]{16})?\Z")
"""What the guard writes; separate debug information (….debug) was put there by somebody else."""


def collect(run: Pass, dumps: int) -> None:
    """Remove those that for gc_threshold no dump has referred to; dumps: how many the store has.

    A dump that is still under way may need one: it comes back with the next crash, after a day at most.
    Raises OSError.
    """
    looked = marks.since(run.root, MARKS, _LOOKED)
    if dumps > MOST or (looked is not None and abs(run.now - looked) < PAUSE):
        return
    old = list(_older(run, run.now - run.rules.gc_threshold))
    if not old:
        return
    referred = _referred(run)
    for build_id, name in old:
        if build_id in referred:
            if not run.dry_run:
                marks.clear(run.root, MARKS, f"{build_id[:2]}{name}")
        else:
            _judge(run, build_id[:2], name)
    if not run.dry_run:
        for mark in set(marks.all_of(run.root, MARKS)) - {f"{build_id[:2]}{name}" for build_id, name in old}:
            marks.clear(run.root, MARKS, mark)
        marks.make(run.root, MARKS, _LOOKED, run.now)


def _judge(run: Pass, prefix: str, name: str) -> None:
    """Mark an executable that no dump refers to, or remove it if it was marked long ago."""
    mark = f"{prefix}{name}"
    since = marks.since(run.root, MARKS, mark)
    if since is None or since > run.now + TOLERANCE:
        if not run.dry_run:
            marks.make(run.root, MARKS, mark, run.now)
    elif run.now - since >= run.rules.gc_threshold and run.does(
        REMOVE, "", "", f"executable {mark}, which no dump refers to"
    ):
        with beneath.directory(run.root, *DIRECTORY, prefix) as fd, suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
        marks.clear(run.root, MARKS, mark)


def _older(run: Pass, when: float) -> Iterator[tuple[str, str]]:
    """Yield build-id, and name below its first two digits, of the files that came before a time."""
    with suppress(FileNotFoundError), beneath.directory(run.root, *DIRECTORY) as fd:
        for prefix in filter(_PREFIX.match, beneath.subdirectories(fd)):
            run.alive()
            with beneath.directory(fd, prefix) as files, os.scandir(files) as entries:
                for entry in entries:
                    match = _REST.match(entry.name)
                    if match and entry.stat(follow_symlinks=False).st_mtime < when:
                        yield f"{prefix}{match[1]}", entry.name


def _referred(run: Pass) -> set[str]:
    """Return the build-ids in the records of all dumps. Raises OSError."""
    found: set[str] = set()
    for place, ids in _places(run.root):
        run.alive()
        with suppress(FileNotFoundError), beneath.directory(run.root, *place) as fd:
            for id in ids:
                found |= _build_ids(fd, id)
    return found


def _places(root: str) -> Iterator[tuple[tuple[str, ...], Sequence[str]]]:
    for pod in walk.pods(root):
        for container, ids in pod.containers.items():
            yield (pod.namespace, pod.poduid, container), ids
    yield from unowned.places(root)


def _build_ids(container_fd: int, name: str) -> set[str]:
    try:
        with beneath.directory(container_fd, name) as fd:
            found = Record.from_json(beneath.read(fd, store.INFO, record.MAX_BYTES + 1))
    except RecordError:  # no debugger gets at it by us
        return set()
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
        return set()
    return {module.build_id for module in found.modules}
