"""Crash loops are damped: bounded, the first kept, the newest kept, and every crash in some count."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_guard import tally
from coredump_guard.damping import Death, Grant, Loop, Pace, Ring
from coredump_guard.pattern import Crash
from coredump_guard.record import Signal

from .conftest import IDENTITY

PACE = Pace(3, 3600)
COUNT = tally.begin(Crash(1, time=1_700_000_000.0), IDENTITY, "/bin/app", "crash loop: x", "node-1")


def kept(ring: Ring, times: list[float], pace: Pace = PACE) -> list[str | None]:
    """Let crashes come at these times; return what each replaces: "" nothing, None where it is not kept."""
    said: list[str | None] = []
    for number, when in enumerate(times):
        grant = ring.take(when, pace)
        said.append(None if grant is None else grant.replaces or "")
        if grant:
            ring.settle(grant, f"{number:04}")
    return said


def test_the_first_and_the_newest_are_kept_at_once() -> None:
    ring = Ring()
    assert kept(ring, [0, 0.1, 0.2, 0.3, 0.4, 1199]) == ["", "", "", "", None, None]
    assert ring.kept == ["0000", "0001", "0002", "0003"]


def test_afterwards_one_in_window_by_newest_takes_the_oldest_ones_place() -> None:
    ring = Ring()
    said = kept(ring, [0, 1, 2, 3, 1203, 1204, 2403, 3603, 4803])
    assert said == ["", "", "", "", "0001", None, "0002", "0003", "0004"]
    assert ring.kept == ["0000", "0006", "0007", "0008"]


def test_without_newest_only_the_first_is_kept() -> None:
    ring = Ring()
    assert kept(ring, [0, 1, 1e9], Pace(0, 1)) == ["", None, None]


def test_what_came_to_nothing_gives_its_place_back() -> None:
    ring = Ring()
    kept(ring, [0, 1, 2, 3])
    grant = ring.take(1300, PACE)
    assert grant == Grant("0001")
    ring.settle(grant, None)
    assert ring.kept == ["0000", "0001", "0002", "0003"]


def test_workers_that_decide_at_once_keep_no_more_than_is_allowed() -> None:
    ring = Ring()
    grants = [ring.take(0, PACE) for _ in range(10)]
    assert [grant for grant in grants if grant] == [Grant()] * 4
    assert ring.take(5000, PACE) is None  # none of those is there yet to be replaced
    for number, grant in enumerate(grants[:4]):
        assert grant is not None
        ring.settle(grant, str(number))
    assert ring.open == 0


@given(
    st.lists(st.tuples(st.floats(0, 5000), st.booleans()), max_size=200),
    st.integers(0, 5),
    st.floats(1, 10_000),
)
def test_bounded_the_first_kept_and_all_accounted_for(
    crashes: list[tuple[float, bool]], newest: int, window: float
) -> None:
    ring, now = Ring(), 0.0
    taken = replaced = counted = nothing = 0
    first = ""
    for number, (gap, works) in enumerate(crashes):
        now += gap
        grant = ring.take(now, Pace(newest, window))
        if grant is None:
            counted += 1
            continue
        ring.settle(grant, f"{number:04}" if works else None)
        if works:
            taken += 1
            replaced += grant.replaces is not None
            first = first or f"{number:04}"
        else:
            nothing += 1
        assert len(ring.kept) <= 1 + newest
        assert ring.kept == sorted(ring.kept)
        assert ring.kept[:1] == ([first] if first else [])
    assert len(ring.kept) == taken - replaced
    assert len(ring.kept) + replaced + counted + nothing == len(crashes)


def test_a_loop_is_what_it_was_after_json() -> None:
    loop = Loop(
        17.5,
        Ring(["a", "b"], 3.0, open=2),
        Ring(["c"], 4.0),
        "large",
        Death("/bin/app", 6, 1000, 100),
        COUNT,
        written=1,
    )
    again = Loop.from_plain(json.loads(json.dumps(loop.to_plain())))
    assert again == replace(loop, cores=Ring(["a", "b"], 3.0), shared=1)


def test_a_loop_of_an_older_guard_knows_no_death() -> None:
    plain = {name: value for name, value in Loop(1.0).to_plain().items() if name != "death"}
    assert Loop.from_plain(plain) == Loop(1.0)


def test_only_a_signal_that_is_known_is_learnt_and_ours_stays() -> None:
    ours, theirs = Loop(1.0), Loop(2.0, death=Death("/bin/app", 11))
    ours.learn(COUNT)
    assert ours.death is None
    ours.merge(theirs)
    assert ours.death == Death("/bin/app", 11)
    ours.learn(replace(COUNT, signal=Signal(6, "SIGABRT")))
    ours.merge(theirs)
    assert ours.death == Death("/bin/app", 6)


@pytest.mark.parametrize("damage", [{}, {"last": "x"}, {"last": 1, "written": 1, "cores": 7}, [], None])
def test_what_is_no_loop_raises(damage: object) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        Loop.from_plain(damage)  # type: ignore[arg-type]


def counting(crashes: int, shared: int) -> Loop:
    return Loop(1.0, tally=replace(COUNT, crashes=crashes), written=shared, shared=shared)


def test_what_two_have_counted_adds_up() -> None:
    """The guard knew of 5 and counted 2 more; meanwhile a doorman alone read 5 and wrote 9."""
    ours, theirs = counting(7, shared=5), counting(9, shared=9)
    ours.merge(theirs)
    assert (ours.counted, ours.shared) == (11, 9)


def test_what_another_has_kept_is_known_and_what_we_replaced_stays_replaced() -> None:
    ours, theirs = Loop(5.0, Ring(["1", "3", "4"])), Loop(9.0, Ring(["1", "2", "3", "5"]))
    ours.merge(theirs)
    assert (ours.cores.kept, ours.last) == (["1", "3", "4", "5"], 9.0)


def test_a_tally_that_only_another_has_is_taken_over() -> None:
    ours = Loop(1.0)
    ours.merge(counting(3, shared=3))
    assert (ours.counted, ours.shared) == (3, 3)
