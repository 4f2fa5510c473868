"""Taking dumps out of the store in a pass, and the directories that are left empty.

Not here: which (gone, excess, unowned), and how one dump goes without being seen half (removal).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coredump_guard.words import counted
from coredump_shim import beneath, removal
from coredump_shim.controller.action import REMOVE, Pass
from coredump_shim.controller.endpoints import is_general
from coredump_shim.controller.walk import PodDumps
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)

_STEP = 100


Dumps = Mapping[removal.Place, Sequence[str]]
"""Ids of dumps by the directory that they lie in: there may be a million in a namespace."""


@dataclass(frozen=True, slots=True)
class _Located:
    place: removal.Place
    id: str


def places(pod: PodDumps) -> Dumps:
    """Return the dumps of a pod."""
    return {(pod.namespace, pod.poduid, container): ids for container, ids in pod.containers.items()}


def remove(run: Pass, whose: tuple[str, str], dumps: Dumps, why: str) -> bool:
    """Remove dumps of a namespace and pod, and return whether any were.

    Raises OSError; what is left the next pass finds again.
    """
    count = sum(map(len, dumps.values()))
    if not count or not run.does(REMOVE, *whose, f"{counted(count, 'dump')}: {why}"):
        return False
    for place, ids in dumps.items():
        for start in range(0, len(ids), _STEP):
            run.alive()
            removal.remove(run.root, [_Located(place, name) for name in ids[start : start + _STEP]])
    return True


def reduce(run: Pass, going: PodDumps, why: str) -> None:
    """Remove those dumps of a pod that may have others, and have its endpoints follow.

    Raises OSError; ApiError where no other's endpoint could be kept either.
    """
    if remove(run, (going.namespace, going.poduid), places(going), why):
        try:
            run.follow(going.namespace, going.poduid)
        except ApiError as error:
            if is_general(error):
                raise
            log.warning("the endpoint of pod %s/%s: %r", going.namespace, going.poduid, error.message)


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


def arrived_before(root: str, place: removal.Place, ids: Iterable[str], when: float) -> list[str]:
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
                        found.append(name)
    except OSError as error:
        if error.errno not in beneath.GONE:
            raise
    return found


def _unmake(root: str, *place: str) -> None:
    with suppress(OSError), beneath.directory(root, *place[:-1]) as fd:  # not empty: it stays
        os.rmdir(place[-1], dir_fd=fd)
