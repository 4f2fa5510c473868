"""A crash at a door: its descriptors are let go once."""

from __future__ import annotations

import os

import pytest

from coredump_guard.arrival import Arrival
from coredump_guard.pattern import Crash


@pytest.mark.parametrize("with_pidfd", [False, True])
def test_closing_lets_both_descriptors_go_and_may_be_repeated(with_pidfd: bool) -> None:
    core, pidfd = os.pipe()
    arrival = Arrival(Crash(1), core, pidfd if with_pidfd else None)
    arrival.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(core)
    if with_pidfd:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(pidfd)
    else:
        os.close(pidfd)
    again, other = os.pipe()  # most likely the same numbers
    arrival.close()
    os.close(again)
    os.close(other)


def test_refusing_a_pipe_is_closing_it() -> None:
    core, end = os.pipe()
    arrival = Arrival(Crash(1), core)
    arrival.refuse()
    with pytest.raises(BrokenPipeError):
        os.write(end, b"x")
    arrival.refuse()
    arrival.close()
    os.close(end)
