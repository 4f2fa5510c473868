"""Answers that are kept for a while."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coredump_shim.remembered import Remembered
from testbed.waiting import wait_for


def test_is_asked_for_once_and_again_when_it_is_old() -> None:
    asked: list[str] = []

    def ask() -> int:
        asked.append("x")
        return len(asked)

    assert [Remembered[int](3600, 10).get("x", ask), Remembered[int](3600, 10).get("x", ask)] == [1, 2]
    kept, fresh = Remembered[int](3600, 10), Remembered[int](0, 10)
    assert [kept.get("x", ask), kept.get("x", ask), fresh.get("x", ask), fresh.get("x", ask)] == [3, 3, 4, 5]


def test_the_oldest_makes_room() -> None:
    kept = Remembered[str](3600, 2)
    for question in "abc":
        kept.get(question, lambda: "first")
    assert [kept.get(question, lambda: "second") for question in "bca"] == ["first", "first", "second"]


def test_a_failure_is_told_and_not_kept() -> None:
    kept = Remembered[int](3600, 10)
    with pytest.raises(ZeroDivisionError):
        kept.get("x", lambda: 1 // 0)
    assert kept.get("x", lambda: 7) == 7


def test_whoever_comes_meanwhile_waits_for_the_same_answer() -> None:
    kept = Remembered[int](3600, 10)
    go, asked = threading.Event(), threading.Semaphore(0)
    count: list[int] = []

    def ask() -> int:
        count.append(1)
        asked.release()
        go.wait(30)
        return len(count)

    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(kept.get, "x", ask) for _ in range(8)]
        wait_for("one asks", lambda: asked.acquire(blocking=False))
        assert kept.get("y", lambda: 5) == 5, "other questions need not wait"
        go.set()
        assert {answer.result(30) for answer in answers} == {1}
