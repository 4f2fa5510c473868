"""Waiting with a deadline, the only way anything here waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.02
"""Seconds between two looks: short against what is waited for, long against what a look costs."""


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 30) -> T:
    """Return look()'s first result that is true.

    Raises TimeoutError saying what was waited for when the seconds are over.
    """
    deadline = time.monotonic() + seconds
    while not (result := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(PAUSE)
    return result
