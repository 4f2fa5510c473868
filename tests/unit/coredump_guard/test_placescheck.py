"""The doctor's checks of spool, store and clock; disks that are really full are in the integration tests."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import placescheck, store
from coredump_guard.config import Config
from coredump_guard.spool import Spool

from .conftest import Spooled

CRASH = 1_700_000_000


def test_a_spool_that_is_not_there_yet(config: Config) -> None:
    assert placescheck.spool(config).state == "warning"
    assert placescheck.waiting(config).found == "nothing"
    assert placescheck.room(config).state == "ok"
    assert placescheck.clock(config).state == "ok"


def test_a_spool_that_takes_files_keeps_none_of_ours(config: Config, spool: Spool) -> None:
    before = os.listdir(config.spool)
    assert placescheck.spool(config).state == "ok"
    assert os.listdir(config.spool) == before


def test_room_that_runs_out(config: Config, spool: Spool, spooled: Spooled) -> None:
    spooled()
    size = spool.usage() + (1 << 20)
    assert placescheck.room(replace(config, spool_size=100 * size)).state == "ok"
    full = placescheck.room(replace(config, spool_size=size - 1, spool_share=100))
    assert (full.state, "[spool] size" in full.found) == ("FAIL", True)


def test_a_dump_that_waits_for_long_is_told(config: Config, spool: Spool, spooled: Spooled) -> None:
    dump = spooled(when=CRASH).id
    found = placescheck.waiting(config)
    assert (found.state, found.found) == ("warning", f"1 dump, the oldest {dump}")
    assert placescheck.crash_time(dump) == CRASH


def test_a_store_that_takes_files_keeps_none_of_ours(config: Config) -> None:
    os.makedirs(config.state)
    assert placescheck.reachable(config).state == "ok"
    assert not [path for path in Path(config.store).rglob("*") if path.is_file()]


def test_a_store_that_is_not_there(config: Config) -> None:
    os.makedirs(config.state)
    found = placescheck.reachable(replace(config, store="/nowhere"))
    assert (found.state, "is it mounted" in found.found) == ("warning", True)


def test_a_namesake_is_named(config: Config) -> None:
    os.makedirs(config.state)
    os.makedirs(f"{config.store}/{store.incoming(config.node, '01234567')}")
    found = placescheck.reachable(config)
    assert (found.state, found.found) == ("warning", "other machines deliver as node-1: node-1.01234567")


@pytest.mark.parametrize(
    ("now", "state"), [(0, "warning"), (5e9, "warning"), (1_800_000_000, "ok"), (1_790_000_000, "warning")]
)
def test_the_clock(config: Config, spool: Spool, spooled: Spooled, now: float, state: str) -> None:
    spooled(when=1_799_999_999)
    assert placescheck.clock(config, now).state == state
