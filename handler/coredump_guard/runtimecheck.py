"""The doctor's check of the container runtime's files: would a crash in a pod be filed under the pod's name?

Not here: which files those are (identity).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from coredump_guard import container, identity
from coredump_guard.config import Config
from coredump_guard.finding import Finding, ok, warning
from coredump_guard.process import Gone, Process
from coredump_guard.record import Identity

FEW = 8
"""Containers that are looked at."""
_PAUSE = "pause"
"""The process of a pod's sandbox, which is none of its containers and has no container's name."""


def runtime(_: Config, proc: str = "/proc") -> Finding:
    """Check that processes of pods that run now can be named as a crash's is."""
    named = ""
    for pid, owner in _owners(proc):
        missing = [name for name in ("namespace", "pod", "container") if not getattr(owner, name)]
        if missing:
            found = f"process {pid} of pod {owner.poduid} cannot be named: {', '.join(missing)} unknown"
            remedy = "its dumps would be _unidentified; is the runtime supported (containerd, CRI-O, \
cri-dockerd), are its bundles and /var/log/pods readable?"
            return warning("runtime", found, remedy)
        named = named or f"{owner.namespace}/{owner.pod}/{owner.container}"
    return ok("runtime", f"names {named} from files" if named else "no pod runs here")


def _owners(proc: str) -> Iterator[tuple[int, Identity]]:
    """Yield a process of each of the newest containers and what the crash path makes of it."""
    for pid in list(reversed(_containers(proc).values()))[:FEW]:
        with contextlib.suppress(Gone, OSError), Process(proc, pid) as held:  # it may end at any moment
            owner = identity.identify(held)
            if owner is not None and owner.container_id:
                yield pid, owner


def _containers(proc: str) -> dict[str, int]:
    """Return one process of each container that runs, by the container's id, the newest last as PIDs go."""
    found: dict[str, int] = {}
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdecimal()):
        with contextlib.suppress(Gone, OSError), Process(proc, pid) as held:
            where = container.parse(held.read("cgroup").decode("utf-8", "replace"))
            inside = where is not None and where.container_id and not where.monitor
            if where is not None and inside and held.text("comm").strip() != _PAUSE:
                found.setdefault(where.container_id, pid)
    return found
