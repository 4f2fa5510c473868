"""Whether what is decided is also done: in a dry run it is only said.

Not here: what is decided.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Acting:
    """Asked before each change of the cluster or the store, in words that may hold anybody's names."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self.asked = False
        """Whether there was anything to change."""

    def may(self, change: str) -> bool:
        """Whether to make a change, which is worded as in `remove endpoint demo/web`: then it is logged."""
        self.asked = True
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in change)
        if self.dry_run:
            print(f"would {shown}", flush=True)
        else:
            log.info("%s", shown)
        return not self.dry_run
