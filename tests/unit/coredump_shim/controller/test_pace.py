from __future__ import annotations

from coredump_shim.controller.pace import BURST, LONGEST, PAUSE, RATE, SOON, Pace, back_off


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_pod_has_a_pause_and_others_have_not() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    assert pace.take("web")
    pace.done("web")
    assert not pace.take("web")
    assert pace.take("other")
    clock.now += PAUSE
    assert pace.take("web")


def test_what_fails_has_longer_and_longer_pauses_until_it_succeeds() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    for failures in range(1, 20):
        clock.now += LONGEST
        assert pace.take("web")
        assert pace.failed("web") == failures
        clock.now += back_off(failures) - 0.5
        assert not pace.take("web")
    clock.now += LONGEST
    assert pace.take("web")
    pace.done("web")
    assert pace.failed("web") == 1


def test_what_was_not_about_the_pod_is_tried_again_soon() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in range(20):
        assert pace.take("web")
        pace.failed("web", SOON)
        clock.now += SOON


def test_a_storm_is_spread() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    assert sum(pace.take(pod) for pod in range(2 * BURST)) == BURST
    clock.now += 1
    assert sum(pace.take(pod) for pod in range(2 * BURST)) == RATE


def test_back_off_is_bounded() -> None:
    assert [back_off(failures) for failures in (1, 2, 3, 10_000)] == [1, 2, 4, LONGEST]
