"""A crash that stands at a door: what is known of it, and the descriptors that come with it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from coredump_guard.pattern import Crash


@dataclass
class Arrival:
    """A crash whose core can be read from a descriptor, at once: the kernel's pipe."""

    crash: Crash
    core: int
    pidfd: int | None = None

    def begin(self) -> None:
        """Ask the kernel for the core."""

    def refuse(self) -> None:
        """Tell the kernel that nobody wants the core: its pipe has no reader any more."""
        if self.core >= 0:
            os.close(self.core)
            self.core = -1

    def close(self) -> None:
        """Let the process go; may be called more than once."""
        for fd in (self.core, self.pidfd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.core, self.pidfd = -1, None
