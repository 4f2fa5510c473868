"""What the controller saw of a pod's dumps when it last wrote an endpoint's status: an annotation of it.

Not here: reading and writing endpoints (endpoints). Whoever may edit an endpoint may edit its annotation, so
it saves work and decides nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from coredump_guard import store

LONGEST = 1000
"""Characters of an annotation that are read; ours have at most 240."""


@dataclass(frozen=True)
class Observed:
    """What was seen."""

    poduid: str
    signature: str
    """`walk.PodDumps.signature`."""
    stored_bytes: int = 0
    """Bytes of the pod's cores as they are stored."""

    def text(self) -> str:
        """Return the annotation."""
        return json.dumps(
            {"poduid": self.poduid, "signature": self.signature, "storedBytes": self.stored_bytes}
        )


def parsed(text: object) -> Observed | None:
    """Return what an annotation says; None where it is not one of ours."""
    if not isinstance(text, str) or len(text) > LONGEST:
        return None
    try:
        said: Any = json.loads(text)
        poduid, signature, size = said["poduid"], said["signature"], said["storedBytes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (isinstance(poduid, str) and store.is_poduid(poduid) and isinstance(signature, str)):
        return None
    return Observed(poduid, signature, size) if type(size) is int and size >= 0 else None
