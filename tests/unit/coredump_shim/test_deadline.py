"""Calls that may hang. What hangs here is an event that nobody sets until the test is through."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coredump_shim.deadline import Deadline
from coredump_shim.status import ApiError


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_returns_what_the_call_returns() -> None:
    assert Deadline(5, 1).call(divmod, 7, 2) == (3, 1)


def test_raises_what_the_call_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        Deadline(5, 1).call(divmod, 7, 0)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_error_of_the_store_is_unavailable(number: int) -> None:
    def broken() -> None:
        raise OSError(number, "out of order")

    with pytest.raises(ApiError, match="cannot be used: out of order") as caught:
        Deadline(5, 1).call(broken)
    assert caught.value.code == 503


def test_call_that_hangs_is_unavailable(hang: threading.Event) -> None:
    with pytest.raises(ApiError, match="does not answer") as caught:
        Deadline(0.01, 1).call(hang.wait)
    assert caught.value.code == 503


def test_place_is_free_again_once_the_call_ends(hang: threading.Event) -> None:
    deadline = Deadline(0.01, 1)
    with pytest.raises(ApiError):
        deadline.call(hang.wait)
    with pytest.raises(ApiError):
        deadline.call(int)
    hang.set()
    until_there_is_a_place(deadline)


def test_no_more_threads_than_places(hang: threading.Event) -> None:
    deadline = Deadline(0.01, 3)
    before = set(threading.enumerate())
    for _ in range(10):
        with pytest.raises(ApiError):
            deadline.call(hang.wait)
    assert len(set(threading.enumerate()) - before) == 3


def test_more_callers_than_places_all_have_their_turn() -> None:
    deadline = Deadline(8, 4)
    with ThreadPoolExecutor(64) as callers:
        calls = [callers.submit(deadline.call, time.sleep, 0.1) for _ in range(64)]
    assert [call.exception() for call in calls] == [None] * 64


def test_too_much_at_once_is_not_the_file_servers_fault() -> None:
    deadline = Deadline(1, 1)
    with ThreadPoolExecutor(16) as callers:
        calls = [callers.submit(deadline.call, time.sleep, 0.25) for _ in range(16)]
    refused = [str(call.exception()) for call in calls if call.exception()]
    assert [text for text in refused if text.startswith("too much is asked of the store")]


def test_nobody_waits_for_a_store_that_hangs(hang: threading.Event) -> None:
    deadline = Deadline(0.5, 1)
    with pytest.raises(ApiError):
        deadline.call(hang.wait)

    def ask_often() -> None:
        for _ in range(1000):
            with pytest.raises(ApiError):
                deadline.call(int)

    caller = threading.Thread(target=ask_often, daemon=True)
    caller.start()
    caller.join(30)
    assert not caller.is_alive()


def test_call_given_up_before_its_turn_is_never_made(hang: threading.Event) -> None:
    deadline, begun = Deadline(0.3, 1), threading.Event()
    made: list[int] = []

    def stand_still() -> None:
        begun.set()
        hang.wait()

    with ThreadPoolExecutor(1) as callers:
        stuck = callers.submit(deadline.call, stand_still)
        assert begun.wait(10)
        with pytest.raises(ApiError):
            deadline.call(made.append, 1)
        assert isinstance(stuck.exception(), ApiError)
    hang.set()
    until_there_is_a_place(deadline)
    assert made == []


def until_there_is_a_place(deadline: Deadline) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            assert deadline.call(int) == 0
            return
        except ApiError:
            time.sleep(0.01)
    pytest.fail("still no place")
