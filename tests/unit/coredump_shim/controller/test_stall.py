"""Work that makes no headway is given up, and ends itself when it could go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from coredump_shim.controller import stall
from coredump_shim.status import ApiError
from testbed.waiting import wait_for


def test_returns_and_raises_what_the_work_does() -> None:
    assert stall.watched(lambda alive: 42) == 42

    def fails(alive: Callable[[], None]) -> None:
        raise FileNotFoundError("no such store")

    with pytest.raises(FileNotFoundError, match="no such store"):
        stall.watched(fails)


def test_work_that_takes_steps_may_take_long() -> None:
    def slow(alive: Callable[[], None]) -> str:
        for _ in range(10):
            time.sleep(0.1)
            alive()
        return "done"

    assert stall.watched(slow, seconds=0.6) == "done"


def test_given_up_it_does_nothing_more_and_nothing_else_begins_before() -> None:
    store_is_back, did = threading.Event(), list[str]()

    def hangs(alive: Callable[[], None]) -> None:
        store_is_back.wait(30)
        alive()
        did.append("removed something")

    with pytest.raises(ApiError, match=r"does not answer within 0\.1 s") as silent:
        stall.watched(hangs, seconds=0.1)
    assert silent.value.code == 503
    with pytest.raises(ApiError, match="still does not answer"):
        stall.watched(lambda alive: 42)
    store_is_back.set()
    wait_for("the work's end", lambda: not any(t.name == "watched" for t in threading.enumerate()), 10)
    assert did == []
    assert stall.watched(lambda alive: 42) == 42
