"""Dumps that are no pod's: of a node's own processes, and of containers that nobody could name.

Not here: pods' (gone, excess). Nothing ever says that these are no longer wanted: only age ends them.
"""

from __future__ import annotations

from collections.abc import Iterator

from coredump_guard import store
from coredump_shim import beneath
from coredump_shim.controller import removing, rules
from coredump_shim.controller.action import Pass, spared

Place = tuple[str, str]


def places(root: str) -> Iterator[tuple[Place, list[str]]]:
    """Yield the directories of such dumps and the dumps' ids, sorted. Raises OSError."""
    for top in (store.HOST, store.UNIDENTIFIED):
        for name in filter(_is_named, _directories(root, top)):
            yield (top, name), [id for id in _directories(root, top, name) if store.is_dump_id(id)]


def collect(run: Pass) -> None:
    """Remove those that are too old. Raises OSError."""
    limits = [age for age in (run.rules.unowned_age, run.rules.max_age) if age is not None]
    if not limits:
        return
    limit = min(limits)
    for place, ids in places(run.root):
        run.alive()
        with spared("/".join(place)):
            old = rules.older(ids, limit, run.now)
            if old:
                gone = removing.arrived_before(run.root, place, old, run.now - limit)
                removing.remove(run, place, {place: gone}, f"older than {rules.worded(limit)}")


def _is_named(directory: str) -> bool:
    """Whether this can be a node's or a container's (coredump_guard.store.directory)."""
    return store.is_pod(directory.lower()) or store.is_poduid(directory)


def _directories(root: str, *names: str) -> list[str]:
    try:
        with beneath.directory(root, *names) as fd:
            return beneath.subdirectories(fd)
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
        return []
