"""The verdict on one crash: what is to become of it. Not here: how it is reached (policy)."""

from __future__ import annotations

from dataclasses import dataclass

from coredump_guard.damping import Grant, Loop, Ring
from coredump_guard.room import Allotment


@dataclass(frozen=True)
class Verdict:
    """By default the core is kept; `Policy.done` is to be told what came of it."""

    refused: str | None = None
    """Why the core is not kept: a sentence that names the setting and the figure."""
    tally: str = ""
    """The id of the tally that the crash was counted in; then it gets no record of its own."""
    room: Allotment | None = None
    """What the core may take of the spool; None for no bound."""
    loop: Loop | None = None
    """The crash loop that learns what the dump says."""
    ring: Ring | None = None
    grant: Grant | None = None
    """Leave to add a dump to that ring of the crash loop."""

    @property
    def replaces(self) -> str | None:
        """The dump whose place this one takes."""
        return self.grant.replaces if self.grant else None
