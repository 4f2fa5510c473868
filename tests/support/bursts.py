"""Many small processes that crash at the same moment, each in a container of its own, as in a bad rollout.

Damping is about the crash loop of one container: none of these is damped. Not here: one crash (crashing).
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import load
from testbed import cgroups
from tests.support.crashing import hierarchy

_numbers = itertools.count(1)


class Burst:
    """Processes that wait for the word to crash; `burst()` makes them."""

    def __init__(self, crasher: load.Crasher, pod: str) -> None:
        self._crasher = crasher
        crasher.prepare()
        children = Path(f"/proc/{crasher.pid}/task/{crasher.pid}/children").read_text()
        self.pids = [int(pid) for pid in children.split()]
        for pid in self.pids:
            container = hierarchy() / pod.lstrip("/") / f"{next(_numbers):064x}"
            container.mkdir(parents=True)
            (container / "cgroup.procs").write_text(str(pid))

    def go(self) -> load.Crashed:
        """Let all of them crash and wait until the last is reaped: the kernel has let each of them go."""
        return self._crasher.go()


@contextmanager
def burst(count: int, kind: str = "random", mib: int = 0) -> Iterator[Burst]:
    """Make processes that hold so much memory and are ready to crash; their containers go with them."""
    pod = f"/kubepods/besteffort/pod{uuid.uuid4()}"
    try:
        with load.crasher(kind, mib, count) as crasher:
            yield Burst(crasher, pod)
    finally:
        cgroups.remove(pod)
        cgroups.remove_empty(pod.rpartition("/")[0])
