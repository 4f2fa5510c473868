"""When a work is tried again, and whether it is told to go on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.loop import LONGEST, GoingOn, Repeated, Work
from coredump_shim.status import unavailable


def repeated(do: Callable[[GoingOn], None], every: float = 300) -> Repeated:
    return Repeated(Work("pass", every, do), threading.Event(), lambda: True)


@pytest.mark.parametrize(
    ("error", "every", "last"),
    [
        (Doubt("a clock is wrong"), 300, 300),
        (Doubt("a clock is wrong"), 1, LONGEST),
        (unavailable("kube-apiserver is away"), 300, LONGEST),
        (OSError(5, "Input/output error"), 300, LONGEST),
        (ValueError("a bug"), 300, LONGEST),
    ],
)
def test_what_failed_is_tried_again_after_a_second_and_later_each_time(
    error: Exception, every: float, last: float
) -> None:
    def fail(_going_on: GoingOn) -> None:
        raise error

    work = repeated(fail, every)
    waits = [work.once() for _ in range(12)]
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits == sorted(waits)
    assert waits[-1] == last


def test_it_is_said_once_and_a_success_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception | None] = [Doubt("x"), Doubt("x"), None, Doubt("x")]

    def work(_going_on: GoingOn) -> None:
        error = errors.pop(0)
        if error:
            raise error

    with caplog.at_level("INFO"):
        again = repeated(work)
        assert [again.once() for _ in range(4)] == [1, 2, 300, 1]
    assert caplog.messages == [
        "pass: x; it is tried again",
        "pass: works again",
        "pass: x; it is tried again",
    ]


def test_no_work_goes_on_without_the_lease_or_after_a_stop() -> None:
    held, stop, asked = [True], threading.Event(), []
    work = Repeated(Work("pass", 1, lambda going_on: asked.append(going_on())), stop, lambda: held[0])
    work.once()
    held[0] = False
    work.once()
    held[0] = True
    stop.set()
    work.once()
    assert asked == [True, False, False]
