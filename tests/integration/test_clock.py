"""The clock jumps by hours, back and forward, while dumps are made and delivered: none is lost or doubled.

The machine's clock is set, for seconds, and put back by what the monotonic clock says has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coredump_guard import journal
from testbed.waiting import wait_for
from tests.support.crashing import crash, pod_cgroup
from tests.support.guard import NodeGuard, node_guard, record
from tests.support.verdict import verdict

pytestmark = pytest.mark.root

PODUID = "c10c0000-9b0e-4a5b-8b55-6d2f2d0a5f06"
HOURS = [-5, 7]


@contextmanager
def _clock() -> Iterator[Callable[[float], None]]:
    """Yield what makes the clock jump by so many hours; afterwards it is right again, whatever happens."""
    began, monotonic = time.time(), time.monotonic()

    def jump(hours: float) -> None:
        right = began + time.monotonic() - monotonic
        time.clock_settime(time.CLOCK_REALTIME, right + hours * 3600)

    try:
        yield jump
    finally:
        jump(0)


@contextmanager
def _armed(directory: Path, **settings: object) -> Iterator[tuple[NodeGuard, list[str]]]:
    with node_guard(directory, "pipe", **settings) as node, pod_cgroup(poduid=PODUID) as prefix:
        node.start()
        node.run("arm")
        yield node, prefix


@pytest.mark.parametrize("hours", HOURS)
def test_crashes_on_both_sides_of_a_jump_are_delivered_once_and_sort_by_the_clock(
    tmp_path: Path, crash_program: Path, hours: int
) -> None:
    with _armed(tmp_path, policy__loop_newest=1000) as (node, prefix), _clock() as jump:
        crash([crash_program], prefix)
        jump(hours)
        crash([crash_program], prefix)
        wait_for("both are delivered", lambda: len(node.delivered()) == 2)
        told = node.run("status")
        jump(0)
        crash([crash_program], prefix)
        wait_for("the third, too", lambda: len(node.delivered()) == 3)
    assert "2 captured" in told.stdout
    dumps = node.delivered()
    assert [verdict(dump) for dump in dumps] == ["whole"] * 3
    times = [record(dump).time for dump in dumps]
    assert times == sorted(times)
    assert len({record(dump).process.pid for dump in dumps}) == 3
    assert _events(node).count("missed") == 0


@pytest.mark.parametrize("hours", HOURS)
def test_a_store_that_was_away_is_tried_again_after_a_jump(
    tmp_path: Path, crash_program: Path, hours: int
) -> None:
    with _armed(tmp_path) as (node, prefix), _clock() as jump:
        away = node.store.rename(tmp_path / "away")
        crash([crash_program], prefix)
        wait_for("it is refused", lambda: node.status()["guard"]["store_error"])
        jump(hours)
        away.rename(node.store)
        wait_for("it is delivered", node.delivered, 20)


@pytest.mark.parametrize("hours", HOURS)
def test_a_jump_neither_ends_a_crash_loop_nor_makes_room_in_it(
    tmp_path: Path, crash_program: Path, hours: int
) -> None:
    with _armed(tmp_path, policy__loop_newest=1) as (node, prefix), _clock() as jump:
        for _ in range(3):
            crash([crash_program], prefix)
        jump(hours)
        for _ in range(3):
            crash([crash_program], prefix)
        wait_for("all are counted", lambda: len(_events(node)) == 6)
        node.stop()
        node.start()
        wait_for("all are told of", lambda: sum(record(one).crashes for one in node.delivered()) == 6)
        records = [record(dump) for dump in node.delivered()]
    kept = [one for one in records if one.refused is None]
    assert len(kept) == 2  # the first and the newest
    assert [one.crashes for one in records if one.refused] == [4]


def _events(node: NodeGuard) -> list[str]:
    """Return how crashes ended, by the journal."""
    ends = ("captured", "refused", "missed")
    found = [entry.event for entry in journal.entries(str(node.directory / "state"))]
    return [event for event in found if event in ends]
