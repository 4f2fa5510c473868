"""One try: whose failure it is decides how long it waits."""

from __future__ import annotations

import pytest

from coredump_shim.controller.attempt import attempt
from coredump_shim.controller.pace import SOON, Pace
from coredump_shim.status import ApiError, unavailable

POD = ("demo", "web")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def failing(error: Exception) -> None:
    raise error


def test_its_own_failure_holds_up_no_other_and_waits_longer_and_longer() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in range(6):
        assert not attempt(pace, POD, "pod", lambda: failing(ApiError(403, "a webhook")))
    assert pace.take(("demo", "other"))
    clock.now += SOON
    assert not pace.take(POD)


def test_after_an_outage_it_is_tried_soon_however_long_that_was() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in range(20):
        with pytest.raises(ApiError):
            attempt(pace, POD, "pod", lambda: failing(unavailable("kube-apiserver is away")))
    assert not pace.take(POD)
    clock.now += SOON
    assert pace.take(POD)
    assert attempt(pace, POD, "pod", lambda: None)
