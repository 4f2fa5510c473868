"""The canary: what is read back must be what the record says. Its flight is an integration test."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from coredump_guard import canary, deliver, store
from coredump_guard.canary import Lost
from coredump_guard.capture import boot_id
from coredump_guard.config import Config
from coredump_guard.journal import Entry
from coredump_guard.record import Identity
from coredump_guard.spool import Spool

from .conftest import Spooled

OWNER = Identity(poduid="11111111-2222-3333-4444-555555555555", container_id="c" * 64)


@pytest.fixture
def flight(config: Config) -> canary._Flight:
    os.makedirs(config.state)
    return canary._Flight(config, OWNER, 4711, time.time(), time.monotonic() + 0.2)


@pytest.fixture
def dump(flight: canary._Flight, spool: Spool, spooled: Spooled) -> str:
    """Return the id of a dump that was delivered."""
    dump_id = spooled(identity=OWNER).id
    deliver.deliver(spool, dump_id, flight.config)
    return dump_id


def delivered(flight: canary._Flight, dump: str) -> Path:
    return Path(flight.config.store, *flight.place, dump)


def test_what_is_read_back_is_removed(flight: canary._Flight, dump: str) -> None:
    said: list[str] = []
    canary._look_up(flight, dump, said.append)
    assert [step.partition(":")[0] for step in said] == ["read back", "removed"]
    assert os.listdir(f"{flight.config.store}/{store.UNIDENTIFIED}") == []
    assert os.listdir(f"{flight.config.store}/{store.INBOX}") == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: os.truncate(path / store.CORE, 20), "core.gz is not what its record says"),
        (lambda path: (path / store.CORE).unlink(), "No such file"),
        (lambda path: (path / store.INFO).write_text("{"), "info.json is not JSON"),
        (shutil.rmtree, "No such file"),
    ],
)
def test_a_dump_that_is_not_what_it_was_is_lost_and_kept(
    flight: canary._Flight, dump: str, spoil: object, said: str
) -> None:
    spoil(delivered(flight, dump))  # type: ignore[operator]
    with pytest.raises(Lost, match=f"read back: _unidentified/{'c' * 64}/{dump} in the store: {said}"):
        canary._look_up(flight, dump, print)


def test_old_lines_of_the_journal_are_not_about_us(flight: canary._Flight) -> None:
    now = Entry("2100-01-01T00:00:00Z", boot_id(), "captured", pid=4711)
    assert flight.is_since(now)
    assert not flight.is_since(replace(now, time="2020-01-01T00:00:00Z"))
    assert not flight.is_since(replace(now, boot_id="another"))
    assert not flight.is_since(replace(now, time="soon"))


def test_silence_is_told(flight: canary._Flight) -> None:
    with pytest.raises(Lost, match="captured: not in time"):
        canary._follow(flight, print)


def test_a_crash_that_does_not_happen_is_told(tmp_path: Path) -> None:
    with pytest.raises(Lost, match=r"crashed: it did not, but said .*No such file"):
        canary._crashed(str(tmp_path / "nowhere" / "cgroup.procs"), time.monotonic() + 30)
