"""Taking dumps out of the store in a pass, and the directories that are left empty.

Not here: which (gone, excess, unowned), and how one dump goes without being seen half (removal).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coredump_guard.words import counted
from coredump_shim import beneath, removal
from coredump_shim.controller.action import REMOVE, Pass
from coredump_shim.controller.walk import PodDumps

_STEP = 100


@dataclass(frozen=True, slots=True)
class Located:
    """A dump by its names alone; there may be a million in a namespace."""

    place: removal.Place
    id: str


def located(pod: PodDumps) -> list[Located]:
    """Return the dumps of a pod."""
    found: list[Located] = []
    for container, ids in pod.containers.items():
        place = (pod.namespace, pod.poduid, container)
        found += [Located(place, name) for name in ids]
    return found


def remove(run: Pass, whose: tuple[str, str], dumps: Sequence[Located], why: str) -> None:
    """Remove dumps of a namespace and pod. Raises OSError; what is left the next pass finds again."""
    if dumps and run.does(REMOVE, *whose, f"{counted(len(dumps), 'dump')}: {why}"):
        for start in range(0, len(dumps), _STEP):
            run.alive()
            removal.remove(run.root, dumps[start : start + _STEP])


def tidy(run: Pass, pod: PodDumps) -> None:
    """Finish removals that were cut short and remove what is empty of a pod and its namespace.

    A dump that arrives at that moment is delivered again by its node. Raises OSError.
    """
    if run.dry_run:
        return
    for container in pod.containers:
        removal.sweep(run.root, (pod.namespace, pod.poduid, container))
        _unmake(run.root, pod.namespace, pod.poduid, container)
    _unmake(run.root, pod.namespace, pod.poduid)
    _unmake(run.root, pod.namespace)


def arrived_before(root: str, place: removal.Place, ids: Iterable[str], when: float) -> list[Located]:
    """Return those of the dumps in a directory that the store has had since before a time.

    By the ctime of their directories, which the rename that shows a dump sets: a node whose clock is wrong
    names its crashes as if they were old. Raises OSError.
    """
    found = []
    try:
        with beneath.directory(root, *place) as fd:
            for name in ids:
                with suppress(FileNotFoundError):
                    if os.stat(name, dir_fd=fd, follow_symlinks=False).st_ctime < when:
                        found.append(Located(place, name))
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
    return found


def _unmake(root: str, *place: str) -> None:
    with suppress(OSError), beneath.directory(root, *place[:-1]) as fd:  # not empty: it stays
        os.rmdir(place[-1], dir_fd=fd)
