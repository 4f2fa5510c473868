"""Signals that end the demo, and moments that they have to wait for.

Not here: what is put away then (stage).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_held = False
_waiting: list[int] = []


class Interrupted(BaseException):
    """One of INTERRUPTS came; no Exception, so that nothing takes it for a step's failure."""


def install() -> None:
    """Have these signals raise Interrupted."""
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)


@contextmanager
def held() -> Iterator[None]:
    """Have a signal wait for the end of the block: amid a start it would leave a process that nobody knows.

    Raises Interrupted at that end. To block them for the thread would block them for its children too.
    """
    global _held  # noqa: PLW0603 (handlers have no other place)
    _held = True
    try:
        yield
    finally:
        _held = False
        if _waiting:
            _raise(_waiting[0])


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _held:
        _waiting.append(number)
    else:
        _raise(number)


def _raise(number: int) -> None:
    """Unwind, once: putting things back is not to be interrupted."""
    for other in INTERRUPTS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)
