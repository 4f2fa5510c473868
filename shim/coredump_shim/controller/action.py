"""What a pass of the collection does, or would do, and what it goes by.

Not here: why anything is done (gone, excess, unowned, debugging).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from coredump_guard.quota import Usage
from coredump_shim.cluster import Cluster
from coredump_shim.controller.endpointlist import Endpoints
from coredump_shim.controller.presence import Presence
from coredump_shim.controller.rules import Rules
from coredump_shim.controller.stall import Alive
from coredump_shim.controller.trouble import said

log = logging.getLogger(__name__)

MARK, UNMARK, REMOVE, DELETE, LOW_SPACE = "mark", "unmark", "remove", "delete", "low space"
"""A pod is seen gone; it is back; dumps are removed; an endpoint is deleted; a namespace nears its quota."""


@dataclass(frozen=True)
class Action:
    """Something that was done, or that a dry run would do."""

    what: str
    namespace: str
    """Empty where it is about no namespace's dumps."""
    poduid: str
    """Empty where it is about no single pod's."""
    why: str
    """A sentence's end that says what exactly, and the reason."""
    usage: Usage | None = None
    """With LOW_SPACE: what to warn of."""

    def __str__(self) -> str:
        return f"{self.what} {'/'.join(filter(None, (self.namespace, self.poduid)))}: {self.why}"


Follow = Callable[[str, str], object]
"""Brings the endpoints of a pod, by its namespace and UID, in step with the dumps that are left."""


@dataclass(frozen=True)
class Pass:
    """One pass: what it goes by, and what it has done."""

    cluster: Cluster
    root: str
    rules: Rules
    now: float
    """When it began, in seconds since the epoch."""
    present: Presence
    endpoints: Endpoints
    dry_run: bool
    alive: Alive
    """To be called between steps (stall)."""
    follow: Follow
    actions: list[Action] = field(default_factory=list)

    def does(self, what: str, namespace: str, poduid: str, why: str, usage: Usage | None = None) -> bool:
        """Note an action and return whether to do it: not in a dry run."""
        self.alive()
        self.actions.append(Action(what, namespace, poduid, why, usage))
        if not self.dry_run:
            log.info("%s", self.actions[-1])
        return not self.dry_run


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Have a part of the store that cannot be read or written hold up nothing else."""
    try:
        yield
    except OSError as error:
        log.warning("%s is left as it is: %s", what, said(error))
